"""HTML of objects as notebooks show them: a card with tables and small charts.

Colours are those of the notebook: text inherits its colour, lines are a grey that light and dark
pages show. Nothing is loaded, and no script runs.
"""

from __future__ import annotations

import html
from importlib import import_module
from typing import TYPE_CHECKING

from cnatool._util.text import count_text, number_text, printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

LINE = "rgba(128,128,128,.35)"
# Visible on white and on black: of the palette of Okabe and Ito, some lighter.
COLOURS = ("#3b8fd4", "#e0712c", "#1aa179", "#cc79a7", "#c9a227")
# Rows of a table, and characters of a cell.
_MOST_ROWS = 20
_LONGEST = 80
_STYLE = (
    ".cnatool{font-size:90%;line-height:1.4;overflow-x:auto}"
    ".cnatool table{border-collapse:collapse;margin:.4em 0;font-size:inherit}"
    f".cnatool th,.cnatool td{{padding:.15em .7em;border-bottom:1px solid {LINE};"
    "white-space:nowrap;color:inherit;vertical-align:middle}"
    ".cnatool thead th{font-weight:600}"
    ".cnatool tr,.cnatool thead{background:transparent!important}"
    ".cnatool .l{text-align:left!important}.cnatool .r{text-align:right!important}"
    ".cnatool .title{font-weight:600}.cnatool .line,.cnatool .more{opacity:.8}"
    ".cnatool .prose{white-space:normal}"
    ".cnatool ul{margin:.2em 0;padding-left:1.4em}"
    ".cnatool svg{vertical-align:middle}"
)


class Markup(str):
    """HTML that is finished; any other string is text, which is escaped."""

    __slots__ = ()


def markup(content: object) -> Markup:
    """Turn text into HTML, hidden characters as escapes; return finished HTML as it is."""
    if isinstance(content, Markup):
        return content
    return Markup(html.escape(shorten(printable(content), _LONGEST)))


def prose(text: str) -> Markup:
    """Turn a sentence into HTML that is never cut."""
    return Markup(f'<span class="prose">{html.escape(printable(text))}</span>')


def shown_by(module: str, function: str) -> Callable[[Any], str]:
    """Make the method with which notebooks show an object, by a function that is imported on use.

    So a class and the function that shows it need not import each other.
    """

    def show(self: Any) -> str:
        shown: str = getattr(import_module(module), function)(self)
        return shown

    return show


def card(title: str, lines: Sequence[str], *parts: Markup) -> str:
    """Build what a notebook shows: a title, lines of text, and tables or charts."""
    head = Markup(f'<div class="title">{markup(title)}</div>')
    texts = (f'<div class="line">{prose(line)}</div>' for line in lines if line)
    body = "".join([head, *texts, *parts])
    return f'<div class="cnatool"><style>{_STYLE}</style>{body}</div>'


def table(names: Sequence[str], sides: str, rows: Sequence[Sequence[object]]) -> Markup:
    """Build a table of the first rows; a line below says how many more there are.

    ``sides`` has a letter for each column: ``l`` for text and charts, ``r`` for numbers.
    """
    header = "".join(
        f'<th class="{side}">{markup(name)}</th>' for name, side in zip(names, sides, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(_cell(cell, side) for cell, side in zip(row, sides, strict=True))}</tr>"
        for row in rows[:_MOST_ROWS]
    )
    left = len(rows) - _MOST_ROWS
    more = f'<div class="more">… and {count_text(left, "more row")}</div>' if left > 0 else ""
    head = f"<thead><tr>{header}</tr></thead>"
    return Markup(f"<table>{head}<tbody>{body}</tbody></table>{more}")


def _cell(cell: object, side: str) -> str:
    return f'<td class="{side}">{markup(cell)}</td>'


def number(value: float | None, reason: str | None = None, digits: int = 4) -> Markup:
    """Write a number; a dash with the reason as its tooltip where there is none."""
    if value is None and reason is not None:
        return Markup(f'<span title="{html.escape(printable(reason))}">–</span>')
    return Markup(number_text(value, digits))


def details(summary: str, content: Markup) -> Markup:
    """Build a part that is folded until it is clicked."""
    return Markup(f"<details><summary>{markup(summary)}</summary>{content}</details>")


def notes(lines: Sequence[str]) -> Markup:
    """Build the folded notes of a result; nothing where there are none."""
    if not lines:
        return Markup("")
    items = "".join(f"<li>{prose(line)}</li>" for line in lines[:_MOST_ROWS])
    return details(count_text(len(lines), "note"), Markup(f"<ul>{items}</ul>"))
