"""CNA-A: the area between the (α, β)-curves of two splits (docs/metrics.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cnatool._util.text import count_text
from cnatool.metrics.correlation import are_equal
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.smoothing import curve_order, running_mean, smooth_sorted_curve
from cnatool.metrics.sums import BLOCK, inner_product, sum_in_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool.metrics.convention import AreaForm

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

    `first` and `second` are (alpha, beta) of n samples each; `form` chooses `total_area`,
    `largest_lobe` or `reference_area`, which resamples each curve at `points` points.

    Undefined, with the reason, for a split with fewer samples than the window, where α or β is not
    finite or is constant, and for curves that have no interval of α in common.
    """
    splits = sort_splits(first, second, window)
    if isinstance(splits, str):
        return Estimate.undefined(splits)
    return area_between(*splits, form=form, window=window, points=points)


def normalise_curves(first: Curve, second: Curve, *, window: int) -> tuple[Curve, Curve] | str:
    """Return the two curves that `curve_area` measures between, or why there are none.

    Each is (alpha, beta), (n − window + 1,) arrays in 0 … 1, α ascending.
    """
    splits = sort_splits(first, second, window)
    if isinstance(splits, str):
        return splits
    return _normalise(*(smooth_split(*split, window) for split in splits))


def sort_splits(
    first: Curve,
    second: Curve,
    window: int,
    orders: tuple[NDArray[np.intp] | None, NDArray[np.intp] | None] = (None, None),
) -> tuple[Curve, Curve] | str:
    """Sort splits of (alpha, beta) by `curve_order`, or return why they have no CNA-A.

    `orders` are these orders, where they are known.
    """
    splits: list[Curve] = []
    for (alpha, beta), order in zip((first, second), orders, strict=True):
        a, b = np.asarray(alpha, np.float64), np.asarray(beta, np.float64)
        if a.size < window:
            return (
                f"a split has {count_text(a.size, 'sample')}, fewer than the window of {window:,}"
            )
        for name, values in (("α", a), ("β", b)):
            broken = values.size - int(np.count_nonzero(np.isfinite(values)))
            if broken:
                samples = count_text(values.size, "sample")
                return f"{name} is not finite for {broken:,} of {samples} of a split"
        if order is None:
            order = curve_order(a, b)
        splits.append((a[order], b[order]))
    return splits[0], splits[1]


def area_between(
    first: Curve, second: Curve, *, form: AreaForm, window: int, points: int
) -> Estimate:
    """Return CNA-A of splits of finite (α, β) in `curve_order`; parameters as `curve_area`."""
    return area_of_curves(
        smooth_split(*first, window), smooth_split(*second, window), form=form, points=points
    )


def smooth_split(
    alpha: NDArray[np.float64], beta: NDArray[np.float64], window: int, *, average: bool = True
) -> Curve:
    """Return the curve of a split in `curve_order`; not finite where sums overflow.

    Without `average`, β of equal α, which must be equal then, are not replaced by their mean.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if average:
            return smooth_sorted_curve(alpha, beta, window)
        return running_mean(alpha, window), running_mean(beta, window)


def area_of_curves(first: Curve, second: Curve, *, form: AreaForm, points: int) -> Estimate:
    """Return CNA-A of two curves of `smooth_split`, whose arrays it overwrites."""
    curves = _normalise(first, second)
    del first, second
    if isinstance(curves, str):
        return Estimate.undefined(curves)
    return _FORMS[form](*curves, points)


def _normalise(first: Curve, second: Curve) -> tuple[Curve, Curve] | str:
    """Scale both curves, in place, to 0 … 1 on each axis, or return why that is impossible."""
    scales = normalise_in_place(first, second)
    return scales if isinstance(scales, str) else (first, second)


def normalise_in_place(first: Curve, second: Curve) -> list[tuple[float, float]] | str:
    """Scale both curves to 0 … 1 on each axis, or return why that is impossible.

    Returns the least value and the range of α, and those of β, over both curves.
    """
    scales = []
    for name, a, b in zip("αβ", first, second, strict=True):
        low, high = np.minimum(a.min(), b.min()), np.maximum(a.max(), b.max())
        with np.errstate(over="ignore", invalid="ignore"):
            span = high - low
        if not np.isfinite(span):
            return f"{name} is too large for float64"
        if are_equal(low, high):
            return f"{name} is the same along both curves"
        scales.append((low, span))
    for axis, (low, span) in enumerate(scales):
        for curve in (first, second):
            values = curve[axis]
            values -= low
            values /= span
    return scales


def total_area(first: Curve, second: Curve) -> Estimate:
    """Return A = ∫ |f_1 − f_2| dα over the interval where both curves exist (paper eq. 5).

    f is β as a piecewise-linear function of α, equal α merged by their mean. Exact: crossings are
    knots. The curves are normalised, α ascending.
    """
    shared = _knots(first, second)
    if shared is None:
        return Estimate.undefined(_APART)
    knots, merged = shared
    less: list[NDArray[np.float64]] = []

    def trapeziums(start: int, stop: int) -> NDArray[np.float64]:
        """Return twice the area between neighbouring knots, and add to `less` that of crossings."""
        doubles, _, part = _trapeziums(*_differences(knots[start : stop + 1], *merged))
        less.append(part)
        return doubles

    # Sums of products: the threads of a matrix product cost more than they save here.
    area = sum_in_blocks(trapeziums, 0, knots.size - 1) / 2
    return Estimate(float(area - np.concatenate(less).sum()))


def measure_pieces(
    first: Curve, second: Curve
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the α of the knots of both normalised curves, and the areas between neighbours.

    They add up to `total_area`. None if the curves have no interval of α in common.
    """
    shared = _knots(first, second)
    if shared is None:
        return None
    knots, merged = shared
    areas = np.empty(knots.size - 1)
    for start in range(0, areas.size, BLOCK):
        part = areas[start : start + BLOCK]
        differences = _differences(knots[start : start + part.size + 1], *merged)
        doubles, crossing, less = _trapeziums(*differences)
        np.divide(doubles, 2, out=part)
        part[crossing] -= less
    return knots, areas


