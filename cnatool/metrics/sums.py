"""Sums in blocks, the same bits whatever the memory and the threads, and extremes of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOCK = 1 << 15  # values at a time
_UNROLLED = 8  # values that NumPy adds side by side
# Of more than 10,000 products OpenBLAS makes a sum for each of its threads, however many there are.
_PRODUCTS = 1 << 13


def sum_in_blocks(
    values: Callable[[int, int], NDArray[np.float64]], start: int, stop: int
) -> float:
    """Sum the values of a range that are computed a block at a time, as NumPy sums all of them.

    NumPy sums a contiguous array pairwise: a half, rounded down to a multiple of 8, and the rest.
    The same halves are taken here, down to a block. `values` maps half-open ranges to contiguous
    arrays, and is called in rising order, once for each.
    """
    count = stop - start
    if count <= BLOCK:
        return float(values(start, stop).sum())
    half = count // 2
    half -= half % _UNROLLED
    first = sum_in_blocks(values, start, start + half)
    return first + sum_in_blocks(values, start + half, stop)


def find_row_extremes(extreme: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """Return `extreme.reduce` of each row; of short rows sooner than NumPy, which takes each."""
    extremes: NDArray[Any] = extreme.reduce(np.ascontiguousarray(values.T), axis=0)
    return extremes


def inner_product(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Compute Σ a b of two vectors; the result does not depend on the number of threads."""
    starts = range(0, len(a), _PRODUCTS)
    parts = [a[start : start + _PRODUCTS] @ b[start : start + _PRODUCTS] for start in starts]
    return float(np.sum(parts))
