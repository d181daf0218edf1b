"""The samples that excite each unit most, batch by batch.

A sample excites a unit by the largest of the unit's values in it. Of equal values the one of the
lowest row comes first, and in a sample the lowest position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cnatool.metrics.unit_values import as_unit_values, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(slots=True)
class UnitExtremes:
    """The k samples that excite each unit most, the greatest value first.

    Values that are not finite are left out.

    Attributes
    ----------
    values : ndarray of float64, (units, k)
        Each sample's largest value; −∞ where there are fewer samples.
    rows, positions : ndarray of int64, (units, k)
        Number of the sample, and position of the value; −1 where there are fewer.
    """

    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    # The last row that each unit has seen, and the last position in it.
    _last: NDArray[np.int64] = field(init=False, repr=False)
    _place: NDArray[np.int64] = field(init=False, repr=False)
    # Candidates, many of which are inserted at a time.
    _waiting: list[tuple[NDArray[Any], ...]] = field(default_factory=list, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._last = self.rows.max(axis=1, initial=-1)
        self._place = np.full(self.units, np.iinfo(np.int64).max)

    @classmethod
    def empty(cls, units: int, k: int) -> Self:
        """Return the extremes of no samples."""
        if k < 1:
            raise ValueError(f"k is {k}, not 1 or more")
        shape = units, k
        return cls(np.full(shape, -np.inf), np.full(shape, -1), np.full(shape, -1))

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.values)

    @property
    def k(self) -> int:
        """Samples that are kept of each unit."""
        return int(self.values.shape[1])

    def update(
        self,
        values: ArrayLike,
        rows: ArrayLike,
        positions: ArrayLike | None = None,
        start: int = 0,
    ) -> None:
        """Add values.

        Parameters
        ----------
        values : array_like, (n, units) or (n, units, positions)
            Values of the units from ``start`` on.
        rows : array_like of int, (n,)
            Number of the sample that each row is of, such as one for all tokens of a text.
        positions : array_like of int, (n,), optional
            The position of the first value of each row; 0 by default.
        start : int
            The first of the units.
        """
        array = as_unit_values(values)
        samples = np.asarray(rows, np.int64)
        places = np.zeros(len(samples), np.int64) if positions is None else np.asarray(positions)
        for part, units in tiles(array.shape):
            tile = array[part, units]
            self.add_tile(tile, samples[part], places[part], start + units.start)
        self.settle()

    def merge(self, other: UnitExtremes) -> None:
        """Add the extremes of further samples of the same units."""
        self.settle()
        other.settle()
        if (other.units, other.k) != (self.units, self.k):
            raise ValueError(
                f"extremes are of {self.units} and {other.units} units, {self.k} and {other.k} each"
            )
        unit, column = np.nonzero(other.rows >= 0)
        chosen = unit, other.values[unit, column], other.rows[unit, column]
        self._insert(*chosen, other.positions[unit, column])
        np.maximum(self._last, other._last, out=self._last)
        self._place[:] = np.iinfo(np.int64).max

    def take(self, units: slice | NDArray[Any]) -> Self:
        """Return the extremes of some units."""
        self.settle()
        return type(self)(self.values[units], self.rows[units], self.positions[units])

    @classmethod
    def join(cls, parts: Sequence[UnitExtremes]) -> Self:
        """Put the units of several behind one another."""
        for part in parts:
            part.settle()
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.positions for part in parts]),
        )

    def add_tile(
        self,
        tile: NDArray[np.floating[Any]],
        rows: NDArray[np.int64],
        places: NDArray[np.int64],
        start: int,
        largest: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Add a few values, (n, units, positions), of the units from ``start`` on.

        ``largest``, (n, units), are the largest values of rows if they are known, and all values
        are finite. `settle` inserts the candidates.
        """
        units = slice(start, start + tile.shape[1])
        ascending = self._follow(rows, places, units)
        searched = tile if largest is None else largest[:, :, None]
        row, unit, position = self._find_candidates(searched, rows, units, ascending=ascending)
        if largest is not None:
            position = tile[row, unit].argmax(axis=1)
        values = tile[row, unit, position].astype(np.float64)
        finite = np.isfinite(values)
        row, unit, position = row[finite], unit[finite], position[finite]
        if len(row):
            self._waiting.append((start + unit, values[finite], rows[row], places[row] + position))
            self._count += len(row)
        if self._count > self.values.size:
            self.settle()

    def _find_candidates(
        self,
        values: NDArray[np.floating[Any]],
        rows: NDArray[np.int64],
        units: slice,
        *,
        ascending: bool,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return row, unit and position of values that may be among the k largest."""
        n, width, positions = values.shape
        bounds = _as_bound(self.values[units, -1], values.dtype)
        if not ascending:
            # In order, an equal value does not displace one of an earlier row.
            bounds = np.nextafter(bounds, -np.inf)
        elif not np.isfinite(bounds).all():
            least = _find_least(values, rows, self.k)
            bounds = np.where(np.isfinite(bounds), bounds, np.nextafter(least, -np.inf))
        if np.isfinite(bounds).all():
            better = values.reshape(n, -1) > np.repeat(bounds, positions)
            places = np.flatnonzero(better)
            if len(places) <= max(64, values.size // 16):
                row, rest = np.divmod(places, width * positions)
                return row, *np.divmod(rest, positions)
        return _row_maxima(values, rows)

    def settle(self) -> None:
        """Insert the candidates of `add_tile`."""
        if self._waiting:
            unit, values, rows, positions = map(np.concatenate, zip(*self._waiting, strict=True))
            self._waiting.clear()
            self._count = 0
            self._insert(unit, values, rows, positions)

    def _follow(self, rows: NDArray[np.int64], places: NDArray[np.int64], units: slice) -> bool:
        """Whether all rows and positions lie behind those that the units have seen."""
        last, place = self._last[units], self._place[units]
        behind = (rows[0] > last) | ((rows[0] == last) & (places[0] > place))
        steps = np.diff(rows)
        rising = (steps > 0) | ((steps == 0) & (np.diff(places) > 0))
        if behind.all() and rising.all():
            last[:], place[:] = rows[-1], places[-1]
            return True
        np.maximum(last, rows.max(), out=last)
        place[:] = np.iinfo(np.int64).max
        return False

    def _insert(
        self,
        unit: NDArray[np.intp],
        values: NDArray[np.float64],
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
    ) -> None:
        """Insert candidates into those that there are."""
        if not len(unit):
            return
        changed = np.flatnonzero(np.bincount(unit, minlength=self.units))
        old, column = np.nonzero(self.rows[changed] >= 0)
        unit = np.concatenate([changed[old], unit])
        values = np.concatenate([self.values[changed[old], column], values])
        rows = np.concatenate([self.rows[changed[old], column], rows])
        positions = np.concatenate([self.positions[changed[old], column], positions])
        # The largest value of each sample, in its lowest position.
        order = np.lexsort((positions, -values, rows, unit))
        first = np.ones(len(order), bool)
        first[1:] = (np.diff(unit[order]) != 0) | (np.diff(rows[order]) != 0)
        order = order[first]
        # A stable sort leaves equal values in the order of rows.
        order = order[np.argsort(-values[order], kind="stable")]
        order = order[np.argsort(unit[order], kind="stable")]
        starts = np.searchsorted(unit[order], changed)
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        order, rank = order[rank < self.k], rank[rank < self.k]
        self.values[unit[order], rank] = values[order]
        self.rows[unit[order], rank] = rows[order]
        self.positions[unit[order], rank] = positions[order]


def _find_least(
    values: NDArray[np.floating[Any]], rows: NDArray[np.int64], k: int
) -> NDArray[np.floating[Any]]:
    """Return a number that the k-th largest of samples is not below, of each unit; −∞ for none.

    It is the k-th largest of maxima of groups of samples. Rows are in order.
    """
    n, units, positions = values.shape
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))
    if len(starts) < k:
        return np.full(units, -np.inf, values.dtype)
    groups = starts[np.linspace(0, len(starts), min(len(starts), 4 * k), endpoint=False, dtype=int)]
    flat = values.reshape(n, units * positions)
    maxima = np.empty((len(groups), units * positions), values.dtype)
    for group, (start, stop) in enumerate(zip(groups, [*groups[1:], n], strict=True)):
        np.maximum.reduce(flat[start:stop], axis=0, out=maxima[group])
    if positions > 1:
        maxima = maxima.reshape(len(groups), units, positions).max(axis=2)
    # Values that are not finite tell nothing of the others.
    maxima = np.where(np.isfinite(maxima), maxima, -np.inf)
    least: NDArray[np.floating[Any]] = np.partition(maxima, len(groups) - k, axis=0)[-k]
    return least


def _as_bound(
    values: NDArray[np.float64], dtype: np.dtype[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Return values in the type of what they are compared with; they were of that type."""
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _row_maxima(
    tile: NDArray[np.floating[Any]], rows: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return row, unit and position of the largest finite value of each sample and unit."""
    finite = np.isfinite(tile)
    if not finite.all():
        tile = np.where(finite, tile, -np.inf)
    position = tile.argmax(axis=2)
    largest = np.take_along_axis(tile, position[:, :, None], axis=2)[:, :, 0]
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))
    if len(starts) == len(rows):
        chosen = np.ones(largest.shape, bool)
    else:
        best = np.maximum.reduceat(largest, starts, axis=0)
        lengths = np.diff(np.append(starts, len(rows)))
        chosen = largest == np.repeat(best, lengths, axis=0)
    row, unit = np.nonzero(chosen)
    return row, unit, position[row, unit]
