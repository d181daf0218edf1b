"""How far a long computation is."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "unwatched"]


class Progress(Protocol):
    """Is told how far a computation is."""

    def __call__(self, done: int, whole: int) -> None:
        """``done`` of ``whole`` parts are through."""


def unwatched(done: int, whole: int) -> None:
    """Tell nobody."""
