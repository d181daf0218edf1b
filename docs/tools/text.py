"""Markdown of plain text."""

from __future__ import annotations

import re

_CODE = re.compile(r"(`[^`]*`)")
# What Markdown would read as markup; an underscore inside a word is none.
_SPECIAL = re.compile(r"([<*\[]|(?<!\w)_|_(?!\w))")


def escape(text: str) -> str:
    """Escape what Markdown would read as markup, outside of code in backquotes."""
    parts = _CODE.split(text)
    return "".join(part if part.startswith("`") else _SPECIAL.sub(r"\\\1", part) for part in parts)
