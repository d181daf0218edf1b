"""How every figure looks: sizes for a paper's column, colours, title and caption."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from cnatool._util.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import altair as alt

    Chart: TypeAlias = (
        alt.Chart | alt.LayerChart | alt.ConcatChart | alt.HConcatChart | alt.VConcatChart
    )
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.metrics.convention import Convention, Gap

# Okabe and Ito's, which people of any colour vision can tell apart, from dark to light.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
# Not by colour alone.
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
# Cividis from dark to light, without its palest end, which white paper swallows.
_RAMP = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#e8d24a")
INK, FAINT, ACCENT = "#222222", "#b8b8b8", "#D55E00"

_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_TITLE, _TEXT = 13, 10.5
# Mean width of a character of the caption, in pixels.
_CHARACTER = 4.85
Resolved: TypeAlias = Literal["shared", "independent"]
_INDEPENDENT: dict[str, Resolved] = {"x": "independent", "y": "independent"}
_LONGEST = 48  # characters of a panel's title
_BESIDE = 60  # axis, its labels and the space between two panels

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


def finished(chart: Chart, title: str, caption: Iterable[str], *, width: float) -> Chart:
    """Give a chart its title, its caption and the look of all figures.

    Parameters
    ----------
    chart : altair chart
    title : str
    caption : iterable of str
        What a reader must know beside the picture, a part each; empty ones are left out.
    width : float
        Of all panels with what is between them, in pixels, for the caption's lines.
    """
    import altair as alt

    # A difference is not broken in two.
    text = "; ".join(printable(part) for part in caption if part).replace(" − ", "\xa0−\xa0")
    lines = textwrap.wrap(text, max(30, int(width / _CHARACTER)), break_on_hyphens=False)
    whole: Chart = chart.properties(title=alt.Title(title, subtitle=lines)).configure(**CONFIG)
    return whole


def panel_title(text: str, *lines: str) -> alt.Title:
    """Give the title of one panel of several."""
    import altair as alt

    below = [printable(line) for line in lines if line]
    return alt.Title(
        _shortened(printable(text)),
        subtitle=below or alt.Undefined,
        fontSize=11.5,
        offset=6,
        anchor="start",
    )


def _shortened(text: str) -> str:
    """Leave out the middle of what is longer than a panel is wide."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def ramp(count: int) -> list[str]:
    """Give so many colours from dark to light, for what has an order."""
    last = len(_RAMP) - 1
    return [_RAMP[round(i * last / max(1, count - 1))] for i in range(count)]


def concat_panels(panels: Sequence[Any], columns: int, **resolve: Resolved) -> Chart:
    """Put panels into rows of so many columns.

    Parameters
    ----------
    panels : sequence of altair chart
    columns : int
    **resolve
        Of scales: ``x="shared"``.
    """
    import altair as alt

    many: Chart = alt.concat(*panels, columns=columns).resolve_scale(**{**_INDEPENDENT, **resolve})
    return many


def safe_title(name: object) -> str:
    """Make a name from a file fit to be the title of an axis or a legend.

    Vega-Lite writes these into expressions, for screen readers, and escapes quotes there, but no
    backslashes, so that these two together would end the text and begin what is computed.
    """
    return printable(name).replace("\\", "/")


def free_scale(**more: Any) -> alt.Scale:
    """Give a scale that fits its data, with room for the marks at both ends."""
    import altair as alt

    return alt.Scale(zero=False, nice=False, padding=8, **more)


def spread(columns: int, width: float, beside: float = _BESIDE) -> float:
    """Give the pixels that so many panels side by side take."""
    return columns * width + (columns - 1) * beside


def number_text(value: float | None, digits: int = 3) -> str:
    """Write a number to so many digits with a true minus; – where there is none."""
    if value is None:
        return "–"
    if value and not 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits - 1}e}"
    else:
        places = digits if not value else digits - 1 - math.floor(math.log10(abs(value)))
        text = f"{value:,.{max(0, min(places, digits))}f}"
    return text.replace("-", "−")


