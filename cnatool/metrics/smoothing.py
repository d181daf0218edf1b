"""The smoothed (α, β)-curve of a split. METRICS.md, section "CNA-A"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["running_mean", "smoothed_curve"]


def smoothed_curve(
    alpha: NDArray[np.float64], beta: NDArray[np.float64], window: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sort by α, ties in row order, and take the running mean of both over full windows.

    Parameters
    ----------
    alpha, beta : (n,) array
        One value a sample, n ≥ `window`.
    window : int
        Samples in a mean.

    Returns
    -------
    alpha, beta : (n − window + 1,) float64 array
    """
    order = np.argsort(alpha, kind="stable")
    return running_mean(alpha[order], window), running_mean(beta[order], window)


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Average every full window.

    Sums over 2, 4, 8, … neighbours are made from each other, and a window is put together from
    them: a number of additions that grows with the logarithm of the window, and sums of the
    window's values alone, where the difference of two cumulative sums over the split would lose
    digits to the length of the split.

    Parameters
    ----------
    values : (n,) array
        n ≥ `window`.
    window : int
        At least 1.

    Returns
    -------
    (n − window + 1,) float64 array
    """
    count = values.size - window + 1
    total = np.zeros(count)
    sums, length, covered = values, 1, 0  # sums[i] is over values[i : i + length]
    while True:
        if window & length:
            total += sums[covered : covered + count]
            covered += length
        if covered == window:
            break
        sums = sums[:-length] + sums[length:]
        length *= 2
    total /= window
    return total
