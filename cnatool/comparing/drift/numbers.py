"""Numbers that each sample has, such as the mean of a unit over its positions, in two sets.

Moments are of all samples. A Kolmogorov–Smirnov test needs the numbers themselves: those of all
samples are held as far as memory is set aside for them, else those of rows drawn at random.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.comparing.drift.results import NumberDrift
from cnatool.metrics.drift import (
    LEAST_SAMPLES,
    ks_distance,
    ks_p_value,
    standardised_difference,
)
from cnatool.metrics.unit_moments import UnitMoments

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Numbers that are held of both sets together, 192 MiB.
MOST_NUMBERS = 24 << 20
_SEED = 0


class HeldNumbers:
    """Numbers of the samples of one set, (n, units), of which some rows are held.

    Parameters
    ----------
    rows : int
        Samples of the set.
    units : int
        Numbers of each sample.
    most : int
        Most rows that are held.
    """

    def __init__(self, rows: int, units: int, most: int) -> None:
        self.rows = _draw_rows(rows, most)
        self.values = np.full((len(self.rows), units), np.nan)
        self.moments = UnitMoments.empty(units)

    def add(self, start: int, numbers: NDArray[np.float64]) -> None:
        """Add the numbers of the samples from row ``start`` on, (rows, units)."""
        self.moments.update(numbers)
        low, high = np.searchsorted(self.rows, [start, start + len(numbers)])
        held = numbers[self.rows[low:high] - start]
        self.values[low:high] = np.where(np.isfinite(held), held, np.nan)


def hold_numbers(rows: int, rows2: int, units: int) -> tuple[HeldNumbers, HeldNumbers]:
    """Begin with two sets of some rows; the smaller one leaves its room to the other."""
    room = max(2, MOST_NUMBERS // max(1, units))
    second = min(rows2, max(room // 2, room - rows))
    return HeldNumbers(rows, units, room - second), HeldNumbers(rows2, units, second)


def _draw_rows(rows: int, most: int) -> NDArray[np.intp]:
    if rows <= most:
        return np.arange(rows)
    drawn = np.random.default_rng(_SEED).choice(rows, most, replace=False, shuffle=False)
    return np.sort(drawn).astype(np.intp)


@dataclass(frozen=True, slots=True)
class NumberDifferences:
    """How far apart numbers of two sets are, (units,) each; NaN where undefined."""

    samples: NDArray[np.int64]
    samples2: NDArray[np.int64]
    mean: NDArray[np.float64]
    mean2: NDArray[np.float64]
    std: NDArray[np.float64]
    std2: NDArray[np.float64]
    smd: NDArray[np.float64]
    ks: NDArray[np.float64]
    tested: NDArray[np.int64]
    tested2: NDArray[np.int64]
    p: NDArray[np.float64]
    known: bool = True  # whether there are numbers of single samples at all

    @classmethod
    def unknown(cls, units: int) -> NumberDifferences:
        """Return the differences of numbers that no sample has in a store."""
        none, nan = np.zeros(units, np.int64), np.full(units, np.nan)
        return cls(none, none, nan, nan, nan, nan, nan, nan, none, none, nan, known=False)

    def without_rounding(self, bound: NDArray[np.float64]) -> NumberDifferences:
        """Return the differences without those that rounding can cause, by up to a bound."""
        equal = within_rounding((self.mean, self.mean2), (self.std, self.std2), bound)
        return dataclasses.replace(
            self,
            smd=np.where(equal, np.nan, self.smd),
            ks=np.where(equal, 0.0, self.ks),
            p=np.where(equal & ~np.isnan(self.p), 1.0, self.p),
        )

    def reason(self, unit: int) -> str | None:
        """Return why a number of a unit is missing."""
        if not self.known:
            return "a test takes values of single samples, which are not stored"
        tested = int(self.tested[unit]), int(self.tested2[unit])
        if 0 in tested:
            return "no sample has a finite value"
        if min(tested) < LEAST_SAMPLES:
            return (
                f"{tested[0]:,} and {tested[1]:,} samples with finite values: a test takes "
                f"{LEAST_SAMPLES} of each"
            )
        if np.isnan(self.smd[unit]):
            return "the number is the same for all samples of a set, but for rounding"
        return None

    def describe(self, unit: int, adjusted: float = np.nan) -> NumberDrift:
        """Return the record of one unit."""
        return NumberDrift(
            samples=int(self.samples[unit]),
            samples2=int(self.samples2[unit]),
            mean=known(self.mean[unit]),
            mean2=known(self.mean2[unit]),
            std=known(self.std[unit]),
            std2=known(self.std2[unit]),
            smd=known(self.smd[unit]),
            ks=known(self.ks[unit]),
            tested=int(self.tested[unit]),
            tested2=int(self.tested2[unit]),
            p_value=known(self.p[unit]),
            p_adjusted=known(adjusted),
            reason=self.reason(unit),
        )


def compare_numbers(first: HeldNumbers, second: HeldNumbers) -> NumberDifferences:
    """Compare the numbers of two sets."""
    moments, moments2 = first.moments, second.moments
    tested, tested2 = (
        np.count_nonzero(~np.isnan(side.values), axis=0).astype(np.int64)
        for side in (first, second)
    )
    distance = ks_distance(first.values, second.values)
    return NumberDifferences(
        samples=moments.count,
        samples2=moments2.count,
        mean=mean_or_nan(moments),
        mean2=mean_or_nan(moments2),
        std=sample_deviation(moments),
        std2=sample_deviation(moments2),
        smd=standardised_difference(
            (moments.count, moments.mean, moments.m2), (moments2.count, moments2.mean, moments2.m2)
        ),
        ks=distance,
        tested=tested,
        tested2=tested2,
        p=ks_p_value(distance, tested, tested2),
    )


def within_rounding(
    means: tuple[NDArray[np.float64], NDArray[np.float64]],
    deviations: tuple[NDArray[np.float64], NDArray[np.float64]],
    bound: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether all numbers of two sets are equal but for an error of up to a bound."""
    with np.errstate(invalid="ignore"):
        alike: NDArray[np.bool_] = np.abs(means[0] - means[1]) <= bound
        for deviation in deviations:
            alike &= deviation <= bound
    return alike


def mean_or_nan(moments: UnitMoments) -> NDArray[np.float64]:
    """Return the means, (units,); NaN without values."""
    return np.where(moments.count > 0, moments.mean, np.nan)


def sample_deviation(moments: UnitMoments) -> NDArray[np.float64]:
    """Compute the standard deviation of a sample, (units,); NaN of fewer than two values."""
    with np.errstate(all="ignore"):
        deviation: NDArray[np.float64] = np.sqrt(moments.m2 / (moments.count - 1))
    return np.where(moments.count >= 2, deviation, np.nan)


def known(value: float | np.floating) -> float | None:
    """Return a number if it is finite, else None."""
    return float(value) if np.isfinite(value) else None
