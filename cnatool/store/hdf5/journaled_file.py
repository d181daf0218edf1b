"""A file that changes in whole commits: what a crash leaves is the last commit or the next one.

HDF5 promises nothing about a file whose writer died. Here it never touches committed bytes: what it
writes beyond the committed end goes to the file, where nothing refers to it yet; what it changes
before that end waits in memory. A commit makes the new bytes durable, then writes the changed pages
to a second file, the journal (``NAME.journal``), makes that durable, and only then changes the
file. `cnatool.store.hdf5.journal` says which journal is part of the store.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Self

from cnatool._util import files
from cnatool.errors import StoreDamagedError
from cnatool.store.hdf5.journal import (
    Journal,
    JournalDamage,
    describe_misfit,
    follow_link,
    forget,
    journal_path,
    partial_path,
    recover,
)
from cnatool.store.signature import committed_end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from cnatool._util.files import Buffer

_PAGE = 4096
# Before the first commit nothing of the file is durable, and all of it waits in memory.
_EVERYTHING = 1 << 62
# Seconds before each further attempt of a reader whose file and journal do not match.
_PAUSES = (0.005, 0.02, 0.1, 0.5)


class JournaledFile:
    """A file for h5py's driver ``fileobj``, with commits; used by one thread at a time.

    The file counts as having ``size`` bytes. Bytes before ``boundary`` change by a commit only;
    ``pages`` holds the pages, by number, that differ from the file.
    """

    def __init__(
        self, path: Path, file: FileIO, size: int, boundary: int, pages: dict[int, bytearray]
    ) -> None:
        self.path = path
        self._file = file
        self._size = size
        self._boundary = boundary
        self._pages = pages
        self._position = 0
        self._ended = False
        self._refusal: BaseException | None = None
        self._seen = _file_signs(path)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create an empty file at a path that must not exist."""
        # A journal without its file belongs to no store.
        forget(path)
        _check_free(path)
        return cls(path, files.open_file(path, "x+b"), 0, _EVERYTHING, {})

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open a file to continue it: as its last commit left it, and nothing beyond.

        Raises StoreDamagedError if the journal belongs to another state of the file or is
        unreadable, OSError also if another program's file has the journal's name.
        """
        recover(path)
        _check_free(path)
        file = files.open_file(path, "r+b")
        size = os.fstat(file.fileno()).st_size
        end = committed_end(file)
        if end is not None and end < size:
            # Chunks of rows that were never committed.
            files.truncate(file, end)
            size = end
        return cls(path, file, size, size, {})

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file for reading, as its last commit left it.

        Raises StoreDamagedError if the journal belongs to another state of the file or is
        unreadable.
        """
        path = follow_link(path)
        for pause in (*_PAUSES, None):
            file = files.open_file(path, "rb")
            opened = cls(path, file, os.fstat(file.fileno()).st_size, 0, {})
            try:
                journal = Journal.read(path)
            except JournalDamage:
                # `cnatool.store.reader` warns of it.
                journal = None
            if journal is None or journal.fits(file):
                break
            file.close()
            # A writer may be applying it, or have reached its next commit.
            if pause is None:
                raise StoreDamagedError(describe_misfit(path))
            time.sleep(pause)
        if journal is not None:
            opened._size, opened._boundary = journal.size, _EVERYTHING
            for offset, data in journal.extents:
                opened._overlay(offset, memoryview(data))
        return opened

    def __del__(self) -> None:
        self.close()

    def changed(self) -> bool:
        """Whether a writer has changed this very file since it was opened."""
        now = _file_signs(self.path)
        return now != self._seen and now[0] == self._seen[0]

    # The driver calls these. HDF5 gets into an undefined state if a driver fails or is interrupted;
    # so errors are kept from it, and `check` raises them.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; from the start, from the position, or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes from the position."""
        data = bytearray(size)
        return bytes(data[: self.readinto(memoryview(data))])

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer from the position; return the number of bytes."""
        start = self._position
        # Some versions of h5py pass a view of Cython, which can do less.
        view = memoryview(buffer)
        count = max(0, min(len(view), self._size - start))
        view = view[:count]
        done = 0
        try:
            done = files.read_at(self._file, start, view)
        except BaseException as error:
            self._refusal = error
        # Committed bytes that only memory has, and gaps that nothing was written to.
        view[done:] = bytes(count - done)
        if self._pages:
            for number, low, high in _spans(start, min(start + count, self._boundary)):
                page = self._pages.get(number)
                if page is not None:
                    at = number * _PAGE
                    view[low - start : high - start] = page[low - at : high - at]
        self._position += count
        return count

    def write(self, data: Buffer) -> int:
        """Write at the position: into memory before the boundary, to the file beyond it."""
        view = memoryview(data).cast("B")
        start = self._position
        inside = max(0, min(len(view), self._boundary - start))
        try:
            self._overlay(start, view[:inside])
            files.write_at(self._file, start + inside, view[inside:])
        except BaseException as error:
            self._refusal = error
            self.abandon()
            self._overlay(start, view)
        self._position += len(view)
        if view:
            self._size = max(self._size, self._position)
        return len(view)

    def truncate(self, size: int) -> int:
        """Set the size; committed bytes stay in the file until the next commit."""
        self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: only a commit makes anything durable."""

    # The store calls these.

    def check(self) -> None:
        """Raise the error of reading or writing since the last check, if there was one."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def commit(self) -> None:
        """Make everything written so far durable and visible to readers, in one step.

        After an OSError, the file is in the last commit or in this one, and no other can follow.
        """
        self.check()
        if self._ended:
            raise OSError("an earlier commit failed, or the file is closed")
        here = os.fstat(self._file.fileno())
        if not self.path.exists() or not os.path.samestat(here, self.path.stat()):
            raise OSError("another file replaced it while it was written")
        files.sync_file(self._file)
        extents = list(self._extents())
        journal = Journal.prepare(self._file, min(self._boundary, self._size), self._size, extents)
        try:
            journal.write(self.path)
        except BaseException:
            # Nothing of what is not durable may take effect later.
            files.remove(partial_path(self.path))
            files.remove(journal_path(self.path))
            raise
        # Until it is applied, nothing else may reach the file, which the journal must fit.
        self.abandon()
        journal.apply(self._file)
        files.remove(journal_path(self.path))
        self._pages.clear()
        self._boundary = self._size
        self._ended = False

    def abandon(self) -> None:
        """Drop what was not committed: nothing more reaches the file, and no commit follows."""
        self._ended = True
        self._boundary = _EVERYTHING

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _overlay(self, start: int, view: memoryview) -> None:
        for number, low, high in _spans(start, start + len(view)):
            at = number * _PAGE
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = bytearray(_PAGE)
                if high - low < _PAGE:
                    files.read_at(self._file, at, memoryview(page))
            page[low - at : high - at] = view[low - start : high - start]

    def _extents(self) -> Iterator[tuple[int, bytes]]:
        """Yield the pages that differ, adjacent ones joined, up to the boundary."""
        end = min(self._boundary, self._size)
        run: list[bytearray] = []
        first = last = -1
        for number in sorted(self._pages):
            if number * _PAGE >= end:
                break
            if number != last + 1 and run:
                yield first * _PAGE, b"".join(run)
                run = []
            if not run:
                first = number
            run.append(self._pages[number])
            last = number
        if run:
            yield first * _PAGE, b"".join(run)[: end - first * _PAGE]


def _check_free(path: Path) -> None:
    """Make sure that nothing has the journal's name."""
    for taken in (journal_path(path), partial_path(path)):
        if os.path.lexists(taken):
            raise FileExistsError(
                errno.EEXIST,
                f"{taken} is in the way and is not a readable journal. Move it elsewhere",
            )


def _spans(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield ``(page, first byte, end)`` of the pages that a range of bytes touches."""
    for number in range(start // _PAGE, -(-stop // _PAGE) if start < stop else 0):
        yield number, max(start, number * _PAGE), min(stop, (number + 1) * _PAGE)


def _file_signs(path: Path) -> tuple[object, ...]:
    """Return the signs of a writer's work: identity, size and time of the file and its journal."""
    signs: list[object] = []
    for part in (path, journal_path(path)):
        try:
            status = part.stat()
        except OSError:
            signs += [None, None]
        else:
            signs += [(status.st_dev, status.st_ino), (status.st_size, status.st_mtime_ns)]
    return tuple(signs)
