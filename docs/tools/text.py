"""Markdown of plain text."""

from __future__ import annotations

import re

_CODE = re.compile(r"(`[^`]*`)")
_PAGE = re.compile(r"docs/(\w+\.md)")
# What Markdown would read as markup; an underscore inside a word is none.
_SPECIAL = re.compile(r"([<*\[]|(?<!\w)_|_(?!\w))")


def escape(text: str) -> str:
    """Write plain text in Markdown, with code in backquotes as it stands."""
    parts = _CODE.split(text)
    return "".join(part if part.startswith("`") else _mark_up(part) for part in parts)


def _mark_up(text: str) -> str:
    """Escape markup, and link the pages of the documentation that a text names."""
    return _PAGE.sub(r"[\1](\1)", _SPECIAL.sub(r"\\\1", text))
