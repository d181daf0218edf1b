"""The correlations that the rules of docs/reproduction.md ask for, from the table of networks."""

from __future__ import annotations

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

Row = dict[str, object]


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


def correlate(networks: pl.DataFrame) -> tuple[list[Row], list[Row]]:
    """Correlate the measures with test accuracy and both forms of the gap, within each subset.

    Intervals resample tasks, or runs within a task.

    Returns
    -------
    correlations : list of dict
        ``subset``, ``target``, ``measure``, ``networks``, ``clusters``, ``r``, ``low``, ``high``.
    differences : list of dict
        Of |r| of ``first`` − |r| of ``second``: ``subset``, ``target``, ``first``, ``second``,
        ``networks``, ``clusters``, ``difference``, ``low``, ``high``.
    """
    correlations: list[Row] = []
    differences: list[Row] = []
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
            for found in result.correlations:
                head = {"subset": subset, "target": target, "measure": found.measure}
                sizes = {"networks": found.networks, "clusters": found.clusters}
                correlations.append(head | sizes | _list_numbers("r", found.pearson))
            for each in result.differences:
                if each.coefficient == "pearson":
                    pair = {"first": each.first, "second": each.second}
                    head = {"subset": subset, "target": target} | pair
                    sizes = {"networks": each.networks, "clusters": each.clusters}
                    differences.append(head | sizes | _list_numbers("difference", each.magnitude))
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


def _list_numbers(name: str, estimate: StudyEstimate) -> Row:
    low, high = estimate.interval or (None, None)
    return {name: estimate.value, "low": low, "high": high}
