"""Kendall's count over many resamples of the same samples: weighted inversions of one order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 160  # places
# Rows of weights at a time: with more, a matrix product is large enough to start threads, which
# cost more than they save.
ROWS = 10
MOST = 1 << 17  # places, beyond which sorting is faster


class WeightedInversions:
    """Sums Σ w_i w_j over the pairs i < j of places with order[i] > order[j], for many weights w.

    Places lie in blocks, and so do ranks. Pairs of places in two blocks, of ranks in two blocks,
    are counted on the grid of blocks by sums along both of its axes; those within one block, of
    places or of ranks, by a matrix that says which pairs are inversions. That is more additions
    than sorting takes, but of matrix products, several weights at a time. All sums are of whole
    numbers that float32 and float64 hold, and so exact.

    Parameters
    ----------
    order : (n,) int64 array
        A permutation of 0 … n − 1; n is best at most `MOST`.
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
        """Return the sum for each row of weights.

        Parameters
        ----------
        weights : (rows, n) float32 array
            Whole numbers from 0 on, whose sum over a block is at most 2¹³; best at most `ROWS`.

        Returns
        -------
        (rows,) float64 array
        """
        found = np.array([self._apart(row) for row in weights])
        found += self._near(weights, self._order)
        # By rank the same, but for pairs of places in one block, which are done.
        by_rank = weights.take(self._places, axis=1)
        return found + self._near(by_rank, self._places // _BLOCK)

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
