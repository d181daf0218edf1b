"""CNA over the plane of the checkpoints' activations, with the way of training (paper Fig. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import printable
from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_stores import convention_text
from cnatool.plotting.style import SHAPES, finished, safe_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    import altair as alt
    import polars

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.studying.landscape import Landscape
    from cnatool.studying.results import LandscapeResult

# Both axes have one unit, but a picture is not drawn flatter or taller than this.
_FLATTEST, _TALLEST = 0.6, 1.3


def landscape(sources: Sequence[Landscape], options: Options) -> Chart:
    """Draw CNA at each point of the grid, and the checkpoints on it in the order of training."""
    import altair as alt

    (found,) = sources
    result = found.result
    if not found.grid["cna"].count():
        raise DataError(
            "CNA is undefined at every point of the landscape: "
            f"{result.grid[0].cna.reason if result.grid else 'it has no points'}."
        )
    values = [*found.grid["cna"].drop_nulls(), *found.points["cna"].drop_nulls()]
    most = max(map(abs, values)) or 1.0
    scale = alt.Scale(scheme="purpleorange", domain=[-most, most], reverse=True)
    chart: Any = alt.layer(
        *_surface(found.grid, result, scale), *_ways(found.points, result, scale)
    ).properties(width=options.width, height=options.height or _height(found.grid, options.width))
    what = "checkpoint" if result.order is None else printable(result.order)
    undefined = found.grid["cna"].null_count()
    return finished(
        chart,
        "The CNA landscape",
        (
            convention_text(result.convention),
            f"split {printable(result.split)}, n = {result.samples:,} samples",
            f"principal components of {result.dimension:,} activations at {len(found.points)} "
            "checkpoints",
            "marks: CNA at the checkpoints themselves, in the same colours",
            f"numbers: first and last {what}",
            f"blank: CNA undefined ({undefined} points)" if undefined else "",
        ),
        width=options.width,
    )


def _height(grid: polars.DataFrame, width: float) -> float:
    x, y = grid["x"].to_numpy(), grid["y"].to_numpy()
    ratio = float(np.ptp(y) / np.ptp(x)) if np.ptp(x) else 1.0
    return round(width * min(max(ratio, _FLATTEST), _TALLEST))


def _axis(
    which: str, result: LandscapeResult, place: int, edges: tuple[float, float]
) -> dict[str, Any]:
    import altair as alt

    return {
        "title": f"{which} component ({result.variance_shares[place]:.0%} of variance)",
        "scale": alt.Scale(domain=list(edges), nice=False, zero=False),
        "axis": alt.Axis(grid=False, tickCount=5, format="~s"),
    }


def _surface(grid: polars.DataFrame, result: LandscapeResult, scale: alt.Scale) -> list[Any]:
    """Draw the grid as cells around its points."""
    import altair as alt
    import polars as pl

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
    edges = {
        name: (float(cells[name].to_numpy().min()), float(cells[f"{name}2"].to_numpy().max()))
        for name in ("x", "y")
    }
    surface = (
        alt.Chart(cells)
        .mark_rect(clip=True)
        .encode(
            x=alt.X("x:Q", **_axis("first", result, 0, edges["x"])),
            x2="x2:Q",
            y=alt.Y("y:Q", **_axis("second", result, 1, edges["y"])),
            y2="y2:Q",
            color=alt.Color(
                "cna:Q",
                scale=scale,
                legend=alt.Legend(title="CNA", gradientLength=120, tickCount=5),
            ),
        )
    )
    # Twice, since paper shines through the smoothed edges between cells.
    return [surface, surface]


def _ways(points: polars.DataFrame, result: LandscapeResult, scale: alt.Scale) -> list[Any]:
    """Draw each run's way: a line, a mark a checkpoint, and the first and last step's number."""
    import altair as alt
    import polars as pl

    frame = points.select(
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
            f"there are {len(runs)} runs, and a reader can tell {len(SHAPES)} marks apart: make "
            "the landscape of fewer."
        )
    first = frame.filter(pl.col("step") == pl.col("step").min().over("run"))
    last = frame.filter(pl.col("step") == pl.col("step").max().over("run"))
    base = alt.Chart(frame).encode(x="x:Q", y="y:Q", detail="run:N", order=alt.Order("step:Q"))
    shape = alt.Shape(
        "run:N",
        sort=None,
        scale=alt.Scale(domain=runs, range=list(SHAPES[: len(runs)])),
        legend=None
        if len(runs) == 1
        else alt.Legend(title=safe_title(result.by or "run"), symbolFillColor="white"),
    )
    marks = base.mark_point(
        filled=True, stroke="black", strokeWidth=1.2, size=60, opacity=1
    ).encode(
        shape=shape,
        fill=alt.condition(
            "isValid(datum.cna)",
            alt.Fill("cna:Q", scale=scale, legend=None),
            alt.value("white"),
        ),
        tooltip=["run:N", "id:N", "step:Q", "cna:Q", "captured:Q"],
    )
    return [
        base.mark_line(color="white", strokeWidth=3, opacity=0.8),
        base.mark_line(color="black", strokeWidth=1.2),
        marks,
        *_texts(first, dx=-8, dy=9, align="right"),
        *_texts(last, dx=8, dy=-8, align="left"),
    ]


def _texts(ends: polars.DataFrame, **place: Any) -> list[Any]:
    """Write steps beside their marks, in black on a white edge."""
    import altair as alt

    text = alt.Chart(ends).encode(x="x:Q", y="y:Q", text=alt.Text("step:Q", format="~"))
    return [
        text.mark_text(
            stroke="white", strokeWidth=3, strokeJoin="round", color="white", fontSize=10.5, **place
        ),
        text.mark_text(color="black", fontSize=10.5, **place),
    ]
