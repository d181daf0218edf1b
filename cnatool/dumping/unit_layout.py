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
    from cnatool.records.unit_axis import UnitAxis

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

    def add_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Add numbers of rows, (m, units), to those of samples, (n, units)."""
        n = self.stop - self.first
        if len(rows) == n and (self.samples == np.arange(self.first, self.stop)).all():
            return rows
        lengths = np.bincount(self.samples - self.first, minlength=n)
        total = np.zeros((n, rows.shape[1]), rows.dtype)
        # Some may have no rows.
        some = lengths > 0
        starts = np.cumsum(lengths) - lengths
        if some.any():
            total[some] = np.add.reduceat(rows, starts[some], axis=0)
        return total


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
