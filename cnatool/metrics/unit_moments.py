"""Moments of units, and what else is counted of their values, batch by batch.

Means and centred sums of powers of two sets of values combine exactly up to rounding (Chan et al.
1983 for the variance, Pébay 2008 for higher moments), so that the order of batches, or their
division among processes, changes only the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cnatool.metrics.unit_values import Scratch, as_unit_values, fold, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# Rows that 8-bit counts take.
_BYTE = 255
# Positions from which each row is summed first, rather than each position over rows.
_POSITIONS = 16


@dataclass(slots=True)
class UnitMoments:
    """What is known of the values of each unit; all arrays are (units,).

    Values that are not finite are counted and left out of all else.

    Attributes
    ----------
    count : ndarray of int64
        Finite values.
    mean : ndarray of float64
        Their mean; 0 without values.
    m2, m3 : ndarray of float64
        Σ (x − mean)² and Σ (x − mean)³.
    minimum, maximum : ndarray of float64
        The extremes; ∞ and −∞ without values.
    zeros, positives : ndarray of int64
        Values that are exactly 0, and above 0.
    nan, below, above : ndarray of int64
        Values that are NaN, −∞ and ∞.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    m3: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    zeros: NDArray[np.int64]
    positives: NDArray[np.int64]
    nan: NDArray[np.int64]
    below: NDArray[np.int64]
    above: NDArray[np.int64]
    _scratch: Scratch = field(default_factory=Scratch, init=False, repr=False, compare=False)

    @classmethod
    def empty(cls, units: int) -> Self:
        """Return the moments of no values."""
        counts = np.zeros((6, units), np.int64)
        mean, m2, m3 = np.zeros((3, units))
        low, high = np.full(units, np.inf), np.full(units, -np.inf)
        return cls(counts[0], mean, m2, m3, low, high, *counts[1:])

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """Compute the moments of values, (n, units) or (n, units, positions)."""
        array = as_unit_values(values)
        moments = cls.empty(array.shape[1])
        moments.update(array)
        return moments

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.count)

    @property
    def sum(self) -> NDArray[np.float64]:
        """Sum of the values."""
        return self.mean * self.count

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of the values as a population; NaN without values."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            deviation: NDArray[np.float64] = np.sqrt(self.m2 / self.count)
        return deviation

    @property
    def skewness(self) -> NDArray[np.float64]:
        """Third standardised moment, (Σ (x − mean)³ / n) / σ³; NaN where the values are equal."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            skewness = self.m3 / self.count / (self.m2 / self.count) ** 1.5
        return np.where(self.m2 > 0, skewness, np.nan)

    def update(self, values: ArrayLike, start: int = 0) -> None:
        """Add values, (n, units) or (n, units, positions), of the units from ``start`` on."""
        array = as_unit_values(values)
        for rows, units in tiles(array.shape):
            first = start + units.start
            self._add(array[rows, units], slice(first, first + units.stop - units.start))

    def merge(self, other: UnitMoments) -> None:
        """Add what is known of further values of the same units."""
        if other.units != self.units:
            raise ValueError(f"moments are of {self.units} and {other.units} units")
        self._merge(other, slice(0, self.units))

    def take(self, units: slice | NDArray[Any]) -> Self:
        """Return the moments of some units."""
        return type(self)(*(getattr(self, name)[units].copy() for name in NAMES))

    @classmethod
    def join(cls, parts: Sequence[UnitMoments]) -> Self:
        """Put the units of several behind one another."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in NAMES))

    def _add(self, tile: NDArray[np.floating[Any]], units: slice) -> None:
        low, high = fold(np.minimum, tile), fold(np.maximum, tile)
        n = tile.shape[0] * tile.shape[2]
        if not (np.isfinite(low) & np.isfinite(high)).all():
            self._add_nonfinite(tile, units)
            return
        low, high = low.astype(np.float64), high.astype(np.float64)
        known = self.count[units] > 0
        # Values are centred near their mean, so that no digits go to it, and by a constant unit's
        # own value, so that its deviation is 0.
        shift = self.mean[units]
        if not known.all():
            mean = fold(np.add, tile, np.dtype(np.float64)) / n
            shift = np.where(known, shift, mean)
        shift = np.where(low == high, low, shift)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = _centred_sums(tile, shift, self._scratch)
        which = self._scratch.take("which", tile.shape, bool)
        zeros = _count(np.equal(tile, 0, out=which))
        positives = _count(np.greater(tile, 0, out=which))
        self._merge(_moments(n, shift, sums, (low, high), zeros, positives), units)

    def _add_nonfinite(self, tile: NDArray[np.floating[Any]], units: slice) -> None:
        """Add a tile some values of which are not finite."""
        self.nan[units] += _count(np.isnan(tile))
        self.below[units] += _count(tile == -np.inf)
        self.above[units] += _count(tile == np.inf)
        finite = np.isfinite(tile)
        for unit in range(tile.shape[1]):
            values = tile[:, unit][finite[:, unit]]
            if values.size:
                number = units.start + unit
                self._add(values[:, None, None], slice(number, number + 1))

    def _merge(self, other: UnitMoments, units: slice) -> None:
        """Combine with further values of a range of units."""
        count = self.count[units] + other.count
        share = other.count / np.maximum(count, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            delta = np.where(self.count[units] > 0, other.mean - self.mean[units], 0)
            delta = np.where(other.count > 0, delta, 0)
            product = self.count[units] * share  # n₁ n₂ / n
            self.m3[units] += (
                other.m3
                + delta**3 * product * (1 - 2 * share)
                + 3 * delta * ((1 - share) * other.m2 - share * self.m2[units])
            )
            self.m2[units] += other.m2 + delta**2 * product
            started = self.count[units] > 0
            self.mean[units] = np.where(started, self.mean[units] + delta * share, other.mean)
        self.count[units] = count
        np.minimum(self.minimum[units], other.minimum, out=self.minimum[units])
        np.maximum(self.maximum[units], other.maximum, out=self.maximum[units])
        for name in ("zeros", "positives", "nan", "below", "above"):
            getattr(self, name)[units] += getattr(other, name)


def _moments(
    n: int,
    shift: NDArray[np.float64],
    sums: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    extremes: tuple[NDArray[np.float64], NDArray[np.float64]],
    zeros: NDArray[np.int64],
    positives: NDArray[np.int64],
) -> UnitMoments:
    """Return moments from sums of powers of x − shift, of n values a unit."""
    first, second, third = sums
    with np.errstate(over="ignore", invalid="ignore"):
        delta = first / n
        m2 = np.maximum(second - first * delta, 0)
        m3 = third - 3 * delta * second + 2 * n * delta**3
    none = np.zeros(len(shift), np.int64)
    count = np.full(len(shift), n)
    return UnitMoments(count, shift + delta, m2, m3, *extremes, zeros, positives, none, none, none)


def _centred_sums(
    tile: NDArray[np.floating[Any]], shift: NDArray[np.float64], scratch: Scratch
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return Σ (x − shift)^p of each unit for p = 1, 2, 3."""
    n, units, positions = tile.shape
    flat = tile.reshape(n, units * positions)
    centred = scratch.take("centred", flat.shape, np.float64)
    squares = scratch.take("squares", flat.shape, np.float64)
    np.subtract(flat, np.repeat(shift, positions), out=centred)
    np.multiply(centred, centred, out=squares)
    if positions >= _POSITIONS:
        rows, row_squares = centred.reshape(-1, positions), squares.reshape(-1, positions)
        sums = (
            np.einsum("ij->i", rows),
            np.einsum("ij->i", row_squares),
            np.einsum("ij,ij->i", rows, row_squares),
        )
        first, second, third = (s.reshape(n, units).sum(axis=0) for s in sums)
        return first, second, third
    sums = centred.sum(axis=0), squares.sum(axis=0), np.einsum("ij,ij->j", centred, squares)
    first, second, third = (s.reshape(units, positions).sum(axis=1) for s in sums)
    return first, second, third


def _count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count what is true of each unit."""
    n, units, positions = which.shape
    flat = which.view(np.uint8).reshape(n, units * positions)
    counts = np.zeros(units * positions, np.int64)
    for row in range(0, n, _BYTE):
        counts += np.add.reduce(flat[row : row + _BYTE], axis=0, dtype=np.uint8)
    return counts if positions == 1 else counts.reshape(units, positions).sum(axis=1)


NAMES = tuple(field.name for field in fields(UnitMoments) if field.init)
