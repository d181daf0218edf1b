"""Moments of units, and what else is counted of their values, batch by batch.

Means and centred sums of powers of two sets of values combine exactly up to rounding (Chan et al.
1983 for the variance, Pébay 2008 for higher moments), so that the order of batches, or their
division among processes, changes only the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cnatool.metrics.unit_sums import count_values, find_shift, sum_tile
from cnatool.metrics.unit_values import Scratch, as_unit_values, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.metrics.unit_sums import Powers, TileSums

# Sums of squares, and cubes, below which these have lost digits.
_LEAST_SQUARES = 2.0**-960


@dataclass(slots=True)
class UnitMoments:
    """What is known of the values of each unit; all arrays are (units,).

    Values that are not finite are counted and left out of every other statistic.

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
    _sums: _Sums | None = field(default=None, init=False, repr=False, compare=False)

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
        """Standard deviation of the values as a population; NaN without values.

        NaN also where squares of float64 values are too small, or too large, for a float64.
        """
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            deviation: NDArray[np.float64] = np.sqrt(self.m2 / self.count)
        lost = (self.m2 < _LEAST_SQUARES) & (self.minimum < self.maximum)
        return np.where(lost | np.isinf(deviation), np.nan, deviation)

    @property
    def skewness(self) -> NDArray[np.float64]:
        """Third standardised moment, (Σ (x − mean)³ / n) / σ³.

        NaN where the values are equal, and where a float64 cannot hold their cubes.
        """
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scale = (self.m2 / self.count) ** 1.5
            skewness = self.m3 / self.count / scale
        return np.where((scale > _LEAST_SQUARES) & np.isfinite(skewness), skewness, np.nan)

    def update(self, values: ArrayLike, start: int = 0) -> None:
        """Add values, (n, units) or (n, units, positions), of the units from ``start`` on."""
        array = as_unit_values(values)
        for rows, units in tiles(array.shape):
            first = start + units.start
            self.add_tile(array[rows, units], slice(first, first + units.stop - units.start))
        self.settle()

    def settle(self) -> None:
        """Add the sums of `add_tile` to the moments."""
        if self._sums is not None:
            sums, self._sums = self._sums, None
            self._merge(sums.moments(), slice(0, self.units))

    def merge(self, other: UnitMoments) -> None:
        """Add what is known of further values of the same units."""
        if other.units != self.units:
            raise ValueError(f"moments are of {self.units} and {other.units} units")
        self.settle()
        other.settle()
        self._merge(other, slice(0, self.units))

    def take(self, units: slice | NDArray[Any]) -> Self:
        """Return the moments of some units."""
        self.settle()
        return type(self)(*(getattr(self, name)[units].copy() for name in NAMES))

    @classmethod
    def join(cls, parts: Sequence[UnitMoments]) -> Self:
        """Put the units of several behind one another."""
        for part in parts:
            part.settle()
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in NAMES))

    def add_tile(self, tile: NDArray[np.floating[Any]], units: slice) -> TileSums | None:
        """Add a few values, (n, units, positions); `settle` ends them.

        Returns
        -------
        TileSums or None
            What was added; None for a tile some values of which are not finite.
        """
        if self._sums is None:
            self._sums = _Sums.empty(self.units)
        shift = self._find_shift(tile, units)
        sums = sum_tile(tile, shift, self._scratch)
        if not (np.isfinite(sums.low).all() and np.isfinite(sums.high).all()):
            self._add_nonfinite(tile, units)
            return None
        self._sums.add(units, tile.shape[0] * tile.shape[2], shift, sums)
        return sums

    def _find_shift(self, tile: NDArray[np.floating[Any]], units: slice) -> NDArray[np.float64]:
        """Return what is subtracted from the values of each unit, so that no digits go to it."""
        assert self._sums is not None
        shift = self._sums.shift[units]
        new = np.isnan(shift)
        if new.any():
            known = self.count[units] > 0
            mean = self.mean[units]
            if not known.all():
                mean = np.where(known, mean, find_shift(tile))
            if tile.dtype == np.float32:
                # So that differences from it are those of float32.
                mean = mean.astype(np.float32).astype(np.float64)
            shift = np.where(new, mean, shift)
        return shift

    def _add_nonfinite(self, tile: NDArray[np.floating[Any]], units: slice) -> None:
        """Add a tile some values of which are not finite."""
        self.nan[units] += count_values(np.isnan(tile))
        self.below[units] += count_values(tile == -np.inf)
        self.above[units] += count_values(tile == np.inf)
        finite = np.isfinite(tile)
        for unit in range(tile.shape[1]):
            values = tile[:, unit][finite[:, unit]].astype(np.float64)
            if values.size:
                moments = _moments_of(values)
                number = units.start + unit
                self._merge(moments, slice(number, number + 1))

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


