"""What every command says beside its result: notes and progress, on standard error."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import typer

from cnatool.errors import UsageError
from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from cnatool.store.reader import Store

__all__ = [
    "PATIENCE",
    "ConsoleObserver",
    "exit_incomplete",
    "key_values",
    "note",
    "note_next",
    "print_json",
    "print_path",
    "say",
]

# As of `cnatool verify`: a check found a fault.
_INCOMPLETE = 1
# Seconds between two lines of progress where standard error is no terminal.
_LINE_EVERY = 10.0
# Seconds that a command which is mostly quick says nothing of its progress.
PATIENCE = 3.0


@contextmanager
def _to_output() -> Iterator[None]:
    """Name standard output where it cannot be written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def say(text: str) -> None:
    """Print a line to standard output; what names from files hold never reaches the terminal."""
    with _to_output():
        typer.echo("\n".join(map(printable, text.split("\n"))))


def note_next(store: Store) -> None:
    """Say which command scores a store; without linear operators, every tensor is a layer."""
    every = "" if store.layers else " --set layers=all"
    note(f"next: cnatool score {shlex.quote(str(store.path))}{every}")


def note(text: str) -> None:
    """Print a line to standard error, as `say` does; where it cannot be printed, go on without."""
    with suppress(OSError):
        typer.echo("\n".join(map(printable, text.split("\n"))), err=True)


def exit_incomplete(left_out: Sequence[object]) -> None:
    """End the command with exit code 1 if stores were left out, and note how many."""
    if left_out:
        note(f"{len(left_out)} of the stores could not be used")
        raise typer.Exit(_INCOMPLETE)


def print_json(text: str) -> None:
    """Print a JSON document, with escapes for what standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        import json

        # Of the same meaning in any encoding.
        text = "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)
    with _to_output():
        typer.echo(text, nl=False)


def print_path(path: Path) -> None:
    """Print a path to standard output, byte by byte as the file system has it."""
    with _to_output():
        typer.echo(os.fsencode(path))


def key_values(option: str, pairs: Sequence[str], form: str = "KEY=VALUE") -> dict[str, str]:
    """Read ``KEY=VALUE`` words; ``form`` is what the user knows them as.

    Raises
    ------
    UsageError
        If a word has no ``=``, or a key comes twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {pair}: write it as {form}.")
        if key in values:
            raise UsageError(f"{option} {key}: given twice.")
        values[key] = value
    return values


class ConsoleObserver:
    """Shows a dump's notes and progress: a bar on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    quiet : bool
        Say nothing.
    unit : str
        What is counted, as the rate names it; no rate where empty.
    patience : float
        Seconds after which progress is shown, of what is then under way.
    """

    def __init__(
        self, *, quiet: bool = False, unit: str = "samples", patience: float = 0.0
    ) -> None:
        self._from = time.monotonic() + patience
        self._quiet = quiet
        self._unit = unit
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        # When each split was begun, and with how many rows.
        self._started: dict[str, tuple[float, int]] = {}
        self._last_line = time.monotonic()
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Print a line, and keep it in ``notes``."""
        self.notes.append(text)
        if not self._quiet:
            note(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        """Move the bar, or print a line every ten seconds and at a split's end."""
        now = time.monotonic()
        if self._quiet or now < self._from:
            return
        since, there = self._started.setdefault(split, (now, done))
        timed = self._unit and done > there and now > since
        rate = f"{(done - there) / (now - since):,.0f} {self._unit}/s" if timed else ""
        if self._bar is not None:
            self._bar.start()
            if split not in self._tasks:
                self._tasks[split] = self._bar.add_task(split, total=rows, rate=rate)
            self._bar.update(self._tasks[split], completed=done, rate=rate)
        elif done == rows or now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            note(f"{split}: {done} of {rows}" + (f", {rate}" if rate else ""))
