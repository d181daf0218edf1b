"""α: the complexity of a raw input, as the entropy of its values (docs/metrics.md; paper §3.1).

The histograms of a whole block of samples are counted at once. Blocks fit the processor's caches,
and memory does not depend on the number of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from cnatool.errors import DataError, MetricError
from cnatool.metrics.count_entropy import (
    BinWidths,
    c_log2_c,
    density_entropy_of_counts,
    entropy_of_counts,
    fraction_bits,
)
from cnatool.metrics.row_counts import NUMBERS, count_many_rows, count_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cnatool.metrics.convention import OutOfRange

_ELEMENTS = 1 << 17  # elements counted at a time, of types that need no arithmetic
_FLOAT_ELEMENTS = 1 << 14  # of floating types, whose intermediate arrays are many
_MANY = 4  # times as many are counted at a time where there are many samples


class OutsideError(DataError):
    """A value outside the range that the bins span."""


def extent(x: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the greatest finite value of (n, …) inputs, as `entropy` compares them.

    Unsigned integers count as the unit interval. (inf, −inf) if no value is finite.
    """
    if x.dtype.kind in "bu":
        greatest = 1 if x.dtype.kind == "b" else int(np.iinfo(x.dtype).max)
        return float(x.min()) / greatest, float(x.max()) / greatest
    finite = np.isfinite(x)
    low = np.min(x, where=finite, initial=np.inf)
    return float(low), float(np.max(x, where=finite, initial=-np.inf))


def entropy(
    x: NDArray[Any],
    *,
    bins: int,
    range: tuple[float, float],
    out_of_range: OutOfRange,
    density: bool,
    first_row: int = 0,
    many: bool = False,
) -> NDArray[np.float64]:
    """Return the entropy of each sample's values, in bits, (n,): −Σ_b p_b log2 p_b (paper §3.1).

    `x` has shape (n, …); all axes but the first are pooled. The `bins` equal bins over `range` are
    the same for every sample and those of `numpy.histogram`, with its right edge and its rounding.
    A value outside is treated as `out_of_range` says; NaN is an error unless dropped.

    uint8 and uint16 images count as the unit interval (value / greatest value of the type), bool
    as 0 and 1, floats as they are (float16 as float32). Every other integer type holds symbols: one
    bin for each distinct value, where `bins` and `range` mean nothing.

    With `density`, −Σ_b d_b log2 d_b of NumPy's densities d_b = p_b / w_b. The widths w_b are those
    of NumPy's edges in the type of the values; for images these are float32 fractions of their
    greatest level, so that a thousand bins differ in width. `first_row` numbers the samples in
    errors. `many` says that there are so many values in all, in this and other calls, that a faster
    way to count them pays for its import.

    Raises
    ------
    DataError
        For a value outside the range, a NaN, a sample without any value, or a type without order.
    MetricError
        For the density form of symbols.
    """
    values = np.asarray(x)
    n, width = values.shape[0], math.prod(values.shape[1:])
    if width == 0:
        raise DataError(f"The samples have shape {values.shape[1:]}: there is no value to count.")
    flat = values.reshape(n, width)
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "i" or (kind == "u" and size > 2):
        if density:
            raise MetricError(
                f"Inputs of type {values.dtype} are symbols, and symbols have no density: "
                "use `alpha='entropy'`."
            )
        return _symbol_entropy(flat)
    low, high = map(float, range)
    bounds = _Bounds(bins, low, high, out_of_range, density)
    tally: _Tally
    if kind in "bu":
        tally = _Pixels(bounds, values.dtype) if size == 1 else _WidePixels(bounds, values.dtype)
    elif kind == "f":
        tally = _Floats(bounds, values.dtype)
    else:
        raise DataError(f"Inputs of type {values.dtype} have no histogram.")
    return _entropy_by_blocks(flat, tally, first_row, many=many)


def level_entropy(
    counts: NDArray[np.integer[Any]],
    *,
    bins: int,
    range: tuple[float, float],
    out_of_range: OutOfRange,
    density: bool,
    first_row: int = 0,
) -> NDArray[np.float64]:
    """Return the `entropy` of 8-bit images from (n, 256) counts of their levels.

    Raises `DataError` for a level outside the range, or a sample without any value.
    """
    low, high = map(float, range)
    tally = _Pixels(_Bounds(bins, low, high, out_of_range, density), np.dtype(np.uint8))
    tally.check_levels(counts, first_row)
    numbers = counts.astype(np.intp)
    widths = numbers.sum(axis=1)
    if not widths.all():
        raise DataError(
            f"Sample row {first_row + np.argmin(widths)} counts no level, which no image does: "
            "dump the data again."
        )
    bits = np.empty(len(numbers))
    # Samples of one size together: the fixed point depends on it.
    for width in np.unique(widths):
        rows = np.flatnonzero(widths == width)
        binned = tally.binned(numbers[rows])
        bits[rows] = _binned_entropy(binned, int(width), rows + first_row, tally)
    return bits


