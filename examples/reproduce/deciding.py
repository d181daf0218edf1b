"""The correlations that the rules of docs/reproduction.md ask for, from the table of networks."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from tasks import STANDARD, TASKS

import cnatool
from cnatool.studying.results import StudyEstimate

GOOD = 0.7
RESAMPLES = 10_000
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
class Correlation:
    """Pearson's r of a measure with a target.

    Attributes
    ----------
    subset : str
        As `select_subsets` names it.
    target : str
        ``test.accuracy``, or a form of the gap.
    measure : str
        Column of the measure.
    networks, clusters : int
        Their numbers: clusters are tasks, or runs within a task.
    r, low, high : float or None
        The coefficient and the ends of its interval; None where undefined.
    """

    subset: str
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
    subset, target : str
        As of `Correlation`.
    first, second : str
        Columns of the two measures.
    networks, clusters : int
        Their numbers.
    difference, low, high : float or None
        The difference and the ends of its interval; None where undefined.
    """

    subset: str
    target: str
    first: str
    second: str
    networks: int
    clusters: int
    difference: float | None
    low: float | None
    high: float | None


def select_subsets(networks: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Select the networks that the rules are about, by name of the subset.

    ``good``: standard networks above 70 % test accuracy; ``all``: standard networks, and those that
    memorise, of runs that got there; ``last``: of these, the last of each run; and within each
    task, ``good TASK`` and ``all TASK``.
    """
    standard = pl.col("tag.kind") == STANDARD
    whole = networks.filter(standard | (pl.col("tag.converged") == "True"))
    good = networks.filter(standard & (pl.col(ACCURACY) > GOOD))
    subsets = {"good": good, "all": whole, "last": whole.filter(pl.col("tag.last") == "True")}
    for task in TASKS:
        subsets[f"good {task}"] = good.filter(pl.col("tag.task") == task)
        subsets[f"all {task}"] = whole.filter(pl.col("tag.task") == task)
    return subsets


def correlate(networks: pl.DataFrame) -> tuple[list[Correlation], list[Difference]]:
    """Correlate the measures with test accuracy and both forms of the gap, within each subset.

    Intervals resample tasks, or runs within a task.
    """
    correlations: list[Correlation] = []
    differences: list[Difference] = []
    for subset, part in select_subsets(networks).items():
        cluster = "run" if " " in subset else "task"
        if len(part) < 3:
            continue
        for target, compare in _list_comparisons(subset).items():
            result = cnatool.study(
                frame=_keep_columns(part, target),
                cluster=cluster,
                hyperparameters=(),
                targets=(target,),
                compare=compare,
                resamples=RESAMPLES,
            ).result
            correlations += [
                Correlation(
                    subset,
                    target,
                    found.measure,
                    found.networks,
                    found.clusters,
                    *_unpack(found.pearson),
                )
                for found in result.correlations
            ]
            differences += [
                Difference(
                    subset,
                    target,
                    found.first,
                    found.second,
                    found.networks,
                    found.clusters,
                    *_unpack(found.magnitude),
                )
                for found in result.differences
                if found.coefficient == "pearson"
            ]
    return correlations, differences


def _list_comparisons(subset: str) -> dict[str, list[tuple[str, str]]]:
    """Return the targets of a subset, and for each the pairs of measures that are compared."""
    if subset.startswith("good"):
        pairs = [(cna, MEAN_ALPHA) for cna in CNA.values()] if subset == "good" else []
        return {ACCURACY: pairs}
    pairs = [(CNA_MARGIN, other) for other in OTHERS] if subset in ("all", "last") else []
    return dict.fromkeys(GAPS, pairs)


def _keep_columns(networks: pl.DataFrame, target: str) -> pl.DataFrame:
    tags = ["tag.task", "tag.run"]
    measures = [name for name in MEASURES if name in networks.columns]
    return networks.select("id", *tags, target, *measures)


def _unpack(estimate: StudyEstimate) -> tuple[float | None, float | None, float | None]:
    """Return the value and the ends of its interval."""
    return (estimate.value, *(estimate.interval or (None, None)))
