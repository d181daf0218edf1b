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

from cnatool._util import raw_files as disk
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

    from cnatool._util.raw_files import Buffer

_PAGE = 4096
# Before the first commit nothing of the file is durable, and all of it waits in memory.
_EVERYTHING = 1 << 62
# A reader whose file and journal do not match looks again, after so many seconds more each time.
_PAUSES = (0.005, 0.02, 0.1, 0.5)


class JournaledFile:
    """A file as h5py's driver ``fileobj`` wants it, and the commits beneath it.

    One thread at a time uses it; HDF5 itself lets no more in.

    Parameters
    ----------
    path : Path
        Where the file is.
    file : FileIO
        The file, open.
    size : int
        Bytes that it counts as having.
    boundary : int
        Bytes before this offset change by a commit only.
    pages : dict of int to bytearray
        What differs from the file, by the number of the page.
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
        """Make an empty file at a path that must not exist yet.

        Raises
        ------
        OSError
            If something is there, be it where the journal goes, or the operating system refuses.
        """
        # A journal that lost its file belongs to no store any more.
        forget(path)
        _check_free(path)
        return cls(path, disk.opened(path, "x+b"), 0, _EVERYTHING, {})

    @classmethod
    def reopened(cls, path: Path) -> Self:
        """Open a file to go on with it: as its last commit left it, and nothing beyond.

        Raises
        ------
        StoreDamagedError
            If the journal belongs to another state of the file, or cannot be read.
        OSError
            If the operating system refuses, or another's file is where the journal goes.
        """
        recover(path)
        _check_free(path)
        file = disk.opened(path, "r+b")
        size = os.fstat(file.fileno()).st_size
        end = committed_end(file)
        if end is not None and end < size:
            # Chunks of rows that were never committed.
            disk.truncate(file, end)
            size = end
        return cls(path, file, size, size, {})

    @classmethod
    def reader(cls, path: Path) -> Self:
        """Open a file for reading, as its last commit left it.

        Raises
        ------
        StoreDamagedError
            If the journal belongs to another state of the file, or cannot be read.
        OSError
            If it cannot be opened.
        """
        path = follow_link(path)
        for pause in (*_PAUSES, None):
            file = disk.opened(path, "rb")
            made = cls(path, file, os.fstat(file.fileno()).st_size, 0, {})
            try:
                journal = Journal.of(path)
            except JournalDamage:
                # `cnatool.store.reader` warns of it.
                journal = None
            if journal is None or journal.fits(file):
                break
            file.close()
            # A writer may be at work in it, or have come to its next commit.
            if pause is None:
                raise StoreDamagedError(describe_misfit(path))
            time.sleep(pause)
        if journal is not None:
            made._size, made._boundary = journal.size, _EVERYTHING
            for offset, data in journal.extents:
                made._overlay(offset, memoryview(data))
        return made

    def __del__(self) -> None:
        self.close()

    def changed(self) -> bool:
        """Say whether a writer has been at work in this very file since it was opened."""
        now = _file_signs(self.path)
        return now != self._seen and now[0] == self._seen[0]

    # What the driver calls. HDF5 loses its bearings where a driver fails, or is interrupted: it is
    # told nothing of it, and `check` raises what happened.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; from the start, from the position, or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes from the position."""
        data = bytearray(size)
        return bytes(data[: self.readinto(memoryview(data))])

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer of bytes from the position; give how many there were."""
        start = self._position
        # Some h5py give a view of Cython's, which can do less.
        view = memoryview(buffer)
        count = max(0, min(len(view), self._size - start))
        view = view[:count]
        done = 0
        try:
            self._file.seek(start)
            while done < count and (got := self._file.readinto(view[done:])):
                done += got
        except BaseException as error:
            self._refusal = error
        # Committed bytes that only memory holds, and gaps that nothing was written to.
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
            disk.write(self._file, start + inside, view[inside:])
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

    # What the store calls.

    def check(self) -> None:
        """Raise what came in the way of reading or writing since the last check, if anything."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def commit(self) -> None:
        """Make everything written so far what a reader finds, however this ends.

        Raises
        ------
        OSError
            If the operating system refuses. Whoever opens the file then finds the last commit or
            this one, and no other can follow.
        """
        self.check()
        if self._ended:
            raise OSError("an earlier commit failed, or the file is closed")
        here = os.fstat(self._file.fileno())
        if not self.path.exists() or not os.path.samestat(here, self.path.stat()):
            raise OSError("another file has taken its place while it was written")
        disk.sync(self._file)
        extents = list(self._extents())
        journal = Journal.made(self._file, min(self._boundary, self._size), self._size, extents)
        try:
            journal.write(self.path)
        except BaseException:
            # Of what was not made durable, nothing may be left to count.
            disk.remove(partial_path(self.path))
            disk.remove(journal_path(self.path))
            raise
        # Until it is applied nothing else may reach the file, to which the journal must fit.
        self.abandon()
        journal.apply(self._file)
        disk.remove(journal_path(self.path))
        self._pages.clear()
        self._boundary = self._size
        self._ended = False

    def abandon(self) -> None:
        """Lose what was not committed: nothing more reaches the file, and nothing is committed."""
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
                    self._file.seek(at)
                    self._file.readinto(page)
            page[low - at : high - at] = view[low - start : high - start]

    def _extents(self) -> Iterator[tuple[int, bytes]]:
        """Give the pages that differ, neighbours together, up to the boundary."""
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
    """Make sure that nothing is where the journal goes."""
    for taken in (journal_path(path), partial_path(path)):
        if os.path.lexists(taken):
            raise FileExistsError(
                errno.EEXIST,
                f"{taken} is in the way, and no journal that cnatool can read. Move it elsewhere",
            )


def _spans(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Give ``(page, first byte, end)`` of the pages that a range of bytes touches."""
    for number in range(start // _PAGE, -(-stop // _PAGE) if start < stop else 0):
        yield number, max(start, number * _PAGE), min(stop, (number + 1) * _PAGE)


def _file_signs(path: Path) -> tuple[object, ...]:
    """Give what a writer's work shows in: the file's identity first, then sizes and times."""
    signs: list[object] = []
    for part in (path, journal_path(path)):
        try:
            found = part.stat()
        except OSError:
            signs += [None, None]
        else:
            signs += [(found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns)]
    return tuple(signs)
