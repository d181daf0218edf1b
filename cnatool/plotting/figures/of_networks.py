"""What the figures of a study have in common: networks, tags, the choice of measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnatool._util.text import list_names, printable
from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_stores import convention_text
from cnatool.plotting.style import COLOURS, SHAPES, drawn_rows, inert, is_share, level_text
from cnatool.studying.columns import TAG, tag_column
from cnatool.studying.series import series_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import altair as alt
    import polars

    from cnatool.plotting.figure import Options
    from cnatool.studying.results import MeasureCorrelation
    from cnatool.studying.study import Study
    from cnatool.studying.trajectory import Trajectory

NO_VALUE = "none"  # the tag of networks that do not have it
_NETWORKS = 3000


def networks_text(study: Study) -> list[str]:
    """Say of how many networks a figure is, by which convention, and what was left out."""
    result = study.result
    clusters = (
        f" in {result.clusters} clusters by {printable(result.settings.cluster)}"
        if result.settings.cluster is not None
        else ""
    )
    drawn = f"drawn: {_NETWORKS:,} of them, by lot" if result.networks > _NETWORKS else ""
    return [
        convention_text(result.convention),
        f"n = {result.networks:,} networks{clusters}",
        drawn,
    ]


def chosen_measures(study: Study, wanted: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Give the measures to draw: those that were named, or the usual ones that there are.

    Raises
    ------
    UsageError
        If the study has no measure of a name.
    DataError
        If it has none of the usual ones.
    """
    there = list(dict.fromkeys(one.measure for one in study.result.correlations))
    for name in wanted:
        if name not in there:
            raise UsageError(
                f"--measure {name}: the study has no such measure; it has {list_names(there)}."
            )
    if wanted:
        return list(dict.fromkeys(wanted))
    found = [name for name in usual if name in there and study.networks[name].count()]
    if not found:
        raise DataError(
            f"the study has none of the measures {list_names(usual)}: name others with --measure. "
            f"It has {list_names(there)}."
        )
    return found


def correlation_of(study: Study, target: str, measure: str) -> MeasureCorrelation:
    """Give how a measure goes with a target over all networks.

    Raises
    ------
    DataError
        If the study has not looked at this target.
    """
    for one in study.result.correlations:
        if (one.target, one.measure, one.group) == (target, measure, None):
            return one
    raise DataError(
        f"the study's networks have no {target}, which this figure is of; it has "
        f"{list_names(study.result.settings.targets)}."
    )


def interval_note(
    study: Study, mark: str, found: Iterable[MeasureCorrelation], coefficient: str = "pearson"
) -> str:
    """Say what the intervals are that a mark shows, or why there are none."""
    estimates = [getattr(one, coefficient) for one in found]
    if all(one.interval is None for one in estimates):
        reasons = (one.interval_reason for one in estimates if one.interval_reason)
        return f"no intervals: {next(reasons, 'nothing is defined')}"
    settings = study.result.settings
    of = "clusters resampled" if settings.cluster else "networks taken as independent"
    return f"{mark}: {level_text(settings.level)}, {of}"


def drawn_networks(study: Study, columns: Sequence[str], by: str | None) -> polars.DataFrame:
    """Give networks that have all these columns, under short names."""
    import polars as pl

    tag = pl.lit(None, pl.String)
    if by is not None:
        _check_tag(study, by)
        tag = pl.col(tag_column(by)).map_elements(printable, pl.String)
    frame = study.networks.select(
        pl.col("id").map_elements(printable, pl.String).alias("id"),
        tag.fill_null(NO_VALUE).alias("by"),
        *(pl.col(name).alias(f"v{place}") for place, name in enumerate(columns)),
    ).drop_nulls()
    return frame[drawn_rows(len(frame), _NETWORKS)]


def _check_tag(study: Study, by: str) -> None:
    tags = [name.removeprefix(TAG) for name in study.networks.columns if name.startswith(TAG)]
    if by not in tags:
        raise UsageError(f"--by {by}: no network has this tag; there are {list_names(tags)}.")
    values = study.networks[tag_column(by)].n_unique()
    if values > len(COLOURS):
        raise UsageError(
            f"--by {by}: this tag has {values} values, and a reader can tell {len(COLOURS)} "
            "colours apart. Name another tag."
        )


def group_marks(frame: polars.DataFrame, by: str | None, plain: str) -> dict[str, Any]:
    """Give the encodings that tell the values of a tag apart; without one, the plain colour."""
    import altair as alt

    if by is None:
        return {"color": alt.value(plain)}
    values = sorted(frame["by"].unique())
    legend = alt.Legend(title=inert(by), orient="bottom", columns=4, symbolOpacity=1)
    return {
        "color": alt.Color(
            "by:N",
            sort=None,
            scale=alt.Scale(domain=values, range=list(COLOURS[: len(values)])),
            legend=legend,
        ),
        "shape": alt.Shape(
            "by:N",
            sort=None,
            scale=alt.Scale(domain=values, range=list(SHAPES[: len(values)])),
            legend=legend,
        ),
    }


def axis_of(study: Study, column: str, **more: Any) -> alt.Axis:
    """Give an axis for a column, in per cent where it is a share."""
    import altair as alt

    if is_share(column, study.result.convention):
        return alt.Axis(format="~%", **more)
    return alt.Axis(**more)


@dataclass(frozen=True, slots=True)
class Steps:
    """Checkpoints of runs.

    Attributes
    ----------
    frame : polars.DataFrame
        A row a checkpoint: ``run``, null where there is but one, ``step``, and the columns of a
        study's networks; run by run, by rising step.
    axis : str
        What the steps count.
    by : str or None
        What tells runs apart.
    convention : str
        By which the numbers were made.
    """

    frame: polars.DataFrame
    axis: str
    by: str | None
    convention: str


def steps_of_trajectory(found: Trajectory) -> Steps:
    """Take the checkpoints of a trajectory."""
    result = found.result
    return Steps(
        _with_printable_runs(found.steps),
        "checkpoint" if result.order is None else inert(result.order),
        None if result.by is None else inert(result.by),
        convention_text(result.convention),
    )


def steps_of_study(study: Study, options: Options) -> Steps:
    """Take a study's networks for checkpoints, by their tags."""
    import polars as pl

    networks = study.networks
    tags = [name.removeprefix(TAG) for name in networks.columns if name.startswith(TAG)]
    by = options.by or study.result.settings.cluster
    series = series_of(
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
            f"no tag numbers the checkpoints: name one with --order; there are {list_names(tags)}."
        )
    frame = networks[[one.number for one in series.placed]].with_columns(
        pl.Series("run", [one.run for one in series.placed], pl.String),
        pl.Series("step", [one.step for one in series.placed], pl.Float64),
    )
    return Steps(
        _with_printable_runs(frame),
        inert(series.order),
        None if by is None else inert(by),
        convention_text(study.result.convention),
    )


def _with_printable_runs(frame: polars.DataFrame) -> polars.DataFrame:
    import polars as pl

    return frame.with_columns(pl.col("run").map_elements(printable, pl.String))
