"""An observer that keeps what it hears."""

from __future__ import annotations


class Notes:
    """Keeps notes and progress; interrupts once a stage (any, if none is named) is so far."""

    def __init__(self, stage: str = "", at: int | None = None) -> None:
        self.texts: list[str] = []
        self.done: list[tuple[str, int, int]] = []
        self._stage, self._at = stage, at

    def note(self, text: str) -> None:
        """Keep a note."""
        self.texts.append(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        """Keep what is done."""
        assert done <= rows
        self.done.append((split, done, rows))
        if self._at is not None and self._stage in ("", split) and done >= self._at:
            raise KeyboardInterrupt
