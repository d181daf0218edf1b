"""What every command says beside its result: notes and progress, on standard error."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import typer

from cnatool._util.text import (
    escape,
    escape_json,
    format_message,
    printable,
    quote_for_shell,
    shorten,
)
from cnatool.cli.parameter_names import with_options
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from cnatool.store.store import Store

# The exit code of a check that failed, as in `cnatool verify`.
_INCOMPLETE = 1
# Seconds between two lines of progress where standard error is no terminal.
_LINE_EVERY = 10.0
# Characters of a split's name beside its bar.
_LONGEST_NAME = 40
# Most lines of one list on a terminal, and most parts that each have tables.
_MOST_LINES = 200
_MOST_PARTS = 50
# How to see what is left out on a terminal.
ALL = "--json prints all, and so does a pipe"
_Part = TypeVar("_Part")
# Seconds that a command which is mostly quick says nothing of its progress.
PATIENCE = 3.0


def say(text: str) -> None:
    """Print a line to standard output, with the empty lines that ``text`` has around it.

    Hidden characters are escaped, line feeds within the text among them.
    """
    typer.echo(_lines(text))


def _lines(text: str) -> str:
    inner = text.strip("\n")
    before = len(text) - len(text.lstrip("\n")) if inner else len(text)
    after = len(text) - len(inner) - before
    return "\n" * before + format_message(inner) + "\n" * after


def say_each(lines: Iterable[str]) -> None:
    """Print lines to standard output; on a terminal, of very many only the first."""
    for line in shown_of(list(lines), "lines", most=_MOST_LINES):
        say(line)


def shown_of(parts: Sequence[_Part], what: str, *, most: int = _MOST_PARTS) -> Iterator[_Part]:
    """Yield the parts to print; on a terminal only the first, then print how many are left out."""
    shown = parts[:most] if sys.stdout.isatty() else parts
    yield from shown
    if len(shown) < len(parts):
        say(f"{len(parts) - len(shown):,} more {what} are not shown: {ALL}")


def note_next(store: Store) -> None:
    """Say which command scores a store; without linear operators, every tensor is a layer."""
    every = "" if store.layers else " --set layers=all"
    note(f"next: cnatool score {quote_for_shell(store.path)}{every}")


def say_notes(notes: Sequence[str]) -> None:
    """Print the notes of a result below an empty line."""
    if notes:
        say("")
    for text in notes:
        say(f"note: {with_options(text)}")


def say_reasons(heading: str, reasons: Iterable[str]) -> None:
    """Print why something is undefined, a line each below a heading; nothing without reasons."""
    lines = [f"  {with_options(reason)}" for reason in reasons]
    if lines:
        say(f"\n{heading}:")
        say_each(lines)


def note(text: str) -> None:
    """Print a line to standard error, with parameters as options.

    Hidden characters are escaped; a line that cannot be written is dropped.
    """
    _print_error_line(with_options(text))


def note_lines(text: str) -> None:
    """Print lines to standard error as they are, with hidden characters escaped."""
    for line in text.rstrip("\n").expandtabs(4).split("\n"):
        _print_error_line(line)


def _print_error_line(text: str) -> None:
    with suppress(OSError):
        typer.echo(_lines(text), err=True)


def exit_incomplete(left_out: Sequence[object]) -> None:
    """End the command with exit code 1 if stores were left out, and note how many."""
    if left_out:
        stores = "store" if len(left_out) == 1 else "stores"
        note(f"{len(left_out)} {stores} could not be used")
        raise typer.Exit(_INCOMPLETE)


def print_json(text: str) -> None:
    """Print a JSON document, with parameters in its notes and reasons as options.

    What standard output cannot encode is escaped.
    """
    if "`" in text:
        import msgspec

        document = msgspec.json.encode(_explained(msgspec.json.decode(text)))
        text = escape_json(msgspec.json.format(document, indent=2).decode()) + "\n"
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        import json

        # The same value in any encoding.
        text = re.sub("[^\0-\x7f]+", lambda found: json.dumps(found[0])[1:-1], text)
    typer.echo(text, nl=False)


def _explained(value: Any, key: str = "") -> Any:
    """Write parameters as options in the texts of a JSON document that explain something."""
    if isinstance(value, dict):
        return {name: _explained(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_explained(item, key) for item in value]
    if isinstance(value, str) and key.endswith(("notes", "reason", "ways", "differences")):
        return with_options(value)
    return value


def print_path(path: Path) -> None:
    """Print a path to standard output: to a program byte by byte as the file system has it.

    On a terminal, hidden characters of its name are escaped, as `ls` does.
    """
    typer.echo(escape(str(path)) if sys.stdout.isatty() else os.fsencode(path))


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
                TextColumn("{task.description}", markup=False),
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
        text = with_options(text)
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
                name = shorten(printable(split), _LONGEST_NAME)
                self._tasks[split] = self._bar.add_task(name, total=rows, rate=rate)
            self._bar.update(self._tasks[split], completed=done, rate=rate)
        elif done == rows or now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            note(f"{split}: {done} of {rows}" + (f", {rate}" if rate else ""))
