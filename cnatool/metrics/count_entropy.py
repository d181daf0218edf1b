"""Entropy of the counts of a histogram, summed in fixed point.

Sums of integers do not depend on their order: samples whose histograms are permutations of each
other have the very same α, and a curve sorted by α keeps their rows in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.metrics.row_counts import sum_table_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TABLE = 1 << 16  # counts of which c log2 c is tabulated


@dataclass(frozen=True, slots=True)
class BinWidths:
    """The widths of B bins, K of which are distinct.

    ``order`` sorts bins by width; ``starts`` marks where each width begins.
    """

    each: NDArray[np.float64]
    distinct: NDArray[np.float64]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, widths: NDArray[np.floating[Any]]) -> BinWidths:
        """Group bins by width."""
        each = widths.astype(np.float64)
        order = np.argsort(each, kind="stable")
        distinct, starts = np.unique(each[order], return_index=True)
        return cls(each, distinct, order, starts)

    def among(self, bins: NDArray[np.intp]) -> BinWidths:
        """Return the widths of some of the bins."""
        return BinWidths.of(self.each[bins])

    def sums(self, values: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Sum (n, B) values over the bins of each width: (n, K)."""
        if self.distinct.size == 1:
            total: NDArray[np.integer[Any]] = values.sum(axis=1, keepdims=True)
            return total
        return np.add.reduceat(values[:, self.order], self.starts, axis=1)


def entropy_of_counts(
    counts: NDArray[np.integer[Any]], total: NDArray[np.intp], most: int
) -> NDArray[np.float64]:
    """Return log2 N − Σ_b c_b log2 c_b / N of each row of (n, B) counts c_b, in bits.

    N, above 0, is at most `most`, for which the fixed point has room. Counts of `count_many_rows`
    are summed the faster way.
    """
    if counts.dtype == np.int32 and most <= _TABLE:
        sums = sum_table_rows(_table(most), counts)
    else:
        sums = c_log2_c(counts, most).sum(axis=1)
    spread = c_log2_c(total, most) - sums
    bits: NDArray[np.float64] = np.ldexp(spread / total, -fraction_bits(most))
    return bits


def entropy_of_runs(
    counts: NDArray[np.integer[Any]], starts: NDArray[np.intp], total: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the entropy of rows of counts above 0 behind one another, in bits.

    Row i begins at ``starts[i]``, and its counts add up to ``total[i]``. Each row has the bits that
    `entropy_of_counts` gives it with `most` = its own total.
    """
    if not total.size:
        return np.empty(0)
    places = _row_fraction_bits(total)
    runs = np.diff(starts, append=counts.size)
    parts = np.add.reduceat(_fix_rows(counts, np.repeat(places, runs)), starts)
    bits: NDArray[np.float64] = np.ldexp((_fix_rows(total, places) - parts) / total, -places)
    return bits


def _fix_rows(counts: NDArray[np.integer[Any]], places: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return c log2 c of counts above 0 in fixed point, each with its own binary places."""
    values = counts * np.log2(counts)
    result: NDArray[np.int64] = np.rint(np.ldexp(values, places)).astype(np.int64)
    return result


def _row_fraction_bits(most: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Return `fraction_bits` of each of some totals above 0."""
    places: NDArray[np.int32] = 62 - np.frexp(np.ceil(most * np.log2(most + 1)))[1]
    return places


def density_entropy_of_counts(
    counts: NDArray[np.integer[Any]], total: NDArray[np.intp], most: int, widths: BinWidths
) -> NDArray[np.float64]:
    """Return −Σ_b d_b log2 d_b of each row, with the densities d_b = c_b / (N w_b).

    Bins of one width w share −d log2 d = (c log2(N w) − c log2 c) / (N w), so that their counts are
    summed before anything is rounded.
    """
    if not counts.shape[1]:
        return np.zeros(len(counts))
    scale = -fraction_bits(most)
    sums = widths.sums(counts)
    logs = np.ldexp(widths.sums(c_log2_c(counts, most)).astype(np.float64), scale)
    log_total = np.ldexp(c_log2_c(total, most) / total, scale)
    result = np.zeros(len(counts))
    for k, width in enumerate(widths.distinct):
        bits = sums[:, k] * (log_total + math.log2(width)) - logs[:, k]
        result += bits / (total * width)
    return result


def c_log2_c(counts: NDArray[np.integer[Any]], most: int) -> NDArray[np.int64]:
    """Return c log2 c for counts up to `most`, in fixed point; 0 log2 0 = 0."""
    if most > _TABLE:  # few large samples: the table would be longer than what it saves
        return _compute_fixed(counts, most)
    return np.take(_table(most), counts)


def _compute_fixed(counts: NDArray[np.integer[Any]], most: int) -> NDArray[np.int64]:
    values = np.asarray(counts, np.float64) * np.log2(np.maximum(counts, 1))
    result: NDArray[np.int64] = np.rint(np.ldexp(values, fraction_bits(most))).astype(np.int64)
    return result


@lru_cache(maxsize=8)
def _table(most: int) -> NDArray[np.int64]:
    return _compute_fixed(np.arange(most + 1), most)


def fraction_bits(most: int) -> int:
    """Return how many binary places fit 62 bits beside N log2 N, N = `most`: 2⁻⁵⁰ for MNIST."""
    return 62 - math.ceil(most * math.log2(most + 1)).bit_length()
