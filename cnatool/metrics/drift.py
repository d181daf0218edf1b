"""How far apart two distributions are: Kolmogorov–Smirnov distances, standardised differences.

Each function works on many units at once, and on samples whose number differs between units where
values are missing (NaN).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Correction: TypeAlias = Literal["benjamini-hochberg", "benjamini-yekutieli", "bonferroni"]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)
# Fewest samples on each side of a test.
LEAST_SAMPLES = 10
# Numbers that are sorted at once.
_AT_ONCE = 1 << 21


def ks_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the two-sample Kolmogorov–Smirnov distance of each unit, max |F₁(x) − F₂(x)|.

    Parameters
    ----------
    first, second : (n, units) and (m, units) floating
        The values of each unit; NaN is left out.

    Returns
    -------
    (units,) float64
        In [0, 1]; NaN where one of the two has no values.
    """
    units = first.shape[1]
    distance = np.empty(units)
    step = max(1, _AT_ONCE // max(1, len(first) + len(second)))
    for start in range(0, units, step):
        part = slice(start, start + step)
        distance[part] = _sorted_distance(first[:, part], second[:, part])
    return distance


def _sorted_distance(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> NDArray[np.float64]:
    values = np.concatenate([first, second]).T
    order = values.argsort(axis=1)  # NaN last
    values = np.take_along_axis(values, order, axis=1)
    known = ~np.isnan(values)
    is_first = order < len(first)
    n = (known & is_first).sum(axis=1)
    m = known.sum(axis=1) - n
    # n · m · (F₁ − F₂) in whole numbers, so that equal distances are equal to the last bit.
    steps = np.where(is_first, m[:, None], -n[:, None]) * known
    apart = np.abs(steps.cumsum(axis=1))
    # Between equal values no distribution function is defined.
    apart[:, :-1][values[:, :-1] == values[:, 1:]] = 0
    largest = apart.max(axis=1, initial=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((n > 0) & (m > 0), largest / (n * m), np.nan)


def ks_bounds(
    counts: NDArray[np.integer],
    counts2: NDArray[np.integer],
    single: NDArray[np.bool_],
    atoms: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bound the Kolmogorov–Smirnov distance of each unit from two histograms of the same bins.

    At the edges of bins both distribution functions are known. Inside a bin both only rise, so that
    |F₁ − F₂| there is at most what one has reached at the end of the bin without what the other had
    at its beginning. Of values that occur often, atoms, it is known how many are below them and how
    many equal, so that they divide their bins.

    Parameters
    ----------
    counts, counts2 : (units, b) int
        Values in each bin, bins in ascending order.
    single : (b,) bool
        Bins of one value only, such as that of exact zeros, inside which there is nothing.
    atoms : pair of (units, a, 2) int, optional
        For each set, how many values are below an atom of the unit, and at most as large; 0 and 0
        where a unit has fewer atoms.

    Returns
    -------
    low, high : (units,) float64
        The largest difference where both functions are known, and the bound; ``low`` ≤ distance ≤
        ``high`` ≤ ``low`` + the largest share of a bin without its atoms. NaN where a histogram is
        empty.
    """
    total, total2 = (each.sum(axis=1, keepdims=True) for each in (counts, counts2))
    reached, reached2 = counts.cumsum(axis=1), counts2.cumsum(axis=1)
    # What is reached by a jump, in which nothing is unknown: a bin of one value, or an atom. Where
    # no value is equal to it, there is no jump.
    jumps = single & (counts + counts2 > 0)
    if atoms is not None:
        below, up_to = (np.stack([each[:, :, side] for each in atoms]) for side in (0, 1))
        reached = np.concatenate([up_to[0], below[0], reached], axis=1)
        reached2 = np.concatenate([up_to[1], below[1], reached2], axis=1)
        equal = (up_to > below).any(axis=0)
        jumps = np.concatenate([equal, np.zeros_like(equal), jumps], axis=1)
    # Both functions only rise, and so does the sum of what they have reached. Where that is equal,
    # ends of jumps come first, so that each follows its beginning.
    order = np.argsort(2 * (reached + reached2) + ~jumps, axis=1, kind="stable")
    with np.errstate(invalid="ignore", divide="ignore"):
        end = np.take_along_axis(reached, order, axis=1) / total
        end2 = np.take_along_axis(reached2, order, axis=1) / total2
    begin, begin2 = (np.pad(each[:, :-1], ((0, 0), (1, 0))) for each in (end, end2))
    low = np.abs(end - end2).max(axis=1, initial=0)
    jumped = np.take_along_axis(jumps, order, axis=1)
    inside = np.where(jumped, 0, np.maximum(end - begin2, end2 - begin))
    known = (total > 0) & (total2 > 0)
    return (
        np.where(known[:, 0], low, np.nan),
        np.where(known[:, 0], np.maximum(low, inside.max(axis=1, initial=0)), np.nan),
    )


def ks_p_value(
    distance: NDArray[np.float64], n: NDArray[np.integer], m: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the p-values of two-sample Kolmogorov–Smirnov tests, two-sided.

    The asymptotic distribution of √(nm/(n + m)) · distance (Smirnov 1948), which is Kolmogorov's.
    From ten samples on, its p-values are at most 3 % below exact ones that are below 0.2; where
    values are equal, p-values are too large.

    Parameters
    ----------
    distance : (units,) float64
        The distances.
    n, m : (units,) int
        Independent samples behind each.

    Returns
    -------
    (units,) float64
        NaN where there is no distance, or fewer than `LEAST_SAMPLES` on a side.
    """
    from scipy.special import kolmogorov

    n, m = n.astype(np.float64), m.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        p: NDArray[np.float64] = kolmogorov(np.sqrt(n * m / (n + m)) * distance)
    return np.where(np.minimum(n, m) >= LEAST_SAMPLES, p, np.nan)


def standardised_difference(
    first: tuple[ArrayLike, ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike, ArrayLike]
) -> NDArray[np.float64]:
    """Compute Cohen's d of each unit: the difference of means in pooled standard deviations.

    d = (mean₂ − mean₁) / s with s² = (M2₁ + M2₂) / (n₁ + n₂ − 2), M2 being the sum of squared
    deviations from the mean (Cohen 1988, ch. 2).

    Parameters
    ----------
    first, second : (count, mean, M2), (units,) each
        Moments of the values of each unit.

    Returns
    -------
    (units,) float64
        Positive where the second mean is the larger; NaN where there are fewer than two values on a
        side, or neither side varies.
    """
    (n, mean, squares), (n2, mean2, squares2) = (
        [np.asarray(each, np.float64) for each in side] for side in (first, second)
    )
    with np.errstate(all="ignore"):
        deviation = np.sqrt((squares + squares2) / (n + n2 - 2))
        difference: NDArray[np.float64] = (mean2 - mean) / deviation
    defined = (n >= 2) & (n2 >= 2) & (deviation > 0) & np.isfinite(difference)
    return np.where(defined, difference, np.nan)


def adjust_p_values(p: NDArray[np.float64], correction: Correction) -> NDArray[np.float64]:
    """Adjust p-values for the number of comparisons, which is that of those that are not NaN.

    Parameters
    ----------
    p : (comparisons,) float64
        p-values; NaN is left out.
    correction : {"benjamini-hochberg", "benjamini-yekutieli", "bonferroni"}
        The first two bound the expected share of false discoveries among all discoveries, for
        independent or positively dependent tests (Benjamini and Hochberg 1995) and for any
        (Benjamini and Yekutieli 2001); the last bounds the probability of a single one.

    Returns
    -------
    (comparisons,) float64
        What to compare with the level of all comparisons together.
    """
    from scipy.stats import false_discovery_control

    adjusted = np.full_like(p, np.nan)
    known = ~np.isnan(p)
    count = int(known.sum())
    if count:
        adjusted[known] = (
            np.minimum(1.0, count * p[known])
            if correction == "bonferroni"
            else false_discovery_control(
                p[known], method="bh" if correction == "benjamini-hochberg" else "by"
            )
        )
    return adjusted
