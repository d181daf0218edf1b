"""What happens in a command, as JSON lines on standard error."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Literal

import msgspec

_LOCK = threading.Lock()


class _Event(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", forbid_unknown_fields=True
):
    """Something that happens in a command.

    Attributes
    ----------
    event : str
        What kind of event it is.
    time : float
        When, in seconds since 1970.
    """

    time: float


class StartEvent(_Event, frozen=True, kw_only=True, tag="start"):
    """A command begins; a command line that cannot be understood has no such event.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    version : str
        Version of cnatool.
    command : str
        The command, such as ``dump``.
    """

    schema: Literal["cnatool.progress/1"]
    version: str
    command: str


class ProgressEvent(_Event, frozen=True, kw_only=True, tag="progress"):
    """Part of a task is done; at most ten a second and task, and one at the task's end.

    Attributes
    ----------
    task : str
        Name of the task: a split, or what else is worked on.
    done, total : int
        How much of it is done, and how much there is.
    """

    task: str
    done: int
    total: int


class NoteEvent(_Event, frozen=True, kw_only=True, tag="note"):
    """A decision or a finding.

    Attributes
    ----------
    text : str
        What a user reads.
    """

    text: str


class WarningEvent(_Event, frozen=True, kw_only=True, tag="warning"):
    """A warning of a library, or one on a store.

    Attributes
    ----------
    text : str
        What a user reads.
    """

    text: str


class EndEvent(_Event, frozen=True, kw_only=True, tag="end"):
    """The command ends; the last event, which only a process that was killed lacks.

    Attributes
    ----------
    exit_code : int
        The exit code.
    error : str or None
        What went wrong, if anything did.
    """

    exit_code: int
    error: str | None


Event = StartEvent | ProgressEvent | NoteEvent | WarningEvent | EndEvent


def now() -> float:
    """Return the time of an event."""
    return round(time.time(), 3)


def write(event: Event) -> None:
    """Write an event as one line; a line that cannot be written is dropped.

    Other characters than those of ASCII are escaped, whatever standard error is encoded in.
    """
    fields: Any = msgspec.to_builtins(event)
    line = json.dumps(fields) + "\n"
    with _LOCK, suppress(OSError, ValueError):
        sys.stderr.write(line)
        sys.stderr.flush()
