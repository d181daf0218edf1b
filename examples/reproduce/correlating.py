"""The correlations that the rules of docs/reproduction.md ask for, from the table of networks."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from tasks import STANDARD, TASKS

import cnatool
from cnatool.studying.results import StudyEstimate

# Test accuracy above which networks are good.
GOOD_ACCURACY = 0.7
RESAMPLES = 10_000
# Networks that a correlation needs.
FEWEST = 3
ACCURACY, GAPS = "test.accuracy", ("gap_accuracy", "gap_loss")
MEAN_ALPHA = "test.alpha.mean"
CNA = {"raw": "test.cna", "smoothed": "test.cna.smoothed"}
CNA_MARGIN = "cna_margin"
# What CNA-M must exceed.
OTHERS = ("log.l2", "log.spectral", "log.l2_path", "log.bound_2018", "train.accuracy", "margin")
AREAS = {"total": "cna_area", "reference": "area=reference:cna_area"}
SMOOTHED_OF_SCRIPTS = "legacy:test.cna"
MEASURES = (
    *CNA.values(),
    SMOOTHED_OF_SCRIPTS,
    "reference:test.cna",
    "training-mode:test.cna",
    "training-mode:test.cna.smoothed",
    "training-mode:legacy:test.cna",
    "train.cna",
    *AREAS.values(),
    "reference:cna_area",
    "legacy:cna_area",
    CNA_MARGIN,
    "area=reference:cna_margin",
    "margin_split=test:cna_margin",
    "reference:cna_margin",
    "legacy:cna_margin",
    "margin",
    "margin_split=test:margin",
    "reference:margin",
    "legacy:margin",
    *OTHERS[:4],
    "train.accuracy",
    "train.loss",
    "log.parameter_norm",
    "log.distance",
    MEAN_ALPHA,
)


@dataclass(frozen=True)
class Subset:
    """Networks over which measures are correlated.

    Attributes
    ----------
    kind : {"good", "all", "last"}
        ``good``: standard networks above 70 % test accuracy; ``all``: standard networks, and those
        that memorise, of runs that got there; ``last``: of these, the last of each run.
    task : str or None
        Only the networks of this task.
    """

    kind: str
    task: str | None = None

    @property
    def cluster(self) -> str:
        """The tag whose values are resampled: whole tasks, or runs within a task."""
        return "task" if self.task is None else "run"

    @property
    def targets(self) -> tuple[str, ...]:
        """What measures are correlated with."""
        return (ACCURACY,) if self.kind == "good" else GAPS

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The measures whose correlations are compared."""
        if self.task is not None:
            return []
        if self.kind == "good":
            return [(cna, MEAN_ALPHA) for cna in CNA.values()]
        return [(CNA_MARGIN, other) for other in OTHERS]

    def select(self, networks: pl.DataFrame) -> pl.DataFrame:
        """Select its networks from the table of all."""
        standard = pl.col("tag.kind") == STANDARD
        if self.kind == "good":
            chosen = standard & (pl.col(ACCURACY) > GOOD_ACCURACY)
        else:
            chosen = standard | (pl.col("tag.converged") == "True")
        if self.kind == "last":
            chosen &= pl.col("tag.last") == "True"
        if self.task is not None:
            chosen &= pl.col("tag.task") == self.task
        return networks.filter(chosen)


SUBSETS = (
    *(Subset(kind) for kind in ("good", "all", "last")),
    *(Subset(kind, task) for kind in ("good", "all") for task in TASKS),
)


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of a measure with a target.

    Attributes
    ----------
    kind, task : str, str or None
        Of the `Subset`.
    target, measure : str
        Columns.
    networks, clusters : int
        Networks that have both, and their clusters.
    r, low, high : float or None
        The coefficient and the ends of its interval; None where undefined.
    """

    kind: str
    task: str | None
    target: str
    measure: str
    networks: int
    clusters: int
    r: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """|r| of one measure minus |r| of another, over the networks that have both.

    Attributes
    ----------
    kind, task : str, str or None
        Of the `Subset`.
    target, first, second : str
        Columns of the target and of the two measures.
    networks, clusters : int
        Networks that have all three, and their clusters.
    difference, low, high : float or None
        The difference and the ends of its interval; None where undefined.
    """

    kind: str
    task: str | None
    target: str
    first: str
    second: str
    networks: int
    clusters: int
    difference: float | None
    low: float | None
    high: float | None


def correlate(networks: pl.DataFrame) -> tuple[list[Correlation], list[Difference]]:
    """Correlate the measures with test accuracy and both forms of the gap, within each subset.

    Subsets of fewer than three networks are left out.
    """
    correlations: list[Correlation] = []
    differences: list[Difference] = []
    for subset in SUBSETS:
        part = subset.select(networks)
        if len(part) < FEWEST:
            continue
        for target in subset.targets:
            result = cnatool.study(
                frame=_keep_columns(part, target),
                cluster=subset.cluster,
                hyperparameters=(),
                targets=(target,),
                compare=subset.pairs,
                resamples=RESAMPLES,
            ).result
            for found in result.correlations:
                sizes = found.networks, found.clusters
                head = subset.kind, subset.task, target, found.measure
                correlations.append(Correlation(*head, *sizes, *_unpack(found.pearson)))
            for each in result.differences:
                if each.coefficient == "pearson":
                    sizes = each.networks, each.clusters
                    pair = subset.kind, subset.task, target, each.first, each.second
                    differences.append(Difference(*pair, *sizes, *_unpack(each.magnitude)))
    return correlations, differences


def _keep_columns(networks: pl.DataFrame, target: str) -> pl.DataFrame:
    tags = ["tag.task", "tag.run"]
    measures = [name for name in MEASURES if name in networks.columns]
    return networks.select("id", *tags, target, *measures)


def _unpack(estimate: StudyEstimate) -> tuple[float | None, float | None, float | None]:
    """Return the value and the ends of its interval."""
    return (estimate.value, *(estimate.interval or (None, None)))
