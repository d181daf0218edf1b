"""What a chart's specification holds."""

from __future__ import annotations

from typing import Any


def rows(chart: dict[str, Any], *columns: str) -> list[list[dict[str, Any]]]:
    """Give the data of each view, in the chart's order, that has all these columns."""
    found = []
    for view in _views(chart):
        name = view.get("data", {}).get("name")
        data = chart["datasets"].get(name)
        if data and set(columns) <= set(data[0]):
            found.append(data)
    return found


def texts(chart: dict[str, Any]) -> list[str]:
    """Give every title, with what stands below it."""
    titles = [view["title"] for view in _views(chart) if isinstance(view.get("title"), dict)]
    return [" ".join([title["text"], *title.get("subtitle", [])]) for title in titles]


def captions(chart: dict[str, Any]) -> str:
    """Give the text below the chart's own title."""
    return " ".join(chart["title"]["subtitle"]).replace("\xa0", " ")


def _views(view: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [one for key in ("layer", "concat", "hconcat", "vconcat") for one in view.get(key, [])]
    return [view, *(found for one in inner for found in _views(one))]
