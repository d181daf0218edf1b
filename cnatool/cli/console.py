"""Lines on standard output; notes and progress on standard error."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import typer

from cnatool._util.text import (
    count_text,
    escape,
    format_message,
    printable,
    quote_for_shell,
    shorten,
)
from cnatool.cli.parameter_names import with_options
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from cnatool._util.documents import Document
    from cnatool.store.store import Store
    from cnatool.studying.results import LandscapeResult, StudyResult, TrajectoryResult

# Exit code where stores are left out.
_INCOMPLETE = 1
# Seconds between two lines of progress where standard error is not a terminal.
_LINE_SECONDS = 10.0
# Characters of a split's name beside its bar.
_LONGEST_NAME = 40
# Most lines of one list on a terminal, and most parts with tables of their own.
_MOST_LINES = 200
_MOST_PARTS = 50
# How to see what a terminal does not show.
ALL = "--json or a pipe prints all"
_Part = TypeVar("_Part")
_Result = TypeVar("_Result", bound="Document")
_StudyResult = TypeVar("_StudyResult", "StudyResult", "TrajectoryResult", "LandscapeResult")
# Seconds before a command that is mostly quick shows progress.
PATIENCE = 3.0


def print_line(text: str) -> None:
    """Print a line to standard output, with the empty lines around it.

    Hidden characters are escaped, line feeds within the text included.
    """
    typer.echo(_format_lines(text))


def _format_lines(text: str) -> str:
    inner = text.strip("\n")
    before = len(text) - len(text.lstrip("\n")) if inner else len(text)
    after = len(text) - len(inner) - before
    return "\n" * before + format_message(inner) + "\n" * after


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard output; on a terminal only the first of very many."""
    for line in first_parts(list(lines), "lines", most=_MOST_LINES):
        print_line(line)


def first_parts(parts: Sequence[_Part], what: str, *, most: int = _MOST_PARTS) -> Iterator[_Part]:
    """Yield the parts to print; on a terminal only the first, and print how many are left out."""
    shown = parts[:most] if sys.stdout.isatty() else parts
    yield from shown
    if len(shown) < len(parts):
        print_line(f"{len(parts) - len(shown):,} more {what} are not shown: {ALL}")


def note_next(store: Store) -> None:
    """Print the command that scores a store, or merges a part of one with the others.

    Without linear operators, all tensors are layers.
    """
    part = store.record.part
    if part:
        once = f", once all {part.count} parts are there" if part.count > 1 else ""
        note(f"next{once}: cnatool merge PART… -o STORE")
        return
    every = "" if store.layers else " --set layers=all"
    note(f"next: cnatool score {quote_for_shell(store.path)}{every}")


def print_notes(notes: Sequence[str]) -> None:
    """Print the notes of a result below an empty line."""
    if notes:
        print_line("")
    for text in notes:
        print_line(f"note: {with_options(text)}")


def print_reasons(heading: str, reasons: Iterable[str]) -> None:
    """Print reasons in lines below a heading; without reasons, print nothing."""
    lines = [f"  {with_options(reason)}" for reason in reasons]
    if lines:
        print_line(f"\n{heading}:")
        print_lines(lines)


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
        typer.echo(_format_lines(text), err=True)


@contextmanager
def note_kept_scores(folder: Path | None) -> Iterator[None]:
    """Note, if the command is interrupted, that scores are kept in a folder."""
    try:
        yield
    except KeyboardInterrupt:
        if folder is not None:
            note(f"scores so far are in {folder}; the same command continues from there")
        raise


def print_result(result: _Result, print_tables: Callable[[_Result], None], *, json: bool) -> None:
    """Print a result as one JSON document or as tables."""
    if json:
        print_json(result.to_json())
    else:
        print_tables(result)


def finish_study(
    result: _StudyResult,
    print_tables: Callable[[_StudyResult], None],
    *,
    folder: Path | None,
    json: bool,
    reused: int = 0,
) -> None:
    """Print the result of many stores; end with exit code 1 if some of them were left out."""
    if reused:
        note(f"{count_text(reused, 'score')} {'was' if reused == 1 else 'were'} computed before")
    if folder is not None:
        note(f"wrote {folder}")
    print_result(result, print_tables, json=json)
    exit_incomplete(result.not_scored)


def exit_incomplete(left_out: Sequence[object]) -> None:
    """End the command with exit code 1 if stores were left out, and note how many."""
    if left_out:
        note(f"{count_text(len(left_out), 'store')} could not be used")
        raise typer.Exit(_INCOMPLETE)


def print_json(text: str) -> None:
    """Print a JSON document; what standard output cannot encode is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        import json

        # The same value in any encoding.
        text = re.sub("[^\0-\x7f]+", lambda match: json.dumps(match[0])[1:-1], text)
    typer.echo(text, nl=False)


def print_path(path: Path) -> None:
    """Print a path to standard output: to a program byte by byte as the file system has it.

    On a terminal, hidden characters of its name are escaped, as `ls` does.
    """
    typer.echo(escape(str(path)) if sys.stdout.isatty() else os.fsencode(path))


def read_pairs(option: str, pairs: Sequence[str] | None, form: str = "KEY=VALUE") -> dict[str, str]:
    """Read the ``KEY=VALUE`` words of an option, whose help calls them ``form``."""
    values: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {pair}: write it as {form}.")
        if key in values:
            raise UsageError(f"{option} {key}: given twice.")
        values[key] = value
    return values


class ConsoleObserver:
    """Prints notes and progress: a bar on a terminal, a line every ten seconds elsewhere.

    Parameters
    ----------
    quiet : bool
        Print nothing.
    unit : str
        What the rate counts; empty for no rate.
    patience : float
        Seconds before progress is shown.
    """

    def __init__(
        self, *, quiet: bool = False, unit: str = "samples", patience: float = 0.0
    ) -> None:
        self._from = time.monotonic() + patience
        self._quiet = quiet
        self._unit = unit
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        # When each split began, and with how many samples.
        self._started: dict[str, tuple[float, int]] = {}
        self._last_line = time.monotonic()
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
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
        since, first = self._started.setdefault(split, (now, done))
        timed = self._unit and done > first and now > since
        rate = f"{(done - first) / (now - since):,.0f} {self._unit}/s" if timed else ""
        if self._bar is not None:
            self._bar.start()
            if split not in self._tasks:
                name = shorten(printable(split), _LONGEST_NAME)
                self._tasks[split] = self._bar.add_task(name, total=rows, rate=rate)
            self._bar.update(self._tasks[split], completed=done, rate=rate)
        elif (done == rows and rows) or now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            note(f"{split}: {done:,} of {rows:,}" + (f", {rate}" if rate else ""))
