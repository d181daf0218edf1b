"""CNA-A: the area between the (α, β)-curves of two splits. METRICS.md, section "CNA-A"."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cnatool.metrics.correlation import is_constant
from cnatool.metrics.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool.metrics.convention import AreaForm

__all__ = ["curve_area", "largest_lobe", "reference_area", "smoothed_curve", "total_area"]

Curve: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"

_ROUNDING = 1e-12  # normalised α or β that differ by less are equal


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
    return _running_mean(alpha[order], window), _running_mean(beta[order], window)


def _running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Average every full window, in time that does not grow with the window.

    The values are cut into pieces as long as the window, so that each window is the end of one
    piece and the start of the next: sums of at most `window` values, where the difference of two
    cumulative sums over the split would lose digits to the length of the split.
    """
    count = values.size - window + 1
    pieces = np.zeros((-(-values.size // window), window))
    pieces.ravel()[: values.size] = values
    starts = pieces.cumsum(axis=1).ravel()
    ends = pieces[:, ::-1].cumsum(axis=1)[:, ::-1].ravel()
    sums = starts[window - 1 : values.size].copy()
    inner = np.arange(count) % window != 0  # a window that is one whole piece is its start alone
    sums[inner] += ends[:count][inner]
    result: NDArray[np.float64] = sums / window
    return result


def curve_area(
    first: tuple[NDArray[np.float64], NDArray[np.float64]],
    second: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    form: AreaForm,
    window: int,
    points: int,
) -> Estimate:
    """Return CNA-A: the area between two splits' smoothed curves, of range 0 … 1 on each axis.

    Parameters
    ----------
    first, second : (alpha, beta)
        Each (n,) arrays, one value a sample.
    form : {"total", "largest", "reference"}
        `total_area`, `largest_lobe` or `reference_area`.
    window : int
        Samples in the running mean.
    points : int
        Points at which ``reference`` resamples a curve.

    Returns
    -------
    Estimate
        Undefined, with the reason, where a split has fewer samples than the window, where α or β
        is not finite or is constant, and where the curves have no interval of α in common.
    """
    curves: list[Curve] = []
    for alpha, beta in (first, second):
        a, b = np.asarray(alpha, np.float64), np.asarray(beta, np.float64)
        if a.size < window:
            return Estimate.undefined(
                f"a split has {a.size} samples, fewer than the window of {window}"
            )
        for name, values in (("α", a), ("β", b)):
            broken = values.size - int(np.count_nonzero(np.isfinite(values)))
            if broken:
                return Estimate.undefined(
                    f"{name} is not finite for {broken} of {values.size} samples of a split"
                )
        curves.append(smoothed_curve(a, b, window))
    for name, axis in (("α", 0), ("β", 1)):
        if is_constant(np.concatenate([curve[axis] for curve in curves])):
            return Estimate.undefined(f"{name} is the same along both curves")
    return _FORMS[form](*_normalised(*curves), points)


def _normalised(first: Curve, second: Curve) -> tuple[Curve, Curve]:
    """Scale α and β to 0 … 1, jointly over both curves."""
    axes = []
    for one, other in zip(first, second, strict=True):
        low, high = min(one.min(), other.min()), max(one.max(), other.max())
        axes.append(((one - low) / (high - low), (other - low) / (high - low)))
    (a1, a2), (b1, b2) = axes
    return (a1, b1), (a2, b2)


def total_area(first: Curve, second: Curve) -> Estimate:
    """Return A = ∫ |f_1 − f_2| dα over the interval where both curves exist (paper eq. 5).

    f is β as a piecewise-linear function of α, equal α merged by their mean. Exact: where the
    curves cross is a knot.

    Parameters
    ----------
    first, second : (alpha, beta)
        Normalised curves, α ascending.
    """
    pieces = _signed_pieces(first, second)
    if pieces is None:
        return Estimate.undefined("the two curves have no interval of α in common")
    return Estimate(float(np.abs(pieces).sum()))


def largest_lobe(first: Curve, second: Curve) -> Estimate:
    """Return the greatest area between two consecutive crossings of the curves.

    Parameters
    ----------
    first, second : (alpha, beta)
        Normalised curves, α ascending.
    """
    pieces = _signed_pieces(first, second)
    if pieces is None:
        return Estimate.undefined("the two curves have no interval of α in common")
    pieces = pieces[pieces != 0]
    if not pieces.size:
        return Estimate(0.0)
    starts = np.flatnonzero(np.diff(np.sign(pieces), prepend=0))
    return Estimate(float(np.abs(np.add.reduceat(pieces, starts)).max()))


def reference_area(first: Curve, second: Curve, points: int) -> Estimate:
    """Return what the authors' code returns: the ring's signed area, without its sign.

    x is β and y is α. Each curve is sorted by x and resampled at evenly spaced points between its
    own least and greatest x; the second, reversed, closes the ring. Where the curves cross, lobes
    cancel.

    Parameters
    ----------
    first, second : (alpha, beta)
        Normalised curves.
    points : int
        Points of a resampled curve.
    """
    resampled = []
    for alpha, beta in (first, second):
        order = np.argsort(beta, kind="stable")
        x = np.linspace(beta.min(), beta.max(), points)
        resampled.append((x, np.interp(x, beta[order], alpha[order])))
    (x1, y1), (x2, y2) = resampled
    x, y = np.concatenate([x1, x2[::-1]]), np.concatenate([y1, y2[::-1]])
    # Shoelace formula.
    return Estimate(float(abs(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2))


_FORMS: Mapping[str, Callable[[Curve, Curve, int], Estimate]] = {
    "total": lambda first, second, points: total_area(first, second),
    "largest": lambda first, second, points: largest_lobe(first, second),
    "reference": reference_area,
}


def _signed_pieces(first: Curve, second: Curve) -> NDArray[np.float64] | None:
    """Return ∫ (f_1 − f_2) dα over consecutive pieces that no crossing divides; None for none."""
    (a1, b1), (a2, b2) = _merged(*first), _merged(*second)
    low, high = max(a1[0], a2[0]), min(a1[-1], a2[-1])
    if low >= high:
        return None
    inner = np.concatenate([a1, a2])
    inner = inner[(inner > low) & (inner < high)]
    knots = np.unique(np.concatenate([[low], inner, [high]]))
    difference = np.interp(knots, a1, b1) - np.interp(knots, a2, b2)
    difference[np.abs(difference) < _ROUNDING] = 0  # curves that run together do not cross
    left, right, width = difference[:-1], difference[1:], np.diff(knots)
    crossing = np.sign(left) * np.sign(right) < 0
    # Without a crossing one trapezium; with one at the share t of the width, two triangles.
    share = np.divide(left, left - right, out=np.zeros_like(left), where=crossing)
    before = np.where(crossing, left * share, left + right)
    after = np.where(crossing, right * (1 - share), 0.0)
    pieces: NDArray[np.float64] = np.stack([before, after], axis=1) * width[:, None] / 2
    return pieces.ravel()


def _merged(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> Curve:
    """Merge points of equal α into their mean."""
    starts = np.flatnonzero(np.diff(alpha, prepend=-np.inf) > _ROUNDING)
    counts = np.diff(starts, append=alpha.size)
    return alpha[starts], np.add.reduceat(beta, starts) / counts
