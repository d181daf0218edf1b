"""Checkpoints in the order of training, whatever they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool.errors import UsageError
from cnatool.report.scored import convention_text
from cnatool.studying.columns import TAG, tag_column
from cnatool.text import listed, printable

if TYPE_CHECKING:
    import polars

    from cnatool.report.figure import Options
    from cnatool.studying.study import Study

__all__ = ["Steps", "study_steps"]

_STEPS = ("step", "epoch", "iteration")


@dataclass(frozen=True, slots=True)
class Steps:
    """Checkpoints of runs.

    Attributes
    ----------
    frame : polars.DataFrame
        A row a checkpoint: ``run``, null where there is but one, ``step``, and the columns of a
        study's networks; in the order of runs and steps.
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


def study_steps(study: Study, options: Options) -> Steps:
    """Take a study's networks for checkpoints, by their tags.

    Raises
    ------
    UsageError
        If there is no tag for steps or for runs, or the steps are no numbers.
    """
    import polars as pl

    networks = study.networks
    tags = [name.removeprefix(TAG) for name in networks.columns if name.startswith(TAG)]
    x = options.x or next((tag for tag in _STEPS if tag in tags), None)
    if x is None:
        raise UsageError(f"name the tag that counts the steps with --x; there are {listed(tags)}.")
    by = options.by or study.result.settings.cluster
    for option, tag in (("--x", x), ("--by", by)):
        if tag is not None and tag not in tags:
            raise UsageError(f"{option} {tag}: no network has this tag; there are {listed(tags)}.")
    step = networks[tag_column(x)].cast(pl.Float64, strict=False)
    if step.null_count() > networks[tag_column(x)].null_count() or not step.count():
        raise UsageError(f"--x {x}: the values of this tag are no numbers.")
    run = pl.lit(None, pl.String)
    if by is not None:
        run = pl.col(tag_column(by)).map_elements(printable, pl.String)
    frame = networks.with_columns(run.alias("run"), step.alias("step")).drop_nulls("step")
    double = frame.filter(pl.struct("run", "step").is_duplicated())
    if len(double):
        raise UsageError(
            f"{len(double)} networks share a run and a step ({listed(double['id'])}): name the tag "
            "that tells runs apart with --by."
        )
    return Steps(
        frame.sort("run", "step"),
        printable(x),
        None if by is None else printable(by),
        convention_text(study.result.convention),
    )
