"""Samples that differ in length: which run together, and which lengths a probe tries.

A run holds samples of one length, so that there is no padding, and every number is that of the
sample alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.text import count_text
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.data.preprocess.lengths import LengthPlan
    from cnatool.data.source import Block
    from cnatool.records.ragged import Rows

    # Numbers of the samples of one run in their block.
    RunRows = range | NDArray[np.int64]

# Share of the samples of a probe's block that are shorter than those of its other runs.
_SHORTER, _LONGER = 0.25, 0.75


class ProbeLengths(NamedTuple):
    """The lengths that a probe tries, of each input that differs in length."""

    typical: tuple[int, ...]
    # Lengths that samples of the data have: a model that fails with them fails in the dump.
    others: tuple[tuple[int, ...], ...]
    # Lengths that may be none that the model takes.
    invented: tuple[tuple[int, ...], ...]


def group_rows(
    lengths: NDArray[np.int64], count: int, most: Callable[[NDArray[np.int64]], int]
) -> list[RunRows]:
    """Group ``count`` samples in runs.

    Parameters
    ----------
    lengths : ndarray of int, (count, inputs)
        Lengths of each sample, of the inputs that differ in length without being padded.
    count : int
    most : callable
        The most samples of one run, by their lengths.

    Returns
    -------
    list of range or ndarray of int
        Samples of one length each, ascending; in the order of the data where all are alike.
    """
    if not lengths.shape[1]:
        step = most(lengths[:1].reshape(-1))
        return [range(start, min(start + step, count)) for start in range(0, count, step)]
    groups: list[RunRows] = []
    kinds, kind_of = np.unique(lengths, axis=0, return_inverse=True)
    for number, kind in enumerate(kinds):
        rows = np.flatnonzero(kind_of.reshape(-1) == number)
        step = most(kind)
        groups += [rows[start : start + step] for start in range(0, len(rows), step)]
    return groups


def fill_up(rows: RunRows, size: int) -> RunRows:
    """Make a run longer by copies of its last sample."""
    if len(rows) >= size:
        return rows
    return np.concatenate([np.asarray(rows), np.full(size - len(rows), rows[-1])])


def restore_order(groups: Sequence[RunRows]) -> NDArray[np.int64] | None:
    """Return the place of each sample among the results of all runs; None if they are in order."""
    if all(isinstance(rows, range) for rows in groups):
        return None
    return np.unique(np.concatenate(groups), return_index=True)[1].astype(np.int64)


def take_run(rows: Rows, run: RunRows) -> Rows:
    """Return the samples of a run, without a copy where they follow each other."""
    return rows[run.start : run.stop] if isinstance(run, range) else rows[run]


def resize_rows(rows: Ragged, length: int) -> Ragged:
    """Cut samples to a length, or continue them from their beginning."""
    places = np.arange(length) % np.maximum(rows.lengths, 1)[:, None]
    values = rows.values[(rows.offsets[:-1, None] + places).reshape(-1)]
    return Ragged.from_lengths(values, np.full(len(rows), length), rows.axis)


def choose_lengths(lengths: NDArray[np.int64]) -> ProbeLengths:
    """Choose the lengths that a probe tries from those of the first samples, (n, inputs).

    They are those of a typical sample and, as far as there are any, of others that differ from it
    in the length of every input.
    """
    ordered = lengths[np.argsort(lengths.sum(axis=1), kind="stable")]
    ordered = ordered[(ordered > 0).all(axis=1)]
    # Of one token, nothing shows whether scores depend on later ones.
    several = ordered[(ordered > 1).all(axis=1)]
    several = several if len(several) else ordered
    typical = several[len(several) // 2]
    unlike = (ordered != typical).sum(axis=1)
    best = ordered[unlike == unlike.max()] if unlike.any() else ordered[:0]
    # Both sides of the typical length, if there are any. Very short samples may lose axes.
    longer = int(_LONGER * (len(best) - 1))
    half = int(np.searchsorted(2 * best.sum(axis=1), typical.sum()))
    shorter = min(max(int(_SHORTER * (len(best) - 1)), half), longer)
    places = [longer, shorter] if len(best) else []
    others = list(dict.fromkeys(tuple(map(int, best[place])) for place in places))
    tried = np.array(others).reshape(-1, len(typical))
    invented: tuple[tuple[int, ...], ...] = ()
    if not (tried != typical).any(axis=0).all():
        shorter, longer = typical - (typical + 2) // 3, typical + (typical + 2) // 3
        invented = tuple(tuple(map(int, sizes)) for sizes in (longer, shorter) if (sizes > 0).all())
    return ProbeLengths(tuple(map(int, typical)), tuple(others), invented)


def check_lengths(
    source: str, block: Block, rows: Rows, name: str, plan: LengthPlan | None
) -> None:
    """Refuse samples without elements, and those that are longer than the model takes."""
    if plan is None or not isinstance(rows, Ragged):
        return
    lengths = rows.lengths
    if plan.exact and (lengths != plan.fixed).any():
        row = int((lengths != plan.fixed).argmax())
        raise DataError(
            f"{source}: sample {block.ids[row]} has length {lengths[row]}, and input {name!r} "
            f"takes {plan.fixed}: {plan.advice}leave such samples out of the data."
        )
    if plan.fixed is not None and (lengths > plan.fixed).any():
        row = int((lengths > plan.fixed).argmax())
        longer = int((lengths > plan.fixed).sum())
        advice = plan.advice or f"cut texts with `max_length={plan.fixed}`, or "
        raise DataError(
            f"{source}: sample {block.ids[row]} has length {lengths[row]}, and input {name!r} "
            f"takes {plan.fixed} at most ({count_text(longer, 'sample')} of this block "
            f"{'is' if longer == 1 else 'are'} longer): {advice}leave such samples out of the data."
        )
    if (lengths == 0).any():
        row = int((lengths == 0).argmax())
        raise DataError(
            f"{source}: sample {block.ids[row]} is empty, and input {name!r} takes samples of at "
            "least one element. Leave it out of the data."
        )


def list_lengths(
    parts: Sequence[Rows], plans: Sequence[LengthPlan | None], count: int
) -> NDArray[np.int64]:
    """List the lengths of samples, (count, inputs), of the inputs that are not padded."""
    return np.array(list(_unpadded_lengths(parts, plans)), np.int64).reshape(-1, count).T


def _unpadded_lengths(
    parts: Sequence[Rows], plans: Sequence[LengthPlan | None]
) -> Iterator[NDArray[np.int64]]:
    for rows, plan in zip(parts, plans, strict=True):
        if plan is not None and plan.fixed is None and isinstance(rows, Ragged):
            yield rows.lengths
