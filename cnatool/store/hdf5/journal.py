"""The journal of a file: the changes of one commit, on disk before the file is changed.

A journal is written as ``NAME.journal.partial``, synced, and renamed to ``NAME.journal``. A crash
before the renaming leaves the last commit; from then on the journal is part of the store. So a
journal that is not whole was damaged after it was written. It identifies the state of the file that
it belongs to, so that a file in another state (such as a copy restored from a backup) is not
changed by it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple, Self

import google_crc32c

from cnatool._util import files
from cnatool._util.local_paths import real_path
from cnatool._util.text import one_line
from cnatool.errors import StoreDamagedError
from cnatool.store.signature import committed_end

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

_MAGIC = b"cnatool journal 2\n"
# Written in place and without the state of the file; still read, no longer written.
_OLD_MAGIC = b"cnatool journal 1\n"
# Bytes of the journal, bytes of the file before and after the commit, extents, samples.
_HEADER = struct.Struct("<QQQQQ")
_OLD_HEADER = struct.Struct("<QQ")
# Offset and length of an extent.
_EXTENT = struct.Struct("<QQ")
# Offset, length and CRC-32C of a sample of the file.
_SAMPLE = struct.Struct("<QQI")
_CHECKSUM = struct.Struct("<I")

# A disk writes sectors whole: after a power loss, each is the old one or the new one.
_SECTOR = 512
# Pages that are sampled of the bytes that the commit appends: reading all takes too long.
_SAMPLES = 16
_PAGE = 4096


def journal_path(path: Path) -> Path:
    """Return the path of a file's journal, which exists only during a commit."""
    return path.with_name(f"{path.name}.journal")


def partial_path(path: Path) -> Path:
    """Return the path of a file's journal while it is being written."""
    return path.with_name(f"{path.name}.journal.partial")


def follow_link(path: Path) -> Path:
    """Resolve a link to a file: the journal is beside the file, not beside the link."""
    return real_path(path) if path.is_symlink() else path


def recover(path: Path) -> None:
    """Finish a commit that a crash interrupted: apply a whole journal, delete a damaged one.

    Raises StoreDamagedError if the journal belongs to another state of the file or is unreadable.
    """
    with contextlib.suppress(JournalDamage):
        journal = Journal.read(path)
        if journal is not None:
            with files.open_file(path, "r+b") as file:
                if not journal.fits(file):
                    raise StoreDamagedError(describe_misfit(path))
                journal.apply(file)
    forget(path)


def forget(path: Path) -> None:
    """Delete a file's journal, whole or not; keep another program's file of that name."""
    for name in (partial_path(path), journal_path(path)):
        if os.path.lexists(name) and _is_journal(name):
            files.remove(name)


def find_foreign(path: Path) -> Path | None:
    """Return a file that has the journal's name but is not a journal; None if there is none."""
    names = (partial_path(path), journal_path(path))
    return next((n for n in names if os.path.lexists(n) and not _is_journal(n)), None)


def _is_journal(path: Path) -> bool:
    """Whether a path is a journal, whole or not."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as file:
        head = file.read(len(_MAGIC)).rstrip(b"\0")
    # After a power loss its bytes may be missing or zero.
    return _MAGIC.startswith(head) or _OLD_MAGIC.startswith(head)


def find_journal_fault(path: Path) -> str | None:
    """Describe why a file's journal is ignored on reading; None if it is whole or missing."""
    try:
        Journal.read(path)
    except JournalDamage as error:
        return str(error)
    except StoreDamagedError:
        pass
    return None


def describe_misfit(path: Path) -> str:
    """Describe a whole journal that belongs to another state of the file beside it."""
    return (
        f"{journal_path(path)} is in the way: it contains a commit to another state of "
        f"{path.name}. If you restored or copied {path.name} here, delete the journal to read the "
        f"copy. Otherwise {path.name} was changed or damaged after the commit began: restore it "
        "from a copy, and delete the journal."
    )


