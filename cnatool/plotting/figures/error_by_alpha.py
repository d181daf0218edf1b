"""Error by quantiles of α (paper Fig. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool._util.text import printable
from cnatool.errors import MetricError
from cnatool.plotting.figures.of_stores import (
    alpha_title,
    chosen_splits,
    convention_text,
    store_names,
)
from cnatool.plotting.style import (
    COLOURS,
    SHAPES,
    finished,
    free_scale,
    panel_title,
    side_by_side,
    spread,
)
from cnatool.scoring.score import score_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.results import ScoreResult
    from cnatool.store.store import Store

_COLUMNS = 2


def error_by_alpha(stores: Sequence[Store], options: Options) -> Chart:
    """Draw each split's share of wrong predictions over α, group by group."""
    panels = []
    caption: list[str] = []
    for store, name in zip(stores, store_names(stores), strict=True):
        # Resamples do not change the error, and take time.
        convention = options.scoring().without_resamples()
        result = score_all(store, options.test, convention, output=options.output).result()
        splits = chosen_splits(result.splits, options.split)
        counts = ", ".join(f"{printable(s)} n = {result.splits[s].samples:,}" for s in splits)
        title = panel_title(name, counts) if len(stores) > 1 else None
        panels.append(_panel(result, splits, title, options))
        caption = [
            convention_text(result.convention),
            f"samples in {result.convention.fields.alpha_groups} groups by quantiles of α, each at "
            "its mean α",
            counts if len(stores) == 1 else "",
        ]
    columns = min(_COLUMNS, len(panels))
    return finished(
        side_by_side(panels, columns, y="shared", color="shared", shape="shared"),
        "Error by input complexity",
        caption,
        width=spread(columns, options.width),
    )


def _panel(result: ScoreResult, splits: list[str], title: Any, options: Options) -> Any:
    import altair as alt
    import polars as pl

    rows = []
    for split in splits:
        found = result.splits[split]
        rows += [
            (
                printable(split),
                place,
                group.alpha_min,
                group.alpha_mean,
                group.alpha_max,
                group.error,
                group.samples,
            )
            for place, group in enumerate(found.alpha_groups, start=1)
            if group.error is not None and group.alpha_mean is not None
        ]
    if not rows:
        why = next((result.splits[s].performance_reason for s in splits), None)
        raise MetricError(
            f"{result.store} has no error by α to draw: {why or 'it has no samples'}."
        )
    names = list(map(printable, splits))
    frame = pl.DataFrame(
        rows,
        schema={
            "split": pl.String,
            "group": pl.Int64,
            "alpha_min": pl.Float64,
            "alpha": pl.Float64,
            "alpha_max": pl.Float64,
            "error": pl.Float64,
            "samples": pl.Int64,
        },
        orient="row",
    )
    legend = alt.Legend(title=None, orient="bottom", symbolSize=60)
    colours = [COLOURS[i % 8] for i in range(len(names))]
    shapes = [SHAPES[i % 8] for i in range(len(names))]
    base = alt.Chart(frame).encode(
        x=alt.X(
            "alpha:Q",
            title=alpha_title(result.convention.fields),
            scale=free_scale(),
            axis=alt.Axis(grid=False, tickCount=6),
        ),
        y=alt.Y(
            "error:Q",
            title="error",
            scale=alt.Scale(nice=False, padding=8),
            axis=alt.Axis(format="~%"),
        ),
        color=alt.Color(
            "split:N", sort=None, legend=legend, scale=alt.Scale(domain=names, range=colours)
        ),
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
    shape = alt.Shape(
        "split:N", sort=None, legend=legend, scale=alt.Scale(domain=names, range=shapes)
    )
    chart = alt.layer(
        base.mark_line(strokeWidth=1.8),
        base.mark_point(filled=True, size=45, opacity=1).encode(shape=shape),
    ).properties(width=options.width, height=options.height)
    return chart if title is None else chart.properties(title=title)
