"""What long work tells whoever waits for it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_THREAD = threading.local()


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


@contextmanager
def working_on(name: str) -> Iterator[None]:
    """Name what this thread works on, for warnings that a library raises meanwhile."""
    _THREAD.subject = name
    try:
        yield
    finally:
        _THREAD.subject = None


def current_subject() -> str | None:
    """Return what this thread works on, where that was named."""
    return getattr(_THREAD, "subject", None)


class Progress(Protocol):
    """Is told how far a computation is."""

    def __call__(self, done: int, whole: int) -> None:
        """``done`` of ``whole`` parts are through."""


def ignore_progress(done: int, whole: int) -> None:
    """Tell nobody."""
