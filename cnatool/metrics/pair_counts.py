"""How many samples each sample is concordant with, and how many not: the terms of Kendall's τ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool.metrics.ranks import dense_ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PairCounts(NamedTuple):
    """Pairs of each of n samples with the others, (n,) integers each."""

    balance: NDArray[np.int64]  # concordant − discordant
    untied_first: NDArray[np.int64]  # that differ in the first vector
    untied_second: NDArray[np.int64]


def count_pairs(a: NDArray[np.float64], b: NDArray[np.float64]) -> PairCounts:
    """Count the pairs of each sample of (n,) vectors `a` and `b`."""
    n = a.size
    first, second = dense_ranks(a), dense_ranks(b)
    sizes_first, sizes_second = np.bincount(first), np.bincount(second)
    order, sizes_both = _order_pairs(first, second, sizes_first.size == n)
    counts = count_inversions(_distinct_ranks(second[order], sizes_second))
    # From here on by sample: −2 · discordant, and what ties in both vectors add.
    balance = np.empty(n, np.int64)
    balance[order] = -2 * counts.astype(np.int64) + sizes_both
    del counts, order, sizes_both
    untied_first, untied_second = n - sizes_first[first], n - sizes_second[second]
    balance += untied_first
    balance += untied_second
    balance -= n
    return PairCounts(balance, untied_first, untied_second)


def _order_pairs(
    first: NDArray[np.signedinteger[Any]], second: NDArray[np.signedinteger[Any]], distinct: bool
) -> tuple[NDArray[np.intp], NDArray[np.int64] | int]:
    """Order samples by `first`, and by `second` among equal ones, which makes no inversion of them.

    Also returned is how many samples share both ranks of each, in this order.
    """
    if distinct:
        order = np.empty(first.size, np.intp)
        order[first] = np.arange(first.size)
        return order, 1
    pairs = first.astype(np.int64) * first.size + second
    order = np.argsort(pairs)
    runs = np.diff(np.flatnonzero(np.diff(pairs[order], prepend=-1)), append=first.size)
    return order, np.repeat(runs, runs)


def _distinct_ranks(
    ranks: NDArray[np.signedinteger[Any]], sizes: NDArray[np.int64]
) -> NDArray[np.signedinteger[Any]]:
    """Rank from 0 to n − 1, equal ranks by place; `sizes` counts the members of each rank."""
    if sizes.size == ranks.size:
        return ranks
    distinct = np.empty_like(ranks)
    distinct[np.argsort(ranks, kind="stable")] = np.arange(ranks.size, dtype=ranks.dtype)
    return distinct


def count_inversions(order: NDArray[np.signedinteger[Any]]) -> NDArray[np.signedinteger[Any]]:
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
    result: NDArray[np.signedinteger[Any]] = counts[order]
    return result
