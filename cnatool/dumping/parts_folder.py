"""The folder of the parts that workers dump, beside the store that they make in the end."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cnatool._util.cluster_workers import absolute_path
from cnatool._util.urls import is_url
from cnatool.dumping.parts import part_path
from cnatool.errors import CnatoolError, NotAStoreError, StoreDamagedError, StoreWriteError
from cnatool.store.format_table import format_by_name
from cnatool.store.lock import lock_store
from cnatool.store.reader import open_silently, open_store
from cnatool.store.replace import count_committed_rows, discard
from cnatool.store.small_files import delete_file, list_names, read_file, write_file
from cnatool.store.unfinished_parts import UNFINISHED, find_unfinished_parts, parts_folders
from cnatool.store.write_errors import advise_beginning_anew, report_write_errors

if TYPE_CHECKING:
    from pathlib import Path


class PartSettings(msgspec.Struct, frozen=True):
    """What all parts have in common, however often the dump is resumed.

    Attributes
    ----------
    parts : int
        How many there are.
    threads : int
        Threads that run the model for each.
    replaces : bool
        Whether the user agreed that they replace a store.
    """

    parts: int
    threads: int
    replaces: bool = False


class TakenAwayError(CnatoolError):
    """A part that another worker goes on with, or that nobody wants any more."""


class Ticket(NamedTuple):
    """The right of one attempt to write a part.

    A file beside the part, or an object in a bucket, has the text of the latest attempt. The lock
    of the part does not reach every host on every file system, and a worker that was only cut off
    does not know that another one took its place.
    """

    path: Path
    text: str
    part: str  # name of the part

    def check(self) -> None:
        """Raise TakenAwayError unless this is the latest attempt."""
        if read_file(self.path) != self.text.encode():
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

    def count_safe(self) -> int | None:
        """Count the rows that are safe in all parts; None if that cannot be read now."""
        total = 0
        for part in self.parts():
            rows = count_committed_rows(part)
            if rows is None:
                return None
            total += rows
        return total

    @property
    def is_merged(self) -> bool:
        """Whether the store refers to them: a process was killed right after it merged them."""
        return list_parts(self.store) == self.parts()

    @property
    def is_older(self) -> bool:
        """Whether a store at the path was written after the parts were begun."""
        return not self.settings.replaces and format_by_name(self.store).exists(self.store)

    def check_discardable(self, *, overwrite: bool, way: str) -> None:
        """Refuse to give the parts up, unless the user overwrites them.

        Those in a bucket are overwritten only as long as they have no rows. ``way`` is how the user
        continues them.
        """
        if overwrite and (not is_url(self.path) or self.count_safe() == 0):
            return
        anew = "`overwrite=True` to begin anew"
        advice = advise_beginning_anew(self.path) if is_url(self.path) else anew
        raise NotAStoreError(
            f"{self.path} has parts of an unfinished {self.store.name}. Pass {way} to continue "
            f"them, {advice}, or name another path."
        )

    def issue_ticket(self, number: int) -> Ticket:
        """Grant a new attempt the right to write a part, and take it from all others."""
        part = self.part(number)
        ticket = Ticket(_ticket_path(part), uuid.uuid4().hex, part.name)
        write_file(ticket.path, ticket.text.encode())
        return ticket

    def withdraw_tickets(self) -> None:
        """Take the right to write from all attempts."""
        for part in self.parts():
            delete_file(_ticket_path(part))

    def begin(self) -> None:
        """Create the folder, and keep its settings there."""
        # A bucket has no folders.
        if not is_url(self.path):
            with report_write_errors(self.store, 0):
                self.path.mkdir(exist_ok=True)
        write_file(self.path / UNFINISHED, msgspec.json.encode(self.settings))

    def finish(self, *, keep: bool) -> None:
        """Mark the parts as merged; delete them unless the store refers to them."""
        self.withdraw_tickets()
        delete_file(self.path / UNFINISHED)
        if not keep:
            remove_parts(self.parts())


def _ticket_path(part: Path) -> Path:
    return part.with_name(f".{part.name}.ticket")


def count_rows(part: Path) -> dict[str, int]:
    """Count the committed rows of a part by split; empty if there are none yet."""
    try:
        # Interrupted stores warn; their reader will see the warning.
        return {name: len(split) for name, split in open_silently(part).splits.items()}
    except CnatoolError:
        return {}


def find_unfinished(store: Path) -> PartsFolder | None:
    """Find the parts of a store that were not all finished and merged."""
    found = find_unfinished_parts(store)
    if found is None:
        return None
    try:
        settings = msgspec.json.decode(found.settings, type=PartSettings)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise StoreDamagedError(
            f"{found.folder / UNFINISHED} cannot be read ({error}). Restore it, or delete "
            f"{found.folder} and dump anew."
        ) from None
    return PartsFolder(found.folder, store, settings)


def choose_folder(store: Path) -> Path:
    """Choose a folder for the parts of a new store; an older store may refer to parts in another.

    Raises NotAStoreError if there is none.
    """
    names = list_names(store.parent)
    for path in parts_folders(store):
        if path.name not in names or _is_empty(path):
            return path
    first = next(parts_folders(store))
    raise NotAStoreError(f"{first} and others exist already. Name another store.")


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def list_left_folders(store: Path) -> list[Path]:
    """List the folders of parts beside a store that it does not refer to."""
    names, used = list_names(store.parent), {part.parent for part in list_parts(store)}
    folders = (absolute_path(folder) for folder in parts_folders(store))
    return [folder for folder in folders if folder.name in names and folder not in used]


def list_parts(store: Path) -> list[Path]:
    """List the parts that a store refers to in a folder of its own."""
    try:
        merged = open_store(store)
    except CnatoolError:
        return []
    if merged.parts is None:
        return []
    folders = {absolute_path(folder) for folder in parts_folders(store)}
    parts = [absolute_path(merged.parts.path(number)) for number in range(len(merged.parts))]
    return [part for part in parts if part.parent in folders]


def remove_parts(parts: list[Path]) -> None:
    """Delete parts, and their folders where nothing else is in them."""
    for part in parts:
        form = format_by_name(part)
        if is_url(part):
            # Raises an error if a worker that was cut off is still writing it.
            if form.exists(part) and form.is_part(part):
                with lock_store(part):
                    discard(part)
        elif form.is_replaceable(part):
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
