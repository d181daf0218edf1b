"""Histograms of units over bins that do not depend on the data, so that any two can be added.

A bin is a sign, an exponent and the first six bits of the mantissa of a float32: the bins of a
power of two are 64 equal parts of it. Exact 0 has bin 0, which also takes magnitudes below 2⁻¹²⁶.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cnatool.metrics.unit_values import Scratch, as_unit_values, stretches, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_MANTISSA = 6
# Bins of one power of two.
PARTS = 1 << _MANTISSA
# The largest relative error of a quantile: the width of a bin, relative to its smaller edge.
RELATIVE_ERROR = 1 / PARTS
# Numbers of bins are −LAST … LAST; magnitudes of 2¹²⁸ and above are in the last one.
LAST = 254 * PARTS + 1

# Columns of a table of counts: the leading bits of a float32.
_SHIFT = 23 - _MANTISSA
_SIGN = 256 * PARTS
_COLUMNS = 2 * _SIGN
_INFINITE = 255 * PARTS
# Column of finite float64 values of 2¹²⁸ and above, where a float32 has only NaN.
_HUGE = _INFINITE + 1
# Columns of a row of the table: were it a power of two, the same bin of all units would have one
# place in the cache.
_WIDTH = _COLUMNS + 720
_NAN = _INFINITE + PARTS // 2
_BITS64 = 1 + 11 + _MANTISSA
# Values that a table of 32-bit counts takes before it is added to the histogram.
_MOST = 1 << 31
# Units of which a table has a column for each bin there is; 128 KiB a unit.
_DENSE_UNITS = 1024
_GROWTH = 256
# Columns of 16 powers of two: those of zeros and of magnitudes around 1 first, positive before
# negative ones.
_PAGE = 16 * PARTS
_PAGES = [page * _PAGE + sign for sign in (0, _SIGN) for page in (0, 7, 8, 6)]
_PAGES += sorted(set(range(0, _COLUMNS, _PAGE)) - set(_PAGES))
# Units whose counts fit a cache, and positions from which a unit has a stretch of values.
_UNITS = 64
_POSITIONS = 32
_ONE = np.uint32(1)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of the values of each unit in each bin.

    Attributes
    ----------
    bins : ndarray of int32, (b,)
        Numbers of the bins that hold a value of any unit, ascending as their values do: 0 for 0,
        and ±(1 + 64 (e + 126) + j) for magnitudes from 2^e (1 + j / 64) up to the next bin,
        −126 ≤ e ≤ 127; ±16257 for 2¹²⁸ and above.
    counts : ndarray of int64, (units, b)
        Values in each bin.
    nan, below, above : ndarray of int64, (units,)
        Values that are NaN, −∞ and ∞, which have no bin.
    """

    bins: NDArray[np.int32]
    counts: NDArray[np.int64]
    nan: NDArray[np.int64]
    below: NDArray[np.int64]
    above: NDArray[np.int64]

    @classmethod
    def empty(cls, units: int) -> Self:
        """Return a histogram of no values."""
        none = np.zeros((3, units), np.int64)
        return cls(np.empty(0, np.int32), np.empty((units, 0), np.int64), *none)

    @classmethod
    def of(cls, values: ArrayLike) -> Histogram:
        """Count values, (n, units) or (n, units, positions), of any real type."""
        array = np.asarray(values)
        counter = HistogramCounter(array.shape[1] if array.ndim > 1 else 0)
        counter.update(array)
        return counter.histogram()

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.counts)

    @property
    def total(self) -> NDArray[np.int64]:
        """Finite values of each unit, (units,)."""
        total: NDArray[np.int64] = self.counts.sum(axis=1)
        return total

    @property
    def edges(self) -> NDArray[np.float64]:
        """The least and the greatest magnitude of each bin with its sign, ascending, (b, 2).

        The edge that is nearer to 0 belongs to the bin, the other one does not.
        """
        return bin_edges(self.bins)

    def merge(self, other: Histogram) -> Histogram:
        """Add the counts of two histograms of the same units."""
        if other.units != self.units:
            raise ValueError(f"histograms have {self.units} and {other.units} units")
        if not len(self.bins) or not len(other.bins):
            counted = self if len(self.bins) else other
            return Histogram(
                counted.bins,
                counted.counts,
                self.nan + other.nan,
                self.below + other.below,
                self.above + other.above,
            )
        bins: NDArray[np.int32] = np.union1d(self.bins, other.bins)
        counts = np.zeros((self.units, len(bins)), np.int64)
        counts[:, np.searchsorted(bins, self.bins)] = self.counts
        counts[:, np.searchsorted(bins, other.bins)] += other.counts
        return Histogram(
            bins,
            counts,
            self.nan + other.nan,
            self.below + other.below,
            self.above + other.above,
        )

    def take(self, units: slice | NDArray[Any]) -> Histogram:
        """Return the histograms of some units, with the bins of all."""
        return Histogram(
            self.bins, self.counts[units], self.nan[units], self.below[units], self.above[units]
        )

    @classmethod
    def join(cls, parts: Sequence[Histogram]) -> Histogram:
        """Put the units of several histograms behind one another."""
        bins: NDArray[np.int32] = np.unique(np.concatenate([part.bins for part in parts]))
        counts = np.zeros((sum(part.units for part in parts), len(bins)), np.int64)
        first = 0
        for part in parts:
            counts[first : first + part.units, np.searchsorted(bins, part.bins)] = part.counts
            first += part.units
        nan, below, above = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("nan", "below", "above")
        )
        return cls(bins, counts, nan, below, above)

    def quantile(self, q: float, *, whole: bool = False) -> NDArray[np.float64]:
        """Estimate a quantile of the finite values of each unit, (units,); NaN without values.

        As `numpy.quantile` (linear), with the values of a bin spread evenly over it. Each value
        is taken for another one of its bin, so that the error is at most 1/64 of the magnitude of
        the two values that the quantile lies between. With ``whole``, values are integers, and
        those up to ±127 have no error.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q is {q}, not between 0 and 1")
        # Values up to each bin, all units behind one another, and those of the units before.
        ends = self.counts.cumsum()
        before = np.append(0, ends)[: self.counts.size : max(1, len(self.bins))]
        total = self.total
        rank = q * np.maximum(total - 1, 0)
        low = np.floor(rank)
        first = self._value(ends, before, low)
        second = self._value(ends, before, np.minimum(low + 1, np.maximum(total - 1, 0)))
        if whole:
            first, second = np.trunc(first), np.trunc(second)
        share = rank - low
        # Where both are one value, the second is not needed.
        between = np.where(share > 0, first + share * (second - first), first)
        return np.where(total > 0, between, np.nan)

    def _value(
        self, ends: NDArray[np.int64], before: NDArray[np.int64], rank: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Estimate the value of a rank, from 0, in each unit."""
        bins = len(self.bins)
        if not bins:
            return np.full(self.units, np.nan)
        unit = np.arange(self.units)
        place = np.searchsorted(ends, before + rank.astype(np.int64), side="right")
        place = np.minimum(place, (unit + 1) * bins - 1)
        count = self.counts.reshape(-1)[place]
        share = (rank - (ends[place] - before - count) + 0.5) / np.maximum(count, 1)
        low, high = self.edges[place % bins].T
        with np.errstate(invalid="ignore"):
            inside = low + share.clip(0, 1) * (high - low)
        value: NDArray[np.float64] = np.where(np.isfinite(high - low), inside, np.nan)
        return value


