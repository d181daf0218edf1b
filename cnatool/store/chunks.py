"""Rows per chunk and per commit, and the buffering of rows to whole chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.store.integrity import rows_checksum
from cnatool.store.zarr.compression import COMPRESSORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.store.format import WritableArray

_MIB = 1 << 20
_LARGEST_CHUNK = 4 * _MIB
_SMALLEST_CHUNK = 64 * 1024
# Most bytes of the chunk buffers of one split together.
_BUFFERS = 256 * _MIB
# Most bytes of rows that a crash loses.
_COMMIT = 1024 * _MIB
_MOST_ROWS = 8192


def commit_rows(row_bytes: Sequence[int], most: int | None = None) -> int:
    """Choose the rows between two commits: a power of two, fewer for large rows, at most ``most``.

    ``row_bytes`` has the bytes of one row of each array of a split.
    """
    rows = min(_COMMIT // max(1, sum(row_bytes)), most or _MOST_ROWS)
    return _power_of_two(min(_MOST_ROWS, max(64, rows)))


def chunk_rows(row_bytes: Sequence[int], rows: int | None, most: int | None = None) -> list[int]:
    """Choose the rows of a chunk for each array: powers of two that divide `commit_rows`.

    A chunk has up to 4 MiB, less if buffering a chunk of every array would take more than 256 MiB.
    If one chunk holds the whole split, it has just its rows; ``rows`` is None if they are unknown.
    """
    target = min(_LARGEST_CHUNK, max(_SMALLEST_CHUNK, _BUFFERS // max(1, len(row_bytes))))
    commit = commit_rows(row_bytes, most)
    sizes = (_power_of_two(min(commit, max(1, target // max(1, size)))) for size in row_bytes)
    return [size if rows is None else min(size, rows) for size in sizes]


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)


class ChunkedArray:
    """Collects rows until they fill chunks, so that no chunk is ever written twice.

    ``written`` counts the rows in the array; ``checksums`` has the CRC-32C of each chunk of them,
    four bytes each, or is None if they are unknown.
    """

    __slots__ = ("_array", "_buffer", "_checksums", "_filled", "dtype", "written")

    def __init__(
        self,
        array: WritableArray,
        dtype: np.dtype[Any] | type[str],
        written: int = 0,
        checksums: bytes | None = b"",
    ) -> None:
        self._array = array
        self.dtype = np.dtype(object) if dtype is str else np.dtype(dtype)
        self._buffer: NDArray[Any] = np.empty((array.chunk_rows, *array.shape[1:]), self.dtype)
        self._filled = 0
        self.written = written
        # Rows without elements need none.
        known = checksums is not None and 0 not in array.shape[1:]
        self._checksums = bytearray(checksums or b"") if known else None

    @property
    def chunk_rows(self) -> int:
        """Rows per chunk."""
        return self._array.chunk_rows

    def checksums(self, rows: int) -> bytes | None:
        """Return the CRC-32C of each chunk of the first rows; None if they are unknown."""
        if self._checksums is None:
            return None
        return bytes(self._checksums[: 4 * -(-rows // self.chunk_rows)])

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows and write the chunks that they fill."""
        size = self._array.chunk_rows
        start = 0
        while start < len(rows):
            if self._filled == 0 and len(rows) - start >= size:
                whole = (len(rows) - start) // size * size
                self._write(rows[start : start + whole])
                start += whole
                continue
            count = min(size - self._filled, len(rows) - start)
            self._buffer[self._filled : self._filled + count] = rows[start : start + count]
            self._filled += count
            start += count
            if self._filled == size:
                self.flush()

    def flush(self) -> None:
        """Write the collected rows; after less than a chunk nothing can follow."""
        if self._filled:
            self._write(self._buffer[: self._filled])
            self._filled = 0

    def _write(self, rows: NDArray[Any]) -> None:
        rows = rows.astype(self.dtype, copy=False)
        if self._checksums is not None:
            # Computed before the rows are written, to detect errors on the way to the disk.
            for start in range(0, len(rows), self.chunk_rows):
                self._checksums += rows_checksum(rows[start : start + self.chunk_rows])
        self._array.write(self.written, rows)
        self.written += len(rows)


def encoded_bytes(rows: NDArray[Any], codec: Codec) -> int:
    """Return the size in bytes of rows of one array as the store encodes them."""
    encode = COMPRESSORS[codec].encode
    if rows.dtype.hasobject:
        texts = [str(text).encode() for text in rows]
        return len(encode(b"".join(len(t).to_bytes(4, "little") + t for t in texts)))
    return len(encode(np.ascontiguousarray(rows)))