def largest_lobe(first: Curve, second: Curve) -> Estimate:
    """Return the greatest area between two consecutive crossings of normalised curves."""
    shared = _knots(first, second)
    if shared is None:
        return Estimate.undefined(_APART)
    knots, merged = shared
    pieces = _signed_pieces(*_differences(knots, *merged))
    pieces = pieces[pieces != 0]
    if not pieces.size:
        return Estimate(0.0)
    starts = np.flatnonzero(np.diff(np.sign(pieces), prepend=0))
    return Estimate(float(np.abs(np.add.reduceat(pieces, starts)).max()))


def reference_area(first: Curve, second: Curve, points: int) -> Estimate:
    """Return CNA-A of the authors' code: the ring's signed area, without its sign.

    x is β and y is α. Each normalised curve is sorted by x and resampled at `points` evenly spaced
    points between its own least and greatest x; the second, reversed, closes the ring. Where the
    curves cross, lobes cancel.
    """
    resampled = []
    for alpha, beta in (first, second):
        order = np.argsort(beta, kind="stable")
        x = np.linspace(beta.min(), beta.max(), points)
        resampled.append((x, np.interp(x, beta[order], alpha[order])))
    (x1, y1), (x2, y2) = resampled
    x, y = np.concatenate([x1, x2[::-1]]), np.concatenate([y1, y2[::-1]])
    # Shoelace formula.
    return Estimate(abs(inner_product(x, np.roll(y, -1)) - inner_product(np.roll(x, -1), y)) / 2)


_FORMS: Mapping[str, Callable[[Curve, Curve, int], Estimate]] = {
    "total": lambda first, second, points: total_area(first, second),
    "largest": lambda first, second, points: largest_lobe(first, second),
    "reference": reference_area,
}


def _differences(
    knots: NDArray[np.float64], first: Curve, second: Curve
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return f_1 − f_2 of merged curves at knots, and the knots' distances."""
    difference = np.interp(knots, *first) - np.interp(knots, *second)
    difference[np.abs(difference) < _ROUNDING] = 0  # curves that run together do not cross
    return difference, np.diff(knots)


def shared_interval(
    first: Curve, second: Curve
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the α of the knots of both normalised curves where both exist, and f_1 and f_2 there.

    None if the curves have no interval of α in common.
    """
    shared = _knots(first, second)
    if shared is None:
        return None
    knots, (first, second) = shared
    return knots, np.interp(knots, *first), np.interp(knots, *second)


def _knots(first: Curve, second: Curve) -> tuple[NDArray[np.float64], tuple[Curve, Curve]] | None:
    """Return the α of the knots of both curves where both exist, and both with equal α merged."""
    first, second = _merge_ties(*first), _merge_ties(*second)
    low, high = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    if low >= high:
        return None
    knots = np.concatenate([first[0], second[0]])
    knots.sort(kind="stable")  # merges two runs
    start, stop = np.searchsorted(knots, low), np.searchsorted(knots, high, side="right")
    knots = knots[start:stop]
    rises = knots[1:] > knots[:-1]
    if not rises.all():
        knots = np.concatenate([knots[:1], knots[1:][rises]])
    return knots, (first, second)


def _trapeziums(
    difference: NDArray[np.float64], width: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Return twice the trapezium between neighbouring knots, the crossings, and their excess.

    A crossing makes two triangles of the trapezium, smaller by w · l · r / (l + r).
    """
    crossing = _crossings(difference)
    distance = np.abs(difference)
    left, right = distance[:-1], distance[1:]
    before, after = left[crossing], right[crossing]
    less: NDArray[np.float64] = before * after / (before + after) * width[crossing]
    return (left + right) * width, crossing, less


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


def _merge_ties(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> Curve:
    """Merge points of equal α into their mean."""
    rises = np.ones(alpha.size, np.bool_)
    np.greater(np.diff(alpha), _ROUNDING, out=rises[1:])
    if rises.all():
        return alpha, beta
    starts = np.flatnonzero(rises)
    means = np.add.reduceat(beta, starts)
    means /= np.diff(starts, append=alpha.size)
    return alpha[starts], means
