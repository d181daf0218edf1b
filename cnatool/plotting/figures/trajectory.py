"""CNA, CNA-M, loss and accuracy over training (paper Fig. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_networks import steps_of_study, steps_of_trajectory
from cnatool.plotting.style import COLOURS, SHAPES, concat_panels, finished, free_scale, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars

    from cnatool.plotting.figure import Options
    from cnatool.plotting.figures.of_networks import Steps
    from cnatool.plotting.style import Chart
    from cnatool.studying.study import Study
    from cnatool.studying.trajectory import Trajectory

_COLUMNS = 2


class _Panel(NamedTuple):
    """One panel: its axis, and the columns that it draws, of any split or of one."""

    axis: str
    column: str
    of_split: bool
    per_cent: bool


_PANELS = (
    _Panel("CNA", "cna", True, False),
    _Panel("CNA-M", "cna_margin", False, False),
    _Panel("loss (nats)", "loss", True, False),
    _Panel("accuracy", "accuracy", True, True),
)


def of_study(studies: Sequence[Study], options: Options) -> Chart:
    """Draw a study whose networks are checkpoints."""
    return _over_training(steps_of_study(studies[0], options), options)


def of_trajectory(found: Sequence[Trajectory], options: Options) -> Chart:
    """Draw a trajectory."""
    return _over_training(steps_of_trajectory(found[0]), options)


def _over_training(steps: Steps, options: Options) -> Chart:
    """Draw what is known of each step of training, run by run."""
    runs = list(dict.fromkeys(steps.frame["run"].drop_nulls()))
    if len(runs) > len(COLOURS):
        raise UsageError(
            f"there are {len(runs)} runs, and a reader can tell {len(COLOURS)} colours apart: "
            "study fewer, or tell them by another tag with --by."
        )
    splits = [
        name.removesuffix(".cna")
        for name in steps.frame.columns
        if name.endswith(".cna") and options.split in (None, name.removesuffix(".cna"))
    ]
    if not splits:
        raise UsageError(f"--split {options.split}: the networks have no such split.")
    panels = []
    for panel in _PANELS:
        frame = _long(steps.frame, panel, splits)
        if len(frame):
            panels.append(_drawn(frame, panel, runs, splits, steps, options))
    if not panels:
        raise DataError("no step has a number to draw.")
    columns = min(_COLUMNS, len(panels))
    return finished(
        concat_panels(
            panels, columns, x="shared", color="shared", shape="shared", strokeDash="shared"
        ),
        "Over training",
        (
            steps.convention,
            f"n = {len(steps.frame):,} checkpoints"
            + (f" of {len(runs)} runs" if len(runs) > 1 else ""),
        ),
        width=spread(columns, options.width),
    )


def _long(frame: polars.DataFrame, panel: _Panel, splits: Sequence[str]) -> polars.DataFrame:
    """Give run, step, split and value, a row each, of what a panel draws."""
    import polars as pl

    columns = (
        {f"{split}.{panel.column}": split for split in splits}
        if panel.of_split
        else {panel.column: None}
    )
    parts = [
        frame.select(
            pl.col("run"),
            pl.col("step"),
            pl.lit(split, pl.String).alias("split"),
            pl.col(name).alias("value"),
        )
        for name, split in columns.items()
        if name in frame.columns
    ]
    return pl.concat(parts).drop_nulls("value") if parts else pl.DataFrame()


def _drawn(
    frame: polars.DataFrame,
    panel: _Panel,
    runs: Sequence[str],
    splits: Sequence[str],
    steps: Steps,
    options: Options,
) -> Any:
    import altair as alt
    import polars as pl

    frame = frame.with_columns(pl.col("split").fill_null("train and test"))
    many = len(runs) > 1
    lines = [*splits, "train and test"]
    dashes = [[1, 0], [5, 3], [2, 2], [8, 3, 2, 3]]
    told: dict[str, Any] = {}
    dash: dict[str, Any] = {}
    shape: dict[str, Any] = {}
    if many:
        legend = alt.Legend(title=steps.by, orient="bottom", columns=4, padding=8)
        told["color"] = alt.Color(
            "run:N",
            sort=None,
            scale=alt.Scale(domain=list(runs), range=list(COLOURS[: len(runs)])),
            legend=legend,
        )
        shape["shape"] = alt.Shape(
            "run:N",
            sort=None,
            scale=alt.Scale(domain=list(runs), range=list(SHAPES[: len(runs)])),
            legend=legend,
        )
        dash["strokeDash"] = alt.StrokeDash(
            "split:N",
            sort=None,
            scale=alt.Scale(domain=list(splits), range=[dashes[i % 4] for i in range(len(splits))]),
            legend=alt.Legend(title="split", orient="bottom", padding=8),
        )
    else:
        legend = alt.Legend(title=None, orient="bottom")
        places = [i % len(COLOURS) for i in range(len(splits))]
        told["color"] = alt.Color(
            "split:N",
            sort=None,
            scale=alt.Scale(domain=lines, range=[*(COLOURS[i] for i in places), "#000000"]),
            legend=legend,
        )
        shape["shape"] = alt.Shape(
            "split:N",
            sort=None,
            scale=alt.Scale(domain=lines, range=[*(SHAPES[i] for i in places), SHAPES[5]]),
            legend=legend,
        )
    y_axis = alt.Axis(format="~%", tickCount=5) if panel.per_cent else alt.Axis(tickCount=5)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "step:Q",
            title=steps.axis,
            axis=alt.Axis(grid=False, tickMinStep=1, tickCount=6),
            scale=free_scale(),
        ),
        y=alt.Y("value:Q", title=panel.axis, axis=y_axis, scale=free_scale()),
        detail="run:N",
        tooltip=["run:N", "split:N", "step:Q", "value:Q"],
        **told,
    )
    return alt.layer(
        base.mark_line(strokeWidth=1.6).encode(**dash),
        base.mark_point(filled=True, size=20, opacity=1).encode(**shape),
    ).properties(width=options.width, height=options.height)
