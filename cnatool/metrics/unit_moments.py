"""Moments of units, and what else is counted of their values, batch by batch.

Means and centred sums of powers of two sets of values combine exactly up to rounding (Chan et al.
1983 for the variance, Pébay 2008 for higher moments), so that the order of batches, or their
division among processes, changes only the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from cnatool.metrics.unit_values import Scratch, as_unit_values, fold, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# Rows that 8-bit counts take.
_BYTE = 255
# Positions from which each row is summed first, rather than each position over rows, and from which
# NumPy sums in pairs sooner than a product with ones.
_POSITIONS = 64
_PAIRWISE = 256
# Rows that are summed in the type of the values.
_FEW = 32
# Distances from the mean whose cubes are float32.
_LEAST, _GREATEST = 2.0**-30, 2.0**30
# Sums of squares, and cubes, below which these have lost digits.
_LEAST_SQUARES = 2.0**-960

Sums: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]"


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
        return type(self)(*(getattr(self, name)[units].copy() for name in NAMES))

    @classmethod
    def join(cls, parts: Sequence[UnitMoments]) -> Self:
        """Put the units of several behind one another."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in NAMES))

    def add_tile(
        self, tile: NDArray[np.floating[Any]], units: slice, *, row_sums: bool = False
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64] | int] | None:
        """Add a few values, (n, units, positions), that fit the cache; `settle` ends them.

        Returns
        -------
        (sums, counts) or None
            With ``row_sums``, the sum of the finite values of each row and unit, (n, units), and
            their number.
        """
        low, high = fold(np.minimum, tile), fold(np.maximum, tile)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return self._add_nonfinite(tile, units, row_sums=row_sums)
        n, width, positions = tile.shape
        if self._sums is None:
            self._sums = _Sums.empty(self.units)
        shift = self._find_shift(tile, units, low, high)
        if tile.dtype == np.float32 and _fits_float32(shift, low, high):
            shift = shift.astype(np.float32)
        rows = positions >= _POSITIONS or (row_sums and positions > 1)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            powers, first = self._sum_powers(tile, shift, rows=rows)
        self._sums.add(
            units, n * positions, powers, (low, high), self._count_signs(tile, low, high)
        )
        if not row_sums:
            return None
        if first is None:
            return tile.reshape(n, width), 1
        return first + shift * positions, positions

    def _find_shift(
        self,
        tile: NDArray[np.floating[Any]],
        units: slice,
        low: NDArray[np.floating[Any]],
        high: NDArray[np.floating[Any]],
    ) -> NDArray[np.float64]:
        """Return what is subtracted from the values of each unit, so that no digits go to it.

        It is about their mean; the value itself of a unit whose values are equal, so that its
        deviation is 0.
        """
        assert self._sums is not None
        shift = self._sums.shift[units]
        if np.isnan(shift).any():
            known = self.count[units] > 0
            mean = self.mean[units]
            if not known.all():
                count = tile.shape[0] * tile.shape[2]
                here = fold(np.add, tile, np.dtype(np.float64)) / count
                mean = np.where(known, mean, np.where(low == high, low, here))
            if tile.dtype == np.float32:
                # So that differences from it are those of float32.
                mean = mean.astype(np.float32).astype(np.float64)
            shift[:] = np.where(np.isnan(shift), mean, shift)
        return shift

    def _sum_powers(
        self,
        tile: NDArray[np.floating[Any]],
        shift: NDArray[np.floating[Any]],
        *,
        rows: bool,
    ) -> tuple[Sums, NDArray[np.floating[Any]] | None]:
        """Return Σ (x − shift)^p of each unit for p = 1, 2, 3; with ``rows`` also of each row."""
        n, units, positions = tile.shape
        flat = tile.reshape(n, units * positions)
        powers = self._scratch.take("powers", flat.shape, shift.dtype)
        centred = self._scratch.take("centred", flat.shape, shift.dtype)
        np.subtract(flat, np.repeat(shift, positions), out=centred)
        sum_units = _sum_rows if rows else _sum_columns
        if shift.dtype == np.float32:
            # Means keep the digits of float64, as differences of float32 do not.
            first = sum_units(flat, tile.shape, np.float64) - _count_terms(tile, rows=rows) * shift
            sums = [first]
        else:
            sums = [sum_units(centred, tile.shape)]
        np.multiply(centred, centred, out=powers)
        sums.append(sum_units(powers, tile.shape))
        np.multiply(powers, centred, out=powers)
        sums.append(sum_units(powers, tile.shape))
        folded = [each.sum(axis=0, dtype=np.float64) for each in sums]
        return (folded[0], folded[1], folded[2]), sums[0] if rows else None

    def _count_signs(
        self,
        tile: NDArray[np.floating[Any]],
        low: NDArray[np.floating[Any]],
        high: NDArray[np.floating[Any]],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count zeros and values above 0, as far as the extremes do not tell."""
        n, units, positions = tile.shape
        every = np.full(units, n * positions)
        which = self._scratch.take("which", tile.shape, bool)
        if (low > 0).all() or (high < 0).all():
            zeros = np.zeros(units, np.int64)
        else:
            zeros = _count(np.equal(tile, 0, out=which))
        if (low >= 0).all():
            return zeros, every - zeros
        if (high <= 0).all():
            return zeros, np.zeros(units, np.int64)
        return zeros, _count(np.greater(tile, 0, out=which))

    def _add_nonfinite(
        self, tile: NDArray[np.floating[Any]], units: slice, *, row_sums: bool
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]] | None:
        """Add a tile some values of which may not be finite."""
        self.nan[units] += _count(np.isnan(tile))
        self.below[units] += _count(tile == -np.inf)
        self.above[units] += _count(tile == np.inf)
        finite = np.isfinite(tile)
        for unit in range(tile.shape[1]):
            values = tile[:, unit][finite[:, unit]].astype(np.float64)
            if values.size:
                moments = _moments_of(values)
                number = units.start + unit
                self._merge(moments, slice(number, number + 1))
        if not row_sums:
            return None
        kept = np.where(finite, tile, 0)
        return kept.sum(axis=2, dtype=np.float64), finite.sum(axis=2, dtype=np.int64)

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
    powers: Sums
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

    def add(
        self,
        units: slice,
        count: int,
        powers: Sums,
        extremes: tuple[NDArray[Any], NDArray[Any]],
        signs: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> None:
        """Add the sums of a tile."""
        self.count[units] += count
        for total, added in zip(self.powers, powers, strict=True):
            total[units] += added
        low, high = extremes
        np.minimum(self.low[units], low, out=self.low[units])
        np.maximum(self.high[units], high, out=self.high[units])
        self.zeros[units] += signs[0]
        self.positives[units] += signs[1]

    def moments(self) -> UnitMoments:
        """Return the moments."""
        extremes = self.low, self.high
        shift = np.where(self.count > 0, self.shift, 0)
        return _moments(self.count, shift, self.powers, extremes, self.zeros, self.positives)


def _moments(
    n: NDArray[np.int64],
    shift: NDArray[np.float64],
    sums: Sums,
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


def _fits_float32(
    shift: NDArray[np.float64],
    low: NDArray[np.floating[Any]],
    high: NDArray[np.floating[Any]],
) -> bool:
    """Whether cubes of x − shift are far from the least and the greatest float32."""
    with np.errstate(over="ignore"):
        reach = np.maximum(high - shift, shift - low)
    return bool(((reach == 0) | ((reach > _LEAST) & (reach < _GREATEST))).all())


def _count_terms(tile: NDArray[Any], *, rows: bool) -> NDArray[np.float64]:
    """Return how many values each sum of `_sum_rows` or `_sum_columns` has, (…, 1)."""
    n, _, positions = tile.shape
    if rows:
        return np.full((1, 1), float(positions))
    ends = np.append(np.arange(0, n, _FEW), n)
    return np.diff(ends)[:, None] * float(positions)


def _sum_rows(values: NDArray[Any], shape: tuple[int, ...], dtype: Any = None) -> NDArray[Any]:
    """Sum over positions: (n, units)."""
    n, units, positions = shape
    rows = values.reshape(n * units, positions)
    if dtype is None and positions < _PAIRWISE and values.dtype == np.float32:
        sums: NDArray[Any] = rows @ np.ones(positions, np.float32)
    else:
        sums = np.add.reduce(rows, axis=1, dtype=dtype)
    return sums.reshape(n, units)


def _sum_columns(values: NDArray[Any], shape: tuple[int, ...], dtype: Any = None) -> NDArray[Any]:
    """Sum over a few rows at a time, (n / 32, units), so that float32 loses no digits."""
    n, units, positions = shape
    whole = n - n % _FEW
    parts: NDArray[Any] = (
        values[:whole].reshape(whole // _FEW, _FEW, units * positions).sum(axis=1, dtype=dtype)
    )
    if whole < n:
        parts = np.concatenate([parts, values[whole:].sum(axis=0, dtype=dtype)[None]])
    if positions > 1:
        parts = parts.reshape(len(parts), units, positions).sum(axis=2)
    return parts


def _count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count what is true of each unit."""
    n, units, positions = which.shape
    flat = which.view(np.uint8).reshape(n, units * positions)
    counts = np.zeros(units * positions, np.int64)
    for row in range(0, n, _BYTE):
        counts += np.add.reduce(flat[row : row + _BYTE], axis=0, dtype=np.uint8)
    return counts if positions == 1 else counts.reshape(units, positions).sum(axis=1)


NAMES = tuple(field.name for field in fields(UnitMoments) if field.init)
