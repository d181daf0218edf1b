"""Sums of values that are computed in blocks, bit for bit equal to NumPy's sum of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1 << 15  # values at a time
_UNROLLED = 8  # values that NumPy adds side by side


def sum_in_blocks(
    values: Callable[[int, int], NDArray[np.float64]], start: int, stop: int
) -> float:
    """Sum the values of a range that are computed a block at a time.

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
