"""Results of studies, trajectories and landscapes: the records behind their JSON documents."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool._util.html import shown_by
from cnatool._util.text import count_text
from cnatool.metrics.convention import Convention
from cnatool.metrics.estimate import Cna, Estimate, ResampledEstimate
from cnatool.scoring.results import AlphaGroup, LayerResult
from cnatool.studying.statistics.curves import QuadraticFit
from cnatool.studying.statistics.information import ConditionalInformation
from cnatool.studying.statistics.sign_error import SignError
from cnatool.studying.statistics.weighted import Coefficient

MeasureKind = Literal["measure", "norm", "trivial"]


class StudyEstimate(msgspec.Struct, frozen=True):
    """A statistic over networks with its bootstrap interval, or the reason why it is undefined.

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
    """A measure that is undefined for some networks.

    Attributes
    ----------
    measure : str
        Its column.
    reason : str
        Why it is undefined.
    networks : int
        Number of networks for which it is undefined for this reason.
    """

    measure: str
    reason: str
    networks: int


class StudySettings(msgspec.Struct, frozen=True):
    """The settings of a study.

    Attributes
    ----------
    targets : tuple of str
        The columns that measures are correlated with.
    by : str or None
        The tag within whose values correlations are also computed.
    cluster : str or None
        The tag whose values are the clusters; None where each network is its own cluster.
    hyperparameters : tuple of str
        The tags that count as hyperparameters.
    resamples, seed : int
        Bootstrap resamples, and the seed of their draws.
    level : float
        Confidence of the intervals.
    least_pairs : float
        Minimum number of effective pairs of networks in an environment of the sign error.
    test_samples : int or None
        Test samples behind the weights of the sign error; None where no pairs are weighted.
    held : tuple of str
        Tags that are not hyperparameters, but are equal in both networks of each pair that Ψ and
        the sign error compare, such as steps of training.
    not_hyperparameters : dict of str to str
        Tags that are neither, each with the reason; empty where hyperparameters were named.
    weighted : tuple of str
        The targets for which the sign error weights pairs of networks: accuracies, and gaps of
        them.
    compare : tuple of (str, str), or None
        Pairs of measures that were named to be compared; None where each measure is compared with
        each trivial baseline.
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
    weighted: tuple[str, ...] = ()
    compare: tuple[tuple[str, str], ...] | None = None


class MeasureCorrelation(msgspec.Struct, frozen=True):
    """Correlation of a measure with a target over networks.

    Attributes
    ----------
    group : str or None
        Value of the tag `by` that the networks have; None for all networks.
    target, measure : str
        Columns of the frame of networks.
    kind : {"measure", "norm", "trivial"}
        What the measure is: one of cnatool's own, a norm of weights proposed by others, or a
        trivial baseline that any claim must beat.
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
    """What a measure tells of a target beyond the hyperparameters.

    Attributes
    ----------
    target, measure : str
        Columns of the frame of networks.
    kind : {"measure", "norm", "trivial"}
        As in the correlations.
    networks : int
        Networks that have both numbers.
    psi : StudyEstimate
        Granulated Kendall Ψ (Jiang et al. 2020), of τ-a.
    psi_axes : dict of str to Estimate
        Its part ψ_i for each hyperparameter.
    information : ConditionalInformation
        Conditional mutual information K (Jiang et al. 2020).
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
    """Difference between two measures' correlations with a target, over the same networks.

    Attributes
    ----------
    target, first, second : str
        Columns of the frame of networks.
    coefficient : {"pearson", "spearman", "kendall_a", "kendall_b"}
        The coefficient that is compared.
    networks, clusters : int
        Networks that have all three numbers, and their clusters.
    difference : StudyEstimate
        Coefficient of `first` − that of `second`.
    magnitude : StudyEstimate
        The same of their absolute values: which one is the stronger, whatever its sign.
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
    """A bin of networks with similar test accuracy.

    Attributes
    ----------
    networks : int
        Number of networks in the bin.
    accuracy : float
        Mean of their test accuracy.
    means : dict of str to float or None
        Mean of each measure over the networks that have it; None where none has.
    """

    networks: int
    accuracy: float
    means: dict[str, float | None]


