"""The folder of the parts that workers dump, beside the store that they make in the end."""

from __future__ import annotations

import os
import uuid
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cnatool._util.files import replace_atomically
from cnatool.dumping.parts import part_path
from cnatool.errors import (
    CnatoolError,
    NotAStoreError,
    StoreDamagedError,
    StoreWarning,
    StoreWriteError,
)
from cnatool.store.format_table import format_by_name
from cnatool.store.reader import open_store
from cnatool.store.replace import discard
from cnatool.store.write_errors import report_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Present in a folder until its parts are merged.
_SETTINGS = "unfinished.json"
_MOST_FOLDERS = 1000


class PartSettings(msgspec.Struct, frozen=True):
    """What all parts have in common, however often the dump is resumed.

    Attributes
    ----------
    parts : int
        How many there are.
    threads : int
        Threads that run the model for each.
    """

    parts: int
    threads: int


class TakenAwayError(CnatoolError):
    """A part that another worker goes on with, or that nobody wants any more."""


class Ticket(NamedTuple):
    """The right of one attempt to write a part.

    A file beside the part has the text of the latest attempt. The lock of the part does not reach
    every host on every file system, and a worker that was only cut off does not know that another
    one took its place.
    """

    path: Path
    text: str
    part: str  # name of the part

    def check(self) -> None:
        """Raise TakenAwayError unless this is the latest attempt."""
        try:
            latest = self.path.read_text("utf-8")
        except FileNotFoundError:
            latest = ""
        if latest != self.text:
            raise TakenAwayError(f"{self.path.parent}: another attempt writes this part.")


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """The parts of a store, as they lie in a folder beside it."""

    path: Path
    store: Path
    settings: PartSettings

    def part(self, number: int) -> Path:
        """Return the path of a part."""
        return part_path(self.path / self.store.name, number, self.settings.parts)

    def parts(self) -> list[Path]:
        """List the paths of all parts."""
        return [self.part(number) for number in self.numbers]

    @property
    def numbers(self) -> range:
        """Numbers of all parts."""
        return range(1, self.settings.parts + 1)

    def committed(self, number: int) -> int:
        """Count the rows that are safe in a part."""
        return sum(count_rows(self.part(number)).values())

    def issue_ticket(self, number: int) -> Ticket:
        """Grant a new attempt the right to write a part, and take it from all others."""
        part = self.part(number)
        ticket = Ticket(_ticket_path(part), uuid.uuid4().hex, part.name)
        with report_write_errors(self.store, 0), replace_atomically(ticket.path) as new:
            new.write_text(ticket.text, "utf-8")
        return ticket

    def withdraw_tickets(self) -> None:
        """Take the right to write from all attempts."""
        for part in self.parts():
            with suppress(OSError):
                _ticket_path(part).unlink()

    def begin(self) -> None:
        """Create the folder, and keep its settings there."""
        with report_write_errors(self.store, 0):
            self.path.mkdir(exist_ok=True)
            with replace_atomically(self.path / _SETTINGS) as new:
                new.write_bytes(msgspec.json.encode(self.settings))

    def finish(self, *, keep: bool) -> None:
        """Mark the parts as merged; delete them unless the store refers to them."""
        self.withdraw_tickets()
        with suppress(OSError):
            (self.path / _SETTINGS).unlink()
        if not keep:
            remove_parts(self.parts())


def _ticket_path(part: Path) -> Path:
    return part.with_name(f".{part.name}.ticket")


def count_rows(part: Path) -> dict[str, int]:
    """Count the committed rows of a part by split; empty if there are none yet."""
    try:
        # Interrupted stores warn; their reader will see the warning.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StoreWarning)
            return {name: len(split) for name, split in open_store(part).splits.items()}
    except CnatoolError:
        return {}


def find_unfinished(store: Path) -> PartsFolder | None:
    """Find the parts of a store that were not all finished and merged."""
    for path in _folders(store):
        try:
            content = (path / _SETTINGS).read_bytes()
        except OSError:
            continue
        try:
            return PartsFolder(path, store, msgspec.json.decode(content, type=PartSettings))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise StoreDamagedError(
                f"{path / _SETTINGS} cannot be read ({error}). Restore it, or begin anew with "
                "`overwrite=True`."
            ) from None
    return None


def choose_folder(store: Path) -> Path:
    """Choose a folder for the parts of a new store; an older store may refer to parts in another.

    Raises NotAStoreError if there is none.
    """
    for path in _folders(store):
        if not os.path.lexists(path) or _is_empty(path):
            return path
    raise NotAStoreError(f"{next(_folders(store))} and others exist already. Name another store.")


def _folders(store: Path) -> Iterator[Path]:
    for number in range(_MOST_FOLDERS):
        yield store.with_name(f"{store.stem}.parts{number or ''}")


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def list_parts(store: Path) -> list[Path]:
    """List the parts that a store refers to in a folder of its own."""
    try:
        merged = open_store(store)
    except CnatoolError:
        return []
    if merged.parts is None:
        return []
    folders = {folder.absolute() for folder in _folders(store)}
    parts = [merged.parts.path(number).absolute() for number in range(len(merged.parts))]
    return [part for part in parts if part.parent in folders]


def remove_parts(parts: list[Path]) -> None:
    """Delete parts, and their folders where nothing else is in them."""
    for part in parts:
        if format_by_name(part).is_replaceable(part):
            with suppress(OSError):
                discard(part)
    for folder in {part.parent for part in parts}:
        with suppress(OSError):
            folder.rmdir()


def discard_unfinished(folder: PartsFolder) -> None:
    """Delete parts that nobody will finish; nobody else is writing them."""
    try:
        folder.finish(keep=False)
    except CnatoolError as error:
        raise StoreWriteError(f"{folder.path} cannot be removed: {error}") from None
