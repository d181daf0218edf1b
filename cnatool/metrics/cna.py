"""CNA by the coefficient that a convention names, with its uncertainty (docs/metrics.md)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec
import numpy as np

from cnatool._util.observer import ignore_progress
from cnatool.metrics.correlation import (
    is_constant,
    kendall,
    pearson,
    smoothed_pearson,
    spearman,
    standardise,
)
from cnatool.metrics.estimate import Cna
from cnatool.metrics.group_resampling import (
    GROUPS,
    moment_ratio,
    pearson_of_means,
    prepare_groups,
)
from cnatool.metrics.kendall_resampling import ROWS, prepare_kendall
from cnatool.metrics.ranks import dense_ranks, midranks
from cnatool.metrics.resampling import (
    MANY,
    independence_test,
    percentile_interval,
    recentred_interval,
    resample,
    resample_counts,
)
from cnatool.metrics.smoothing import curve_order, smooth_sorted_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool._util.observer import Progress
    from cnatool.metrics.convention import CnaForm, ConventionFields
    from cnatool.metrics.estimate import Correlation, PStatistic

_Vector: TypeAlias = "NDArray[np.float64]"
_Counts: TypeAlias = "NDArray[np.int64]"
_Statistic: TypeAlias = "Callable[[Iterator[_Counts]], list[float]]"

_POINTS = 1 << 15  # of a smoothed curve whose resamples stand for one of many more
_WINDOWS = 1 << 10  # that such a curve has at least, end to end
_NEARLY_ONE = 1 - 1e-15


def cna(
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    fields: ConventionFields,
    *,
    stream: int = 0,
    progress: Progress = ignore_progress,
) -> Cna:
    """Return CNA in a convention's form, with its interval and the p-value of a permutation test.

    `alpha` and `beta` are (n,) float64 arrays. The interval is Fisher's, or that of resamples:
    their percentiles, for ``smoothed`` their deviation around the value. `stream` numbers the
    split, as in `resample_counts`. Undefined, with the reason, as the form's own function is.
    """
    shape, level, seed = _FORMS[fields.cna], fields.level, fields.resample_seed
    correlation = shape.value(alpha, beta, fields.window, level)
    if correlation.value is None:
        return Cna(None, reason=correlation.reason)
    edges, reason = correlation.interval, None
    if fields.interval == "bootstrap":
        edges, reason = None, "no resamples are drawn"
        if fields.resamples:
            units = resampled_units(fields, alpha.size)
            statistic = (
                shape.prepare(alpha, beta, fields.window)
                if units == alpha.size
                else shape.prepare_many(alpha, beta, fields, units, stream)
            )
            values = resample(
                partial(_compute_resamples, statistic, units, seed, stream),
                fields.resamples,
                samples=units,
                part=ROWS,
                progress=progress,
            )[:, 0]
            share = units / alpha.size
            edges, reason = shape.interval(correlation.value, values, level, share)
    elif edges is None:
        reason = shape.without_fisher
    test = Cna(correlation.value, edges, reason, correlation.interval)
    if not fields.permutations:
        return test
    scores = _SCORES[shape.tested]
    p_value, done = independence_test(
        scores(alpha), scores(beta), permutations=fields.permutations, seed=seed
    )
    return msgspec.structs.replace(
        test,
        p_value=p_value,
        p_least=1 / (1 + done),
        p_statistic=shape.tested,
        permutations=done,
    )


def resampled_units(fields: ConventionFields, n: int) -> int:
    """Return how many units the resamples of CNA are drawn from.

    For `MANY` samples or fewer these are the n samples. For more they are random groups of samples,
    or for ``smoothed``, whose curve has no sums over groups, a random part of the samples.
    """
    if n <= MANY:
        return n
    if fields.cna == "smoothed":
        return min(n, max(_POINTS, _WINDOWS * fields.window))
    return GROUPS


def _compute_resamples(
    statistic: _Statistic, n: int, seed: int, stream: int, numbers: Sequence[int]
) -> list[tuple[float]]:
    drawn = (resample_counts(n, seed, stream, number) for number in numbers)
    return [(value,) for value in statistic(drawn)]


def _each(statistic: Callable[[_Counts], float]) -> _Statistic:
    return lambda drawn: [statistic(counts) for counts in drawn]


class _Form(NamedTuple):
    """A correlation: its value, its resamples and their interval, and what is tested for it."""

    value: Callable[[_Vector, _Vector, int, float], Correlation]
    prepare: Callable[[_Vector, _Vector, int], _Statistic]
    prepare_many: Callable[[_Vector, _Vector, ConventionFields, int, int], _Statistic]
    interval: Callable[
        [float, _Vector, float, float], tuple[tuple[float, float] | None, str | None]
    ]
    tested: PStatistic
    without_fisher: str


def _prepare_pearson(alpha: _Vector, beta: _Vector, window: int) -> _Statistic:
    """Prepare Pearson's correlation of a resample: counts times moments."""
    moments = np.empty((5, alpha.size))
    for row, values in enumerate((alpha, beta)):
        np.multiply(standardise(values), math.sqrt(values.size), out=moments[row])
    for row, (i, j) in enumerate(((0, 0), (1, 1), (0, 1)), start=2):
        np.multiply(moments[i], moments[j], out=moments[row])

    def statistic(counts: _Counts) -> float:
        means = np.einsum("ij,j->i", moments, counts.astype(np.float64)) / counts.size
        return pearson_of_means(*map(float, means))

    return _each(statistic)


