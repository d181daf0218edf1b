"""One array of an open store, indexed like a NumPy array and verified as it is read."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.bfloat16 import memory_dtype
from cnatool._util.threads import prefetch
from cnatool.errors import StoreDamagedError
from cnatool.store.indexing import RowReader, index_rows
from cnatool.store.integrity import rows_checksum
from cnatool.store.narrow import from_stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from cnatool.records.choices import Codec
    from cnatool.records.store import ChunkChecksums
    from cnatool.store.format import ReadableArray
    from cnatool.store.identity import Identity
    from cnatool.store.indexing import Index

# Bytes of a block of `StoredArray.blocks`, of which three may be in memory.
BLOCK_BYTES = 16 << 20
# Estimated bytes of a Python string including its reference.
_TEXT_BYTES = 128


class StoredArray:
    """The committed rows of one array, read when they are indexed.

    It is indexed like a NumPy array: by row, slice, list or array of rows in any order, boolean
    mask, or a tuple of these for further axes. Only the result is held in memory.

    Parameters
    ----------
    array : ReadableArray
        The array in the store.
    ranges : tuple of (int, int)
        The row ranges to read, all committed.
    path : Path
        The store, for messages.
    checksums : ChunkChecksums or None
        Checksums of the array's committed rows; None if there are none.
    end : int
        End of the committed rows. ``ranges`` may cover fewer if another store uses the array.
    identity : Identity
        Identity of the store when it was opened.
    name : str or None
        Name of the tensor, input or output in the network; None for other arrays.
    """

    __slots__ = (
        "_array",
        "_checksums",
        "_chunk",
        "_end",
        "_identity",
        "_name",
        "_path",
        "_ranges",
        "dtype",
        "shape",
    )

    def __init__(
        self,
        array: ReadableArray,
        ranges: tuple[tuple[int, int], ...],
        path: Path,
        checksums: ChunkChecksums | None,
        end: int,
        identity: Identity,
        name: str | None = None,
    ) -> None:
        self._name = name
        self._identity = identity
        self._array = array
        self._ranges = ranges
        self._path = path
        self._checksums = checksums
        self._end = end
        # First row, and rows, of the chunk that was read last.
        self._chunk: tuple[int, NDArray[Any]] | None = None
        rows = sum(stop - start for start, stop in ranges)
        self.shape: tuple[int, ...] = (rows, *array.shape[1:])
        self.dtype: np.dtype[Any] = memory_dtype(array.dtype)

    @property
    def key(self) -> str:
        """Path of the array in the store."""
        return self._array.key

    @property
    def path(self) -> Path:
        """Path of the store."""
        return self._path

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk; reading complete chunks is fastest."""
        return self._array.chunk_rows

    @property
    def source(self) -> ReadableArray:
        """The array in the store's own format; if it is complete, all of its rows may be read."""
        return self._array

    @property
    def checksums(self) -> ChunkChecksums | None:
        """Checksums of the committed rows; None if there are none."""
        return self._checksums

    @property
    def codec(self) -> Codec | None:
        """Compression of chunks; None if it is not one of the store's codecs."""
        return self._array.codec

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<{self._array.key}{name} {self.shape} {self.dtype}>"

    def __getitem__(self, index: Index) -> Any:
        return index_rows(RowReader(self.shape, self.dtype, self._read, self.block_rows), index)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        whole: NDArray[Any] = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield ``(first row, rows)`` in order, in blocks of complete chunks, about 16 MiB each.

        The next blocks are read while the caller works on the current one.

        Parameters
        ----------
        start, stop : int
            The range of rows to read; all by default.
        """
        end = len(self) if stop is None else min(stop, len(self))
        step = self.block_rows
        starts = range(start, end, step)
        blocks = ((first, self._read(first, min(first + step, end))) for first in starts)
        return prefetch(blocks) if len(starts) > 1 else blocks

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read rows, from `start` on, into a contiguous array of their type.

        If the format allows, complete chunks are decoded directly into it.
        """
        array, stop = self._array, start + len(out)
        if len(out) and array.dtype == out.dtype:
            first, last = next(self._pieces(start, stop))
            size = 1 if self._checksums is None else self._checksums.rows
            whole = first % size == 0 and (last % size == 0 or last == self._end)
            if whole and last - first == len(out):
                with self._checking_identity():
                    array.read_into(first, out)
                    self._verify(first, out)
                return
        out[:] = self._read(start, stop)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory; an estimate for text."""
        element = _TEXT_BYTES if self.dtype.hasobject else self.dtype.itemsize
        return max(1, element * math.prod(self.shape[1:]))

    @property
    def block_rows(self) -> int:
        """Rows of a block that `blocks` yields."""
        chunk = self._array.chunk_rows
        return max(1, BLOCK_BYTES // self.row_bytes // chunk) * chunk

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        parts = [self._read_range(*piece) for piece in self._pieces(start, stop)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of rows in the store that some rows of this array are."""
        offset = 0
        for low, high in self._ranges:
            first, last = max(start, offset), min(stop, offset + high - low)
            if first < last:
                yield low + first - offset, low + last - offset
            offset += high - low

    def _read_range(self, start: int, stop: int) -> NDArray[Any]:
        with self._checking_identity():
            return self._read_chunks(start, stop)

    @contextmanager
    def _checking_identity(self) -> Iterator[None]:
        """If rows are damaged, check first whether the store was replaced."""
        try:
            yield
        except StoreDamagedError:
            self._identity.check()
            raise

    def _read_chunks(self, start: int, stop: int) -> NDArray[Any]:
        """Read all chunks that contain some rows, verify their checksums, and return these rows."""
        if self._checksums is None:
            return from_stored(self._array.read(start, stop))
        size = self._checksums.rows
        if (chunk := self._chunk) and chunk[0] <= start and stop <= chunk[0] + len(chunk[1]):
            return from_stored(chunk[1][start - chunk[0] : stop - chunk[0]], copy=True)
        first, last = start // size * size, min(-(-stop // size) * size, self._end)
        rows = self._array.read(first, last)
        self._verify(first, rows)
        if stop - start == last - first:
            return from_stored(rows)
        if last - first <= size:
            # So that reading rows one by one does not read and verify their chunk each time.
            self._chunk = first, rows
        # A copy, so that a few rows do not keep their chunks in memory.
        return from_stored(rows[start - first : stop - first], copy=True)

    def _verify(self, first: int, rows: NDArray[Any]) -> None:
        """Compare whole chunks with their checksums, if there are any."""
        if self._checksums is None:
            return
        size = self._checksums.rows
        for low in range(0, len(rows), size):
            part = rows[low : low + size]
            if rows_checksum(part) != self._checksums[(first + low) // size]:
                raise StoreDamagedError(
                    f"{self._path}: rows {first + low} to {first + low + len(part) - 1} of array "
                    f"{self._array.key} do not match their checksum in the store's attribute. Dump "
                    "again with `overwrite=True`, or restore the store from a copy. "
                    "If you changed them on purpose, "
                    "remove `checksums` of the split and `cnatool_crc32c`."
                )
