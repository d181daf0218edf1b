"""Rows per chunk and per commit, and the buffering of rows to whole chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.records.store import ChunkChecksums
from cnatool.store.chunk import Chunk
from cnatool.store.narrow import to_stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.store.format import WritableArray
    from cnatool.store.stored_array import StoredArray

_MIB = 1 << 20
# Small enough that a block of a dump fills chunks of large tensors, whose rows need no copy then.
_LARGEST_CHUNK = _MIB
_SMALLEST_CHUNK = 64 * 1024
# Fewest bytes of a chunk of values of samples that differ in length.
_LEAST_VALUES = 16 * 1024
# Most bytes of the chunk buffers of one split together.
_BUFFERS = 256 * _MIB
# Most bytes of rows that a crash loses.
_COMMIT = 1024 * _MIB
_MOST_ROWS = 65_536
# Most rows of a chunk; and between two commits where nobody knows how long these rows take.
_MOST_CHUNK_ROWS = 8192
# Bytes of rows that are worth keeping where they are, instead of copying them to a buffer.
_LARGE_PART = 64 * 1024


def commit_rows(row_bytes: Sequence[int], most: int | None = None) -> int:
    """Choose the rows between two commits: a power of two, fewer for large rows.

    ``row_bytes`` has the bytes of one row of each array of a split, and ``most`` the most rows that
    may be lost, if that is known.
    """
    rows = min(_COMMIT // max(1, sum(row_bytes)), _MOST_CHUNK_ROWS if most is None else most)
    return _power_of_two(min(_MOST_ROWS, max(64, rows)))


def chunk_rows(row_bytes: Sequence[int], rows: int | None, most: int | None = None) -> list[int]:
    """Choose the rows of a chunk for each array: powers of two that divide `commit_rows`.

    A chunk has up to 1 MiB, less if buffering a chunk of every array would take more than 256 MiB.
    If one chunk holds the whole split, it has just its rows; ``rows`` is None if they are unknown.
    """
    target = min(_LARGEST_CHUNK, max(_SMALLEST_CHUNK, _BUFFERS // max(1, len(row_bytes))))
    commit = min(_MOST_CHUNK_ROWS, commit_rows(row_bytes, most))
    sizes = (_power_of_two(min(commit, max(1, target // max(1, size)))) for size in row_bytes)
    return [size if rows is None else min(size, rows) for size in sizes]


def values_chunk_rows(row_bytes: int, rows: int, length: int) -> int:
    """Choose the values of a chunk, if samples are a number of values long; a power of two.

    They are those of ``rows`` samples, as many as a chunk would hold if all had that length, so
    that a commit seldom comes before a chunk is full; but 16 KiB at least, since samples may turn
    out longer than the first ones. ``row_bytes`` are the bytes of one value.
    """
    least, most = (size // max(1, row_bytes) for size in (_LEAST_VALUES, _LARGEST_CHUNK))
    return _power_of_two(max(1, least, min(rows * length, most)))


def offsets_chunk_rows(rows: int | None, most: int) -> int:
    """Choose the offsets of a chunk: at most those of a commit's rows, or all."""
    size = min(_MOST_CHUNK_ROWS, most)
    return size if rows is None else min(size, rows + 1)


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)


