"""The bootstrap of many samples: random groups of them are resampled, by their sums.

Each coefficient is a function of means over the samples: of moments for Pearson's r, and, to first
order, of each sample's influence for Spearman's ρ and Kendall's τ-b, which leaves a remainder of
size 1 / n. Sums over random groups vary as those over samples do, so that a few thousand groups,
drawn with replacement, give the distribution of the resampled means (docs/metrics.md).
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cnatool.metrics.correlation import standardise
from cnatool.metrics.pair_counts import count_pairs
from cnatool.metrics.ranks import dense_ranks, rank_pair, share_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.metrics.convention import CnaForm
    from cnatool.metrics.ranks import Ranks

_Vector: TypeAlias = "NDArray[np.float64]"
_Counts: TypeAlias = "NDArray[np.int64]"

GROUPS = 1 << 12
_FLAT = 1e-12  # of the variance of the whole split: a resample with less is constant


def prepare_groups(
    form: CnaForm, alpha: _Vector, beta: _Vector, groups: int, *, seed: int, stream: int
) -> Callable[[_Counts], float]:
    """Prepare a coefficient of resampled random groups of (n,) samples.

    The function that is returned maps how often each group is drawn, (groups,), to the coefficient,
    NaN where it is undefined. `stream` numbers the split.
    """
    columns, coefficient = _FORMS[form]
    n = alpha.size
    numbers = np.random.default_rng([seed, stream, n, 1]).permutation(n)
    numbers %= groups  # their sizes differ by one at most
    sizes = np.bincount(numbers, minlength=groups)
    totals = [np.bincount(numbers, column, groups) for column in columns(alpha, beta)]
    sums = np.stack([sizes, *totals])
    return partial(_resampled, coefficient, sums)


def _resampled(coefficient: Callable[..., float], sums: _Vector, counts: _Counts) -> float:
    size, *totals = np.einsum("ij,j->i", sums, counts.astype(np.float64)).tolist()
    return coefficient(*(total / size for total in totals))


def moment_ratio(covariance: float, first: float, second: float) -> float:
    """Return a correlation from a covariance and two variances, in units of those of the split."""
    if min(first, second) <= _FLAT:
        return math.nan
    return min(1.0, max(-1.0, covariance / math.sqrt(first) / math.sqrt(second)))


def pearson_of_means(
    mean_a: float, mean_b: float, square_a: float, square_b: float, product: float
) -> float:
    """Return Pearson's correlation from the means of a, b, a², b² and a b."""
    return moment_ratio(
        product - mean_a * mean_b, square_a - mean_a * mean_a, square_b - mean_b * mean_b
    )


def _moments(alpha: _Vector, beta: _Vector) -> Iterator[_Vector]:
    a, b = (standardise(values) * math.sqrt(values.size) for values in (alpha, beta))
    yield from (a, b)
    for first, second in ((a, a), (b, b), (a, b)):
        yield first * second


def _rank_influences(alpha: _Vector, beta: _Vector) -> Iterator[_Vector]:
    """Yield what each sample adds to the covariance of the ranks, and to their two variances.

    A sample moves the sum of products by its own, and by half a rank or a whole one in each product
    of a sample with an equal or a greater value. Each mean of influences is three times what is
    meant, as that is cubic in the weights of samples.
    """
    n = alpha.size
    ranks = [dense_ranks(values) for values in (alpha, beta)]
    # Of the variance of untied ranks, whose square root is n / √12.
    scores = [(share_ranks(rank) - (n + 1) / 2) * (math.sqrt(12) / n) for rank in ranks]
    for i, j in ((0, 1), (0, 0), (1, 1)):
        influence = scores[i] * scores[j]
        value = float(influence.mean())
        for moved, other in ((i, j), (j, i)):
            influence += _sums_above(ranks[moved], scores[other])[ranks[moved]]
        influence -= 2 * value
        yield influence


def _sums_above(ranks: Ranks, scores: _Vector) -> _Vector:
    """Sum scores of the greater ranks, and half of those of the same one, for each rank."""
    own = np.bincount(ranks, scores).astype(np.float64, copy=False)
    above: _Vector = own.sum() - np.cumsum(own)
    above += own / 2
    above *= math.sqrt(12) / ranks.size
    return above


def _pair_influences(alpha: _Vector, beta: _Vector) -> Iterator[_Vector]:
    """Yield what each sample adds to τ's difference of pairs, and to the pairs that differ.

    Each mean of influences is twice what is meant, as that is quadratic in the weights of samples.
    """
    for pairs in count_pairs(rank_pair(alpha, beta)):
        share = pairs / alpha.size
        yield 2 * share - share.mean()


_FORMS: Mapping[
    str, tuple[Callable[[_Vector, _Vector], Iterable[_Vector]], Callable[..., float]]
] = {
    "pearson": (_moments, pearson_of_means),
    "spearman": (_rank_influences, moment_ratio),
    "kendall": (_pair_influences, moment_ratio),
}
