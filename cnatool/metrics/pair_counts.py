"""How many samples each sample is concordant with, and how many not: the terms of Kendall's τ."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.metrics.ranks import RankedPair, Ranks


class PairCounts(NamedTuple):
    """Pairs of each of n samples with the others, (n,) integers each."""

    balance: NDArray[np.int64]  # concordant − discordant
    untied_first: NDArray[np.int64]  # that differ in the first vector
    untied_second: NDArray[np.int64]


def count_pairs(ranked: RankedPair) -> PairCounts:
    """Count the pairs of each sample of two vectors of n samples."""
    first, second, order = ranked
    n = first.size
    sizes_first, sizes_second = np.bincount(first), np.bincount(second)
    # Equal ranks rise in the other vector, so that they make no inversion.
    a, b = first[order], second[order]
    tied: NDArray[np.int64] | int = 1
    if sizes_first.size < n:
        begins = np.flatnonzero((np.diff(a, prepend=-1) != 0) | (np.diff(b, prepend=-1) != 0))
        runs = np.diff(begins, append=n)
        tied = np.repeat(runs, runs)
    del a
    inverted = count_inversions(_distinct_ranks(b, sizes_second)).astype(np.int64)
    # From here on by sample: concordant and discordant are all but those tied in either vector.
    balance = np.empty(n, np.int64)
    balance[order] = tied - 2 * inverted
    del b, inverted, tied
    untied_first, untied_second = n - sizes_first[first], n - sizes_second[second]
    balance += untied_first
    balance += untied_second
    balance -= n
    return PairCounts(balance, untied_first, untied_second)


def _distinct_ranks(ranks: Ranks, sizes: NDArray[np.int64]) -> Ranks:
    """Rank from 0 to n − 1, equal ranks by place; `sizes` counts the members of each rank."""
    if sizes.size == ranks.size:
        return ranks
    distinct = np.empty_like(ranks)
    distinct[np.argsort(ranks, kind="stable")] = np.arange(ranks.size, dtype=ranks.dtype)
    return distinct


def count_inversions(order: Ranks) -> Ranks:
    """Count at each place i the places j with i < j and order[i] > order[j], or both the reverse.

    `order` permutes 0 … n − 1. It is sorted from the highest bit of its numbers to the lowest, each
    time into those without and those with the bit: among numbers that agree in all higher bits,
    which lie together, every one without is inverted with those that have the bit and stand before
    it. All is exact.
    """
    n = order.size
    size = 1 << (n - 1).bit_length()
    # Numbers that agree in their higher bits fill whole stretches: those added make no inversion.
    numbers = np.arange(size, dtype=order.dtype)
    numbers[:n] = order
    counts = np.zeros_like(numbers)
    half = size // 2
    while half:
        bit = (numbers & half).astype(np.bool_)
        # (stretches, half): the places of those without the bit, and of those with it.
        low, high = (np.flatnonzero(part).reshape(-1, half) for part in (~bit, bit))
        starts = np.arange(0, size, 2 * half)[:, None] + np.arange(half)
        moved = np.empty((2, *low.shape[:1], 2, half), order.dtype)
        moved[0, :, 0], moved[0, :, 1] = numbers[low], numbers[high]
        np.add(counts[low], low - starts, out=moved[1, :, 0], casting="unsafe")
        np.add(counts[high], starts + half - high, out=moved[1, :, 1], casting="unsafe")
        numbers, counts = moved.reshape(2, size)
        half //= 2
    result: Ranks = counts[order]
    return result
