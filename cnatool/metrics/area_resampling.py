"""CNA-A and CNA-M of resampled splits, and of splits that do not differ (docs/metrics.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.observer import ignore_progress
from cnatool.metrics.area import area_of_curves, smooth_split
from cnatool.metrics.estimate import ChanceArea, ResampledEstimate
from cnatool.metrics.resampling import recentred_interval, resample, resample_counts
from cnatool.metrics.smoothing import curve_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cnatool._util.observer import Progress
    from cnatool.metrics.area import Curve
    from cnatool.metrics.convention import AreaForm
    from cnatool.metrics.estimate import Estimate

_EQUAL = 1e-12  # areas that differ by less are equal but for rounding


class ResampledAreas(NamedTuple):
    """Measures of each resample of two splits; NaN where undefined."""

    area: NDArray[np.float64]
    area_and_margin: NDArray[np.float64]


def resample_areas(
    first: Curve,
    second: Curve,
    *,
    form: AreaForm,
    window: int,
    points: int,
    margins: NDArray[np.float64],
    margin: Callable[[NDArray[np.float64]], float | None],
    margin_of_second: bool = False,
    resamples: int,
    seed: int,
    progress: Progress = ignore_progress,
) -> ResampledAreas:
    """Compute CNA-A, and its product with the margin of one split, of each resample.

    Each split is resampled by itself; curves are smoothed and normalised jointly anew. `margin`
    computes γ of a resample from its rows of `margins` by rising α: the samples that make the curve
    of the first split, or, with `margin_of_second`, of the second. `first` and `second` hold n ≥
    `window` finite numbers each; `form`, `window` and `points` are as in `curve_area`.
    """
    orders = [curve_order(alpha, beta) for alpha, beta in (first, second)]
    ordered = [
        (alpha[order], beta[order])
        for (alpha, beta), order in zip((first, second), orders, strict=True)
    ]

    of = int(margin_of_second)
    ordered_margins = margins[orders[of]]

    def statistic(number: int) -> tuple[float, float]:
        curves = []
        gamma: float | None = None
        for stream, ((alpha, beta), order) in enumerate(zip(ordered, orders, strict=True)):
            counts = resample_counts(alpha.size, seed, stream, number)[order]
            if stream == of:
                gamma = margin(np.repeat(ordered_margins, counts, axis=0))
            curves.append(smooth_split(np.repeat(alpha, counts), np.repeat(beta, counts), window))
            del counts
        area = area_of_curves(*curves, form=form, points=points).value
        known = math.nan if area is None else area
        return known, known * (math.nan if gamma is None else gamma)

    samples = sum(alpha.size for alpha, _ in ordered)
    values = resample(_each(statistic), resamples, samples=samples, progress=progress)
    return ResampledAreas(values[:, 0], values[:, 1])


def add_interval(
    estimate: Estimate,
    values: NDArray[np.float64],
    level: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> ResampledEstimate:
    """Add to a defined estimate the interval of its resamples, within bounds."""
    assert estimate.value is not None, "only a value has an interval"
    edges, bias, reason = recentred_interval(estimate.value, values, level)
    if edges is not None:
        edges = max(edges[0], bounds[0]), min(edges[1], bounds[1])
    return ResampledEstimate(estimate.value, edges, reason, bias)


def relabel_areas(
    first: Curve,
    second: Curve,
    *,
    form: AreaForm,
    window: int,
    points: int,
    relabellings: int,
    seed: int,
    progress: Progress = ignore_progress,
) -> NDArray[np.float64]:
    """Compute CNA-A of random assignments of all samples to splits of the same sizes.

    Returns (relabellings,) numbers, NaN where CNA-A is undefined.
    """
    alpha, beta = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    size, total = first[0].size, alpha.size
    order = curve_order(alpha, beta)
    alpha, beta = alpha[order], beta[order]
    del order

    def statistic(number: int) -> tuple[float]:
        generator = np.random.default_rng([seed, size, total, 1 + number])
        dealt = np.zeros(total, np.bool_)
        dealt[generator.choice(total, size, replace=False, shuffle=False)] = True
        curves = [smooth_split(alpha[part], beta[part], window) for part in (dealt, ~dealt)]
        area = area_of_curves(*curves, form=form, points=points).value
        return (math.nan if area is None else area,)

    return resample(_each(statistic), relabellings, samples=total, progress=progress)[:, 0]


def _each(
    statistic: Callable[[int], tuple[float, ...]],
) -> Callable[[Sequence[int]], list[tuple[float, ...]]]:
    return lambda numbers: [statistic(number) for number in numbers]


def chance_area(
    area: float, values: NDArray[np.float64], *, whole: int | None = None
) -> ChanceArea:
    """Compare CNA-A with that of relabelled splits: a one-sided permutation test.

    `values` are from `relabel_areas`; where they are put together from stretches of a few `whole`
    relabellings, their mean is as uncertain as that of the few, which the p-value allows for.
    """
    broken = int(np.count_nonzero(np.isnan(values)))
    if broken:
        return ChanceArea.unknown(
            f"CNA-A is undefined for {broken} of {values.size} random relabellings of the splits"
        )
    mean, least = float(values.mean()), 1 / (1 + values.size)
    beyond = area if whole is None else mean + (area - mean) / math.sqrt(1 + 1 / whole)
    as_large = int(np.count_nonzero(values >= beyond - _EQUAL))
    return ChanceArea(
        mean=mean,
        std=float(values.std()),
        excess=area - mean,
        p_value=(1 + as_large) * least,
        p_least=least,
        relabellings=values.size,
    )
