"""CNA-A of many resamples or relabellings, put together from stretches of a few (docs/metrics.md).

The area between two curves is a sum over stretches of α, and resampling changes one stretch
independently of the others, since their windows share samples at the seams only. A few whole
resamples therefore stand for many, whose stretches each come from one of the few at random. Curves
are scaled to 0 … 1 by their greatest and least values, which are the extremes of those of their
stretches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.observer import ignore_progress
from cnatool.metrics.area import measure_pieces, normalise_in_place, smooth_split
from cnatool.metrics.resampling import MANY, resample_counts
from cnatool.metrics.smoothing import merge_curves

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cnatool._util.observer import Progress
    from cnatool.metrics.area import Curve
    from cnatool.metrics.convention import AreaForm

WHOLE = 5  # resamples of whole splits
_MOST = 256  # stretches
_LEAST = 32  # stretches, below which a few whole resamples do not make many
_WINDOWS = 8  # of the smaller split in a stretch: what neighbours share is little beside it


def cut_stretches(
    first: Curve, second: Curve, form: AreaForm, window: int
) -> NDArray[np.float64] | None:
    """Return the α, rising, at which stretches of about equally many samples of both splits begin.

    None where all resamples are of whole splits: for `MANY` samples or fewer, for a form that is no
    sum over stretches, and where a split is so small, or its samples share so few α, that there are
    too few stretches.
    """
    sizes = first[0].size, second[0].size
    count = min(_MOST, min(sizes) // (_WINDOWS * window))
    if form != "total" or sum(sizes) <= MANY or count < _LEAST:
        return None
    alpha = np.concatenate([first[0], second[0]])
    places = np.arange(count) * alpha.size // count
    alpha.partition(places)
    starts: NDArray[np.float64] = np.unique(alpha[places])
    return starts if starts.size >= _LEAST else None


def resample_stretches(
    first: Curve,
    second: Curve,
    starts: NDArray[np.float64],
    *,
    window: int,
    resamples: int,
    seed: int,
    progress: Progress = ignore_progress,
) -> NDArray[np.float64]:
    """Compute ``total`` CNA-A of resamples of each split by itself, (resamples,); NaN if undefined.

    `first` and `second` are from `sort_splits`, `starts` is from `cut_stretches`.
    """
    # Where α of no two samples are equal, only what is drawn twice is, and its β as well.
    tied = [bool((alpha[1:] == alpha[:-1]).any()) for alpha, _ in (first, second)]

    def draw(number: int) -> NDArray[np.float64]:
        curves = []
        for stream, (alpha, beta) in enumerate((first, second)):
            rows = np.repeat(
                np.arange(alpha.size, dtype=np.int32),
                resample_counts(alpha.size, seed, stream, number),
            )
            curves.append(smooth_split(alpha[rows], beta[rows], window, average=tied[stream]))
        return _measure_stretches(curves[0], curves[1], starts)

    return _combine_stretches(_measure_whole(draw, progress), resamples, [seed, 0])


def relabel_stretches(
    first: Curve,
    second: Curve,
    starts: NDArray[np.float64],
    *,
    window: int,
    relabellings: int,
    seed: int,
    progress: Progress = ignore_progress,
) -> NDArray[np.float64]:
    """Compute ``total`` CNA-A of random assignments of all samples to splits of the same sizes.

    Returns (relabellings,) numbers; parameters are as in `resample_stretches`.
    """
    alpha, beta = merge_curves(first, second)
    size, total = min(first[0].size, second[0].size), alpha.size

    def deal(number: int) -> NDArray[np.float64]:
        generator = np.random.default_rng([seed, size, total, 1 + number])
        dealt = np.zeros(total, np.bool_)
        dealt[generator.choice(total, size, replace=False, shuffle=False)] = True
        curves = [smooth_split(alpha[part], beta[part], window) for part in (dealt, ~dealt)]
        return _measure_stretches(curves[0], curves[1], starts)

    return _combine_stretches(_measure_whole(deal, progress), relabellings, [seed, 1])


def _measure_whole(
    measure: Callable[[int], NDArray[np.float64]], progress: Progress
) -> NDArray[np.float64]:
    """Measure a few resamples, (few, stretches, 5), one at a time: each takes much memory."""
    whole = []
    for number in range(WHOLE):
        whole.append(measure(number))
        progress(len(whole), WHOLE)
    return np.stack(whole)


def _measure_stretches(
    first: Curve, second: Curve, starts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Measure each stretch of two curves of `smooth_split`, which are overwritten: (stretches, 5).

    Columns are the area between the curves, in units of α times β, the least and the greatest α,
    and the least and the greatest β of both curves, ±∞ where a stretch has no points. NaN
    throughout where CNA-A is undefined.
    """
    result = np.empty((starts.size, 5))
    result[:, 1::2], result[:, 2::2] = np.inf, -np.inf
    for alpha, beta in (first, second):
        bounds = np.searchsorted(alpha, starts)
        bounds[0] = 0
        for column, values in ((1, alpha), (3, beta)):
            _update_extremes(np.minimum, result[:, column], values, bounds)
            _update_extremes(np.maximum, result[:, column + 1], values, bounds)
    scales = normalise_in_place(first, second)
    pieces = None if isinstance(scales, str) else measure_pieces(first, second)
    if isinstance(scales, str) or pieces is None:
        return np.full_like(result, np.nan)
    (low, span), (_, height) = scales
    knots, areas = pieces
    bounds = np.searchsorted(knots[:-1], (starts[1:] - low) / span)
    sums = np.where(bounds > 0, np.cumsum(areas, out=areas)[bounds - 1], 0)
    result[:, 0] = np.diff(sums, prepend=0, append=areas[-1]) * (span * height)
    return result


def _update_extremes(
    extreme: np.ufunc,
    extremes: NDArray[np.float64],
    values: NDArray[np.float64],
    bounds: NDArray[np.intp],
) -> None:
    """Update the extremes of stretches by those of values, which begin at the bounds."""
    filled = np.diff(bounds, append=values.size) > 0
    extremes[filled] = extreme(extremes[filled], extreme.reduceat(values, bounds[filled]))


def _combine_stretches(
    whole: NDArray[np.float64], count: int, seed: list[int]
) -> NDArray[np.float64]:
    """Put together CNA-A of `count` resamples from stretches of a few, (few, stretches, 5)."""
    few, size, _ = whole.shape
    numbers = np.random.default_rng([*seed, size, count]).integers(0, few, (count, size))
    areas = np.empty(count)
    for number, row in enumerate(numbers):
        area, low, high, least, greatest = whole[row, np.arange(size)].T
        areas[number] = area.sum() / (high.max() - low.min()) / (greatest.max() - least.min())
    mean = areas.mean()
    # Deviations of a few from their own mean are too small.
    spread: NDArray[np.float64] = mean + (areas - mean) * np.sqrt(few / (few - 1))
    return spread
