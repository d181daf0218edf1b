"""The journal of a file: what one commit changes of it, on disk before the file is changed.

A journal that is whole is part of the store, one that is not never happened.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, Self

import google_crc32c

from cnatool.errors import StoreDamagedError
from cnatool.store import disk
from cnatool.store.links import is_link

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

__all__ = ["Journal", "forget", "journal_of", "recover"]

_MAGIC = b"cnatool journal 1\n"
# Bytes of the file once the journal is applied, and number of its extents.
_HEADER = struct.Struct("<QQ")
# Where an extent goes, and how long it is.
_EXTENT = struct.Struct("<QQ")
_CHECKSUM = struct.Struct("<I")


def journal_of(path: Path) -> Path:
    """Give the path of a file's journal, which is there only while a commit is under way."""
    return path.with_name(f"{path.name}.journal")


def recover(path: Path) -> None:
    """Finish the commit that a crash cut off: apply a whole journal, forget another.

    Raises
    ------
    OSError
        If the operating system refuses.
    """
    journal = Journal.of(path)
    if journal is not None:
        with disk.opened(path, "r+b") as file:
            journal.apply(file)
    forget(path)


def forget(path: Path) -> None:
    """Remove what is left of a file's journal; another's file of that name stays."""
    if is_link(journal_of(path)):
        return
    try:
        with journal_of(path).open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    # After a power loss its bytes may be missing, or zero.
    if _MAGIC.startswith(head.rstrip(b"\0")):
        disk.remove(journal_of(path))


class Journal(NamedTuple):
    """What one commit changes before the boundary, and the size of the file after it."""

    size: int
    extents: list[tuple[int, bytes]]

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Read the journal of a file; None where there is none, or it is not whole."""
        if is_link(journal_of(path)):
            raise StoreDamagedError(
                f"{journal_of(path)} is a link, and no journal that cnatool wrote. Remove the link."
            )
        try:
            data = journal_of(path).read_bytes()
        except FileNotFoundError:
            return None
        body, sealed = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
        if not body.startswith(_MAGIC) or sealed != _CHECKSUM.pack(google_crc32c.value(body)):
            return None
        try:
            size, count = _HEADER.unpack_from(body, len(_MAGIC))
            at = len(_MAGIC) + _HEADER.size
            table = [_EXTENT.unpack_from(body, at + i * _EXTENT.size) for i in range(count)]
            at += count * _EXTENT.size
            extents = []
            for offset, length in table:
                extents.append((offset, body[at : at + length]))
                at += length
        except struct.error:
            at = -1
        if at != len(body):
            raise StoreDamagedError(
                f"{journal_of(path)} is no journal that cnatool wrote. Dump again, or restore the "
                "store from a copy."
            )
        return cls(size, extents)

    def write(self, path: Path) -> None:
        """Write the journal of a file, and see to it that it stays; on an error there is none.

        Raises
        ------
        OSError
            If something is in its place, or the operating system refuses.
        """
        table = [_EXTENT.pack(offset, len(data)) for offset, data in self.extents]
        header = _HEADER.pack(self.size, len(table))
        body = b"".join([_MAGIC, header, *table, *(data for _, data in self.extents)])
        file = disk.opened(journal_of(path), "xb")
        try:
            with file:
                disk.write(file, 0, body + _CHECKSUM.pack(google_crc32c.value(body)))
                disk.sync(file)
            disk.sync_folder(path.parent)
        except BaseException:
            # Not whole, so it counts for nothing.
            disk.remove(journal_of(path))
            raise

    def apply(self, file: FileIO) -> None:
        """Change a file as the journal says; once more does no harm."""
        for offset, data in self.extents:
            disk.write(file, offset, data)
        disk.truncate(file, self.size)
        disk.sync(file)
