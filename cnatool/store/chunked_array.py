"""An array being written that takes rows in batches of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.store.integrity import rows_checksum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.store.tree import WritableArray

__all__ = ["ChunkedArray"]


class ChunkedArray:
    """Collects rows until they fill chunks, so that no chunk is ever written twice.

    Parameters
    ----------
    array : WritableArray
        Where the chunks go.
    dtype : numpy.dtype or type of str
        Element type of the rows; ``str`` for text.
    written : int
        Rows that are there already.
    checksums : bytes or None
        CRC-32C of each chunk of these rows, four bytes each; None if they are not known.

    Attributes
    ----------
    written : int
        Rows that went to the array.
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
        """Give the CRC-32C of each chunk of the first rows; None if they are not known."""
        if self._checksums is None:
            return None
        return bytes(self._checksums[: 4 * -(-rows // self.chunk_rows)])

    def append(self, rows: NDArray[Any]) -> None:
        """Take rows, and write the chunks that they fill."""
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
        """Write what was collected, be it less than a chunk: nothing can follow then."""
        if self._filled:
            self._write(self._buffer[: self._filled])
            self._filled = 0

    def _write(self, rows: NDArray[Any]) -> None:
        rows = rows.astype(self.dtype, copy=False)
        if self._checksums is not None:
            # Taken before the rows are written, so that errors on the way to the disk are noticed.
            for start in range(0, len(rows), self.chunk_rows):
                self._checksums += rows_checksum(rows[start : start + self.chunk_rows])
        self._array.write(self.written, rows)
        self.written += len(rows)
