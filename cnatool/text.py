"""Text for people: names from files made fit to print, sizes with their units."""

from __future__ import annotations

__all__ = ["bytes_text", "one_line", "printable"]


def printable(name: object) -> str:
    """Show a name from a file: as it is, or quoted and escaped if it holds control characters."""
    text = str(name)
    return text if text.isprintable() else repr(text)


def bytes_text(size: float) -> str:
    """Write a number of bytes with its unit, to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def one_line(error: Exception) -> str:
    """Give an exception's text in one short line, or its kind where it has none."""
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
