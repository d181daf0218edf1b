"""α: the complexity of a raw input, as the entropy of its values (docs/metrics.md; paper §3.1).

The histograms of a whole block of samples are counted at once. Blocks fit the processor's caches,
and memory does not depend on the number of samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import DataError
from cnatool.metrics.bins import (
    ELEMENTS,
    Bounds,
    OutsideError,
    Pixels,
    RowNumbers,
    Tally,
    check_no_density,
    holds_symbols,
    make_tally,
)
from cnatool.metrics.count_entropy import (
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

_MANY = 4  # times as many are counted at a time where there are many samples


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
    rows: RowNumbers | None = None,
    many: bool = False,
    outside: type[OutsideError] = OutsideError,
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
    greatest level, so that a thousand bins differ in width. `first_row`, or `rows` one by one,
    number the samples in errors, of which `outside` is that about a value outside the range. `many`
    says that there are so many values in all, in this and other calls, that a faster
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
    if holds_symbols(values.dtype):
        check_no_density(values.dtype, density=density)
        return symbol_entropy(flat)
    low, high = map(float, range)
    bounds = Bounds(bins, low, high, out_of_range, density, outside)
    tally = make_tally(bounds, values.dtype)
    numbers = _number_rows(first_row, n) if rows is None else rows
    return _entropy_by_blocks(flat, tally, numbers, many=many)


def _number_rows(first: int, count: int) -> RowNumbers:
    return range(first, first + count)


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
    tally = Pixels(Bounds(bins, low, high, out_of_range, density), np.dtype(np.uint8))
    tally.check_levels(counts, _number_rows(first_row, len(counts)))
    numbers = counts.astype(np.intp)
    widths = numbers.sum(axis=1)
    if not widths.all():
        raise DataError(
            f"Sample row {first_row + np.argmin(widths)} counts no pixels, but every image has "
            "some: dump the data again."
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


def _entropy_by_blocks(
    flat: NDArray[Any], tally: Tally, rows: RowNumbers, *, many: bool
) -> NDArray[np.float64]:
    """Count block by block; H = log2 N − Σ c log2 c / N, with c the counts and N their sum."""
    n, width = flat.shape
    bits = np.empty(n)
    step, numbers = tally.elements, NUMBERS
    count: Callable[[NDArray[Any], int], NDArray[np.integer[Any]]] = count_rows
    if many:
        step, numbers, count = _MANY * step, _MANY * NUMBERS, count_many_rows
    height = max(1, min(numbers // tally.size, step // width))
    for start in range(0, n, height):
        block, named = flat[start : start + height], rows[start : start + height]
        counts = count(tally.index(block[:, :step], named), tally.size)
        for left in range(step, width, step):
            counts += count(tally.index(block[:, left : left + step], named), tally.size)
        bits[start : start + height] = _binned_entropy(tally.binned(counts), width, named, tally)
    return bits


def _binned_entropy(
    binned: NDArray[np.integer[Any]],
    width: int,
    rows: RowNumbers,
    tally: Tally,
) -> NDArray[np.float64]:
    """Return the entropy, or its density form, of the bins' counts for `width` values a row."""
    dropping = tally.bounds.out_of_range == "drop"
    total = binned.sum(axis=1) if dropping else np.full(len(binned), width)
    if not total.all():
        raise DataError(
            f"Sample row {rows[int(np.argmin(total))]} has no value inside the range, and nothing "
            f"is left of it: use `{tally.bounds.outside.field}='LO:HI'` or `out_of_range='clip'`."
        )
    if tally.widths is None:
        return entropy_of_counts(binned, total, width)
    return density_entropy_of_counts(binned, total, width, tally.widths)


def symbol_entropy(flat: NDArray[Any]) -> NDArray[np.float64]:
    """Return the entropy of each row of symbols (n, width), in bits, with a bin for each symbol.

    Each row is sorted: a distinct value is a run, and its count the run's length.
    """
    n, width = flat.shape
    bits = np.empty(n)
    whole = c_log2_c(np.array([width]), width)[0]
    rows = max(1, ELEMENTS // width)
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
