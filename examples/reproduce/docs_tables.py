"""Tables in Markdown, and where they are inserted into docs/reproduction.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "reproduction.md"
# A number that there is not.
NONE = "–"
_MARKS = "<!-- {0}: begin -->", "<!-- {0}: end -->"

# Rows of cells, the first of which is the head.
Table = Sequence[Sequence[str]]


def format_table(table: Table, words: int = 1) -> str:
    """Write a table, whose first columns hold words and the others numbers."""
    head, *body = table
    aligned = ["---"] * words + ["---:"] * (len(head) - words)
    rows = [_escape(head), aligned, *map(_escape, body)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def format_number(value: float | None) -> str:
    """Write a number with two decimals, and no −0.00."""
    if value is None:
        return NONE
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def format_estimate(value: float | None, low: float | None, high: float | None) -> str:
    """Write a number with its interval."""
    if value is None or low is None or high is None:
        return format_number(value)
    return f"{format_number(value)} ({format_number(low)} … {format_number(high)})"


def insert(text: str, parts: Iterable[tuple[str, str]]) -> str:
    """Insert parts into a text, each between the marks with its name."""
    for name, part in parts:
        begin, end = (mark.format(name) for mark in _MARKS)
        if begin not in text or end not in text:
            raise SystemExit(f"{DOCS}: no marks {begin} and {end}.")
        new = f"{begin}\n\n{part.strip()}\n\n{end}"
        between = f"{re.escape(begin)}.*?{re.escape(end)}"
        text = re.sub(between, lambda _, new=new: new, text, flags=re.DOTALL)
    return text


def insert_into_docs(parts: Iterable[tuple[str, str]]) -> None:
    """Insert parts into docs/reproduction.md."""
    DOCS.write_text(insert(DOCS.read_text("utf-8"), parts), "utf-8")


def _escape(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", r"\|") for cell in cells]
