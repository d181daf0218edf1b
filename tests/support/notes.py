"""An observer that keeps what a command says."""

from __future__ import annotations


class Notes:
    """Keeps the notes, and lets progress pass."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.said.append(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        """Do nothing."""
