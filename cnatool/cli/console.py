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
    all_text,
    count_text,
    escape,
    format_message,
    quote_for_shell,
)
from cnatool.cli import progress_mode
from cnatool.cli.parameter_names import with_options
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cnatool._util.documents import Document
    from cnatool.cli.progress import Display
    from cnatool.store.store import Store
    from cnatool.studying.results import LandscapeResult, StudyResult, TrajectoryResult

# Exit code where stores are left out.
_INCOMPLETE = 1
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
# Why the command ends, for the last event.
_errors: list[str] = []


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
        once = f", once {all_text(part.count, 'part')} are there" if part.count > 1 else ""
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
    text = with_options(text)
    if progress_mode.is_json():
        from cnatool.cli.events import NoteEvent, now, write

        write(NoteEvent(time=now(), text=text))
    else:
        _print_error_line(text)


def warn(text: str) -> None:
    """Print a warning to standard error, its hidden characters escaped."""
    if progress_mode.is_json():
        from cnatool.cli.events import WarningEvent, now, write

        write(WarningEvent(time=now(), text=text.strip()))
    else:
        _print_error_lines(text)


def print_error(text: str) -> None:
    """Print a line to standard error on why the command ends, or keep it for the last event."""
    if progress_mode.is_json():
        _errors.append(text)
    else:
        _print_error_line(f"cnatool: {text}")


def print_error_lines(text: str) -> None:
    """Print lines to standard error on why the command ends, or keep them for the last event."""
    if progress_mode.is_json():
        _errors.append(text.strip())
    else:
        _print_error_lines(text)


def start_events(command: str) -> None:
    """Write that a command begins, if progress is shown as JSON lines."""
    if progress_mode.is_json():
        from cnatool._version import __version__
        from cnatool.cli.events import StartEvent, now, write

        write(
            StartEvent(
                time=now(), schema="cnatool.progress/1", version=__version__, command=command
            )
        )


def end_events(exit_code: int) -> None:
    """Write that the command is over, if progress is shown as JSON lines."""
    if progress_mode.is_json():
        from cnatool.cli.events import EndEvent, now, write

        error = "\n".join(_errors) or None
        write(EndEvent(time=now(), exit_code=exit_code, error=error))
        _errors.clear()


def _print_error_lines(text: str) -> None:
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
    """Prints notes, and progress as ``--progress`` says.

    Parameters
    ----------
    quiet : bool
        Print nothing.
    unit : str
        What the rate counts; empty for no rate.
    patience : float
        Seconds before a bar or lines are shown.
    """

    def __init__(
        self, *, quiet: bool = False, unit: str = "samples", patience: float = 0.0
    ) -> None:
        self._from = time.monotonic() + (0.0 if progress_mode.is_json() else patience)
        self._quiet = quiet
        self._unit = unit
        self._display: Display | None = None
        # When each split began, and with how many samples.
        self._started: dict[str, tuple[float, int]] = {}
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        if not self._quiet:
            from cnatool.cli.progress import open_display

            self._display = open_display(note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._display is not None:
            self._display.close()

    def note(self, text: str) -> None:
        """Print a line, and keep it in ``notes``."""
        text = with_options(text)
        self.notes.append(text)
        if not self._quiet:
            note(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        """Show how much is done, and how fast."""
        now = time.monotonic()
        if self._display is None or now < self._from:
            return
        since, first = self._started.setdefault(split, (now, done))
        timed = self._unit and done > first and now > since
        rate = f"{(done - first) / (now - since):,.0f} {self._unit}/s" if timed else ""
        self._display.show(split, done, rows, rate)
