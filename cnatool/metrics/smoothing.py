"""The smoothed (α, β)-curve of a split, whatever the order of its rows.

Samples of equal α count with their mean β, the average over all of their orders along the curve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.metrics.ranks import RankedPair

_BLOCK = 1 << 15  # values that are averaged at a time


def smooth_curve(
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    window: int,
    ranked: RankedPair | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sort by α, average β over equal α, and take running means, each (n − window + 1,).

    `ranked` is the `rank_pair` of both, where that is known.
    """
    order = curve_order(alpha, beta) if ranked is None else ranked.order
    return smooth_sorted_curve(alpha[order], beta[order], window)


def smooth_sorted_curve(
    alpha: NDArray[np.float64], beta: NDArray[np.float64], window: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `smooth_curve` of samples that are in `curve_order`."""
    return running_mean(alpha, window), running_mean(average_ties(alpha, beta), window)


def curve_order(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the order by rising α, and by rising β among equal α: the same for any row order."""
    order = np.argsort(alpha)
    ordered = alpha[order]
    equal = ordered[1:] == ordered[:-1]
    if not equal.any():
        return order
    # Equal α lie together: they alone are sorted again.
    ties = np.zeros(alpha.size, np.bool_)
    ties[1:] = equal
    ties[:-1] |= equal
    rows = np.sort(order[ties])
    order[ties] = rows[np.lexsort((beta[rows], alpha[rows]))]
    return order


def merge_curves(
    first: tuple[NDArray[np.float64], NDArray[np.float64]],
    second: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Merge two splits of (α, β), each in `curve_order`, into that order."""
    # Complex numbers are ordered by real, then by imaginary parts; a stable sort merges two runs.
    points = np.empty(first[0].size + second[0].size, np.complex128)
    points.real, points.imag = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    points.sort(kind="stable")
    return points.real.copy(), points.imag.copy()


def average_ties(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace each β by the mean β of the samples of its α; both are in `curve_order`.

    Returns `beta` itself where no two α are equal.
    """
    changes = np.ones(alpha.size, np.bool_)
    np.not_equal(alpha[1:], alpha[:-1], out=changes[1:])
    if changes.all():
        return beta
    starts = np.flatnonzero(changes)
    del changes
    result = np.empty(alpha.size)
    for first in range(0, starts.size, _BLOCK):
        here = starts[first : first + _BLOCK]
        low = here[0]
        high = starts[first + _BLOCK] if first + _BLOCK < starts.size else alpha.size
        counts = np.diff(here, append=high)
        means = np.add.reduceat(beta[low:high], here - low) / counts
        result[low:high] = np.repeat(means, counts)
    return result


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Average every full window of (n,) values, (n − window + 1,).

    Sums over 2, 4, 8, … neighbours are made from each other, and a window is put together from
    them: a number of additions that grows with the logarithm of the window, and sums of the
    window's values alone, where the difference of two cumulative sums over the split would lose
    digits to the length of the split.
    """
    total = np.zeros(values.size - window + 1)
    # Windows of a part at a time, whose sums fit the processor's cache.
    step = max(_BLOCK, 2 * window)
    for start in range(0, total.size, step):
        part = total[start : start + step]
        _add_windows(part, values[start : start + part.size + window - 1], window)
    total /= window
    return total


def _add_windows(total: NDArray[np.float64], values: NDArray[np.float64], window: int) -> None:
    """Add the sum over every full window."""
    sums, length, covered = values, 1, 0  # sums[i] is over values[i : i + length]
    while True:
        if window & length:
            total += sums[covered : covered + total.size]
            covered += length
        if covered == window:
            return
        sums = sums[:-length] + sums[length:]
        length *= 2