class StudyResult(Document, frozen=True):
    """The result of `cnatool study` for a collection of networks.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    networks : int
        Rows of the frame of networks.
    clusters : int
        Number of clusters of networks.
    convention : Convention or None
        The convention with which the stores were scored; None if no store was given.
    tags : tuple of str
        Tags that networks have.
    settings : StudySettings
        What the numbers depend on besides the networks.
    not_scored : tuple of NotScored
        Stores that have no row.
    undefined : tuple of UndefinedMeasure
        Measures that are undefined for scored stores.
    correlations : tuple of MeasureCorrelation
        Correlations of each measure with each target, over all networks and within each value of
        the tag `by`.
    hyperparameters : tuple of HyperparameterResult
        Results for each measure and each target; empty if there are no hyperparameters.
    differences : tuple of Difference
        Differences between pairs of measures.
    bins : tuple of Bin
        Networks by rising test accuracy, in bins of 25, or in five smaller bins if there are fewer
        than 50 (paper Fig. 7).
    notes : tuple of str
        Remarks on the results.
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

    def __repr__(self) -> str:
        networks = count_text(self.networks, "network")
        measures = {each.measure for each in self.correlations}
        targets = " and ".join(self.settings.targets)
        return f"<cnatool study of {networks}: {count_text(len(measures), 'measure')} of {targets}>"

    _repr_html_ = shown_by("cnatool.studying.html", "study_result_html")


class SeriesResult(Document, frozen=True):
    """The header of results over checkpoints.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    convention : Convention
        The convention by which all stores were scored.
    order : str or None
        The tag whose number is the step; None where steps are the positions in which the stores
        were given, from 1.
    by : str or None
        The tag that separates runs.
    """

    schema: str
    convention: Convention
    order: str | None
    by: str | None


class StepSplit(msgspec.Struct, frozen=True):
    """A split at one step.

    Attributes
    ----------
    samples : int
        Number of scored samples.
    accuracy, loss : float or None
        Share of correct predictions, and mean cross-entropy in nats; None where undefined.
    performance_reason : str or None
        Why accuracy or loss is undefined.
    cna : Cna
        Correlation of α and β, by the coefficient that the convention names; with an interval
        where the convention has resamples.
    alpha_groups : tuple of AlphaGroup
        The split by quantiles of α, lowest first (paper Fig. 6).
    """

    samples: int
    accuracy: float | None
    loss: float | None
    performance_reason: str | None
    cna: Cna
    alpha_groups: tuple[AlphaGroup, ...]


class StepResult(msgspec.Struct, frozen=True):
    """One checkpoint of a run (paper Fig. 4).

    Attributes
    ----------
    step : float
        Its place in the run.
    id, path : str
        Its name, and its store.
    model : str or None
        SHA-256 of the model's file.
    tags : dict of str to str
        The store's tags.
    splits : dict of str to StepSplit
        Its splits.
    gap : Estimate
        Generalisation gap, in the form that the convention names.
    cna_area : ResampledEstimate
        CNA-A between train and test.
    margin : Estimate
        γ of the training split.
    cna_margin : ResampledEstimate
        CNA-M = γ · CNA-A.
    """

    step: float
    id: str
    path: str
    model: str | None
    tags: dict[str, str]
    splits: dict[str, StepSplit]
    gap: Estimate
    cna_area: ResampledEstimate
    margin: Estimate
    cna_margin: ResampledEstimate


class RunResult(msgspec.Struct, frozen=True):
    """The checkpoints of a run, in order.

    Attributes
    ----------
    name : str or None
        Value of the tag `by`; None where there is a single run.
    steps : tuple of StepResult
        By rising step.
    """

    name: str | None
    steps: tuple[StepResult, ...]


class TrajectoryResult(SeriesResult, frozen=True):
    """The result of `cnatool trajectory` for a series of checkpoints.

    Attributes
    ----------
    runs : tuple of RunResult
        The runs.
    not_scored : tuple of NotScored
        Stores that have no step.
    notes : tuple of str
        Remarks on the results.
    """

    schema: Literal["cnatool.trajectory/1"]
    runs: tuple[RunResult, ...]
    not_scored: tuple[NotScored, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        steps = count_text(sum(len(run.steps) for run in self.runs), "step")
        return f"<cnatool trajectory of {count_text(len(self.runs), 'run')}: {steps}>"

    _repr_html_ = shown_by("cnatool.studying.html", "trajectory_result_html")


class LandscapePoint(msgspec.Struct, frozen=True):
    """A checkpoint.

    Attributes
    ----------
    run : str or None
        Value of the tag that separates runs; None where there is a single run.
    step : float
        Its place in the run.
    id, path : str
        Its name, and its store.
    x, y : float
        Its coordinates along the first and the second principal component, from the mean.
    captured : float or None
        Share of its squared distance from the mean that lies in the plane; None where it is the
        mean.
    cna : Estimate
        CNA of the minibatch at this checkpoint.
    cna_projected : Estimate
        The same at the point of the plane that is nearest to it.
    """

    run: str | None
    step: float
    id: str
    path: str
    x: float
    y: float
    captured: float | None
    cna: Estimate
    cna_projected: Estimate


class GridPoint(msgspec.Struct, frozen=True):
    """A point of the plane.

    Attributes
    ----------
    x, y : float
        Its coordinates, as those of the checkpoints.
    cna : Estimate
        CNA of the minibatch with the activations that inverse PCA gives there.
    """

    x: float
    y: float
    cna: Estimate


class LandscapeResult(SeriesResult, frozen=True):
    """The result of `cnatool landscape` for a series of checkpoints (paper Fig. 5).

    Attributes
    ----------
    split : str
        The split from which the minibatch is taken.
    samples : int
        Size of the minibatch, the first samples of the split.
    fingerprint : str
        SHA-256 over the SHA-256 digests of each raw input's bytes, of these samples.
    layers : tuple of LayerResult
        The layers whose activations were read.
    dimension : int
        Activations of all these layers and samples together: the length of a checkpoint's vector.
    variance_shares : tuple of float
        Share of the variance along each principal component, the largest first; the plane is that
        of the first two.
    points : tuple of LandscapePoint
        The checkpoints, run by run, by rising step.
    grid_size : int
        Number of grid points along each axis.
    grid : tuple of GridPoint
        By rising y, and for each y by rising x.
    notes : tuple of str
        Remarks on the results.
    not_scored : tuple of NotScored
        Stores that have no point.
    """

    schema: Literal["cnatool.landscape/1"]
    split: str
    samples: int
    fingerprint: str
    layers: tuple[LayerResult, ...]
    dimension: int
    variance_shares: tuple[float, ...]
    points: tuple[LandscapePoint, ...]
    grid_size: int
    grid: tuple[GridPoint, ...]
    notes: tuple[str, ...]
    not_scored: tuple[NotScored, ...] = ()

    def __repr__(self) -> str:
        points = count_text(len(self.points), "checkpoint")
        return f"<cnatool landscape of {points}: {self.grid_size} × {self.grid_size} grid>"

    _repr_html_ = shown_by("cnatool.studying.html", "landscape_result_html")
