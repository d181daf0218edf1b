"""Charts have their marks where the numbers are."""

from __future__ import annotations

import re

import pytest
from support.markup import EVIL, Page

from cnatool._util import svg


def circles(text: str) -> list[tuple[float, float]]:
    """Positions of the points, without those of the legend."""
    found = re.findall(r'<circle cx="([\d.-]+)" cy="([\d.-]+)" r="(?:2|2.5)"', text)
    return [(float(x), float(y)) for x, y in found]


@pytest.mark.parametrize(("value", "place"), [(-1, 4), (0, 55), (1, 106), (0.5, 80.5), (9, 106)])
def test_a_value_on_an_axis(value: float, place: float) -> None:
    assert circles(svg.interval(value, None)) == [(place, 7)]
    (bounds,) = re.findall(
        r'x1="([\d.]+)"[^>]*x2="([\d.]+)"[^>]*stroke-width="6"', svg.interval(0, (-1, 0.5))
    )
    assert bounds == ("4.0", "80.5")


def test_bars() -> None:
    def length(text: str) -> tuple[float, float]:
        ((x, width),) = re.findall(r'<rect x="([\d.]+)" y="3" width="([\d.]+)"', text)
        return float(x), float(width)

    assert length(svg.bar(5, 10)) == (2, 53)
    assert length(svg.bar(5, 10, signed=True)) == (55, 26.5)
    assert length(svg.bar(-10, 10, signed=True)) == (2, 53)
    assert svg.bar(None, 10) == svg.bar(1, 0) == svg.interval(None, None) == ""


def test_points() -> None:
    chart = svg.scatter({"a": [(0, 0), (10, 1)], "b": [(5, 0.5)]}, "x", "y")
    assert circles(chart) == [(46, 92), (292, 8), (169, 50)]
    assert svg.scatter({"a": [(1, 1)]}, "x", "y") == svg.lines({}, "x", "y") == ""
    flat = circles(svg.lines({"a": [(3, 3), (3, 3)]}, "x", "y"))
    assert flat == [(169, 50), (169, 50)]
    many = svg.scatter({"a": [(i, i % 7) for i in range(100_000)]}, "x", "y")
    assert len(circles(many)) <= 300
    assert len(many) < 20_000
    # Axes and points reach the end of a series.
    assert circles(many)[-1][0] == 292
    assert ">99999<" in many


def test_series_beyond_the_colours_are_counted() -> None:
    chart = svg.lines({str(k): [(0, k), (1, k)] for k in range(7)}, "x", "CNA")
    assert "CNA, the first 5 of 7<" in chart
    # The axis is that of the lines that are drawn.
    assert ">4<" in chart
    assert ">6<" not in chart


def test_names_are_text() -> None:
    page = Page(svg.lines({EVIL: [(0, 0), (1, 1)], "b": [(1, 2)]}, EVIL, EVIL))
    assert "script" not in page.tags
    assert page.text.count(EVIL) == 2