def level_extent(counts: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Return the `extent` of 8-bit images, from counts of their levels."""
    present = np.flatnonzero(counts.any(axis=0))
    if not present.size:
        return math.inf, -math.inf
    return float(present[0]) / 255, float(present[-1]) / 255


@dataclass(frozen=True)
class _Bounds:
    """Equal bins, and how values outside are treated."""

    bins: int
    low: float
    high: float
    out_of_range: OutOfRange
    density: bool

    def edges(self, dtype: np.dtype[Any]) -> NDArray[np.floating[Any]]:
        """Return NumPy's edges of the bins for values of a type."""
        return np.histogram_bin_edges(np.empty(0, dtype), self.bins, (self.low, self.high))

    def widths(self, dtype: np.dtype[Any]) -> BinWidths | None:
        """Return the widths of the bins for the density form; None for the entropy."""
        return BinWidths.of(np.diff(self.edges(dtype))) if self.density else None

    def number(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Return each value's bin; the values lie inside. The steps are `numpy.histogram`'s."""
        edges = self.edges(values.dtype)
        number = ((values - self.low) / (self.high - self.low) * self.bins).astype(np.intp)
        np.minimum(number, self.bins - 1, out=number)  # the last bin includes its right edge
        number -= values < np.take(edges, number)  # rounding may have moved a value over an edge
        number += (values >= np.take(edges, number + 1)) & (number != self.bins - 1)
        return number

    def refuse(self, row: int, value: float, written: str) -> NoReturn:
        """Raise the error for a value outside all bins."""
        if math.isnan(value):
            raise DataError(
                f"Sample row {row} holds NaN, which has no bin: "
                "`out_of_range='drop'` leaves such values out."
            )
        if math.isinf(value):
            raise DataError(
                f"Sample row {row} holds {written}, which no range includes: "
                "`out_of_range='drop'` leaves such values out, `out_of_range='clip'` counts them "
                "in the outermost bins."
            )
        raise OutsideError(
            f"Sample row {row} holds {written}, outside the range {self.low:g}:{self.high:g}: "
            "use `range='LO:HI'` if such values are expected, or `out_of_range='clip|drop'`."
        )


class _Tally(Protocol):
    """Maps values of one type to small numbers, and the counts of these to bins."""

    bounds: _Bounds
    size: int
    elements: int  # to count at a time
    widths: BinWidths | None  # of the bins, for the density form

    def index(self, block: NDArray[Any], first_row: int) -> NDArray[Any]:
        """Return numbers 0 … size − 1 in the block's shape."""

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Return the bins' counts, without what was dropped."""


class _WidePixels:
    """uint16: a table from level to bin; the number after the last bin is what is dropped."""

    elements = _ELEMENTS

    def __init__(self, bounds: _Bounds, dtype: np.dtype[Any]) -> None:
        self.bounds = bounds
        self.greatest = 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)
        self.size = bounds.bins + 1
        unit = np.arange(self.greatest + 1) / self.greatest
        if bounds.density:
            unit = unit.astype(np.float32)
        self.widths = bounds.widths(unit.dtype)
        if bounds.out_of_range == "clip":
            unit = unit.clip(bounds.low, bounds.high)
        self.inside = (unit >= bounds.low) & (unit <= bounds.high)
        self.refusing = bounds.out_of_range == "error" and not self.inside.all()
        table = np.full(unit.size, bounds.bins)
        table[self.inside] = bounds.number(unit[self.inside])
        self.table = table.astype(np.uint16) if self.size <= NUMBERS else table

    def index(self, block: NDArray[Any], first_row: int) -> NDArray[Any]:
        self.check(block, first_row)
        return np.take(self.table, block)

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        return counts[:, : self.bounds.bins]

    def check(self, block: NDArray[Any], first_row: int) -> None:
        """Refuse the first value outside the range, where that is an error."""
        if not self.refusing:
            return
        outside = ~self.inside[block]
        if outside.any():
            row, column = np.argwhere(outside)[0]
            self.refuse(first_row + int(row), int(block[row, column]))

    def refuse(self, row: int, level: int) -> NoReturn:
        """Raise the error for a level outside all bins."""
        value = level / self.greatest
        self.bounds.refuse(row, value, f"{level} (as a fraction {value:g})")


class _Pixels(_WidePixels):
    """uint8 and bool: the levels themselves are counted, and bins are sums over levels."""

    def __init__(self, bounds: _Bounds, dtype: np.dtype[Any]) -> None:
        super().__init__(bounds, dtype)
        self.size = self.greatest + 1
        kept = np.flatnonzero(self.inside)
        self.kept = slice(kept[0], kept[-1] + 1) if kept.size else slice(0)
        # Bins ascend with the levels, so that a bin is a run of levels.
        bins = self.table[self.kept].astype(np.intp)
        self.starts = np.flatnonzero(np.diff(bins, prepend=-1))
        if self.widths is not None:
            self.widths = self.widths.among(bins[self.starts])

    def index(self, block: NDArray[Any], first_row: int) -> NDArray[Any]:
        levels = block.view(np.uint8)
        self.check(levels, first_row)
        return levels

    def check_levels(self, counts: NDArray[Any], first_row: int) -> None:
        """Refuse the first sample with a level outside the range, where that is an error."""
        outside = np.argwhere(counts[:, ~self.inside]) if self.refusing else np.empty((0, 2))
        if len(outside):
            row, number = outside[0]
            self.refuse(first_row + int(row), int(np.flatnonzero(~self.inside)[int(number)]))

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        inside = counts[:, self.kept]
        if self.starts.size == inside.shape[1]:  # no two levels share a bin
            return inside
        return np.add.reduceat(inside, self.starts, axis=1)


class _Floats:
    """Floating values: the bin is computed for each."""

    elements = _FLOAT_ELEMENTS

    def __init__(self, bounds: _Bounds, dtype: np.dtype[Any]) -> None:
        self.bounds = bounds
        self.size = bounds.bins + 1
        # In half precision the edges of a thousand bins would not be equally far apart.
        self.dtype = np.promote_types(dtype, np.float32)
        self.widths = bounds.widths(self.dtype)

    def index(self, block: NDArray[Any], first_row: int) -> NDArray[Any]:
        bounds = self.bounds
        values = block.astype(self.dtype, copy=False)
        inside = (values >= bounds.low) & (values <= bounds.high)
        if inside.all():
            return bounds.number(values)
        if bounds.out_of_range == "drop":
            number = np.full(values.shape, bounds.bins)
            number[inside] = bounds.number(values[inside])
            return number
        refused = np.isnan(values) if bounds.out_of_range == "clip" else ~inside
        if refused.any():
            row, column = np.argwhere(refused)[0]
            value = float(values[row, column])
            bounds.refuse(first_row + int(row), value, f"{value:g}")
        return bounds.number(values.clip(bounds.low, bounds.high))

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        return counts[:, : self.bounds.bins]


def _entropy_by_blocks(
    flat: NDArray[Any], tally: _Tally, first_row: int, *, many: bool
) -> NDArray[np.float64]:
    """Count block by block; H = log2 N − Σ c log2 c / N, with c the counts and N their sum."""
    n, width = flat.shape
    bits = np.empty(n)
    step, numbers = tally.elements, NUMBERS
    count: Callable[[NDArray[Any], int], NDArray[np.integer[Any]]] = count_rows
    if many:
        step, numbers, count = _MANY * step, _MANY * NUMBERS, count_many_rows
    rows = max(1, min(numbers // tally.size, step // width))
    for start in range(0, n, rows):
        block = flat[start : start + rows]
        counts = count(tally.index(block[:, :step], first_row + start), tally.size)
        for left in range(step, width, step):
            part = block[:, left : left + step]
            counts += count(tally.index(part, first_row + start), tally.size)
        bits[start : start + rows] = _binned_entropy(
            tally.binned(counts),
            width,
            np.arange(start, start + len(block)) + first_row,
            tally,
        )
    return bits


def _binned_entropy(
    binned: NDArray[np.integer[Any]],
    width: int,
    rows: NDArray[np.intp],
    tally: _Tally,
) -> NDArray[np.float64]:
    """Return the entropy, or its density form, of the bins' counts for `width` values a row."""
    dropping = tally.bounds.out_of_range == "drop"
    total = binned.sum(axis=1) if dropping else np.full(len(binned), width)
    if not total.all():
        raise DataError(
            f"Sample row {rows[np.argmin(total)]} has no value inside the range, and nothing is "
            "left of it: use `range='LO:HI'` or `out_of_range='clip'`."
        )
    if tally.widths is None:
        return entropy_of_counts(binned, total, width)
    return density_entropy_of_counts(binned, total, width, tally.widths)


def _symbol_entropy(flat: NDArray[Any]) -> NDArray[np.float64]:
    """Sort each row: a distinct value is a run, and its count the run's length."""
    n, width = flat.shape
    bits = np.empty(n)
    whole = c_log2_c(np.array([width]), width)[0]
    rows = max(1, _ELEMENTS // width)
    for start in range(0, n, rows):
        ordered = np.sort(flat[start : start + rows], axis=1)
        first = np.ones(ordered.shape, bool)
        np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
        runs = np.flatnonzero(first)
        counts = np.diff(runs, append=ordered.size)
        row_starts = np.searchsorted(runs, np.arange(0, ordered.size, width))
        part = np.add.reduceat(c_log2_c(counts, width), row_starts)
        bits[start : start + rows] = np.ldexp((whole - part) / width, -fraction_bits(width))
    return bits
