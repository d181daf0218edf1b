"""What a study gives: typed results, the same whether printed, returned, or written as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool.metrics.convention import Convention
from cnatool.metrics.estimate import Estimate
from cnatool.studying.statistics.curves import QuadraticFit
from cnatool.studying.statistics.information import ConditionalInformation
from cnatool.studying.statistics.sign_error import SignError
from cnatool.studying.statistics.weighted import Coefficient

MeasureKind = Literal["measure", "norm", "trivial"]


class StudyEstimate(msgspec.Struct, frozen=True):
    """A number over networks with its bootstrap interval, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        Always finite; None where undefined.
    interval : (float, float) or None
        Confidence interval by resampling clusters of networks.
    reason : str or None
        Why there is no value; None where there is one.
    interval_reason : str or None
        Why a value has no interval.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None
    interval_reason: str | None = None


class NotScored(msgspec.Struct, frozen=True):
    """A store that was left out.

    Attributes
    ----------
    path : str
        Where it is, or should be.
    reason : str
        Why it could not be used.
    """

    path: str
    reason: str


class UndefinedMeasure(msgspec.Struct, frozen=True):
    """A measure that some networks have no number of.

    Attributes
    ----------
    measure : str
        Its column.
    reason : str
        Why it is undefined.
    networks : int
        How many networks it is undefined for, for this reason.
    """

    measure: str
    reason: str
    networks: int


class StudySettings(msgspec.Struct, frozen=True):
    """What a study's numbers depend on beside the networks.

    Attributes
    ----------
    targets : tuple of str
        The columns that measures are correlated with.
    by : str or None
        The tag whose values are also looked at one by one.
    cluster : str or None
        The tag whose values are the clusters; None where each network is one by itself.
    hyperparameters : tuple of str
        The tags that count as hyperparameters.
    resamples, seed : int
        Bootstrap resamples, and the seed of their draws.
    level : float
        Confidence of the intervals.
    least_pairs : float
        Effective pairs of networks that an environment of the sign error needs.
    test_samples : int or None
        Test samples behind the weights of the sign error; None where pairs are not weighted.
    held : tuple of str
        Tags that are no hyperparameters, but are the same in both networks of each pair that Ψ and
        the sign error compare, as steps of training.
    not_hyperparameters : dict of str to str
        Tags that are neither, each with the reason; empty where hyperparameters were named.
    """

    targets: tuple[str, ...]
    by: str | None
    cluster: str | None
    hyperparameters: tuple[str, ...]
    resamples: int
    seed: int
    level: float
    least_pairs: float
    test_samples: int | None
    held: tuple[str, ...] = ()
    not_hyperparameters: dict[str, str] = {}


class MeasureCorrelation(msgspec.Struct, frozen=True):
    """How a measure and a target go together over networks.

    Attributes
    ----------
    group : str or None
        Value of the tag `by` that the networks have; None for all networks.
    target, measure : str
        Columns of the frame of networks.
    kind : {"measure", "norm", "trivial"}
        What is studied; norms of weights, that others have proposed; and the trivial baselines
        that any claim must beat.
    networks, clusters : int
        Networks that have both numbers, and their clusters.
    pearson, spearman, kendall_a, kendall_b : StudyEstimate
        Pearson's r, Spearman's ρ, Kendall's τ-a and τ-b.
    quadratic : QuadraticFit
        Parabola of the target over the measure.
    """

    group: str | None
    target: str
    measure: str
    kind: MeasureKind
    networks: int
    clusters: int
    pearson: StudyEstimate
    spearman: StudyEstimate
    kendall_a: StudyEstimate
    kendall_b: StudyEstimate
    quadratic: QuadraticFit


class HyperparameterResult(msgspec.Struct, frozen=True):
    """What a measure tells beyond the hyperparameters.

    Attributes
    ----------
    target, measure : str
        Columns of the frame of networks.
    kind : {"measure", "norm", "trivial"}
        As of the correlations.
    networks : int
        Networks that have both numbers.
    psi : StudyEstimate
        Granulated Kendall Ψ (Jiang et al. 2019), of τ-a.
    psi_axes : dict of str to Estimate
        Its part ψ_i for each hyperparameter.
    information : ConditionalInformation
        Conditional mutual information K (Jiang et al. 2019).
    sign_error : SignError
        Robust sign error (Dziugaite et al. 2020) over all environments.
    sign_error_axes : dict of str to SignError
        The same over the environments in which one hyperparameter differs.
    """

    target: str
    measure: str
    kind: MeasureKind
    networks: int
    psi: StudyEstimate
    psi_axes: dict[str, Estimate]
    information: ConditionalInformation
    sign_error: SignError
    sign_error_axes: dict[str, SignError]


class Difference(msgspec.Struct, frozen=True):
    """How much more one measure goes with a target than another, over the same networks.

    Attributes
    ----------
    target, first, second : str
        Columns of the frame of networks.
    coefficient : {"pearson", "spearman", "kendall_a", "kendall_b"}
        What is compared.
    networks, clusters : int
        Networks that have all three numbers, and their clusters.
    difference : StudyEstimate
        Coefficient of `first` − that of `second`.
    magnitude : StudyEstimate
        The same of their absolute values: which one tells more, whatever its direction.
    """

    target: str
    first: str
    second: str
    coefficient: Coefficient
    networks: int
    clusters: int
    difference: StudyEstimate
    magnitude: StudyEstimate


class Bin(msgspec.Struct, frozen=True):
    """Networks of neighbouring test accuracy.

    Attributes
    ----------
    networks : int
        How many.
    accuracy : float
        Mean of their test accuracy.
    means : dict of str to float or None
        Mean of each measure over those that have it; None where none has.
    """

    networks: int
    accuracy: float
    means: dict[str, float | None]


class StudyResult(Document, frozen=True):
    """Everything `cnatool study` says of a collection of networks.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    networks : int
        Rows of the frame of networks.
    clusters : int
        Clusters of them.
    convention : Convention or None
        The convention that stores were scored by; None where no store was given.
    tags : tuple of str
        Tags that networks have.
    settings : StudySettings
        What the numbers depend on beside the networks.
    not_scored : tuple of NotScored
        Stores that have no row.
    undefined : tuple of UndefinedMeasure
        Measures that scored stores have no number of.
    correlations : tuple of MeasureCorrelation
        Of each measure with each target, over all networks and within each value of the tag `by`.
    hyperparameters : tuple of HyperparameterResult
        Of each measure with each target; empty where there are no hyperparameters.
    differences : tuple of Difference
        Of pairs of measures.
    bins : tuple of Bin
        Networks in bins of 25, or in five smaller ones where they are fewer than 50, by rising
        test accuracy (paper Fig. 7).
    notes : tuple of str
        What a reader of these numbers should know beside them.
    """

    schema: Literal["cnatool.study/1"]
    networks: int
    clusters: int
    convention: Convention | None
    tags: tuple[str, ...]
    settings: StudySettings
    not_scored: tuple[NotScored, ...]
    undefined: tuple[UndefinedMeasure, ...]
    correlations: tuple[MeasureCorrelation, ...]
    hyperparameters: tuple[HyperparameterResult, ...]
    differences: tuple[Difference, ...]
    bins: tuple[Bin, ...]
    notes: tuple[str, ...]
