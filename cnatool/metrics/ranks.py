"""Ranks, and what Kendall's coefficient counts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_INT32 = np.iinfo(np.int32).max
_BLOCK = 1 << 17  # ranks that are merged or counted at a time


def dense_ranks(values: NDArray[np.float64]) -> NDArray[np.signedinteger[Any]]:
    """Return the number of each value among the distinct ones, from 0 on in rising order.

    Parameters
    ----------
    values : (n,) float64 array

    Returns
    -------
    (n,) int32 array
        int64 where there are more than int32 can number.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    changes = np.zeros(values.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    del ordered
    dtype = np.int32 if values.size <= _MOST_INT32 else np.int64
    ranks: NDArray[np.signedinteger[Any]] = np.empty(values.size, dtype)
    ranks[order] = np.cumsum(changes, dtype=dtype)
    return ranks


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank from 1 to n; equal values share the mean of their ranks."""
    ranks = dense_ranks(values)
    counts = np.bincount(ranks)
    middles = np.cumsum(counts).astype(np.float64)
    counts -= 1
    middles -= counts / 2
    del counts
    result: NDArray[np.float64] = middles[ranks]
    return result


def tied_pairs(counts: NDArray[np.int64]) -> int:
    """Count the pairs within groups of these sizes."""
    return int((counts * (counts - 1) // 2).sum())


def concordance(
    first: NDArray[np.signedinteger[Any]], second: NDArray[np.signedinteger[Any]]
) -> tuple[int, int, int]:
    """Count pairs of samples by how two rankings order them, in O(n log n).

    Parameters
    ----------
    first, second : (n,) array of int
        Ranks from 0 on and below n, one a sample, sorted by `first`, and by `second` where that
        is equal.

    Returns
    -------
    (int, int, int)
        Concordant − discordant pairs; pairs that are not tied in `first`; and in `second`.
    """
    n = first.size
    pairs = n * (n - 1) // 2
    changes = np.ones(n, np.bool_)
    np.not_equal(first[1:], first[:-1], out=changes[1:])
    tied_first = tied_pairs(_run_lengths(changes))
    changes[1:] |= second[1:] != second[:-1]
    tied_both = tied_pairs(_run_lengths(changes))
    tied_second = tied_pairs(np.bincount(second))
    untied = pairs - tied_first - tied_second + tied_both
    return untied - 2 * _inversions(second), pairs - tied_first, pairs - tied_second


def _run_lengths(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how long each run is, from where runs start."""
    return np.diff(np.flatnonzero(starts), append=starts.size)


def _inversions(ranks: NDArray[np.signedinteger[Any]]) -> int:
    """Count the pairs i < j with ranks[i] > ranks[j], by merging sorted runs.

    Runs that fit a block are merged in it, longer ones in place, so that little but a copy of the
    ranks is held.
    """
    n = ranks.size
    # What fills up a block is no less than any rank, and comes last.
    block = min(_BLOCK, 1 << max(0, n - 1).bit_length())
    runs = np.full(-(-n // block) * block, n, ranks.dtype)
    runs[:n] = ranks
    total = sum(_sorted_block(runs[start : start + block]) for start in range(0, runs.size, block))
    width = block
    while width < runs.size:
        for start in range(0, runs.size - width, 2 * width):
            total += _merged_runs(runs[start : start + 2 * width], width)
        width *= 2
    return total


def _sorted_block(runs: NDArray[np.signedinteger[Any]]) -> int:
    """Sort 2^k ranks in place, and count the inversions among them.

    In a merged run, right value number j at place p has p − j left values before it, and the others
    behind it, each of which is an inversion.
    """
    total, width = 0, 1
    while width < runs.size:
        pairs = runs.reshape(-1, 2 * width)
        order = np.argsort(pairs, axis=1, kind="stable")
        places = np.count_nonzero(order >= width, axis=0) @ np.arange(2 * width)
        total += len(pairs) * (width * width + width * (width - 1) // 2) - int(places)
        pairs[:] = np.take_along_axis(pairs, order, axis=1)
        width *= 2
    return total


def _merged_runs(runs: NDArray[np.signedinteger[Any]], width: int) -> int:
    """Merge two sorted runs in place, the left one of `width` ranks, and count the inversions."""
    left, right = runs[:width], runs[width:]
    total = 0
    for start in range(0, right.size, _BLOCK):
        part = right[start : start + _BLOCK]
        total += width * part.size - int(np.searchsorted(left, part, side="right").sum())
    runs.sort(kind="stable")  # of two sorted runs, a merge
    return total