class ChunkedArray:
    """Collects rows until they fill chunks, so that none is written twice, except by `publish`.

    ``written`` counts the rows in full chunks of the array, or all of them after `flush`;
    ``checksums`` has the CRC-32C of each chunk of them, four bytes each, or is None if they are
    unknown.
    """

    __slots__ = (
        "_array",
        "_buffer",
        "_buffered",
        "_checksums",
        "_collected",
        "_parts",
        "_unfinished",
        "dtype",
        "written",
    )

    def __init__(
        self,
        array: WritableArray,
        dtype: np.dtype[Any] | type[str],
        written: int = 0,
        checksums: bytes | None = b"",
    ) -> None:
        self._array = array
        self.dtype = np.dtype(object) if dtype is str else np.dtype(dtype)
        # The collected rows, in order: arrays of the caller, and slices of the buffer.
        self._parts: list[NDArray[Any]] = []
        self._collected = 0
        self._buffer: NDArray[Any] | None = None
        # First row of the last part, if that is a slice of the buffer.
        self._buffered: int | None = None
        self.written = written
        # Number of collected rows that were published, and the checksum of their chunk.
        self._unfinished = 0, b""
        # Rows without elements need none.
        known = checksums is not None and 0 not in array.shape[1:]
        self._checksums = bytearray(checksums or b"") if known else None

    @property
    def chunk_rows(self) -> int:
        """Rows per chunk."""
        return self._array.chunk_rows

    @property
    def rows(self) -> int:
        """Rows that were added, also those that are collected."""
        return self.written + self._collected

    def checksums(self, key: str, rows: int) -> dict[str, ChunkChecksums]:
        """Return the checksums of the first rows, which were written, by the array's key, if known.

        A chunk with room for more rows than exist counts as one of these rows.
        """
        if self._checksums is None:
            return {}
        size = self.chunk_rows
        known = (bytes(self._checksums) + self._unfinished[1])[: 4 * -(-rows // size)]
        return {key: ChunkChecksums(max(1, min(size, rows)), known.hex())}

    def final_rows(self, key: str, *, grows: bool) -> dict[str, int]:
        """Return the final number of rows by the array's key, if it ``grows``."""
        return {key: self.written} if grows else {}

    def append(self, rows: NDArray[Any], *, borrowed: bool = False) -> None:
        """Add rows and write the chunks that they fill.

        Others are kept for the next chunk, without a copy if they are many and stored uncompressed;
        ``borrowed`` rows, which the caller may change afterwards, are always copied.
        """
        rows = to_stored(rows, self.dtype)
        size = self.chunk_rows
        first = min(size - self._collected, len(rows)) if self._collected else 0
        end = len(rows) - (len(rows) - first) % size
        self._collect(rows[:first], borrowed=borrowed)
        if self._collected == size:
            self.flush()
        self._write([Chunk.of([rows[at : at + size]]) for at in range(first, end, size)])
        self._collect(rows[end:], borrowed=borrowed)

    def copy(self, rows: StoredArray) -> None:
        """Add all rows of a complete array, whole chunks as they are encoded there if possible.

        Its checksums are copied with the chunks.
        """
        done, size, known = 0, self.chunk_rows, rows.checksums
        aligned = rows.chunk_rows == size and not self._collected
        if known is not None and self._checksums is not None and aligned:
            ends = self.written + len(rows) == self._array.shape[0]
            count = -(-len(rows) // size) if ends else len(rows) // size
            if self._array.copy(self.written, rows.source, count):
                done = min(count * size, len(rows))
                self._checksums += bytes.fromhex(known.crc32c)[: 4 * count]
                self.written += done
        for _, block in rows.blocks(done):
            self.append(block)

    def publish(self) -> None:
        """Write the collected rows to a chunk that is written again once more rows follow.

        A chunk only ever grows, so whoever knows how many of its rows count finds them in either.
        """
        if self._collected != self._unfinished[0]:
            chunk = Chunk.of(self._parts)
            self._array.write(self.written, [chunk])
            self._unfinished = self._collected, chunk.crc.to_bytes(4, "big")

    def flush(self) -> None:
        """Write the collected rows; after less than a chunk nothing can follow."""
        if self._collected:
            self._write([Chunk.of(self._parts)])
            self._parts.clear()
            self._collected, self._buffered = 0, None

    def _collect(self, rows: NDArray[Any], *, borrowed: bool) -> None:
        if not len(rows):
            return
        start, self._collected = self._collected, self._collected + len(rows)
        if self._array.codec == "none" and rows.nbytes >= _LARGE_PART and not borrowed:
            self._parts.append(rows)
            self._buffered = None
            return
        if self._buffer is None:
            self._buffer = np.empty((self.chunk_rows, *rows.shape[1:]), self.dtype)
        self._buffer[start : self._collected] = rows
        if self._buffered is None:
            self._buffered = start
        else:
            self._parts.pop()
        self._parts.append(self._buffer[self._buffered : self._collected])

    def _write(self, chunks: Sequence[Chunk]) -> None:
        if not chunks:
            return
        self._unfinished = 0, b""
        if self._checksums is not None:
            # Computed before the rows are written, to detect errors on the way to the disk.
            self._checksums += b"".join(chunk.crc.to_bytes(4, "big") for chunk in chunks)
        self._array.write(self.written, chunks)
        self.written += sum(chunk.rows for chunk in chunks)
