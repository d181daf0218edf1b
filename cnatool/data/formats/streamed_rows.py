"""Rows of one dtype and shape, streamed from any file that can be read from front to back.

IDX, ``.npy`` and members of ``.npz``, compressed or not, are a header and then the rows. What
differs is found when they are opened and kept in `StreamedRows`; reading is the same for all.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from zipfile import BadZipFile

import numpy as np

from cnatool.data.read_errors import read_error
from cnatool.data.source import COPY_ADVICE
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Opener = Callable[[], AbstractContextManager[BufferedIOBase]]

# What reading raises if a file, or the compressed stream in it, is cut short or damaged.
# gzip.BadGzipFile is an OSError.
READ_ERRORS = (EOFError, OSError, zlib.error, BadZipFile)

# Decompressors build what they return as one bytes object: a small chunk keeps that off the peak.
_CHUNK = 1 << 20
_GZIP_SIGNATURE = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class StreamedRows:
    """Rows that follow each other in a file."""

    where: str  # file, and array in it, for messages
    dtype: np.dtype[Any]  # as stored, in any byte order
    rows: int  # number of rows, and shape of one
    shape: tuple[int, ...]
    offset: int  # bytes before the first row
    open: Opener  # opens the binary file, as a context manager
    outline: str = ""  # a checksum that comes with the file, if there is one

    @property
    def row_bytes(self) -> int:
        """Size of a row in bytes."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def end(self) -> int:
        """Bytes from the start of the file to the end of the last row."""
        return self.offset + self.rows * self.row_bytes

    def check_size(self, size: int) -> None:
        """Refuse a file of ``size`` bytes if rows are missing or more follows the last one."""
        if size < self.end:
            whole = max(0, size - self.offset) // self.row_bytes
            raise DataError(
                f"{self.where} is cut short: its header declares {self.rows} rows, and it holds "
                f"{whole}. {COPY_ADVICE}"
            )
        if size > self.end:
            raise self._trailing_bytes()

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[NDArray[Any]]:
        """Read consecutive row ranges.

        Yields
        ------
        ndarray
            A new C-contiguous array (stop - start, *shape) in native byte order.

        Raises
        ------
        DataError
            Naming the first row that is missing or does not match its checksum.
        """
        row = ranges[0][0] if ranges else 0
        try:
            with self.open() as file:
                _skip(file, self.offset)
                if file.seekable():
                    # Of a plain file, nothing before the first row is read.
                    file.seek(row * self.row_bytes, os.SEEK_CUR)
                else:
                    _skip(file, row * self.row_bytes)
                for row, stop in ranges:
                    block = np.empty((stop - row, *self.shape), self.dtype)
                    for done in _fill(file, block.reshape(-1).view(np.uint8).data):
                        row = stop - block.shape[0] + done // self.row_bytes
                    # Reading on past the last row also makes gzip and zip compare checksums:
                    # before the last block is handed out.
                    if stop == self.rows and file.read(1):
                        raise self._trailing_bytes()
                    yield self._to_native(block)
        except READ_ERRORS as error:
            problem = f"is cut short or damaged at row {row} of {self.rows}"
            raise read_error(self.where, error, problem=problem) from error

    def _to_native(self, block: NDArray[Any]) -> NDArray[Any]:
        if self.dtype.kind == "b" and block.view(np.uint8).max() > 1:
            raise DataError(f"{self.where} is damaged: it is boolean and holds bytes above 1.")
        if self.dtype.isnative:
            return block
        return block.byteswap(inplace=True).view(self.dtype.newbyteorder("="))

    def _trailing_bytes(self) -> DataError:
        return DataError(
            f"{self.where} holds more bytes than the {self.rows} rows that its header declares. "
            "Get a complete copy of the file, or save it again."
        )


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed by gzip, by its content."""
    with path.open("rb") as file:
        return _starts_gzip(file)


def read_gzip_checksum(path: Path) -> str:
    """Read the checksum and the size at the end of a file that is compressed by gzip."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        return file.read().hex()


def _starts_gzip(file: BinaryIO) -> bool:
    return file.read(len(_GZIP_SIGNATURE)) == _GZIP_SIGNATURE


def open_maybe_gzip(path: Path) -> BufferedIOBase:
    """Open a file, decompressing it if it is compressed by gzip."""
    file = path.open("rb")
    try:
        compressed = _starts_gzip(file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    if not compressed:
        return cast("BufferedIOBase", file)
    stream = gzip.GzipFile(fileobj=file)
    # Closed with the stream, as if that had opened it.
    cast("Any", stream).myfileobj = file
    return cast("BufferedIOBase", stream)


def count_bytes(file: BufferedIOBase) -> int:
    """Read a file to its end in bounded memory, and count its bytes."""
    size = 0
    while chunk := file.read(_CHUNK):
        size += len(chunk)
    return size


def _fill(file: BufferedIOBase, view: memoryview) -> Iterator[int]:
    """Fill ``view``, yielding after each chunk how many bytes of it are filled."""
    done = 0
    while done < len(view):
        # readinto1, not readinto: a stream that breaks returns what it has before it raises, so
        # that the row named is the row that is missing.
        got = file.readinto1(view[done : done + _CHUNK])
        if not got:
            raise EOFError("the file ends early")
        done += got
        yield done


def _skip(file: BufferedIOBase, size: int) -> None:
    while size > 0:
        got = len(file.read(min(size, _CHUNK)))
        if not got:
            raise EOFError("the file ends in its header")
        size -= got
