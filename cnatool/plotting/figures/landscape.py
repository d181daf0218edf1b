"""CNA over the plane of the checkpoints' activations, with the path of training (paper Fig. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from cnatool._util.text import count_text, printable
from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_stores import convention_text
from cnatool.plotting.marks import finish, line, panel, points
from cnatool.plotting.style import SHAPES, safe_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.studying.landscape import Landscape
    from cnatool.studying.results import LandscapeResult

# Limits of height / width; within them both axes have the same scale.
_FLATTEST, _TALLEST = 0.6, 1.3


def landscape(landscapes: Sequence[Landscape], options: Options) -> Chart:
    """Draw CNA at each point of the grid, and the checkpoints on it in the order of training."""
    (source,) = landscapes
    result = source.result
    if not source.grid["cna"].count():
        raise DataError(
            "CNA is undefined at every point of the landscape: "
            f"{result.grid[0].cna.reason if result.grid else 'it has no points'}."
        )
    values = [*source.grid["cna"].drop_nulls(), *source.points["cna"].drop_nulls()]
    most = max(map(abs, values)) or 1.0
    scale = alt.Scale(scheme="purpleorange", domain=[-most, most], reverse=True)
    chart = panel(
        *_draw_surface(source.grid, result, scale),
        *_draw_paths(source.points, result, scale),
        options=options,
        height=options.height or _choose_height(source.grid, options.width),
    )
    step = "checkpoint" if result.order is None else printable(result.order)
    undefined = source.grid["cna"].null_count()
    return finish(
        chart,
        "The CNA landscape",
        (
            convention_text(result.convention),
            f"split {printable(result.split)}, n = {count_text(result.samples, 'sample')}",
            f"principal components of {result.dimension:,} activations at {len(source.points)} "
            "checkpoints",
            "marks: CNA at the checkpoints themselves, in the same colours",
            f"numbers: first and last {step}",
            f"blank: CNA undefined ({count_text(undefined, 'point')})" if undefined else "",
        ),
        width=options.width,
    )


def _choose_height(grid: pl.DataFrame, width: float) -> float:
    x, y = grid["x"].to_numpy(), grid["y"].to_numpy()
    ratio = float(np.ptp(y) / np.ptp(x)) if np.ptp(x) else 1.0
    return round(width * min(max(ratio, _FLATTEST), _TALLEST))


def _axis(name: str, share: float, bounds: tuple[float, float]) -> dict[str, Any]:
    return {
        "title": f"{name} component ({share:.0%} of variance)",
        "scale": alt.Scale(domain=list(bounds), nice=False, zero=False),
        "axis": alt.Axis(grid=False, tickCount=5, format="~s"),
    }


def _draw_surface(grid: pl.DataFrame, result: LandscapeResult, scale: alt.Scale) -> list[Any]:
    """Draw the grid as cells around its points."""
    half = {
        name: float(np.diff(np.unique(grid[name].to_numpy())).min(initial=np.inf)) / 2
        for name in ("x", "y")
    }
    half = {name: size if np.isfinite(size) else 0.5 for name, size in half.items()}
    cells = grid.drop_nulls("cna").select(
        "cna",
        *((pl.col(name) - half[name]).alias(name) for name in ("x", "y")),
        *((pl.col(name) + half[name]).alias(f"{name}2") for name in ("x", "y")),
    )
    x, y = (
        (float(cells[name].to_numpy().min()), float(cells[f"{name}2"].to_numpy().max()))
        for name in ("x", "y")
    )
    surface = (
        alt.Chart(cells)
        .mark_rect(clip=True)
        .encode(
            x=alt.X("x:Q", **_axis("first", result.variance_shares[0], x)),
            x2="x2:Q",
            y=alt.Y("y:Q", **_axis("second", result.variance_shares[1], y)),
            y2="y2:Q",
            color=alt.Color(
                "cna:Q",
                scale=scale,
                legend=alt.Legend(title="CNA", gradientLength=120, tickCount=5),
            ),
        )
    )
    # Twice, since the background shows through the antialiased edges between cells.
    return [surface, surface]


def _draw_paths(checkpoints: pl.DataFrame, result: LandscapeResult, scale: alt.Scale) -> list[Any]:
    """Draw each run as a line with a mark per checkpoint, and number its first and last step."""
    frame = checkpoints.select(
        pl.col("run").map_elements(printable, pl.String).fill_null(""),
        "step",
        pl.col("id").map_elements(printable, pl.String),
        "x",
        "y",
        "captured",
        "cna",
    )
    runs = frame["run"].unique(maintain_order=True).to_list()
    if len(runs) > len(SHAPES):
        raise UsageError(
            f"there are {len(runs)} runs, but a reader can distinguish only {len(SHAPES)} marks: "
            "make a landscape of fewer runs."
        )
    first = frame.filter(pl.col("step") == pl.col("step").min().over("run"))
    last = frame.filter(pl.col("step") == pl.col("step").max().over("run"))
    base = alt.Chart(frame).encode(x="x:Q", y="y:Q", detail="run:N", order=alt.Order("step:Q"))
    marked = base.encode(
        shape=alt.Shape(
            "run:N",
            sort=None,
            scale=alt.Scale(domain=runs, range=list(SHAPES[: len(runs)])),
            legend=None
            if len(runs) == 1
            else alt.Legend(title=safe_title(result.by or "run"), symbolFillColor="white"),
        ),
        fill=alt.condition(
            "isValid(datum.cna)",
            alt.Fill("cna:Q", scale=scale, legend=None),
            alt.value("white"),
        ),
        tooltip=["run:N", "id:N", "step:Q", "cna:Q", "captured:Q"],
    )
    return [
        line(base, 3, color="white", opacity=0.8),
        line(base, 1.2, color="black"),
        points(marked, 60, stroke="black", strokeWidth=1.2),
        *_draw_steps(first, dx=-8, dy=9, align="right"),
        *_draw_steps(last, dx=8, dy=-8, align="left"),
    ]


def _draw_steps(ends: pl.DataFrame, **place: Any) -> list[Any]:
    """Write steps beside their marks, in black with a white outline."""
    text = alt.Chart(ends).encode(x="x:Q", y="y:Q", text=alt.Text("step:Q", format="~"))
    return [
        text.mark_text(
            stroke="white", strokeWidth=3, strokeJoin="round", color="white", fontSize=10.5, **place
        ),
        text.mark_text(color="black", fontSize=10.5, **place),
    ]
