"""Values of samples in the layout of accumulators: rows × units × positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.units.unit_axis import UnitAxis

# Places of a sample, (h, w) of a map or the token of a text, are numbered in C order.


@dataclass(frozen=True, slots=True)
class UnitPart:
    """Values of consecutive samples.

    Attributes
    ----------
    values : ndarray, (m, units, p)
        A row for each sample, or for each token of one.
    samples, positions : ndarray of int64, (m,)
        The sample that each row is of, and the position of its first value.
    first, stop : int
        The samples.
    """

    values: NDArray[Any]
    samples: NDArray[np.int64]
    positions: NDArray[np.int64]
    first: int
    stop: int

    def sample_sums(self) -> tuple[NDArray[np.float64], NDArray[np.int64] | int]:
        """Return sums of the finite values of each sample, (n, units), and their numbers."""
        values, finite = self.values, None
        sums = _sum_positions(values)
        per_row: NDArray[np.int64] | int = values.shape[2]
        if not np.isfinite(sums).all():
            finite = np.isfinite(values)
            sums = _sum_positions(np.where(finite, values, values.dtype.type(0)))
            per_row = finite.sum(axis=2)
        n = self.stop - self.first
        if len(values) == n and (self.samples == np.arange(self.first, self.stop)).all():
            return sums, per_row
        lengths = np.bincount(self.samples - self.first, minlength=n)
        counts = np.broadcast_to(per_row, sums.shape)
        return _add_rows(sums, lengths), _add_rows(counts, lengths)


def arrange_units(values: Rows, axis: UnitAxis) -> Iterator[UnitPart]:
    """Arrange the values of samples, (n, …), by units along an axis of the shape of one sample.

    Each element may be one, or, with None, all elements together.
    """
    if isinstance(values, Ragged):
        yield from _arrange_ragged(values, axis)
        return
    n, shape = len(values), values.shape[1:]
    samples, zeros = np.arange(n), np.zeros(n, np.int64)
    if axis is None:
        yield UnitPart(values.reshape(n, 1, -1), samples, zeros, 0, n)
    elif axis == "element":
        yield UnitPart(values.reshape(n, -1, 1), samples, zeros, 0, n)
    elif axis == len(shape) - 1 and axis:
        count = int(np.prod(shape[:-1]))
        rows = values.reshape(n * count, shape[-1], 1)
        places = np.tile(np.arange(count), n)
        yield UnitPart(rows, np.repeat(samples, count), places, 0, n)
    else:
        moved = np.moveaxis(values, axis + 1, 1)
        yield UnitPart(moved.reshape(n, shape[axis], -1), samples, zeros, 0, n)


def _arrange_ragged(values: Ragged, axis: UnitAxis) -> Iterator[UnitPart]:
    assert axis not in ("element", values.axis)
    others = [place for place in range(len(values.rest) + 1) if place != axis]
    before = others[: others.index(values.axis)]
    if any(values.rest[place] != 1 for place in before):
        # The position of a value depends on the length of its sample.
        for number, sample in enumerate(values):
            for part in arrange_units(sample[None], axis):
                samples = part.samples + number
                yield UnitPart(part.values, samples, part.positions, number, number + 1)
        return
    rows = values.values
    if isinstance(axis, int):
        rows = np.moveaxis(rows, axis + (axis < values.axis), 1)
    count = rows.shape[1] if isinstance(axis, int) else 1
    rows = rows.reshape(len(rows), count, rows.size // max(1, len(rows) * count))
    n, lengths = len(values), values.lengths
    samples = np.repeat(np.arange(n), lengths)
    positions = (np.arange(len(rows)) - np.repeat(values.offsets[:-1], lengths)) * rows.shape[2]
    yield UnitPart(rows, samples, positions, 0, n)


def _sum_positions(values: NDArray[Any]) -> NDArray[np.float64]:
    if values.shape[2] == 1:
        return values[:, :, 0].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        sums: NDArray[np.float64] = values.sum(axis=2, dtype=np.float64)
    return sums


def _add_rows(rows: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Add consecutive rows, so many each, that may be none."""
    total = np.zeros((len(lengths), rows.shape[1]), rows.dtype)
    some = lengths > 0
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[:-1]
    if some.any():
        total[some] = np.add.reduceat(rows, starts[some], axis=0)
    return total
