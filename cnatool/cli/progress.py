"""Displays of progress on standard error: a bar, lines, or events."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from cnatool._util.text import printable, shorten
from cnatool.cli import progress_mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import TaskID

# Seconds between two lines of progress, and between two events.
_LINE_SECONDS = 10.0
_EVENT_SECONDS = 0.1
# Characters of a task's name beside its bar.
_LONGEST_NAME = 40


class Display(Protocol):
    """Shows the progress of several tasks."""

    def show(self, task: str, done: int, total: int, rate: str) -> None:
        """Show how much of a task is done, and how fast."""

    def close(self) -> None:
        """Remove what is only shown meanwhile."""


def open_display(note: Callable[[str], None]) -> Display | None:
    """Return the display that ``--progress`` chooses, of which lines are notes; None for none."""
    mode = progress_mode.chosen()
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "lines"
    if mode == "lines":
        return _Lines(note)
    displays: dict[str, type[Display]] = {"bar": _Bar, "json": _Events}
    return displays[mode]() if mode in displays else None


class _Bar:
    """A bar for each task."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def show(self, task: str, done: int, total: int, rate: str) -> None:
        self._bar.start()
        if task not in self._tasks:
            name = shorten(printable(task), _LONGEST_NAME)
            self._tasks[task] = self._bar.add_task(name, total=total, rate=rate)
        self._bar.update(self._tasks[task], completed=done, rate=rate)

    def close(self) -> None:
        self._bar.stop()


class _Lines:
    """A line every ten seconds, and at the end of a task."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._last = time.monotonic()

    def show(self, task: str, done: int, total: int, rate: str) -> None:
        now = time.monotonic()
        if (done == total and total) or now - self._last >= _LINE_SECONDS:
            self._last = now
            self._note(f"{task}: {done:,} of {total:,}" + (f", {rate}" if rate else ""))

    def close(self) -> None:
        pass


class _Events:
    """An event ten times a second at most, and at the end of a task."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def show(self, task: str, done: int, total: int, rate: str) -> None:
        since = time.monotonic() - self._last.get(task, -_EVENT_SECONDS)
        if done == total or since >= _EVENT_SECONDS:
            from cnatool.cli.events import ProgressEvent, now, write

            self._last[task] = time.monotonic()
            write(ProgressEvent(time=now(), task=task, done=done, total=total))

    def close(self) -> None:
        pass
