"""Names from files, made fit to print."""

from __future__ import annotations

__all__ = ["printable"]


def printable(name: object) -> str:
    """Show a name from a file: as it is, or quoted and escaped if it holds control characters."""
    text = str(name)
    return text if text.isprintable() else repr(text)