@dataclass(slots=True)
class _Sums:
    """Sums of powers of x − shift over a few tiles; all arrays are (units,).

    The shift, NaN before a unit has values, stays the same meanwhile.
    """

    count: NDArray[np.int64]
    shift: NDArray[np.float64]
    powers: Powers
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    zeros: NDArray[np.int64]
    positives: NDArray[np.int64]

    @classmethod
    def empty(cls, units: int) -> Self:
        """Return sums of no values."""
        count, zeros, positives = np.zeros((3, units), np.int64)
        first, second, third = np.zeros((3, units))
        low, high = np.full(units, np.inf), np.full(units, -np.inf)
        shift = np.full(units, np.nan)
        return cls(count, shift, (first, second, third), low, high, zeros, positives)

    def add(self, units: slice, count: int, shift: NDArray[np.float64], sums: TileSums) -> None:
        """Add the sums of a tile."""
        self.count[units] += count
        self.shift[units] = shift
        for total, added in zip(self.powers, sums.powers, strict=True):
            total[units] += added
        np.minimum(self.low[units], sums.low, out=self.low[units])
        np.maximum(self.high[units], sums.high, out=self.high[units])
        self.zeros[units] += sums.zeros
        self.positives[units] += sums.positives

    def moments(self) -> UnitMoments:
        """Return the moments."""
        extremes = self.low, self.high
        shift = np.where(self.count > 0, self.shift, 0)
        return _moments(self.count, shift, self.powers, extremes, self.zeros, self.positives)


def _moments(
    n: NDArray[np.int64],
    shift: NDArray[np.float64],
    sums: Powers,
    extremes: tuple[NDArray[np.float64], NDArray[np.float64]],
    zeros: NDArray[np.int64],
    positives: NDArray[np.int64],
) -> UnitMoments:
    """Return moments from sums of powers of x − shift, of n values a unit."""
    first, second, third = sums
    with np.errstate(over="ignore", invalid="ignore"):
        delta = first / np.maximum(n, 1)
        m2 = np.maximum(second - first * delta, 0)
        m3 = third - 3 * delta * second + 2 * n * delta**3
    none = np.zeros(len(shift), np.int64)
    return UnitMoments(n, shift + delta, m2, m3, *extremes, zeros, positives, none, none, none)


def _moments_of(values: NDArray[np.float64]) -> UnitMoments:
    """Return the moments of the finite values of one unit."""
    low, high = values.min(), values.max()
    with np.errstate(over="ignore", invalid="ignore"):
        shift = low if low == high else values.mean()
        centred = values - shift
        sums = [np.array([(centred**power).sum()]) for power in (1, 2, 3)]
    return _moments(
        np.array([values.size]),
        np.array([shift]),
        (sums[0], sums[1], sums[2]),
        (np.array([low]), np.array([high])),
        np.array([np.count_nonzero(values == 0)]),
        np.array([np.count_nonzero(values > 0)]),
    )


NAMES = tuple(field.name for field in fields(UnitMoments) if field.init)