def _prepare_spearman(alpha: _Vector, beta: _Vector, window: int) -> _Statistic:
    """Prepare Spearman's ρ of a resample: a rank is a sum of the counts below it."""
    groups = [dense_ranks(values) for values in (alpha, beta)]
    middle = (alpha.size + 1) / 2

    def statistic(counts: _Counts) -> float:
        weights = counts.astype(np.float64)
        ranks = []
        for group in groups:
            sizes = np.bincount(group, weights).astype(np.float64, copy=False)
            centred = np.cumsum(sizes)
            sizes -= 1
            sizes /= 2
            centred -= sizes
            centred -= middle
            ranks.append(centred[group])
        first, second = ranks
        sums = []
        for a, b in ((first, second), (first, first), (second, second)):
            product = a * b
            product *= weights
            sums.append(float(product.sum()))
        # In units of the variance of untied ranks.
        unit = weights.size**3 / 12
        return moment_ratio(*(total / unit for total in sums))

    return _each(statistic)


def _prepare_smoothed(alpha: _Vector, beta: _Vector, window: int) -> _Statistic:
    """Prepare the correlation of a resample's smoothed curve."""
    order = curve_order(alpha, beta)
    first, second = alpha[order], beta[order]

    def statistic(counts: _Counts) -> float:
        times = counts[order]
        with np.errstate(over="ignore", invalid="ignore"):
            curve = smooth_sorted_curve(np.repeat(first, times), np.repeat(second, times), window)
        if any(not np.isfinite(values).all() or is_constant(values) for values in curve):
            return math.nan
        a, b = map(standardise, curve)
        return float((a * b).sum())

    return _each(statistic)


def _prepare_groups(
    alpha: _Vector, beta: _Vector, fields: ConventionFields, groups: int, stream: int
) -> _Statistic:
    seed = fields.resample_seed
    return _each(prepare_groups(fields.cna, alpha, beta, groups, seed=seed, stream=stream))


def _prepare_smoothed_part(
    alpha: _Vector, beta: _Vector, fields: ConventionFields, size: int, stream: int
) -> _Statistic:
    """Prepare the curve's correlation of resamples of a random part of the samples."""
    generator = np.random.default_rng([fields.resample_seed, stream, alpha.size, 1])
    part = generator.choice(alpha.size, size, replace=False, shuffle=False)
    return _prepare_smoothed(alpha[part], beta[part], fields.window)


def _percentile_edges(
    value: float, resamples: _Vector, level: float, share: float
) -> tuple[tuple[float, float] | None, str | None]:
    return percentile_interval(resamples, level)


def _recentred_edges(
    value: float, resamples: _Vector, level: float, share: float
) -> tuple[tuple[float, float] | None, str | None]:
    """Spread the resamples' deviation around the value, on Fisher's scale.

    A resample's curve is rougher than the split's, and its correlation nearer to 0: percentiles
    can lie beside the value. The deviation of resamples of a `share` of the samples is greater than
    that of all by 1 / sqrt(share).
    """
    inside = np.clip([value, *resamples], -_NEARLY_ONE, _NEARLY_ONE)
    centre, scaled = math.atanh(inside[0]), np.arctanh(inside[1:]) * math.sqrt(share)
    edges, _, reason = recentred_interval(centre, scaled, level)
    return None if edges is None else (math.tanh(edges[0]), math.tanh(edges[1])), reason


def _identity(values: _Vector) -> _Vector:
    return values


_SCORES: Mapping[PStatistic, Callable[[_Vector], _Vector]] = {
    "pearson": _identity,
    "spearman": midranks,
}
_FEW = "too few samples for Fisher's interval"

_FORMS: Mapping[CnaForm, _Form] = {
    "pearson": _Form(
        lambda alpha, beta, window, level: pearson(alpha, beta, level=level),
        _prepare_pearson,
        _prepare_groups,
        _percentile_edges,
        "pearson",
        _FEW,
    ),
    "spearman": _Form(
        lambda alpha, beta, window, level: spearman(alpha, beta, level=level),
        _prepare_spearman,
        _prepare_groups,
        _percentile_edges,
        "spearman",
        _FEW,
    ),
    "kendall": _Form(
        lambda alpha, beta, window, level: kendall(alpha, beta, level=level),
        lambda alpha, beta, window: prepare_kendall(alpha, beta),
        _prepare_groups,
        _percentile_edges,
        "spearman",
        _FEW,
    ),
    "smoothed": _Form(
        lambda alpha, beta, window, level: smoothed_pearson(alpha, beta, window=window),
        _prepare_smoothed,
        _prepare_smoothed_part,
        _recentred_edges,
        "pearson",
        "the points of a smoothed curve are not independent: use `interval='bootstrap'`",
    ),
}
