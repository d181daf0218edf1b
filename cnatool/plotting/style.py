"""The look of all figures: colours, shapes, fonts, and how numbers and names are written."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnatool._util.text import printable
from cnatool.studying.titles import measure_title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import altair as alt
    from numpy.typing import NDArray

    from cnatool.metrics.convention import Convention, Gap

    Chart: TypeAlias = (
        alt.Chart | alt.LayerChart | alt.ConcatChart | alt.HConcatChart | alt.VConcatChart
    )

# The palette of Okabe and Ito, which people of any colour vision can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
# Cividis from dark to light, without its palest end, which is invisible on white paper.
_RAMP = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#e8d24a")
INK, FAINT, ACCENT = "#222222", "#b8b8b8", "#D55E00"

_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_TITLE, _TEXT = 13, 10.5
CHARACTER = 4.85  # mean width of a character of the caption, in pixels
_LONGEST = 48  # characters of a panel's title
_SEED = 0

CONFIG: dict[str, Any] = {
    "background": "white",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": _TEXT,
        "titleFontSize": _TEXT + 0.5,
        "titleFontWeight": "normal",
        "titleLimit": 320,
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": "#666666",
        "tickColor": "#666666",
        "gridColor": "#ebebeb",
        "tickSize": 4,
        "labelFlush": False,
    },
    "title": {
        "anchor": "start",
        "frame": "group",
        "fontSize": _TITLE,
        "subtitleFontSize": _TEXT,
        "subtitleColor": "#444444",
        "subtitleLineHeight": 14,
        "subtitlePadding": 4,
        "color": INK,
        "offset": 10,
    },
    "legend": {
        "labelFontSize": _TEXT,
        "titleFontSize": _TEXT,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "labelLimit": 220,
        "titleLimit": 300,
        "symbolOpacity": 1,
    },
    "concat": {"spacing": 18},
}


def shorten_title(text: str) -> str:
    """Replace the middle of a title that is wider than a panel by an ellipsis."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def ramp(count: int) -> list[str]:
    """Return so many colours from dark to light, for ordered categories."""
    last = len(_RAMP) - 1
    return [_RAMP[round(i * last / max(1, count - 1))] for i in range(count)]


def safe_title(name: object) -> str:
    """Make a name from a file safe as the title of an axis or a legend.

    Vega-Lite puts these into expressions for screen readers, and escapes quotes in them, but not
    backslashes: a backslash and a quote would end the text, and the rest would be evaluated.
    """
    return printable(name).replace("\\", "/")


def number_text(value: float | None, digits: int = 3) -> str:
    """Write a number to so many digits with a true minus sign; – where there is none."""
    if value is None:
        return "–"
    if value and not 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits - 1}e}"
    else:
        places = digits if not value else digits - 1 - math.floor(math.log10(abs(value)))
        text = f"{value:,.{max(0, min(places, digits))}f}"
    return text.replace("-", "−")


def interval_text(interval: tuple[float, float] | None) -> str:
    """Write an interval, to follow its number; nothing where there is none."""
    if interval is None:
        return ""
    return f" [{number_text(interval[0])}, {number_text(interval[1])}]"


def coefficient_text(value: float | None, interval: tuple[float, float] | None = None) -> str:
    """Write a coefficient between −1 and 1 with its interval, if it has one."""
    if value is None:
        return "–"
    text = f"{value:.2f}"
    if interval is not None:
        text += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return text.replace("-0.00", "0.00").replace("-", "−")


def level_text(level: float) -> str:
    """Name an interval by its level."""
    return f"{100 * level:g} % interval"


def make_unique(labels: Iterable[str]) -> list[str]:
    """Append numbers to equal labels from the second on, so that a legend can distinguish them."""
    seen: Counter[str] = Counter()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return unique


def sample_rows(count: int, most: int) -> NDArray[np.intp]:
    """Sample `most` of `count` rows at random, the same ones each time; all if they are fewer."""
    if count <= most:
        return np.arange(count)
    drawn = np.random.default_rng(_SEED).choice(count, most, replace=False, shuffle=False)
    return np.sort(drawn)


def thin_curve(count: int, most: int) -> NDArray[np.intp]:
    """Return at most `most` indices of a curve's points, evenly spread from first to last."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.intp)


COEFFICIENT_NAMES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
    "kendall_a": "Kendall's τ-a",
    "kendall_b": "Kendall's τ-b",
}
_GAPS: Mapping[Gap, str] = {
    "accuracy": "gap = accuracy(train) − accuracy(test)",
    "loss": "gap = |loss(train) − loss(test)| in nats",
}
# Other columns of the gap have the form that the convention names.
_GAP_COLUMNS: Mapping[str, Gap] = {"gap_accuracy": "accuracy", "gap_loss": "loss"}


def measure_name(column: str) -> str:
    """Name a column for readers; a column from elsewhere keeps its name."""
    return safe_title(measure_title(column))


def gap_title(convention: Convention | None, column: str = "gap") -> str:
    """Define a column of the gap; empty where a convention decides that is not known."""
    if column in _GAP_COLUMNS:
        return _GAPS[_GAP_COLUMNS[column]]
    return "" if convention is None else _GAPS[convention.fields.gap]
