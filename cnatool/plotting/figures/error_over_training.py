"""Error by quantiles of α over training (paper Fig. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool._util.text import printable
from cnatool.errors import DataError
from cnatool.plotting.figures.of_networks import steps_of_trajectory
from cnatool.plotting.figures.of_stores import select_splits
from cnatool.plotting.style import (
    SHAPES,
    concat_panels,
    finished,
    free_scale,
    make_unique,
    number_text,
    panel_title,
    ramp,
    spread,
)
from cnatool.scoring.train_test import TEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.studying.trajectory import Trajectory

_COLUMNS = 2


def error_over_training(sources: Sequence[Trajectory], options: Options) -> Chart:
    """Draw the error of each group of samples over the steps, a panel a run."""
    import polars as pl

    (found,) = sources
    steps = steps_of_trajectory(found)
    there = list(dict.fromkeys(found.error_by_alpha["split"]))
    split = select_splits(there, options.split or (TEST if TEST in there else None))[0]
    errors = found.error_by_alpha.filter(pl.col("split") == split).drop_nulls("error")
    if not len(errors):
        raise DataError(
            f"split {split} has no error at any step: labels and class scores are needed."
        )
    runs = found.error_by_alpha["run"].unique(maintain_order=True).to_list()
    labels = _labels(errors)
    columns = min(_COLUMNS, len(runs))
    panels = [
        _panel(
            errors.filter(pl.col("run").eq_missing(pl.lit(run, pl.String))),
            labels,
            steps.axis,
            None if run is None else printable(run),
            place % columns == 0,
            options,
        )
        for place, run in enumerate(runs)
    ]
    samples = errors.group_by("id", maintain_order=True).agg(pl.col("samples").sum())
    return finished(
        concat_panels(panels, columns, y="shared", color="shared", shape="shared"),
        "Error by input complexity, over training",
        (
            steps.convention,
            f"split {split}, n = {min(samples['samples']):,} samples in {len(labels)} groups by "
            "quantiles of α",
            f"{len(steps.frame):,} checkpoints",
        ),
        width=spread(columns, options.width),
    )


def _labels(errors: polars.DataFrame) -> dict[int, str]:
    """Name each group by its α, over all steps: these share the samples, or nearly so."""
    import polars as pl

    groups = errors.group_by("group").agg(pl.col("alpha_min").min(), pl.col("alpha_max").max())
    rows = groups.sort("group").rows()
    texts = make_unique([f"{number_text(low)} … {number_text(high)}" for _, low, high in rows])
    return {row[0]: text for row, text in zip(rows, texts, strict=True)}


def _panel(
    errors: polars.DataFrame,
    labels: dict[int, str],
    axis: str,
    run: str | None,
    first: bool,
    options: Options,
) -> Any:
    import altair as alt
    import polars as pl

    shown = list(labels.values())
    frame = errors.select(
        "step",
        "group",
        "error",
        "samples",
        pl.col("group").replace_strict(labels, return_dtype=pl.String).alias("alpha"),
    )
    legend = alt.Legend(title="α", orient="bottom", columns=3)
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(shown))]
    base = alt.Chart(frame).encode(
        x=alt.X(
            "step:Q",
            title=axis,
            scale=free_scale(),
            axis=alt.Axis(grid=False, tickMinStep=1, tickCount=6),
        ),
        y=alt.Y(
            "error:Q",
            title="error" if first else None,
            scale=alt.Scale(nice=False, padding=8),
            axis=alt.Axis(format="~%", tickCount=5),
        ),
        color=alt.Color(
            "alpha:N",
            sort=None,
            scale=alt.Scale(domain=shown, range=ramp(len(shown))),
            legend=legend,
        ),
        tooltip=["alpha:N", "step:Q", alt.Tooltip("error:Q", format=".2%"), "samples:Q"],
    )
    shape = alt.Shape(
        "alpha:N", sort=None, scale=alt.Scale(domain=shown, range=shapes), legend=legend
    )
    chart = alt.layer(
        base.mark_line(strokeWidth=1.6),
        base.mark_point(filled=True, size=26, opacity=1).encode(shape=shape),
    ).properties(width=options.width, height=options.height)
    return chart if run is None else chart.properties(title=panel_title(run))
