"""CNA, CNA-M, loss and accuracy over training (paper Fig. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import altair as alt
import polars as pl

from cnatool._util.text import count_text
from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_networks import read_study_steps, read_trajectory_steps
from cnatool.plotting.marks import PERCENT, categorise, line, page, panel, points, x_axis, y_axis
from cnatool.plotting.style import COLOURS, SHAPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.figures.of_networks import Steps
    from cnatool.plotting.style import Chart
    from cnatool.studying.study import Study
    from cnatool.studying.trajectory import Trajectory

_COLUMNS = 2
_PAIR = "train and test"  # what CNA-M is of
_DASHES = ([1, 0], [5, 3], [2, 2], [8, 3, 2, 3])


class _Quantity(NamedTuple):
    """What a panel draws."""

    title: str
    column: str
    of_splits: bool  # of each split, or of train and test together
    axis: dict[str, Any]


_QUANTITIES = (
    _Quantity("CNA", "cna", True, {}),
    _Quantity("CNA-M", "cna_margin", False, {}),
    _Quantity("loss (nats)", "loss", True, {}),
    _Quantity("accuracy", "accuracy", True, PERCENT),
)


def draw_study(studies: Sequence[Study], options: Options) -> Chart:
    """Draw a study whose networks are checkpoints."""
    return _draw(read_study_steps(studies[0], options), options)


def draw_trajectory(trajectories: Sequence[Trajectory], options: Options) -> Chart:
    """Draw a trajectory."""
    return _draw(read_trajectory_steps(trajectories[0]), options)


def _draw(steps: Steps, options: Options) -> Chart:
    """Draw each quantity over the steps, run by run."""
    runs = list(dict.fromkeys(steps.frame["run"].drop_nulls()))
    if len(runs) > len(COLOURS):
        raise UsageError(
            f"there are {len(runs)} runs, but a reader can distinguish only {len(COLOURS)} "
            "colours: draw fewer runs, or separate them by another tag with `by`."
        )
    splits = [
        name.removesuffix(".cna")
        for name in steps.frame.columns
        if name.endswith(".cna") and options.split in (None, name.removesuffix(".cna"))
    ]
    if not splits:
        raise UsageError(f"`split` {options.split}: the networks have no such split.")
    panels = []
    for quantity in _QUANTITIES:
        frame = _select_values(steps.frame, quantity, splits)
        if len(frame):
            panels.append(_draw_panel(frame, quantity, runs, splits, steps, options))
    if not panels:
        raise DataError("no step has a number to draw.")
    count = f"n = {count_text(len(steps.frame), 'checkpoint')}"
    caption = (
        steps.convention,
        f"{count} of {len(runs)} runs" if len(runs) > 1 else count,
    )
    shared: dict[str, Any] = dict.fromkeys(("x", "color", "shape", "strokeDash"), "shared")
    return page(panels, _COLUMNS, "Over training", caption, options, **shared)


def _select_values(frame: pl.DataFrame, quantity: _Quantity, splits: Sequence[str]) -> pl.DataFrame:
    """Return a quantity as rows of run, step, split and value."""
    columns = (
        {f"{split}.{quantity.column}": split for split in splits}
        if quantity.of_splits
        else {quantity.column: _PAIR}
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


def _draw_panel(
    frame: pl.DataFrame,
    quantity: _Quantity,
    runs: Sequence[str],
    splits: Sequence[str],
    steps: Steps,
    options: Options,
) -> Any:
    dash: dict[str, Any] = {}
    if len(runs) > 1:
        category = categorise("run", runs, title=steps.by, orient="bottom", columns=4, padding=8)
        dashes = [_DASHES[i % len(_DASHES)] for i in range(len(splits))]
        dash["strokeDash"] = alt.StrokeDash(
            "split:N",
            sort=None,
            scale=alt.Scale(domain=list(splits), range=dashes),
            legend=alt.Legend(title="split", orient="bottom", padding=8),
        )
    else:
        places = [i % len(COLOURS) for i in range(len(splits))]
        category = categorise(
            "split",
            [*splits, _PAIR],
            colours=[*(COLOURS[i] for i in places), "#000000"],
            shapes=[*(SHAPES[i] for i in places), SHAPES[5]],
            title=None,
            orient="bottom",
        )
    base = alt.Chart(frame).encode(
        x=x_axis("step", steps.axis, grid=False, tickMinStep=1, tickCount=6),
        y=y_axis("value", quantity.title, tickCount=5, **quantity.axis),
        detail="run:N",
        tooltip=["run:N", "split:N", "step:Q", "value:Q"],
        color=category.color,
    )
    return panel(
        line(base.encode(**dash), 1.6),
        points(base.encode(shape=category.shape), 20),
        options=options,
    )
