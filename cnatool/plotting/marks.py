"""The parts of figures: axes, categories, marks, panels and the whole page."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import altair as alt

from cnatool._util.text import printable
from cnatool.plotting.style import CHARACTER, COLOURS, CONFIG, SHAPES, shorten_title

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart

_SPACING = 60  # pixels of the axis, its labels and the space between two panels
PERCENT = {"format": "~%"}


def free_scale(values: Iterable[float] = ()) -> alt.Scale:
    """Make a scale that fits its data, or given values, with room for the marks at both ends."""
    known = list(values)
    domain = [min(known), max(known)] if known else alt.Undefined
    return alt.Scale(domain=domain, zero=False, nice=False, padding=8)


def x_axis(field: str, title: str | None, scale: alt.Scale | None = None, **axis: Any) -> alt.X:
    """Encode a number by its place along x; by default on a scale that fits the data."""
    return alt.X(f"{field}:Q", title=title, scale=scale or free_scale(), **_axis(axis))


def y_axis(field: str, title: str | None, scale: alt.Scale | None = None, **axis: Any) -> alt.Y:
    """Encode a number by its place along y; by default on a scale that fits the data."""
    return alt.Y(f"{field}:Q", title=title, scale=scale or free_scale(), **_axis(axis))


def _axis(options: dict[str, Any]) -> dict[str, Any]:
    return {"axis": alt.Axis(**options)} if options else {}


class Category(NamedTuple):
    """The encodings of a category, by colour and by shape, for readers who see no colours."""

    color: alt.Color
    shape: alt.Shape


def categorise(
    field: str,
    values: Sequence[str],
    *,
    colours: Sequence[str] = COLOURS,
    shapes: Sequence[str] = SHAPES,
    **legend: Any,
) -> Category:
    """Encode a category by colour and shape, in one legend; both repeat after the last one."""

    def options(marks: Sequence[str]) -> dict[str, Any]:
        chosen = [marks[i % len(marks)] for i in range(len(values))]
        return {
            "sort": None,
            "scale": alt.Scale(domain=list(values), range=chosen),
            "legend": alt.Legend(**legend),
        }

    return Category(
        alt.Color(f"{field}:N", **options(colours)), alt.Shape(f"{field}:N", **options(shapes))
    )


def points(chart: alt.Chart, size: float, *, opacity: float = 1, **mark: Any) -> alt.Chart:
    """Draw filled points."""
    marked: alt.Chart = chart.mark_point(filled=True, size=size, opacity=opacity, **mark)
    return marked


def line(chart: alt.Chart, width: float, **mark: Any) -> alt.Chart:
    """Draw a line through the points, in the order of x unless the chart encodes an order."""
    marked: alt.Chart = chart.mark_line(strokeWidth=width, **mark)
    return marked


def curve(chart: alt.Chart, width: float, **mark: Any) -> alt.Chart:
    """Draw a line in the order of the field ``place``, clipped to the panel."""
    return line(chart, width, clip=True, **mark).encode(order=alt.Order("place:Q"))


def interval(
    chart: alt.Chart, low: str, high: str, scale: alt.Scale, width: float = 1.6
) -> alt.Chart:
    """Draw a bar along x between two fields."""
    marked: alt.Chart = chart.mark_rule(strokeWidth=width, opacity=0.8)
    return marked.encode(x=alt.X(f"{low}:Q", scale=scale), x2=f"{high}:Q")


def rule(at: str, frame: Any, scale: alt.Scale) -> alt.Chart:
    """Draw a grey line across the panel at a value of x."""
    marked: alt.Chart = alt.Chart(frame).mark_rule(color="#888888", strokeWidth=1)
    return marked.encode(x=alt.X(f"{at}:Q", scale=scale))


def panel(
    *layers: Any,
    options: Options,
    title: alt.Title | None = None,
    height: float | None = None,
) -> Any:
    """Put layers into one panel of the size that the options have."""
    drawn = layers[0] if len(layers) == 1 else alt.layer(*layers)
    drawn = drawn.properties(width=options.width, height=height or options.height)
    return drawn if title is None else drawn.properties(title=title)


def panel_title(text: str, *lines: str) -> alt.Title:
    """Make the title of one panel of several; empty lines are left out."""
    below = [printable(line) for line in lines if line]
    return alt.Title(
        shorten_title(printable(text)),
        subtitle=below or alt.Undefined,
        fontSize=11.5,
        offset=6,
        anchor="start",
    )


def concat_panels(panels: Sequence[Any], columns: int, **resolve: Any) -> Chart:
    """Arrange panels in rows of so many columns; `resolve` is of scales, as in ``x="shared"``."""
    chart: Chart = alt.concat(*panels, columns=columns).resolve_scale(
        **{"x": "independent", "y": "independent", **resolve}
    )
    return chart


def page(
    panels: Sequence[Any],
    columns: int,
    title: str,
    caption: Iterable[str],
    options: Options,
    *,
    spacing: float = _SPACING,
    **resolve: Any,
) -> Chart:
    """Arrange panels in rows, with a title and a caption above them.

    `spacing` is the space between two panels in pixels, and `resolve` that of `concat_panels`.
    """
    columns = min(columns, len(panels))
    chart = concat_panels(panels, columns, **resolve)
    return finish(chart, title, caption, width=panels_width(columns, options, spacing))


def panels_width(columns: int, options: Options, spacing: float = _SPACING) -> float:
    """Return the width of so many panels with what is between them, in pixels."""
    return columns * options.width + (columns - 1) * spacing


def finish(chart: Chart, title: str, caption: Iterable[str], *, width: float) -> Chart:
    """Add the title and the caption, whose empty parts are left out, and the look of all figures.

    The caption is wrapped at `width` pixels.
    """
    # A difference is not broken into two lines.
    text = "; ".join(printable(part) for part in caption if part).replace(" − ", "\xa0−\xa0")
    lines = textwrap.wrap(text, max(30, int(width / CHARACTER)), break_on_hyphens=False)
    whole: Chart = chart.properties(title=alt.Title(title, subtitle=lines)).configure(**CONFIG)
    return whole
