"""Progress and notes of long computations."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_THREAD = threading.local()


class Observer(Protocol):
    """Receives notes on what a dump or a conversion decides, and progress."""

    def note(self, text: str) -> None:
        """Receive a note for the user."""

    def progress(self, split: str, done: int, rows: int) -> None:
        """Receive how many of a split's samples are done."""


class Silent:
    """Observer that ignores everything."""

    def note(self, text: str) -> None:
        """Ignore a note."""

    def progress(self, split: str, done: int, rows: int) -> None:
        """Ignore progress."""


@contextmanager
def working_on(name: str) -> Iterator[None]:
    """Name what this thread works on, for warnings that a library raises meanwhile."""
    _THREAD.subject = name
    try:
        yield
    finally:
        _THREAD.subject = None


def current_subject() -> str | None:
    """Return what this thread works on, if `working_on` names it."""
    return getattr(_THREAD, "subject", None)


class Progress(Protocol):
    """Receives the progress of a computation."""

    def __call__(self, done: int, whole: int) -> None:
        """Receive how many of all parts are done."""


def ignore_progress(done: int, whole: int) -> None:
    """Ignore progress."""
