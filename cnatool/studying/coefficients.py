"""Correlation coefficients of weighted networks, for many weightings at a time.

A bootstrap resample is a weighting: how often each network is in it. All coefficients of all
resamples come from a few matrix products.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["COEFFICIENTS", "Coefficient", "weighted_coefficient"]

Coefficient = Literal["pearson", "spearman", "kendall_a", "kendall_b"]

_SAME = 1e-12  # variance of what varies by rounding only, where that of all networks is about 1
_ELEMENTS = 1 << 22  # of a block of signs


def weighted_coefficient(
    coefficient: Coefficient,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return a correlation coefficient of `a` and `b` under each weighting.

    Weights that are whole numbers give the coefficient of the networks repeated so many times,
    but for Kendall's τ-a: there a network makes no pair with its own repetition, which would count
    as a tie and pull τ-a towards 0.

    Parameters
    ----------
    coefficient : {"pearson", "spearman", "kendall_a", "kendall_b"}
        Spearman's ρ takes midranks. With C concordant and D discordant pairs of networks, τ-a is
        (C − D) over all pairs, τ-b (C − D) / sqrt(P_a P_b) with P_a, P_b the pairs that differ in
        `a` and in `b`.
    a, b : (n,) float64 array
        One finite value a network; neither is constant.
    weights : (B, n) float64 array
        Not negative.

    Returns
    -------
    (B,) float64 array
        NaN where `a` or `b` is constant over the networks that have a weight.
    """
    return COEFFICIENTS[coefficient](a, b, weights)


def _pearson(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    first, second = _scaled(a), _scaled(b)
    size = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = [weights @ first / size, weights @ second / size]
        variances = [
            weights @ values**2 / size - mean**2
            for values, mean in zip((first, second), means, strict=True)
        ]
        covariance = weights @ (first * second) / size - means[0] * means[1]
        r = covariance / np.sqrt(variances[0]) / np.sqrt(variances[1])
    r[(variances[0] <= _SAME) | (variances[1] <= _SAME)] = np.nan
    clipped: NDArray[np.float64] = np.clip(r, -1, 1)
    return clipped


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre, and scale to a deviation of 1; scaled before, so that no square overflows."""
    scaled: NDArray[np.float64] = values / np.abs(values).max()
    scaled -= scaled.mean()
    scaled /= np.abs(scaled).max()
    scaled /= scaled.std()
    return scaled


def _spearman(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    size = weights.sum(axis=1, keepdims=True)
    first, second = (_midranks(values, weights) / size - 0.5 for values in (a, b))
    share = weights / size
    means = [(share * ranks).sum(axis=1) for ranks in (first, second)]
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = [
            (share * ranks**2).sum(axis=1) - mean**2
            for ranks, mean in zip((first, second), means, strict=True)
        ]
        covariance = (share * first * second).sum(axis=1) - means[0] * means[1]
        rho: NDArray[np.float64] = covariance / np.sqrt(variances[0]) / np.sqrt(variances[1])
    rho[(variances[0] <= _SAME) | (variances[1] <= _SAME)] = np.nan
    return np.clip(rho, -1, 1)


def _midranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each network the mean rank, less ½, of its value under each weighting, (B, n)."""
    _, groups = np.unique(values, return_inverse=True)
    of_group = _group_sums(groups, weights)
    return (np.cumsum(of_group, axis=1) - of_group / 2)[:, groups]


def _group_sums(groups: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the weights of each group, (B, groups)."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sums: NDArray[np.float64] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _kendall_a(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    return _concordance(a, b, weights, pairs)


def _kendall_b(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    untied = [
        weights.sum(axis=1) ** 2
        - (_group_sums(np.unique(values, return_inverse=True)[1], weights) ** 2).sum(axis=1)
        for values in (a, b)
    ]
    tau = _concordance(a, b, weights, np.sqrt(untied[0]) * np.sqrt(untied[1]))
    return np.clip(tau, -1, 1)


def _concordance(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    weights: NDArray[np.float64],
    pairs: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Give twice (C − D) over `pairs`; NaN where `a` or `b` does not vary."""
    total = np.zeros(len(weights))
    varies = [np.zeros(len(weights), bool), np.zeros(len(weights), bool)]
    for number, values in enumerate((a, b)):
        groups = np.unique(values, return_inverse=True)[1]
        varies[number] = (_group_sums(groups, weights) > 0).sum(axis=1) > 1
    step = max(1, _ELEMENTS // len(a))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        signs = np.sign(a[rows, None] - a) * np.sign(b[rows, None] - b)
        total += ((weights @ signs.T) * weights[:, rows]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = total / pairs
    found[~(varies[0] & varies[1])] = np.nan
    return found


COEFFICIENTS: Mapping[
    Coefficient,
    Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
] = MappingProxyType(
    {
        "pearson": _pearson,
        "spearman": _spearman,
        "kendall_a": _kendall_a,
        "kendall_b": _kendall_b,
    }
)