def bin_edges(bins: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the edges of bins, ascending, (b, 2)."""
    magnitude = np.abs(bins.astype(np.int64))
    numbers = np.stack([magnitude, magnitude + 1]) + PARTS - 1
    edges = np.ldexp(1 + numbers % PARTS / PARTS, numbers // PARTS - 127)
    edges[1][magnitude == LAST] = np.inf
    edges[:, magnitude == 0] = 0
    negative = bins < 0
    edges[:, negative] = -edges[::-1, negative]
    return np.ascontiguousarray(edges.T)


class HistogramCounter:
    """Counts values batch by batch.

    Parameters
    ----------
    units : int
        Number of units.
    dense : bool, optional
        Whether the table has a column for each bin there is, 128 KiB a unit, or only for those
        that occur, which takes a little longer; by default for up to 1024 units.
    before : Histogram, optional
        What was counted before.
    """

    def __init__(
        self, units: int, *, dense: bool | None = None, before: Histogram | None = None
    ) -> None:
        self.units = units
        dense = units <= _DENSE_UNITS if dense is None else dense
        # Column of each key; the first one is that of keys without a column yet.
        self._columns = None if dense else np.zeros(_COLUMNS, np.intp)
        self._keys = np.arange(_COLUMNS) if dense else np.zeros(1, np.intp)
        self._table = _allocate(units) if dense else np.zeros((units, _GROWTH), np.uint32)
        self._since = 0
        # Values in the table, of all units.
        self._counted = 0
        self._wide = False
        self._scratch = Scratch()
        self._done = Histogram.empty(units) if before is None else before

    def update(self, values: ArrayLike, start: int = 0) -> None:
        """Count values, (n, units) or (n, units, positions), of the units from ``start`` on."""
        array = as_unit_values(values)
        for rows, units in tiles(array.shape):
            self.add_tile(array[rows, units], start + units.start)

    def histogram(self) -> Histogram:
        """Return the histogram of all values so far."""
        return self._done.merge(self._read_table()) if self._since else self._done

    def add_tile(self, tile: NDArray[np.floating[Any]], start: int) -> None:
        """Count a few values, (n, units, positions), of the units from ``start`` on."""
        n, units, positions = tile.shape
        self._wide |= tile.dtype == np.float64
        self._since += n * positions
        if self._since >= _MOST:
            self._flush()
            self._since = n * positions
        self._counted += tile.size
        for first in range(0, units, _UNITS):
            few = tile[:, first : first + _UNITS]
            for rows in stretches(few.shape):
                self._count(few[rows], start + first)

    def _count(self, values: NDArray[np.floating[Any]], start: int) -> None:
        """Count a stretch of a few units."""
        keys = _find_keys(values, self._scratch)
        if self._columns is not None:
            keys = self._find_columns(keys)
        n, units, positions = keys.shape
        rows = np.arange(units) * self._table.shape[1]
        if positions < _POSITIONS:
            flat = keys.reshape(n, units * positions)
            np.add(flat, np.repeat(rows, positions), out=flat)
        else:
            np.add(keys, rows[:, None], out=keys)
        table = self._table[start : start + units]
        np.add.at(table.reshape(-1), keys.reshape(-1), _ONE)

    def _find_columns(self, keys: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the columns of keys in the table, to which those that are missing are added."""
        assert self._columns is not None
        columns = self._scratch.take("columns", keys.shape, np.intp)
        # Of all modes, this one alone writes to its place.
        np.take(self._columns, keys, out=columns, mode="clip")
        if columns.size and not columns.min():
            new = np.unique(keys[columns == 0])
            self._columns[new] = np.arange(len(self._keys), len(self._keys) + len(new))
            self._keys = np.concatenate([self._keys, new])
            width = self._table.shape[1]
            if len(self._keys) > width:
                table = np.zeros((self.units, len(self._keys) + _GROWTH), np.uint32)
                table[:, :width] = self._table
                self._table = table
            np.take(self._columns, keys, out=columns, mode="clip")
        return columns

    def _flush(self) -> None:
        """Add the table to the histogram, and empty it."""
        self._done = self.histogram()
        # A fresh table has no memory yet where nothing is counted.
        dense = self._columns is None
        self._table = _allocate(self.units) if dense else np.zeros_like(self._table)
        self._since = self._counted = 0

    def _find_used(self) -> NDArray[np.intp]:
        """Find the columns that hold a count; of many columns, none is read without need."""
        found: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
        left, width = self._counted, self._table.shape[1]
        dtype = np.uint32 if left < 1 << 32 else np.int64
        for start in _PAGES if self._columns is None else range(0, width, _PAGE):
            if not left:
                break
            counts = self._table[:, start : start + _PAGE].sum(axis=0, dtype=dtype)
            found.append(start + np.flatnonzero(counts))
            left -= int(counts.sum())
        return np.sort(np.concatenate(found))

    def _read_table(self) -> Histogram:
        """Return the histogram of the values in the table."""
        used = self._find_used()
        keys = self._keys[used]
        bins, nonfinite = _bins(keys, wide=self._wide)
        order = np.argsort(bins[~nonfinite], kind="stable")
        columns = used[~nonfinite][order]
        sorted_bins = bins[~nonfinite][order]
        # 0, −0 and what is as close to it are one bin.
        first = np.ones(len(columns), bool)
        first[1:] = sorted_bins[1:] != sorted_bins[:-1]
        counts = np.take(self._table, columns[first], axis=1).astype(np.int64)
        places = np.cumsum(first) - 1
        for column in np.flatnonzero(~first):
            counts[:, places[column]] += self._table[:, columns[column]]
        sorted_bins = sorted_bins[first]
        other = [
            self._table[:, used[where]].sum(axis=1, dtype=np.int64)
            for where in (
                nonfinite & (keys % _SIGN != _INFINITE),
                nonfinite & (keys == _SIGN + _INFINITE),
                nonfinite & (keys == _INFINITE),
            )
        ]
        return Histogram(sorted_bins.astype(np.int32), counts, *other)


def _allocate(units: int) -> NDArray[np.uint32]:
    """Return a table of zeros that takes memory where it is written alone: small pages do."""
    if not units:
        return np.zeros((0, _WIDTH), np.uint32)
    pages = mmap.mmap(-1, units * _WIDTH * 4)
    return np.frombuffer(pages, np.uint32).reshape(units, _WIDTH)


def _find_keys(values: NDArray[np.floating[Any]], scratch: Scratch) -> NDArray[np.intp]:
    """Return the leading bits of each value as a float32, rounded towards 0."""
    keys = scratch.take("keys", values.shape, np.intp)
    if values.dtype == np.float32:
        bits = scratch.take("bits", values.shape, np.uint32)
        np.right_shift(values.view(np.uint32), np.uint32(_SHIFT), out=bits)
        np.copyto(keys, bits)
        return keys
    wide = scratch.take("bits", values.shape, np.uint64)
    np.right_shift(values.view(np.uint64), np.uint64(64 - _BITS64), out=wide)
    return np.take(_NARROWED, wide.view(np.int64), out=keys, mode="clip")


def _narrow() -> NDArray[np.intp]:
    """Return the key of a float32 for the leading bits of each float64."""
    bits = np.arange(1 << _BITS64)
    negative, magnitude = np.divmod(bits, 1 << (_BITS64 - 1))
    exponent, mantissa = np.divmod(magnitude, PARTS)
    narrow = exponent - 1023 + 127
    keys: NDArray[np.intp] = narrow * PARTS + mantissa + negative * _SIGN
    for where, key in (
        (narrow < 1, 0),
        (narrow >= 255, _HUGE),
        ((exponent == 2047) & (mantissa == 0), _INFINITE),
        ((exponent == 2047) & (mantissa > 0), _NAN),
    ):
        keys[where] = key + negative[where] * _SIGN
    return keys


def _bins(keys: NDArray[np.intp], *, wide: bool) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the number of each key's bin, and whether it is none of a finite value."""
    negative, magnitude = np.divmod(keys, _SIGN)
    bins = np.maximum(magnitude - (PARTS - 1), 0)
    bins[magnitude == _HUGE] = LAST
    nonfinite = (magnitude >= _INFINITE) & ~(wide & (magnitude == _HUGE))
    return np.where(negative > 0, -bins, bins), nonfinite


_NARROWED = _narrow()
