"""Whether a sample's values depend on the samples beside it in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.probe.closeness import same_values
from cnatool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.backend.probe.sample_axis import SampleAxis

# Most samples that are left out in turn.
_LEFT_OUT = 3


@dataclass(frozen=True, slots=True)
class Regrouped:
    """One run over some of the samples of a batch, in another group or order."""

    # The samples of the run, as rows of the batch.
    rows: NDArray[np.intp]
    # Each tensor in that run.
    values: Mapping[str, Any]
    # How many of the rows are compared, from the start.
    compared: int


def run_regrouped(
    count: int, whole: Mapping[str, Any], run: Callable[[NDArray[np.intp]], Mapping[str, Any]]
) -> Iterator[Regrouped]:
    """Run the samples of a batch in other groups and another order.

    A sample alone shows every dependence on the others: on those before or after it, on a fixed
    one, on extremes and means. Some graphs refuse a batch of one, though, or drop its axis. For
    these, samples are left out in turn, since a single sample may be the extreme, and the order is
    rotated, so that no sample keeps its place or its predecessors.
    """
    every = np.arange(count)
    complete = True
    for i in range(count):
        part = _run(every[i : i + 1], run)
        if part is None:
            complete = False
            break
        complete = complete and all(
            np.ndim(part.values[name]) == np.ndim(value) for name, value in whole.items()
        )
        yield part
    if complete:
        return
    for group in (*(np.delete(every, i) for i in every[:_LEFT_OUT]), np.roll(every, 1)):
        if (part := _run(group, run)) is not None:
            yield part


def run_copies(
    count: int, run: Callable[[NDArray[np.intp]], Mapping[str, Any]]
) -> Iterator[Regrouped]:
    """Run copies of one sample, the first and the last, of a model that is bound to its batch.

    Not every model accepts equal samples; then there is nothing to compare.
    """
    for i in (0, count - 1):
        if (part := _run(np.full(count, i), run, compared=1)) is not None:
            yield part


def lies_along(name: str, axis: SampleAxis, rank: int, part: Regrouped) -> bool:
    """Whether an axis is as long as there are samples in another group.

    A run of one sample may drop axes, which proves nothing.
    """
    shape = np.shape(part.values[name])
    dropped = len(part.rows) == 1 and len(shape) != rank
    return dropped or axis.holds(shape, len(part.rows))


def depends_on_others(name: str, axis: SampleAxis, whole: NDArray[Any], part: Regrouped) -> bool:
    """Whether a tensor's values for a sample differ between a batch and another group."""
    value = part.values[name]
    if np.ndim(value) != whole.ndim:
        return False  # a batch of one may lose an axis
    values = axis.samples_first(value)[: part.compared]
    expected = axis.samples_first(whole)[part.rows[: part.compared]]
    # A length that is that of the longest sample of a group is padded for the others.
    return values.shape != expected.shape or not same_values(expected, values)


def _run(
    rows: NDArray[np.intp],
    run: Callable[[NDArray[np.intp]], Mapping[str, Any]],
    *,
    compared: int | None = None,
) -> Regrouped | None:
    """Run a group; None where the model fails on it."""
    try:
        return Regrouped(rows, run(rows), len(rows) if compared is None else compared)
    except BackendError:
        return None
