"""Error by quantiles of α, of stores and over training (paper Fig. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from cnatool._util.text import count_text, printable
from cnatool.errors import DataError, MetricError
from cnatool.plotting.figures.of_networks import read_trajectory_steps
from cnatool.plotting.figures.of_stores import (
    convention_text,
    select_splits,
    title_stores,
)
from cnatool.plotting.marks import (
    PERCENT,
    categorise,
    line,
    page,
    panel,
    panel_title,
    points,
    x_axis,
    y_axis,
)
from cnatool.plotting.style import make_unique, number_text, ramp
from cnatool.scoring.score import score_store
from cnatool.scoring.titles import alpha_title
from cnatool.scoring.train_test import TEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.results import ScoreResult
    from cnatool.store.store import Store
    from cnatool.studying.trajectory import Trajectory

_COLUMNS = 2
_SHARED: Mapping[str, Any] = {"y": "shared", "color": "shared", "shape": "shared"}


def error_by_alpha(stores: Sequence[Store], options: Options) -> Chart:
    """Draw each split's share of wrong predictions over α, group by group."""
    panels = []
    caption: list[str] = []
    for store, name in zip(stores, title_stores(stores), strict=True):
        # Resamples do not change the error, and take time.
        convention = options.scoring().without_resamples()
        result = score_store(store, options.test, convention, output=options.output).result()
        splits = select_splits(result.splits, options.split)
        counts = ", ".join(f"{printable(s)} n = {result.splits[s].samples:,}" for s in splits)
        title = panel_title(name, counts) if len(stores) > 1 else None
        panels.append(_draw_store(result, splits, title, options))
        caption = [
            convention_text(result.convention),
            f"samples in {result.convention.fields.alpha_groups} groups by quantiles of α, each at "
            "its mean α",
            counts if len(stores) == 1 else "",
        ]
    return page(panels, _COLUMNS, "Error by input complexity", caption, options, **_SHARED)


def _draw_store(result: ScoreResult, splits: list[str], title: Any, options: Options) -> Any:
    rows = [
        (
            printable(split),
            number,
            group.alpha_min,
            group.alpha_mean,
            group.alpha_max,
            group.error,
            group.samples,
        )
        for split in splits
        for number, group in enumerate(result.splits[split].alpha_groups, start=1)
        if group.error is not None and group.alpha_mean is not None
    ]
    if not rows:
        why = next((result.splits[s].performance_reason for s in splits), None)
        raise MetricError(
            f"{result.store} has no error by α to draw: {why or 'it has no samples'}."
        )
    numbers = dict.fromkeys(("alpha_min", "alpha", "alpha_max", "error"), pl.Float64)
    schema = {"split": pl.String, "group": pl.Int64, **numbers, "samples": pl.Int64}
    color, shape = categorise(
        "split", list(map(printable, splits)), title=None, orient="bottom", symbolSize=60
    )
    base = alt.Chart(pl.DataFrame(rows, schema=schema, orient="row")).encode(
        x=x_axis("alpha", alpha_title(result.convention.fields), grid=False, tickCount=6),
        y=y_axis("error", "error", alt.Scale(nice=False, padding=8), **PERCENT),
        color=color,
        order="group:O",
        tooltip=[
            "split:N",
            "group:O",
            "alpha_min:Q",
            "alpha_max:Q",
            "samples:Q",
            alt.Tooltip("error:Q", format=".2%"),
        ],
    )
    return panel(
        line(base, 1.8), points(base.encode(shape=shape), 45), options=options, title=title
    )


def error_over_training(trajectories: Sequence[Trajectory], options: Options) -> Chart:
    """Draw the error of each group of samples over the steps, one panel per run."""
    (trajectory,) = trajectories
    steps = read_trajectory_steps(trajectory)
    frame = trajectory.error_by_alpha
    available = list(dict.fromkeys(frame["split"]))
    split = select_splits(available, options.split or (TEST if TEST in available else None))[0]
    errors = frame.filter(pl.col("split") == split).drop_nulls("error")
    if not len(errors):
        raise DataError(
            f"split {split} has no error at any step: labels and class scores are needed."
        )
    runs = frame["run"].unique(maintain_order=True).to_list()
    labels = _label_groups(errors)
    columns = min(_COLUMNS, len(runs))
    panels = [
        _draw_run(
            errors.filter(pl.col("run").eq_missing(pl.lit(run, pl.String))),
            labels,
            steps.axis,
            None if run is None else panel_title(printable(run)),
            place % columns == 0,
            options,
        )
        for place, run in enumerate(runs)
    ]
    samples = errors.group_by("id", maintain_order=True).agg(pl.col("samples").sum())
    caption = (
        steps.convention,
        f"split {split}, n = {min(samples['samples']):,} samples in {len(labels)} groups by "
        "quantiles of α",
        f"{count_text(len(steps.frame), 'checkpoint')}",
    )
    title = "Error by input complexity, over training"
    return page(panels, columns, title, caption, options, **_SHARED)


def _label_groups(errors: pl.DataFrame) -> dict[int, str]:
    """Label each group by its range of α over all steps, which share their samples."""
    groups = errors.group_by("group").agg(pl.col("alpha_min").min(), pl.col("alpha_max").max())
    rows = groups.sort("group").rows()
    texts = make_unique([f"{number_text(low)} … {number_text(high)}" for _, low, high in rows])
    return {row[0]: text for row, text in zip(rows, texts, strict=True)}


def _draw_run(
    errors: pl.DataFrame,
    labels: dict[int, str],
    axis: str,
    title: alt.Title | None,
    first: bool,
    options: Options,
) -> Any:
    frame = errors.select(
        "step",
        "group",
        "error",
        "samples",
        pl.col("group").replace_strict(labels, return_dtype=pl.String).alias("alpha"),
    )
    values = list(labels.values())
    color, shape = categorise(
        "alpha", values, colours=ramp(len(values)), title="α", orient="bottom", columns=3
    )
    scale = alt.Scale(nice=False, padding=8)
    base = alt.Chart(frame).encode(
        x=x_axis("step", axis, grid=False, tickMinStep=1, tickCount=6),
        y=y_axis("error", "error" if first else None, scale, **PERCENT, tickCount=5),
        color=color,
        tooltip=["alpha:N", "step:Q", alt.Tooltip("error:Q", format=".2%"), "samples:Q"],
    )
    return panel(
        line(base, 1.6), points(base.encode(shape=shape), 26), options=options, title=title
    )
