"""The bootstrap over clusters of networks, and the intervals that come of it.

Networks of one cluster, such as the checkpoints of one run, are not independent: a resample draws
whole clusters.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["LEAST_CLUSTERS", "cluster_weights", "percentile_interval", "student_quantile"]

LEAST_CLUSTERS = 5
_ELEMENTS = 1 << 22  # of a block of weights
_MOST_BROKEN = 0.05  # share of resamples
_HALVINGS = 60


def cluster_weights(
    clusters: NDArray[np.intp], *, resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Give how often each network is in each resample, in blocks of resamples.

    A resample draws as many clusters as there are, with replacement, and takes all networks of
    each. What is drawn depends on the seed and on the number of clusters alone.

    Parameters
    ----------
    clusters : (n,) array of int
        The cluster of each network, from 0 on.
    resamples : int
        At least 1.
    seed : int
        Seed of the draws.

    Yields
    ------
    (B, n) float64 array
    """
    generator = np.random.default_rng(seed)
    number = int(clusters.max()) + 1
    step = max(1, _ELEMENTS // len(clusters))
    for start in range(0, resamples, step):
        draws = generator.integers(0, number, (min(step, resamples - start), number))
        rows = np.arange(len(draws))[:, None]
        counts = np.bincount((draws + rows * number).ravel(), minlength=len(draws) * number)
        yield counts.reshape(len(draws), number)[:, clusters].astype(np.float64)


def percentile_interval(
    values: NDArray[np.float64], *, clusters: int, level: float
) -> tuple[tuple[float, float] | None, str | None]:
    """Return the interval of resampled values, or the reason why there is none.

    The expanded percentile interval (Hesterberg 2015): percentiles Φ(±t sqrt(k / (k − 1))) in
    place of Φ(±z), with k clusters and t of Student's distribution with k − 1 degrees of freedom.
    The plain one is too short where clusters are few.

    Parameters
    ----------
    values : (B,) float64 array
        NaN for a resample in which the statistic is undefined; these are left out.
    clusters : int
        k.
    level : float
        Confidence, as 0.95.

    Returns
    -------
    (low, high) or None, and a reason or None
    """
    if clusters < LEAST_CLUSTERS:
        return (
            None,
            f"an interval needs at least {LEAST_CLUSTERS} clusters, and there are {clusters}",
        )
    defined = values[~np.isnan(values)]
    broken = values.size - defined.size
    if defined.size < 2 or broken > _MOST_BROKEN * values.size:
        return None, f"it is undefined in {broken} of {values.size} resamples"
    edge = student_quantile((1 + level) / 2, clusters - 1) * math.sqrt(clusters / (clusters - 1))
    tail = NormalDist().cdf(-edge)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return (float(low), float(high)), None


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's distribution, by halving.

    Parameters
    ----------
    probability : float
        Above ½ and below 1.
    freedom : int
        Degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while _student_within(high, freedom) < 2 * probability - 1:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _student_within(middle, freedom) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _student_within(t: float, freedom: int) -> float:
    """Give the probability of (−t, t) (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    orders = np.arange(1 + odd, freedom - 1, 2, dtype=np.float64)
    factors = orders / (orders + 1) * math.cos(angle) ** 2
    first = math.cos(angle) if odd else 1.0
    terms = first * np.cumprod(np.concatenate([[1.0], factors]))
    if not odd:
        return math.sin(angle) * float(terms.sum())
    if freedom == 1:
        return 2 * angle / math.pi
    return 2 / math.pi * (angle + math.sin(angle) * float(terms.sum()))
