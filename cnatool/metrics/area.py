"""CNA-A: the area between the (α, β)-curves of two splits. METRICS.md, section "CNA-A"."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cnatool.metrics.correlation import is_constant
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.smoothing import curve_order, running_mean, tied_means

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool.metrics.convention import AreaForm

__all__ = [
    "Curve",
    "area_between",
    "curve_area",
    "largest_lobe",
    "normalised_curves",
    "reference_area",
    "shared_interval",
    "total_area",
]

Curve: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"

_APART = "the two curves have no interval of α in common"
_ROUNDING = 1e-12  # normalised α or β that differ by less are equal


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
    splits = _ordered(first, second, window)
    if isinstance(splits, str):
        return Estimate.undefined(splits)
    return area_between(*splits, form=form, window=window, points=points)


def normalised_curves(first: Curve, second: Curve, *, window: int) -> tuple[Curve, Curve] | str:
    """Return the two curves that `curve_area` measures between, or why there are none.

    Parameters
    ----------
    first, second : (alpha, beta)
        Each (n,) arrays, one value a sample.
    window : int
        Samples in the running mean.

    Returns
    -------
    two curves, or str
        Each (alpha, beta), (n − window + 1,) float64 arrays in 0 … 1, α ascending.
    """
    splits = _ordered(first, second, window)
    return splits if isinstance(splits, str) else _smoothed(*splits, window)


def _ordered(first: Curve, second: Curve, window: int) -> tuple[Curve, Curve] | str:
    """Sort splits by α; say what makes that impossible."""
    splits: list[Curve] = []
    for alpha, beta in (first, second):
        a, b = np.asarray(alpha, np.float64), np.asarray(beta, np.float64)
        if a.size < window:
            return (
                f"a split has {a.size} sample{'' if a.size == 1 else 's'}, fewer than the window "
                f"of {window}"
            )
        for name, values in (("α", a), ("β", b)):
            broken = values.size - int(np.count_nonzero(np.isfinite(values)))
            if broken:
                return f"{name} is not finite for {broken} of {values.size} samples of a split"
        order = curve_order(a, b)
        splits.append((a[order], b[order]))
    return splits[0], splits[1]


def area_between(
    first: Curve, second: Curve, *, form: AreaForm, window: int, points: int
) -> Estimate:
    """Return CNA-A of splits of finite (α, β) in `curve_order`; parameters as `curve_area`."""
    curves = _smoothed(first, second, window)
    if isinstance(curves, str):
        return Estimate.undefined(curves)
    return _FORMS[form](*curves, points)


def _smoothed(first: Curve, second: Curve, window: int) -> tuple[Curve, Curve] | str:
    """Smooth and normalise splits in `curve_order`; say what makes that impossible."""
    with np.errstate(over="ignore", invalid="ignore"):
        curves = [
            (running_mean(alpha, window), running_mean(tied_means(alpha, beta), window))
            for alpha, beta in (first, second)
        ]
        spans = [np.ptp(np.concatenate(axis)) for axis in zip(*curves, strict=True)]
    for name, span, one, other in zip("αβ", spans, *curves, strict=True):
        if not np.isfinite(span):
            return f"{name} is too large for float64"
        if is_constant(np.concatenate([one, other])):
            return f"{name} is the same along both curves"
    return _normalised(*curves)


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
    found = _differences(first, second)
    if found is None:
        return Estimate.undefined(_APART)
    difference, width = found
    crossing = _crossings(difference)
    distance = np.abs(difference)
    left, right = distance[:-1], distance[1:]
    # Between two knots a trapezium; a crossing makes two triangles of it, smaller by w·l·r / (l+r).
    # Sums of products: the threads of a matrix product cost more than they save here.
    area = ((left + right) * width).sum() / 2
    left, right = left[crossing], right[crossing]
    area -= (left * right / (left + right) * width[crossing]).sum()
    return Estimate(float(area))


def largest_lobe(first: Curve, second: Curve) -> Estimate:
    """Return the greatest area between two consecutive crossings of the curves.

    Parameters
    ----------
    first, second : (alpha, beta)
        Normalised curves, α ascending.
    """
    found = _differences(first, second)
    if found is None:
        return Estimate.undefined(_APART)
    pieces = _signed_pieces(*found)
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


def _differences(
    first: Curve, second: Curve
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return f_1 − f_2 at every knot of either curve, and the knots' distances; None for none."""
    found = shared_interval(first, second)
    if found is None:
        return None
    knots, one, other = found
    difference = one - other
    difference[np.abs(difference) < _ROUNDING] = 0  # curves that run together do not cross
    return difference, np.diff(knots)


def shared_interval(
    first: Curve, second: Curve
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the α of the knots of both curves where both exist, and f_1 and f_2 there.

    Parameters
    ----------
    first, second : (alpha, beta)
        Normalised curves, α ascending.

    Returns
    -------
    three (knots,) float64 arrays, or None where the curves have no interval of α in common
    """
    (a1, b1), (a2, b2) = _merged(*first), _merged(*second)
    low, high = max(a1[0], a2[0]), min(a1[-1], a2[-1])
    if low >= high:
        return None
    knots = np.sort(np.concatenate([a1, a2]), kind="stable")  # merges two runs
    start, stop = np.searchsorted(knots, low), np.searchsorted(knots, high, side="right")
    knots = knots[start:stop]
    width = np.diff(knots)
    if not width.all():
        knots = np.concatenate([knots[:1], knots[1:][width > 0]])
    return knots, np.interp(knots, a1, b1), np.interp(knots, a2, b2)


def _crossings(difference: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the numbers of the gaps between knots in which the difference changes its sign."""
    above, below = difference > 0, difference < 0
    return np.flatnonzero((above[:-1] & below[1:]) | (below[:-1] & above[1:]))


def _signed_pieces(
    difference: NDArray[np.float64], width: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ∫ (f_1 − f_2) dα over consecutive pieces that no crossing divides."""
    left, right = difference[:-1], difference[1:]
    # Without a crossing one trapezium; with one at the share t of the width, two triangles.
    before, after = left + right, np.zeros_like(left)
    crossing = _crossings(difference)
    share = left[crossing] / (left[crossing] - right[crossing])
    before[crossing] = left[crossing] * share
    after[crossing] = right[crossing] * (1 - share)
    pieces: NDArray[np.float64] = np.stack([before, after], axis=1) * width[:, None] / 2
    return pieces.ravel()


def _merged(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> Curve:
    """Merge points of equal α into their mean."""
    starts = np.flatnonzero(np.diff(alpha, prepend=-np.inf) > _ROUNDING)
    if starts.size == alpha.size:
        return alpha, beta
    counts = np.diff(starts, append=alpha.size)
    return alpha[starts], np.add.reduceat(beta, starts) / counts
