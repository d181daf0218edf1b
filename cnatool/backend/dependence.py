"""Whether a sample's values depend on the samples beside it in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.closeness import same_values
from cnatool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.sample_axis import SampleAxis

__all__ = ["Regrouped", "depends_on_others", "regrouped_copies", "regrouped_runs"]

# Of a larger batch no more samples than this are left out in turn.
_LEFT_OUT = 3


@dataclass(frozen=True, slots=True)
class Regrouped:
    """One run over some of the samples of a batch, in another company.

    Attributes
    ----------
    rows : ndarray of int
        The samples that the run was fed, as rows of the batch.
    values : mapping of str to array
        What it gave for each tensor.
    compared : int
        How many of the rows are compared, from the start.
    """

    rows: NDArray[np.intp]
    values: Mapping[str, Any]
    compared: int


def regrouped_runs(
    count: int, whole: Mapping[str, Any], run: Callable[[NDArray[np.intp]], Mapping[str, Any]]
) -> list[Regrouped]:
    """Run the samples of a batch in other groups and another order.

    Each sample alone shows every dependence on the others: on those before or after it, on a fixed
    one, on extremes and means. A batch of one is special to some graphs, though, which refuse it or
    drop its axis. For these, every sample is left out in turn, since an extreme is changed by
    one sample only, and the order is rotated, which no sample keeps its place or its predecessors
    in.

    Parameters
    ----------
    count : int
        Number of samples in the batch, at least 2.
    whole : mapping of str to array
        What the whole batch gave for each tensor.
    run : callable
        Runs the model over rows of the batch.
    """
    every = np.arange(count)
    alone = _runs([every[i : i + 1] for i in range(count)], run)
    if alone is not None and all(_comparable(part.values, whole) for part in alone):
        return alone
    groups = [np.delete(every, i) for i in every[:_LEFT_OUT]] + [np.roll(every, 1)]
    runs = [part for group in groups for part in _runs([group], run) or []]
    return [*(alone or []), *runs]


def regrouped_copies(
    count: int, run: Callable[[NDArray[np.intp]], Mapping[str, Any]]
) -> list[Regrouped]:
    """Run copies of one sample, the first and the last, of a model that is bound to its batch.

    Not every model accepts equal samples; then there is nothing to compare.
    """
    rows = [np.full(count, i) for i in dict.fromkeys((0, count - 1))]
    return [part for row in rows for part in _runs([row], run, compared=1) or []]


def depends_on_others(
    name: str, axis: SampleAxis, rows: NDArray[Any], runs: Sequence[Regrouped]
) -> bool:
    """Whether a tensor's values for a sample differ between a batch and other groups of samples.

    Parameters
    ----------
    name : str
        The tensor.
    axis : SampleAxis
        Where its samples are.
    rows : ndarray, shape (n, …)
        Its values in the batch, sample axis first.
    runs : sequence of Regrouped
        The other groups.
    """
    for part in runs:
        value = part.values[name]
        rank = rows.ndim - (axis.merged is not None)
        if value.ndim != rank or not axis.holds(value.shape, len(part.rows)):
            continue  # as where a batch of one loses its axis
        taken = axis.samples_first(value)[: part.compared]
        expected = rows[part.rows[: part.compared]]
        if taken.shape != expected.shape:
            # Where the shape depends on the data, sums are what is stored.
            taken, expected = _sums(taken), _sums(expected)
        if not same_values(expected, taken):
            return True
    return False


def _sums(rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(rows.reshape(len(rows), -1).astype(np.float64).sum(axis=1))


def _runs(
    groups: Sequence[NDArray[np.intp]],
    run: Callable[[NDArray[np.intp]], Mapping[str, Any]],
    *,
    compared: int | None = None,
) -> list[Regrouped] | None:
    """Run each group; None as soon as the model fails on one."""
    try:
        return [
            Regrouped(rows, run(rows), len(rows) if compared is None else compared)
            for rows in groups
        ]
    except BackendError:
        return None


def _comparable(values: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether tensors keep their rank in a batch of one."""
    return all(np.ndim(values[name]) == np.ndim(value) for name, value in whole.items())
