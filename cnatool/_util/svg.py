"""Small charts as SVG in a line or two of a notebook; the same numbers give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.html import COLOURS, LINE, Markup, markup
from cnatool._util.text import number_text, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Points = Sequence[tuple[float, float]]

_TEXT = 'font-size="10" fill="currentColor"'
# Of a chart in a cell, and of one that stands alone.
_SMALL = 110, 14
_WIDTH, _HEIGHT = 300, 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 28
# Points of a series that are drawn, evenly spread over it.
_MOST_POINTS = 300
# Characters of a name in a legend.
_LEGEND = 12


def interval(
    value: float | None, bounds: tuple[float, float] | None, low: float = -1, high: float = 1
) -> Markup:
    """Draw a value and its interval on an axis from ``low`` to ``high``, with a mark at 0."""
    width, height = _SMALL
    if value is None:
        return Markup("")

    def x(number: float) -> str:
        share = (min(max(number, low), high) - low) / ((high - low) or 1)
        return f"{4 + (width - 8) * share:.1f}"

    middle = height / 2
    marks = [_line(x(low), middle, x(high), middle)]
    if low <= 0 <= high:
        marks.append(_line(x(0), 1, x(0), height - 1))
    if bounds is not None:
        first, last = map(x, bounds)
        marks.append(_line(first, middle, last, middle, COLOURS[0], 6, opacity=0.45))
    marks.append(f'<circle cx="{x(value)}" cy="{middle}" r="2.5" fill="{COLOURS[0]}"/>')
    return _svg(width, height, marks, number_text(value))


def bar(value: float | None, largest: float, *, signed: bool = False) -> Markup:
    """Draw a bar for a value from the left or, if it is signed, from the middle to either side."""
    width, height = _SMALL
    if value is None or largest <= 0:
        return Markup("")
    zero = width / 2 if signed else 2
    length = min(1, abs(value) / largest) * (width - 2 - zero)
    start = zero if value >= 0 else zero - length
    colour = COLOURS[0] if value >= 0 else COLOURS[1]
    marks = [
        _line(zero, 0, zero, height),
        f'<rect x="{start:.1f}" y="3" width="{length:.1f}" height="{height - 6}" fill="{colour}"/>',
    ]
    return _svg(width, height, marks, number_text(value))


def lines(series: Mapping[str, Points], x_title: str, y_title: str) -> Markup:
    """Draw lines through points, one colour for each of the first series."""
    return _chart(series, x_title, y_title, joined=True)


def scatter(series: Mapping[str, Points], x_title: str, y_title: str) -> Markup:
    """Draw points, one colour for each of the first series; of many points, some."""
    return _chart(series, x_title, y_title, joined=False)


def _chart(series: Mapping[str, Points], x_title: str, y_title: str, *, joined: bool) -> Markup:
    drawable = {name: points for name, points in series.items() if points}
    shown = {name: _thin(drawable[name]) for name in list(drawable)[: len(COLOURS)]}
    caption = y_title
    if len(shown) < len(drawable):
        caption += f", the first {len(shown)} of {len(drawable)}"
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    if len(xs) < 2:
        return Markup("")
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    inner = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[str, str]:
        along = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return f"{_LEFT + inner[0] * along:.1f}", f"{_TOP + inner[1] * (1 - up):.1f}"

    bottom = _TOP + inner[1]
    marks = [
        _line(_LEFT, _TOP, _LEFT, bottom),
        _line(_LEFT, bottom, _WIDTH - _RIGHT, bottom),
        *(_label(_LEFT - 4, y, _short(v), "end") for y, v in ((_TOP + 4, high), (bottom, low))),
        _label(_LEFT, _HEIGHT - 16, _short(left), "start"),
        _label(_WIDTH - _RIGHT, _HEIGHT - 16, _short(right), "end"),
        _label((_LEFT + _WIDTH) / 2, _HEIGHT - 16, markup(x_title), "middle"),
    ]
    for points, colour in zip(shown.values(), COLOURS, strict=False):
        places = [place(x, y) for x, y in points]
        if joined:
            path = " ".join(",".join(each) for each in places)
            marks.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            )
        if not joined or len(places) <= 30:
            marks += [f'<circle cx="{x}" cy="{y}" r="2" fill="{colour}"/>' for x, y in places]
    if len(series) > 1:
        marks += _legend(list(shown))
    return Markup(
        f"<figure style='display:inline-block;margin:.3em 1em .3em 0'><figcaption>"
        f"{markup(caption)}</figcaption>{_svg(_WIDTH, _HEIGHT, marks, y_title)}</figure>"
    )


def _legend(names: Sequence[str]) -> Iterator[str]:
    """Draw the names of series in a row, each behind a dot of its colour."""
    at = float(_LEFT)
    for name, colour in zip(names, COLOURS, strict=False):
        short = shorten(name, _LEGEND)
        yield f'<circle cx="{at:.1f}" cy="{_HEIGHT - 6}" r="3" fill="{colour}"/>'
        yield _label(at + 6, _HEIGHT - 3, markup(short), "start")
        at += 16 + 5.5 * len(short)


def _thin(points: Points) -> Points:
    """Return points evenly spread over a series, its last one among them."""
    step = -(-len(points) // _MOST_POINTS)
    return points[::-step][::-1]


def _short(value: float) -> str:
    return f"{value:.12g}" if value == round(value, 0) and abs(value) < 1e6 else f"{value:z.3g}"


def _line(
    x1: object,
    y1: object,
    x2: object,
    y2: object,
    colour: str = LINE,
    width: float = 1,
    *,
    opacity: float = 1,
) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" '
        f'stroke-width="{width}" opacity="{opacity}"/>'
    )


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_TEXT}>{text}</text>'


def _svg(width: int, height: int, marks: Sequence[str], title: str) -> Markup:
    return Markup(
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{markup(title)}">{"".join(marks)}</svg>'
    )