class JournalDamage(Exception):  # noqa: N818  the reader continues without the journal
    """The file with the journal's name is damaged or is not a journal."""


class FileState(NamedTuple):
    """The state of a file before a commit."""

    size: int  # bytes
    # CRC-32C of each sector of the bytes that each extent replaces; zeros beyond the file's end.
    sectors: list[tuple[int, ...]]
    # Offset, length and CRC-32C of some of the bytes that the commit appends.
    samples: list[tuple[int, int, int]]


class Journal(NamedTuple):
    """The changes of one commit to earlier committed bytes, and the size of the file after it."""

    size: int
    extents: list[tuple[int, bytes]]
    before: FileState | None = None

    @classmethod
    def prepare(
        cls, file: FileIO, boundary: int, size: int, extents: list[tuple[int, bytes]]
    ) -> Self:
        """Build the journal of a commit to a file that ended at ``boundary`` before it."""
        before = os.fstat(file.fileno()).st_size
        sectors = [
            tuple(map(google_crc32c.value, _sectors(_read_bytes(file, offset, len(data)))))
            for offset, data in extents
        ]
        last = max(0, min(before, size) - boundary)
        steps = {
            round(i * (last - 1) / (_SAMPLES - 1)) // _PAGE for i in range(_SAMPLES if last else 0)
        }
        samples = []
        for step in sorted(steps):
            at, length = step * _PAGE, min(_PAGE, last - step * _PAGE)
            content = _read_bytes(file, boundary + at, length)
            samples.append((boundary + at, length, google_crc32c.value(content)))
        return cls(size, extents, FileState(before, sectors, samples))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the journal of a file; None if there is none.

        Raises JournalDamage if it is damaged, StoreDamagedError if it cannot be read.
        """
        name = journal_path(path)
        try:
            if not stat.S_ISREG(name.lstat().st_mode):
                raise JournalDamage(f"{name} is a folder or a link instead of a journal")
            with name.open("rb") as file:
                head = file.read(len(_MAGIC) + _HEADER.size)
                size = os.fstat(file.fileno()).st_size
                new = head.startswith(_MAGIC)
                if not new and not head.startswith(_OLD_MAGIC):
                    raise JournalDamage(_describe_damage(name, head))
                if new and (len(head) < len(_MAGIC) + _HEADER.size or _length(head) != size):
                    raise JournalDamage(f"{name} is damaged")
                data = head + file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreDamagedError(
                f"{name} may contain the last commit of {path.name}, and cannot be read "
                f"({error.strerror or one_line(error)}). Make it readable, or move it elsewhere to "
                "read the store without it."
            ) from error
        body, sealed = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
        if sealed != _CHECKSUM.pack(google_crc32c.value(body)):
            if new:
                raise JournalDamage(f"{name} is damaged")
            raise JournalDamage(f"{name} is not whole: it was cut off or damaged")
        try:
            journal = cls._parse(body) if new else cls._parse_old(body)
        except struct.error:
            journal = None
        if journal is None:
            raise StoreDamagedError(
                f"{name} is not a journal that cnatool wrote. Move it elsewhere to read "
                f"{path.name} without it."
            )
        return journal

    @classmethod
    def _parse(cls, body: bytes) -> Self | None:
        at = len(_MAGIC)
        _, before, size, extents, samples = _HEADER.unpack_from(body, at)
        at += _HEADER.size
        table = [_EXTENT.unpack_from(body, at + i * _EXTENT.size) for i in range(extents)]
        at += extents * _EXTENT.size
        sampled = [_SAMPLE.unpack_from(body, at + i * _SAMPLE.size) for i in range(samples)]
        at += samples * _SAMPLE.size
        sectors = []
        for _, length in table:
            found = struct.unpack_from(f"<{-(-length // _SECTOR)}I", body, at)
            at += 4 * len(found)
            sectors.append(found)
        read = _read_extents(body, at, table)
        return None if read is None else cls(size, read, FileState(before, sectors, sampled))

    @classmethod
    def _parse_old(cls, body: bytes) -> Self | None:
        at = len(_OLD_MAGIC)
        size, extents = _OLD_HEADER.unpack_from(body, at)
        at += _OLD_HEADER.size
        table = [_EXTENT.unpack_from(body, at + i * _EXTENT.size) for i in range(extents)]
        read = _read_extents(body, at + extents * _EXTENT.size, table)
        return None if read is None else cls(size, read)

    def write(self, path: Path) -> None:
        """Write the journal of a file durably."""
        assert self.before is not None
        _, sectors, samples = self.before
        parts = [_EXTENT.pack(offset, len(data)) for offset, data in self.extents]
        parts += [_SAMPLE.pack(*sample) for sample in samples]
        parts += [struct.pack(f"<{len(found)}I", *found) for found in sectors]
        parts += [data for _, data in self.extents]
        length = len(_MAGIC) + _HEADER.size + sum(map(len, parts)) + _CHECKSUM.size
        header = _HEADER.pack(length, self.before.size, self.size, len(self.extents), len(samples))
        body = b"".join([_MAGIC, header, *parts])
        content = body + _CHECKSUM.pack(google_crc32c.value(body))
        files.replace_file(journal_path(path), content, partial_path(path))

    def fits(self, file: FileIO) -> bool:
        """Whether a file is in the state before the commit, or in one of a crash during it.

        Each sector that the journal replaces is the old one or the new one, and the samples of the
        appended bytes match.
        """
        size = file.seek(0, os.SEEK_END)
        if self.before is None:
            # All that can be checked with an old journal: the file is in no later state, and lacks
            # only bytes that the journal contains.
            end = committed_end(file)
            if end is not None and end > self.size:
                return False
            covered = size
            for offset, data in self.extents:
                if offset <= covered:
                    covered = max(covered, offset + len(data))
            return covered >= self.size
        # It may be longer: a power loss may undo the removal of a journal while the next commit
        # has begun to append.
        if size < min(self.before.size, self.size):
            return False
        for (offset, data), sectors in zip(self.extents, self.before.sectors, strict=True):
            there = _read_bytes(file, offset, len(data))
            if there == data:
                continue
            for old, found, new in zip(sectors, _sectors(there), _sectors(data), strict=True):
                if found != new and google_crc32c.value(found) != old:
                    return False
        return all(
            google_crc32c.value(_read_bytes(file, offset, length)) == checksum
            for offset, length, checksum in self.before.samples
        )

    def apply(self, file: FileIO) -> None:
        """Apply the journal's changes to a file; doing it again changes nothing."""
        for offset, data in self.extents:
            files.write_at(file, offset, data)
        files.truncate(file, self.size)
        files.sync_file(file)


def _length(head: bytes) -> int:
    return int(_HEADER.unpack_from(head, len(_MAGIC))[0])


def _describe_damage(name: Path, head: bytes) -> str:
    if not head:
        return f"{name} is empty"
    if not any(head):
        return f"{name} begins with zeros"
    return f"{name} is damaged or is not a journal that cnatool wrote"


def _read_extents(
    body: bytes, at: int, table: list[tuple[int, int]]
) -> list[tuple[int, bytes]] | None:
    """Read the contents of extents; None if they are not the rest of the journal."""
    extents = []
    for offset, length in table:
        extents.append((offset, body[at : at + length]))
        at += length
    return extents if at == len(body) else None


def _read_bytes(file: FileIO, offset: int, length: int) -> bytes:
    """Read bytes of a file; zeros beyond its end."""
    data = bytearray(length)
    view, done = memoryview(data), 0
    file.seek(offset)
    while done < length and (got := file.readinto(view[done:])):
        done += got
    return bytes(data)


def _sectors(data: bytes) -> list[bytes]:
    return [data[at : at + _SECTOR] for at in range(0, len(data), _SECTOR)]
