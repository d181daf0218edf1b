"""The correlations that the rules of docs/reproduction.md ask for, from the table of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from tasks import STANDARD, TASKS

import cnatool
from cnatool.studying.results import Difference as StudyDifference
from cnatool.studying.results import MeasureCorrelation, StudyEstimate

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


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number over a subset of networks, with its interval.

    Attributes
    ----------
    kind, task : str, str or None
        Of the `Subset`.
    target : str
        Column that measures are correlated with.
    networks, clusters : int
        Networks that have all columns, and their clusters.
    value, low, high : float or None
        The number and the ends of its interval; None where undefined.
    """

    kind: str
    task: str | None
    target: str
    networks: int
    clusters: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Correlation(Estimate):
    """Pearson's r of the column ``measure`` with the target."""

    measure: str


@dataclass(frozen=True, kw_only=True)
class Difference(Estimate):
    """|r| of the column ``first`` minus |r| of the column ``second``."""

    first: str
    second: str


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
            correlations += [
                Correlation(
                    **_describe(subset, target, found, found.pearson), measure=found.measure
                )
                for found in result.correlations
            ]
            differences += [
                Difference(
                    **_describe(subset, target, found, found.magnitude),
                    first=found.first,
                    second=found.second,
                )
                for found in result.differences
                if found.coefficient == "pearson"
            ]
    return correlations, differences


def write_correlations(
    folder: Path, correlations: Sequence[Correlation], differences: Sequence[Difference]
) -> None:
    """Write ``correlations.csv`` and ``differences.csv``; nothing for an empty sequence."""
    for name, rows in (("correlations", correlations), ("differences", differences)):
        if rows:
            pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / f"{name}.csv")


def read_correlations(folder: Path) -> tuple[list[Correlation], list[Difference]]:
    """Read what `write_correlations` has written."""
    correlations, differences = (
        pl.read_csv(folder / f"{name}.csv", infer_schema_length=None).to_dicts()
        for name in ("correlations", "differences")
    )
    return [Correlation(**row) for row in correlations], [Difference(**row) for row in differences]


def _keep_columns(networks: pl.DataFrame, target: str) -> pl.DataFrame:
    tags = ["tag.task", "tag.run"]
    measures = [name for name in MEASURES if name in networks.columns]
    return networks.select("id", *tags, target, *measures)


def _describe(
    subset: Subset,
    target: str,
    found: MeasureCorrelation | StudyDifference,
    estimate: StudyEstimate,
) -> dict[str, Any]:
    """Return the fields of an `Estimate`."""
    low, high = estimate.interval or (None, None)
    return {
        "kind": subset.kind,
        "task": subset.task,
        "target": target,
        "networks": found.networks,
        "clusters": found.clusters,
        "value": estimate.value,
        "low": low,
        "high": high,
    }
