"""What the figures of studies and trajectories share: networks, tags, measures and steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from cnatool._util.text import count_text, list_names, printable
from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_stores import convention_text
from cnatool.plotting.marks import PERCENT, categorise
from cnatool.plotting.style import COLOURS, level_text, safe_title, sample_rows
from cnatool.studying.columns import TAG, describe_tags, tag_column
from cnatool.studying.series import order_checkpoints
from cnatool.studying.titles import is_percentage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cnatool.plotting.figure import Options
    from cnatool.studying.results import MeasureCorrelation
    from cnatool.studying.study import Study
    from cnatool.studying.trajectory import Trajectory

NO_VALUE = "none"  # the tag of networks that do not have it
_MOST_NETWORKS = 3000


def describe_networks(study: Study) -> list[str]:
    """Describe the networks of a figure: their convention and number, and how many are drawn."""
    result = study.result
    clusters = (
        f" in {result.clusters} clusters by {printable(result.settings.cluster)}"
        if result.settings.cluster is not None
        else ""
    )
    sampled = result.networks > _MOST_NETWORKS
    return [
        convention_text(result.convention),
        f"n = {count_text(result.networks, 'network')}{clusters}",
        f"drawn: {_MOST_NETWORKS:,} of them, at random" if sampled else "",
    ]


def select_measures(study: Study, named: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Return the measures to draw: those that were named, or the usual ones that the study has.

    Raises
    ------
    UsageError
        If the study has no measure of a name.
    DataError
        If it has none of the usual ones.
    """
    available = list(dict.fromkeys(row.measure for row in study.result.correlations))
    for name in named:
        if name not in available:
            raise UsageError(
                f"`measure` {name}: the study has no such measure; it has {list_names(available)}."
            )
    if named:
        return list(dict.fromkeys(named))
    measures = [name for name in usual if name in available and study.networks[name].count()]
    if not measures:
        raise DataError(
            f"the study has none of the measures {list_names(usual)}: name others with `measure`. "
            f"It has {list_names(available)}."
        )
    return measures


def find_correlation(study: Study, target: str, measure: str) -> MeasureCorrelation:
    """Find the correlation of a measure with a target over all networks.

    Raises
    ------
    DataError
        If the study does not have this target.
    """
    for row in study.result.correlations:
        if (row.target, row.measure, row.group) == (target, measure, None):
            return row
    raise DataError(
        f"the study's networks have no {target}, which this figure draws; they have "
        f"{list_names(study.result.settings.targets)}."
    )


def describe_intervals(
    study: Study,
    mark: str,
    correlations: Iterable[MeasureCorrelation],
    coefficient: str = "pearson",
) -> str:
    """Describe the intervals that a mark shows, or explain why there are none."""
    estimates = [getattr(row, coefficient) for row in correlations]
    if all(estimate.interval is None for estimate in estimates):
        reasons = (row.interval_reason for row in estimates if row.interval_reason)
        return f"no intervals: {next(reasons, 'nothing is defined')}"
    settings = study.result.settings
    units = "clusters resampled" if settings.cluster else "networks taken as independent"
    return f"{mark}: {level_text(settings.level)}, {units}"


def select_networks(study: Study, columns: Sequence[str], by: str | None) -> pl.DataFrame:
    """Select networks that have all these columns, named ``v0``, ``v1``, …."""
    tag = pl.lit(None, pl.String)
    if by is not None:
        _check_tag(study, by)
        tag = pl.col(tag_column(by)).map_elements(printable, pl.String)
    frame = study.networks.select(
        pl.col("id").map_elements(printable, pl.String).alias("id"),
        tag.fill_null(NO_VALUE).alias("by"),
        *(pl.col(name).alias(f"v{place}") for place, name in enumerate(columns)),
    ).drop_nulls()
    if not len(frame):
        raise DataError(f"no network has both {' and '.join(columns)}.")
    return frame[sample_rows(len(frame), _MOST_NETWORKS)]


def _check_tag(study: Study, by: str) -> None:
    tags = [name.removeprefix(TAG) for name in study.networks.columns if name.startswith(TAG)]
    if by not in tags:
        raise UsageError(f"`by` {by}: no network has this tag; {describe_tags(tags)}.")
    values = study.networks[tag_column(by)].n_unique()
    if values > len(COLOURS):
        raise UsageError(
            f"`by` {by}: this tag has {values} values, but a reader can distinguish only "
            f"{len(COLOURS)} colours. Name another tag."
        )


def encode_groups(frame: pl.DataFrame, by: str | None, plain: str) -> dict[str, Any]:
    """Encode the values of a tag by colour and shape; without a tag, use the plain colour."""
    if by is None:
        return {"color": alt.value(plain)}
    return categorise(
        "by",
        sorted(frame["by"].unique()),
        title=safe_title(by),
        orient="bottom",
        columns=4,
        symbolOpacity=1,
    )._asdict()


def axis_format(study: Study, column: str) -> dict[str, Any]:
    """Return the options of a column's axis: in per cent if it is a share."""
    return PERCENT if is_percentage(column, study.result.convention) else {}


@dataclass(frozen=True, slots=True)
class Steps:
    """Checkpoints of runs."""

    # One row per checkpoint: ``run``, null where there is a single run, ``step``, and the columns
    # of a study's networks; run by run, by rising step
    frame: pl.DataFrame
    axis: str  # title
    by: str | None  # the tag that separates runs
    convention: str


def read_trajectory_steps(trajectory: Trajectory) -> Steps:
    """Take the checkpoints of a trajectory."""
    result = trajectory.result
    return Steps(
        _escape_runs(trajectory.steps),
        "checkpoint" if result.order is None else safe_title(result.order),
        None if result.by is None else safe_title(result.by),
        convention_text(result.convention),
    )


def read_study_steps(study: Study, options: Options) -> Steps:
    """Take a study's networks as checkpoints, ordered by their tags."""
    networks = study.networks
    tags = [name.removeprefix(TAG) for name in networks.columns if name.startswith(TAG)]
    by = options.by or study.result.settings.cluster
    series = order_checkpoints(
        networks["id"].to_list(),
        [
            {tag: value for tag in tags if (value := row[tag_column(tag)]) is not None}
            for row in networks.iter_rows(named=True)
        ],
        order=options.order,
        by=by,
    )
    if series.order is None:
        raise UsageError(
            "no tag gives the steps of the checkpoints: name one with `order`; "
            f"{describe_tags(tags)}."
        )
    frame = networks[[checkpoint.number for checkpoint in series.checkpoints]].with_columns(
        pl.Series("run", [checkpoint.run for checkpoint in series.checkpoints], pl.String),
        pl.Series("step", [checkpoint.step for checkpoint in series.checkpoints], pl.Float64),
    )
    return Steps(
        _escape_runs(frame),
        safe_title(series.order),
        None if by is None else safe_title(by),
        convention_text(study.result.convention),
    )


def _escape_runs(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("run").map_elements(printable, pl.String))
