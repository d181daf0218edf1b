"""Kendall's τ-b of many resamples of the same samples at once: weighted inversions of one order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnatool.metrics.pair_counts import count_pairs
from cnatool.metrics.ranks import dense_ranks, rank_pair, tied_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from cnatool.metrics.ranks import RankedPair

_BLOCK = 160  # places
# Rows of weights at a time: with more, a matrix product is large enough to start threads, which
# cost more than they save.
ROWS = 10
_MOST = 1 << 17  # places, beyond which counting the pairs of each sample is faster


def kendall_tau(
    a: NDArray[np.float64], b: NDArray[np.float64], ranked: RankedPair | None = None
) -> float:
    """Return Kendall's τ-b of (n,) vectors `a` and `b`; NaN where one is constant.

    `ranked` is their `rank_pair`, where that is known.
    """
    if a.size > _MOST:
        counts = count_pairs(ranked or rank_pair(a, b))
        return _tau_b(*(int(pairs.sum()) // 2 for pairs in counts))
    return prepare_kendall(a, b)([np.ones(a.size, np.int64)])[0]


def prepare_kendall(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> Callable[[Iterable[NDArray[np.int64]]], list[float]]:
    """Prepare Kendall's τ-b of resamples of (n,) vectors `a` and `b`.

    τ-b = (C − D) / sqrt(P_a P_b), with C concordant and D discordant pairs of samples, and P_a, P_b
    the pairs that differ in `a` and in `b`. The function that is returned maps resamples, each as
    how often every sample is in it, to their τ-b, NaN where one vector is constant; it is best
    called with `ROWS` resamples at a time.
    """
    first, second = dense_ranks(a), dense_ranks(b)
    # A resample stays in this order, by `a` and by `b` among equal ones.
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    # Equal `b` rise by place, so that they make no inversion, as equal `a` make none.
    ranks = np.empty_like(order)
    ranks[np.argsort(second, kind="stable")] = np.arange(order.size)
    inversions = WeightedInversions(ranks)
    changes_first = np.diff(first, prepend=-1) != 0
    changes_both = changes_first | (np.diff(second, prepend=-1) != 0)
    starts_first, starts_both = np.flatnonzero(changes_first), np.flatnonzero(changes_both)

    def tau(row: NDArray[np.int64], inverted: int) -> float:
        size = int(row.sum())
        pairs = size * (size - 1) // 2
        tied_first = tied_pairs(np.add.reduceat(row, starts_first))
        tied_both = tied_pairs(np.add.reduceat(row, starts_both))
        tied_second = tied_pairs(np.bincount(second, row).astype(np.int64))
        untied_first, untied_second = pairs - tied_first, pairs - tied_second
        difference = untied_first - tied_second + tied_both - 2 * inverted
        return _tau_b(difference, untied_first, untied_second)

    def statistic(resamples: Iterable[NDArray[np.int64]]) -> list[float]:
        rows = [counts[order] for counts in resamples]
        inverted = inversions(np.array(rows, np.float32))
        return [tau(row, int(sum_)) for row, sum_ in zip(rows, inverted, strict=True)]

    return statistic


def _tau_b(difference: int, untied_first: int, untied_second: int) -> float:
    if not untied_first or not untied_second:
        return math.nan
    value = difference / math.sqrt(untied_first) / math.sqrt(untied_second)
    return min(1.0, max(-1.0, value))


class WeightedInversions:
    """Sums Σ w_i w_j over the pairs i < j of places with order[i] > order[j], for many weights w.

    Places lie in blocks, and so do ranks. Pairs of places in two blocks, of ranks in two blocks,
    are counted on the grid of blocks by sums along both of its axes; those within one block, of
    places or of ranks, by a matrix that says which pairs are inversions. That is more additions
    than sorting takes, but of matrix products, several weights at a time. All sums are of whole
    numbers that float32 and float64 hold, and so exact. `order` permutes 0 … n − 1, n best at most
    `_MOST`.
    """

    def __init__(self, order: NDArray[np.int64]) -> None:
        n = order.size
        self._blocks = -(-n // _BLOCK)
        self._order = order
        self._places = np.empty_like(order)
        self._places[order] = np.arange(n)
        self._before = np.triu(np.ones((_BLOCK, _BLOCK), np.float32), 1)
        self._cells = np.arange(n) // _BLOCK * self._blocks + order // _BLOCK

    def __call__(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the sum for each row of (rows, n) weights, best at most `ROWS` rows.

        Weights are whole numbers from 0 on, whose sum over a block is at most 2¹³.
        """
        sums = np.array([self._apart(row) for row in weights])
        sums += self._near(weights, self._order)
        # By rank the same, but for pairs of places in one block, which are done.
        by_rank = weights.take(self._places, axis=1)
        return sums + self._near(by_rank, self._places // _BLOCK)

    def _apart(self, weights: NDArray[np.float32]) -> float:
        """Sum over pairs in two blocks of places and two blocks of ranks."""
        grid = np.bincount(self._cells, weights, self._blocks**2)
        grid = grid.reshape(self._blocks, self._blocks)
        behind = grid.sum(axis=0) - grid.cumsum(axis=0)
        lower = behind.cumsum(axis=1) - behind
        return float((grid * lower).sum())

    def _near(self, weights: NDArray[np.float32], keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum over the pairs i < j within one block with keys[i] > keys[j]."""
        total = np.zeros(len(weights))
        for start in range(0, keys.size, _BLOCK):
            key, own = (values[..., start : start + _BLOCK] for values in (keys, weights))
            inverted = (key[:, None] > key) * self._before[: key.size, : key.size]
            total += ((own @ inverted) * own).sum(axis=1, dtype=np.float64)
        return total
