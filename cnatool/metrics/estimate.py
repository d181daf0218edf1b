"""Results of measures: a number, or the reason why there is none."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

PStatistic: TypeAlias = Literal["pearson", "spearman"]


class Estimate(msgspec.Struct, frozen=True):
    """One number, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        Always finite; None where the measure is undefined.
    reason : str or None
        Why there is no value; None where there is one.
    """

    value: float | None
    reason: str | None = None

    @classmethod
    def undefined(cls, reason: str) -> Estimate:
        """Return an estimate without a value, for this reason."""
        return cls(None, reason)


class Correlation(msgspec.Struct, frozen=True):
    """A correlation coefficient with Fisher's interval, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        In [−1, 1]; None where the correlation is undefined.
    interval : (float, float) or None
        Confidence interval; None where there are too few samples for one.
    reason : str or None
        Why there is no value; None where there is one.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None

    @classmethod
    def undefined(cls, reason: str) -> Correlation:
        """Return a correlation without a value, for this reason."""
        return cls(None, None, reason)


class MinibatchCna(msgspec.Struct, frozen=True):
    """CNA over minibatches, or the reason why it is undefined.

    Attributes
    ----------
    mean, std : float or None
        Of Pearson's correlations of the minibatches; the deviation is the population's, and None
        for a single one.
    batches : int
        Whole minibatches in which the correlation is defined.
    undefined : int
        Whole minibatches in which it is not; they are left out.
    reason : str or None
        Why there is no mean, or no deviation; None where there are both.
    """

    mean: float | None
    std: float | None
    batches: int
    undefined: int
    reason: str | None = None


class Cna(msgspec.Struct, frozen=True):
    """The CNA of a split with its uncertainty, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        In [−1, 1]; None where the correlation is undefined.
    interval : (float, float) or None
        Confidence interval, of the kind and level that the convention names.
    interval_reason : str or None
        Why a value has no interval.
    fisher : (float, float) or None
        Fisher's interval of that level, whatever the convention names; None for the smoothed CNA,
        whose points are not independent, and where there are too few samples.
    p_value : float or None
        Of a permutation test that α and β are independent: by Pearson's correlation for the forms
        ``pearson`` and ``smoothed``, by Spearman's for ``spearman`` and ``kendall``.
    p_least : float or None
        The least p-value that so many permutations can give.
    p_statistic : {"pearson", "spearman"} or None
        What the permutation test is of.
    permutations : int
        Permutations behind the p-value.
    reason : str or None
        Why there is no value; None where there is one.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    interval_reason: str | None = None
    fisher: tuple[float, float] | None = None
    p_value: float | None = None
    p_least: float | None = None
    p_statistic: PStatistic | None = None
    permutations: int = 0
    reason: str | None = None


class ResampledEstimate(msgspec.Struct, frozen=True):
    """A number with its bootstrap interval, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        Always finite; None where the measure is undefined.
    interval : (float, float) or None
        Confidence interval, of the level that the convention names.
    interval_reason : str or None
        Why a value has no interval.
    bias : float or None
        Mean over the resamples − value: what resampling adds to the number, which the interval
        leaves out.
    reason : str or None
        Why there is no value; None where there is one.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    interval_reason: str | None = None
    bias: float | None = None
    reason: str | None = None


class ChanceArea(msgspec.Struct, frozen=True):
    """CNA-A of splits that do not differ, or the reason why it is unknown.

    The samples of both splits are assigned at random to splits of the same sizes.

    Attributes
    ----------
    mean, std : float or None
        Of CNA-A over these relabellings.
    excess : float or None
        CNA-A − mean: what is more than chance.
    p_value : float or None
        Share of relabellings, the true one among them, with a CNA-A that is as large.
    p_least : float or None
        The least p-value that so many relabellings can give.
    relabellings : int
        How many, without the true one.
    reason : str or None
        Why there are no numbers; None where there are.
    """

    mean: float | None
    std: float | None
    excess: float | None
    p_value: float | None
    p_least: float | None
    relabellings: int
    reason: str | None = None

    @classmethod
    def unknown(cls, reason: str) -> ChanceArea:
        """Return a record without numbers, for this reason."""
        return cls(None, None, None, None, None, 0, reason)
