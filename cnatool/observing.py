"""What long work tells whoever waits for it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Observer", "Silent"]


class Observer(Protocol):
    """Is told what a dump or a conversion decides, and how far it is."""

    def note(self, text: str) -> None:
        """Something was decided that the caller may want to know."""

    def progress(self, split: str, done: int, rows: int) -> None:
        """``done`` of ``rows`` samples of a split are through."""


class Silent:
    """Is told and says nothing."""

    def note(self, text: str) -> None:
        """Keep it."""

    def progress(self, split: str, done: int, rows: int) -> None:
        """Keep it."""
