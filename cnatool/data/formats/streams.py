"""Rows of one dtype and shape, streamed out of any file that can be read from front to back.

IDX, ``.npy`` and members of ``.npz``, compressed or not, are all a header and then the rows. What
differs is found at opening and kept in a `RowArray`; reading is the same and is written here once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from cnatool._util.text import one_line, printable
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from numpy.typing import NDArray

Opener = Callable[[], AbstractContextManager[BufferedIOBase]]

# What reading raises where a file, or the compressed stream in it, is cut short or damaged.
# gzip.BadGzipFile is an OSError.
READ_ERRORS = (EOFError, OSError, zlib.error, BadZipFile)

# Decompressors build what they return as one bytes object: a small chunk keeps that off the peak.
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class StreamedRows:
    """Where rows lie and what they are.

    Attributes
    ----------
    where : str
        File, and array in it, for messages.
    dtype : numpy.dtype
        Element type as stored, in any byte order.
    rows, shape : int, tuple of int
        Number of rows and the shape of one.
    offset : int
        Bytes before the first row in what ``open`` gives.
    open : callable
        Gives a fresh binary file as a context manager.
    """

    where: str
    dtype: np.dtype[Any]
    rows: int
    shape: tuple[int, ...]
    offset: int
    open: Opener

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        size = self.dtype.itemsize
        for dim in self.shape:
            size *= dim
        return size

    @property
    def end(self) -> int:
        """Bytes from the start of the file to the end of the last row."""
        return self.offset + self.rows * self.row_bytes

    def check_size(self, size: int) -> None:
        """Compare with the bytes that are there.

        Raises
        ------
        DataError
            If rows are missing, or something follows the last one.
        """
        if size < self.end:
            whole = max(0, size - self.offset) // self.row_bytes
            raise DataError(
                f"{self.where} is cut short: it promises {self.rows} rows and holds {whole}. Get a "
                "whole copy of the file."
            )
        if size > self.end:
            raise self._trailing()

    def read(self, ranges: Iterable[tuple[int, int]]) -> Generator[NDArray[Any]]:
        """Read consecutive row ranges, the first of which starts at row 0.

        Yields
        ------
        ndarray
            A fresh C-contiguous array (stop - start, *shape) in native byte order.

        Raises
        ------
        DataError
            Naming the first row that is not there, or not as its checksum says.
        """
        row = 0
        try:
            with self.open() as file:
                _skip(file, self.offset)
                for row, stop in ranges:
                    block = np.empty((stop - row, *self.shape), self.dtype)
                    for done in _fill(file, block.reshape(-1).view(np.uint8).data):
                        row = stop - block.shape[0] + done // self.row_bytes
                    # Reading on past the last row also makes gzip and zip compare checksums:
                    # before the last block is handed out.
                    if stop == self.rows and file.read(1):
                        raise self._trailing()
                    yield self._native(block)
        except READ_ERRORS as error:
            raise DataError(
                f"{self.where} is cut short or damaged at row {row} of {self.rows} "
                f"({printable(one_line(error))}). Get a whole copy of the file."
            ) from error

    def _native(self, block: NDArray[Any]) -> NDArray[Any]:
        if self.dtype.kind == "b" and block.view(np.uint8).max() > 1:
            raise DataError(f"{self.where} is damaged: it is boolean and holds bytes above 1.")
        if self.dtype.isnative:
            return block
        return block.byteswap(inplace=True).view(self.dtype.newbyteorder("="))

    def _trailing(self) -> DataError:
        return DataError(
            f"{self.where} holds more bytes than the {self.rows} rows that its header promises. "
            "Get a whole copy of the file, or save it again."
        )


def count_bytes(file: BufferedIOBase) -> int:
    """Read a file to its end in bounded memory and say how many bytes it had."""
    size = 0
    while chunk := file.read(_CHUNK):
        size += len(chunk)
    return size


def _fill(file: BufferedIOBase, view: memoryview) -> Iterator[int]:
    """Fill ``view``, giving after each chunk how many bytes of it are there."""
    done = 0
    while done < len(view):
        # readinto1, not readinto: a stream that breaks hands over what it has before it raises,
        # so that the row named is the row that is missing.
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
