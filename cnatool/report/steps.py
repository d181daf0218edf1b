"""Checkpoints in the order of training, whatever they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool.errors import UsageError
from cnatool.report.scored import convention_text
from cnatool.report.style import inert
from cnatool.studying.columns import TAG, tag_column
from cnatool.studying.series import series_of
from cnatool.text import listed, printable

if TYPE_CHECKING:
    import polars

    from cnatool.report.figure import Options
    from cnatool.studying.study import Study
    from cnatool.studying.trajectory import Trajectory

__all__ = ["Steps", "steps_of_study", "steps_of_trajectory"]


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
    """Take a study's networks for checkpoints, by their tags.

    Raises
    ------
    UsageError
        If there is no tag for steps or for runs, or which one is not clear.
    DataError
        If no run has two checkpoints.
    """
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
            f"no tag numbers the checkpoints: name one with --order; there are {listed(tags)}."
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
