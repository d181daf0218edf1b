"""Ranks, and what Kendall's coefficient counts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["concordance", "dense_ranks", "midranks", "tied_pairs"]


def dense_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of each value among the distinct ones, from 0 on in rising order."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.cumsum(ordered != np.concatenate([ordered[:1], ordered[:-1]]))
    return ranks


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank from 1 to n; equal values share the mean of their ranks."""
    ranks = dense_ranks(values)
    counts = np.bincount(ranks)
    result: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[ranks]
    return result


def tied_pairs(counts: NDArray[np.int64]) -> int:
    """Count the pairs within groups of these sizes."""
    return int((counts * (counts - 1) // 2).sum())


def concordance(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[int, int, int]:
    """Count pairs of samples by how two rankings order them, in O(n log n).

    Parameters
    ----------
    first, second : (n,) int64 array
        Ranks from 0 on and below n, one a sample, sorted by `first`, and by `second` where that
        is equal.

    Returns
    -------
    (int, int, int)
        Concordant − discordant pairs; pairs that are not tied in `first`; and in `second`.
    """
    n = first.size
    pairs = n * (n - 1) // 2
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    both = np.flatnonzero((np.diff(first, prepend=-1) != 0) | (np.diff(second, prepend=-1) != 0))
    tied_first = tied_pairs(np.diff(starts, append=n))
    tied_both = tied_pairs(np.diff(both, append=n))
    tied_second = tied_pairs(np.bincount(second))
    untied = pairs - tied_first - tied_second + tied_both
    return untied - 2 * _inversions(second), pairs - tied_first, pairs - tied_second


def _inversions(ranks: NDArray[np.int64]) -> int:
    """Count the pairs i < j with ranks[i] > ranks[j], by merging sorted runs.

    In a merged run, right value number j at place p has p − j left values before it, and the others
    behind it, each of which is an inversion.
    """
    size = 1 << max(0, ranks.size - 1).bit_length()
    runs = np.full(size, ranks.size)  # what fills up is no less than any rank, and comes last
    runs[: ranks.size] = ranks
    total, width = 0, 1
    while width < size:
        pairs = runs.reshape(-1, 2 * width)
        order = np.argsort(pairs, axis=1, kind="stable")
        places = np.count_nonzero(order >= width, axis=0) @ np.arange(2 * width)
        total += len(pairs) * (width * width + width * (width - 1) // 2) - int(places)
        runs = np.take_along_axis(pairs, order, axis=1)
        width *= 2
    return total
