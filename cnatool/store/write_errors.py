"""Errors of writing a store, with advice."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnatool._util.urls import ObjectURL
from cnatool._util.write_failures import FULL, make_room
from cnatool.errors import CnatoolError, StoreAccessError, StoreInUseError, StoreWriteError
from cnatool.store.clouds import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def name_deletion(url: ObjectURL) -> str:
    """Return which command deletes a store in a bucket, as the end of a sentence about that."""
    command = CLOUDS[url.scheme].delete
    return f", for example with `{command.format(url)}`" if command else ""


def advise_beginning_anew(path: Path) -> str:
    """Return what a user does who gives a store up and dumps it again."""
    if isinstance(path, ObjectURL):
        return f"delete it{name_deletion(path)} and dump anew"
    return "start anew with `overwrite=True`"


@contextmanager
def report_write_errors(path: Path, committed: int) -> Iterator[None]:
    """Turn an operating system's error into a StoreWriteError that says what is safe."""
    try:
        yield
    except StoreAccessError as error:
        if not committed:
            raise
        raise StoreWriteError(f"{error} {_advice(None, committed)}") from None
    except OSError as error:
        if isinstance(error, CnatoolError):
            raise
        raise StoreWriteError(
            f"{path} cannot be written: {error.strerror or error}. "
            f"{_advice(error.errno, committed)}"
        ) from error


def make_in_use_error(path: Path) -> StoreInUseError:
    """Make the error of a store that another process is writing."""
    return StoreInUseError(
        f"{path} is being written by another process. Wait until it finishes, or name another path."
    )


def make_taken_over_error(path: Path) -> StoreInUseError:
    """Make the error of a writer that was stopped for so long that another took its store over."""
    return StoreInUseError(
        f"{path} was taken over by another process, because this one gave no sign of life for too "
        "long. The other one continues the store or has finished it; nothing that was committed is "
        "lost."
    )


def _advice(number: int | None, committed: int) -> str:
    room = make_room(number)
    if committed:
        first = f"{room[0].lower()}{room[1:]}" if number in FULL else "once it can be written"
        joint = " and" if number in FULL else ","
        return f"{committed:,} rows are safe: {first}{joint} continue with `resume=True`."
    if number in FULL:
        return f"{room} or name another path, and try again."
    return "Name another path."
