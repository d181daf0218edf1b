"""Correlation coefficients of weighted networks, and the bootstrap over clusters of networks.

A bootstrap resample is a weighting of the networks by their multiplicity. The coefficients of all
resamples follow from a few matrix products.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from cnatool._util.products import multiply
from cnatool.metrics.resampling import quantile_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


Coefficient = Literal["pearson", "spearman", "kendall_a", "kendall_b"]

_SAME = 1e-12  # variance due to rounding alone, relative to that of all networks
_ELEMENTS = 1 << 22  # of a block of signs or weights
LEAST_CLUSTERS = 5
_MOST_UNDEFINED = 0.05  # share of resamples


class WeightedCoefficients(NamedTuple):
    """Each coefficient under each weighting, (B,) float64; NaN where it is undefined."""

    pearson: NDArray[np.float64]
    spearman: NDArray[np.float64]
    kendall_a: NDArray[np.float64]
    kendall_b: NDArray[np.float64]


COEFFICIENTS: tuple[Coefficient, ...] = ("pearson", "spearman", "kendall_a", "kendall_b")


def weighted_coefficients(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> WeightedCoefficients:
    """Compute the correlation coefficients of `a` and `b`, (n,), under each row of weights, (B, n).

    They are those of the networks repeated as often as the weights say, except for Kendall's τ-a:
    there a network forms no pair with its own repetition, which would count as a tie and pull τ-a
    towards 0.

    Spearman's ρ uses midranks. With C concordant and D discordant pairs of networks, τ-a is
    (C − D) over all pairs, τ-b (C − D) / sqrt(P_a P_b) with P_a, P_b the pairs that differ in `a`
    and in `b`.
    """
    size = weights.sum(axis=1)
    groups = [np.unique(values, return_inverse=True)[1] for values in (a, b)]
    sums = [_group_sums(of, weights) for of in groups]
    ranks = [
        (np.cumsum(of_group, axis=1) - of_group / 2)[:, of] / size[:, None] - 0.5
        for of, of_group in zip(groups, sums, strict=True)
    ]
    varies = np.all([(of_group > 0).sum(axis=1) > 1 for of_group in sums], axis=0)
    difference = np.where(varies, concordance(a, b, weights), np.nan)
    pairs = size**2 - (weights**2).sum(axis=1)
    untied = [size**2 - (of_group**2).sum(axis=1) for of_group in sums]
    with np.errstate(divide="ignore", invalid="ignore"):
        kendall_a = difference / pairs
        kendall_b = difference / np.sqrt(untied[0]) / np.sqrt(untied[1])
    return WeightedCoefficients(
        _pearson(a, b, weights, size),
        _spearman(ranks[0], ranks[1], weights / size[:, None]),
        kendall_a,
        np.clip(kendall_b, -1, 1),
    )


def _pearson(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    weights: NDArray[np.float64],
    size: NDArray[np.float64],
) -> NDArray[np.float64]:
    first, second = _standardise(a), _standardise(b)
    products = np.stack([first, second, first**2, second**2, first * second], axis=1)
    mean_a, mean_b, square_a, square_b, product = (multiply(weights, products) / size[:, None]).T
    return _correlation(square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b)


def _standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standardise; scale by the maximum first, so that no square overflows."""
    scaled: NDArray[np.float64] = values / np.abs(values).max()
    scaled -= scaled.mean()
    scaled /= np.abs(scaled).max()
    scaled /= scaled.std()
    return scaled


def _spearman(
    first: NDArray[np.float64], second: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    mean_a, mean_b, square_a, square_b, product = (
        np.einsum("bi,bi->b", share, values)
        for values in (first, second, first**2, second**2, first * second)
    )
    return _correlation(square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b)


def _correlation(
    variance_a: NDArray[np.float64],
    variance_b: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        r = covariance / np.sqrt(variance_a) / np.sqrt(variance_b)
    r[(variance_a <= _SAME) | (variance_b <= _SAME)] = np.nan
    clipped: NDArray[np.float64] = np.clip(r, -1, 1)
    return clipped


def _group_sums(groups: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the weights of each group, (B, groups)."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ordered: NDArray[np.float64] = weights[:, order]
    if len(starts) == len(groups):
        return ordered
    sums: NDArray[np.float64] = np.add.reduceat(ordered, starts, axis=1)
    return sums


def concordance(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute 2 (C − D), C concordant and D discordant pairs of networks, under each weighting.

    `a` and `b` are finite, (n,); `weights` are whole numbers, (B, n). The result, (B,), is exact
    if each row of `weights` sums to less than 2^24.
    """
    total = np.zeros(len(weights))
    single = weights.astype(np.float32)
    step = max(1, _ELEMENTS // len(a))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        signs = (np.sign(a[rows, None] - a) * np.sign(b[rows, None] - b)).astype(np.float32)
        total += np.einsum("bi,bi->b", single @ signs.T, weights[:, rows])
    return total


def draw_cluster_weights(
    clusters: NDArray[np.intp], *, resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Yield how often each network is in each resample, in blocks of resamples.

    A resample draws as many clusters as there are, with replacement, and takes all networks of
    each. The draws depend on the seed and on the number of clusters alone.
    """
    generator = np.random.default_rng(seed)
    number = int(clusters.max()) + 1
    step = max(1, _ELEMENTS // len(clusters))
    for start in range(0, resamples, step):
        draws = generator.integers(0, number, (min(step, resamples - start), number))
        rows = np.arange(len(draws))[:, None]
        counts = np.bincount((draws + rows * number).ravel(), minlength=len(draws) * number)
        yield counts.reshape(len(draws), number)[:, clusters].astype(np.float64)


def explain_few_clusters(clusters: int) -> str | None:
    """Explain why so many clusters give no interval; None if they do."""
    if clusters >= LEAST_CLUSTERS:
        return None
    return f"an interval needs at least {LEAST_CLUSTERS} clusters, and there are {clusters}"


def expanded_interval(
    values: NDArray[np.float64], *, clusters: int, level: float
) -> tuple[tuple[float, float] | None, str | None]:
    """Return the interval of resampled values, or the reason why there is none.

    The expanded percentile interval (Hesterberg 2015) has the tail probability Φ(−t sqrt(k / (k −
    1))), with k clusters and t of Student's distribution with k − 1 degrees of freedom, in place
    of Φ(−z): the plain one is too short for few clusters.
    """
    from scipy.special import ndtr, stdtrit  # takes a tenth of a second to import

    if few := explain_few_clusters(clusters):
        return None, few
    defined = values[~np.isnan(values)]
    undefined = values.size - defined.size
    if defined.size < 2 or undefined > _MOST_UNDEFINED * values.size:
        return None, f"it is undefined in {undefined} of {values.size} resamples"
    edge = stdtrit(clusters - 1, (1 + level) / 2) * math.sqrt(clusters / (clusters - 1))
    return quantile_interval(defined, float(ndtr(-edge))), None