def interval_text(interval: tuple[float, float] | None) -> str:
    """Write an interval behind its number; nothing where there is none."""
    if interval is None:
        return ""
    return f" [{number_text(interval[0])}, {number_text(interval[1])}]"


def coefficient_text(value: float | None, interval: tuple[float, float] | None = None) -> str:
    """Write a coefficient between −1 and 1 with its interval, where it has one."""
    if value is None:
        return "–"
    text = f"{value:.2f}"
    if interval is not None:
        text += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return text.replace("-0.00", "0.00").replace("-", "−")


def make_unique(labels: Iterable[str]) -> list[str]:
    """Give labels that a legend can tell apart: of equal ones, the second on has a number."""
    seen: Counter[str] = Counter()
    told = []
    for label in labels:
        seen[label] += 1
        told.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return told


def level_text(level: float) -> str:
    """Name an interval by its level."""
    return f"{100 * level:g} % interval"


_SEED = 0


def sample_rows(count: int, most: int) -> NDArray[np.intp]:
    """Draw `most` of `count` rows by lot, the same ones each time; all where there are no more."""
    if count <= most:
        return np.arange(count)
    drawn = np.random.default_rng(_SEED).choice(count, most, replace=False, shuffle=False)
    return np.sort(drawn)


def thin_curve(count: int, most: int) -> NDArray[np.intp]:
    """Give places of a curve's points, evenly spread from its first to its last.

    Returns
    -------
    (min(count, most),) array of int
    """
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.intp)


COEFFICIENT_NAMES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
    "kendall_a": "Kendall's τ-a",
    "kendall_b": "Kendall's τ-b",
}
_WHOLE: Mapping[str, str] = {
    "cna_area": "CNA-A",
    "cna_margin": "CNA-M",
    "margin": "margin γ",
    "gap": "generalisation gap",
    "gap_accuracy": "gap of accuracy",
    "gap_loss": "gap of loss (nats)",
    "log.l2": "ln L2",
    "log.spectral": "ln spectral norm",
    "log.l2_path": "ln L2-path",
    "log.bound_2018": "ln 2018 bound",
    "log.bound_2018_from_zero": "ln 2018 bound from 0",
    "log.parameter_norm": "ln parameter norm",
    "log.l1": "ln L1 norm",
    "log.distance": "ln distance from start",
    "log.parameters": "ln parameters",
    "log.depth": "ln depth",
}
_OF_SPLIT: Mapping[str, str] = {
    "cna": "CNA",
    "alpha.mean": "mean α",
    "alpha.std": "deviation of α",
    "beta.mean": "mean β",
    "beta.std": "deviation of β",
    "accuracy": "accuracy",
    "loss": "loss in nats",
}
_FORMS = ("pearson", "spearman", "kendall", "smoothed", "minibatches")
_GAPS: Mapping[Gap, str] = {
    "accuracy": "gap = accuracy(train) − accuracy(test)",
    "loss": "gap = |loss(train) − loss(test)| in nats",
}


def measure_name(column: str) -> str:
    """Name a column for people; one that is from elsewhere keeps its own name."""
    if column in _WHOLE:
        return _WHOLE[column]
    split, _, rest = column.partition(".")
    if rest in _OF_SPLIT:
        return f"{_OF_SPLIT[rest]} ({safe_title(split)})"
    if rest.removeprefix("cna.") in _FORMS and rest.startswith("cna."):
        return f"{rest.removeprefix('cna.')} CNA ({safe_title(split)})"
    return safe_title(column)


def gap_title(convention: Convention | None) -> str:
    """Name the gap, in the form of the convention where that is known."""
    return "" if convention is None else _GAPS[convention.fields.gap]


def is_share(column: str, convention: Convention | None) -> bool:
    """Say whether a column is a share, read in per cent."""
    if column == "gap":
        return convention is not None and convention.fields.gap == "accuracy"
    return column.endswith(".accuracy") or column == "gap_accuracy"
