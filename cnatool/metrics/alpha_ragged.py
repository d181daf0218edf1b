"""α of samples that differ in length, such as texts and sound (docs/metrics.md, "Texts and sound").

The values of many samples lie behind one another. Those of a group of samples are counted at once,
so that a million short texts take no loop over texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnatool.errors import DataError
from cnatool.metrics.bins import ELEMENTS, Bounds, OutsideError, holds_symbols, make_tally
from cnatool.metrics.count_entropy import entropy_of_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cnatool.metrics.bins import RowNumbers
    from cnatool.metrics.convention import OutOfRange

# Takes windows (m, window), and the row of each for errors.
WindowMeasure: TypeAlias = "Callable[[NDArray[Any], RowNumbers], NDArray[np.float64]]"

_COUNTS = 1 << 17  # counts of the bins of a group of samples
_FEW_SYMBOLS = 256  # that have a count each, whether or not they occur
_SORTED = 1 << 20  # symbols that are sorted at a time
_WINDOWED = 1 << 20  # values of windows that are measured at a time


def ragged_entropy(
    values: NDArray[Any],
    lengths: NDArray[np.int64],
    *,
    bins: int,
    range: tuple[float, float],
    out_of_range: OutOfRange,
    first_row: int = 0,
    outside: type[OutsideError] = OutsideError,
) -> NDArray[np.float64]:
    """Return the `entropy` of each sample's values, in bits, (n,); NaN for a sample without any.

    `values` are those of all samples behind one another, (total,), and `lengths` says how many each
    has. Other parameters and errors are those of `cnatool.metrics.alpha.entropy`.
    """
    if holds_symbols(values.dtype):
        return ragged_symbol_entropy(values, lengths)
    low, high = map(float, range)
    tally = make_tally(Bounds(bins, low, high, out_of_range, False, outside), values.dtype)
    dropping = out_of_range == "drop"
    entropies = np.full(len(lengths), np.nan)
    for rows, part in _group(lengths, tally.elements, max(1, _COUNTS // tally.size)):
        sizes = lengths[rows]
        owners = np.repeat(np.arange(len(sizes)), sizes)
        counts = np.zeros(len(sizes) * tally.size, np.intp)
        for start in _starts(part, tally.elements):
            stop = min(start + tally.elements, part.stop)
            owned = owners[start - part.start : stop - part.start]
            column = values[start:stop, None]
            numbers = tally.index(column, owned + (rows.start + first_row))
            keys = owned * tally.size + numbers[:, 0]
            counts += np.bincount(keys, minlength=counts.size)
        binned = tally.binned(counts.reshape(len(sizes), tally.size))
        total = binned.sum(axis=1) if dropping else sizes
        if dropping and not total[sizes > 0].all():
            row = first_row + rows.start + int(np.flatnonzero((total == 0) & (sizes > 0))[0])
            raise DataError(
                f"Sample row {row} has no value inside the range, so nothing is left of it: use "
                f"`{outside.field}='LO:HI'` or `out_of_range='clip'`."
            )
        entropies[rows] = _entropy_of_dense(binned, total)
    return entropies


def ragged_symbol_entropy(
    values: NDArray[np.integer[Any]], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the entropy of each sample's symbols, in bits, (n,), with a bin for each symbol.

    `values` are integers, such as token ids or the bytes of texts, (total,). NaN for a
    sample without symbols.
    """
    entropies = np.full(len(lengths), np.nan)
    if not values.size:
        return entropies
    low, high = int(values.min()), int(values.max())
    span = high - low + 1
    if span <= _FEW_SYMBOLS:
        for rows, part in _group(lengths, ELEMENTS, max(1, _COUNTS // span)):
            sizes = lengths[rows]
            keys = np.repeat(np.arange(len(sizes)) * span, sizes) + _count_from(low, values[part])
            counts = np.bincount(keys, minlength=len(sizes) * span)
            entropies[rows] = _entropy_of_dense(counts.reshape(len(sizes), span), sizes)
        return entropies
    for rows, part in _group(lengths, _SORTED, _SORTED):
        entropies[rows] = _sorted_entropy(values[part], lengths[rows])
    return entropies


def windowed(
    measure: WindowMeasure,
    values: NDArray[Any],
    lengths: NDArray[np.int64],
    window: int,
    first_row: int = 0,
) -> NDArray[np.float64]:
    """Return the mean of a measure over the windows of each sample, (n,).

    A sample of k values is cut into ⌊k / window⌋ windows behind one another; what is left at its
    end does not count. `measure` takes windows (m, window) and the row of each. NaN for a sample
    shorter than a window.
    """
    numbers = lengths // window
    owners = np.repeat(np.arange(len(lengths)), numbers)
    first = (np.cumsum(lengths) - lengths)[owners]
    starts = first + window * (np.arange(len(owners)) - (np.cumsum(numbers) - numbers)[owners])
    measured = np.empty(len(owners))
    step = max(1, _WINDOWED // window)
    for place in range(0, len(owners), step):
        part = slice(place, place + step)
        windows = values[starts[part, None] + np.arange(window)]
        measured[part] = measure(windows, owners[part] + first_row)
    sums = np.bincount(owners, measured, minlength=len(lengths))
    means = np.full(len(lengths), np.nan)
    np.divide(sums, numbers, out=means, where=numbers > 0)
    return means


def keep_values(
    values: NDArray[Any], lengths: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the values of samples that are kept, and the lengths that samples then have."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    ends = np.cumsum(lengths)
    return values[kept], before[ends] - before[ends - lengths]


def _group(lengths: NDArray[np.int64], values: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, their values) of as many samples as fit, and at least of one."""
    ends = np.cumsum(lengths)
    first, begin = 0, 0
    while first < len(lengths):
        fits = int(np.searchsorted(ends, begin + values, side="right"))
        last = min(max(first + 1, fits), first + rows)
        end = int(ends[last - 1])
        yield slice(first, last), slice(begin, end)
        first, begin = last, end


def _starts(part: slice, step: int) -> range:
    return range(part.start, part.stop, step)


def _entropy_of_dense(
    counts: NDArray[np.integer[Any]], total: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the entropy of rows of counts (n, B) that add up to `total`; NaN where that is 0."""
    counted = np.flatnonzero(total)
    rows, columns = np.nonzero(counts)
    entropies = np.full(len(total), np.nan)
    starts = np.searchsorted(rows, counted)
    entropies[counted] = entropy_of_runs(counts[rows, columns], starts, total[counted])
    return entropies


def _count_from(low: int, values: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Subtract the least value, without an overflow of unsigned numbers above 2⁶³."""
    if values.dtype.kind == "u":
        return (values - values.dtype.type(low)).astype(np.int64)
    return values.astype(np.int64) - low


def _sorted_entropy(
    values: NDArray[np.integer[Any]], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sort all samples' symbols, each by sample and then by symbol: counts are lengths of runs."""
    entropies = np.full(len(lengths), np.nan)
    if not values.size:
        return entropies
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span > (1 << 62) // len(lengths):  # no pair of sample and symbol fits an integer
        symbols = np.unique(values, return_inverse=True)[1].astype(np.int64)
        span = len(values)
    else:
        symbols = _count_from(low, values)
    keys = np.repeat(np.arange(len(lengths), dtype=np.int64) * span, lengths) + symbols
    keys.sort()
    first = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    runs = np.flatnonzero(first)
    counted = np.flatnonzero(lengths)
    starts = np.searchsorted(runs, (np.cumsum(lengths) - lengths)[counted])
    counts = np.diff(runs, append=len(keys))
    entropies[counted] = entropy_of_runs(counts, starts, lengths[counted])
    return entropies
