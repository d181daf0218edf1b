"""Arrays whose rows vary in length: ``values``, all rows behind one another, and ``offsets``.

Row i is ``values[offsets[i]:offsets[i + 1]]``. Both are plain arrays with chunks and checksums like
all others, and the protocol of commits is that of all others, but for two things:

- A commit falls after a number of samples, and their values hardly ever end where a chunk does. So
  at a commit the last chunk of each array is written although it is not full, and again, with the
  same beginning, once more rows follow. In Zarr the new chunk goes behind all others of its shard
  and the next index lists it (`cnatool.store.zarr.array`); in HDF5 the journal replaces it; in a
  bucket the last shard is put again, longer. Either version begins with the committed values. Where
  they end, the committed rows and ``offsets`` tell, and checksums cover no value behind them. The
  alternative, to commit only rows whose values fill whole chunks, would put a commit off for as
  long as samples are short: a camera that sees nothing for hours.
- Nobody knows how many values there will be. So ``values`` grows, as all arrays of a recording do:
  its shape, in Zarr, has room for any number until the split is complete, and is set then. No
  reader needs it before, as ``offsets`` end at the last committed value.

The old version of a chunk stays in its shard. A chunk therefore takes no more values than samples
as long as the first ones have between two commits, or 16 KiB: what is written twice is at most as
much again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cnatool.errors import MetricError, StoreDamagedError
from cnatool.records.layout import offsets_key, values_key
from cnatool.records.ragged import Ragged, as_index, as_row, split_index
from cnatool.store.chunks import ChunkedArray, offsets_chunk_rows, values_chunk_rows
from cnatool.store.stored_array import BLOCK_BYTES, StoredArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from cnatool.records.choices import Codec
    from cnatool.records.layout import ArraySpec
    from cnatool.records.store import ChunkChecksums, SplitRecord
    from cnatool.store.format import WritableArray

# Offsets that are looked at together.
_OFFSETS = 8192


class RaggedArray:
    """The committed rows of an array whose rows vary in length, read when they are indexed.

    An integer selects one sample, as an array, and further indices select its elements: ``[7, 0]``
    is the first row of sample 7. A slice, a list of rows or a boolean mask selects several samples,
    as a `Ragged`, which has ``values`` and ``offsets``. Only the selected samples are held in
    memory.

    Attributes
    ----------
    values : StoredArray
        The concatenated samples, (total, …); the axis along which they differ comes first.
    offsets : StoredArray
        Offsets of the samples in the values, (n + 1,) int64.
    axis : int
        Position of that axis in the shape of one sample.
    """

    __slots__ = ("_name", "_ranges", "axis", "offsets", "values")

    def __init__(
        self,
        values: StoredArray,
        offsets: StoredArray,
        ranges: tuple[tuple[int, int], ...],
        axis: int,
        name: str | None = None,
    ) -> None:
        self.values = values
        self.offsets = offsets
        self.axis = axis
        # The row ranges to read, all committed.
        self._ranges = ranges
        self._name = name

    @property
    def name(self) -> str:
        """Name of the tensor, input or output, quoted, or the key of the array."""
        return self.values.key.rpartition("/")[0] if self._name is None else repr(self._name)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        return self.values.dtype

    @property
    def rest(self) -> tuple[int, ...]:
        """Shape of one sample without the axis along which samples differ."""
        return self.values.shape[1:]

    @property
    def chunk_rows(self) -> int:
        """1, because chunks of values begin and end independently of rows."""
        return 1

    @property
    def codec(self) -> Codec | None:
        """Compression of the values; None if it is not one of the store's codecs."""
        return self.values.codec

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each sample along the axis, (n,)."""
        lengths = [np.diff(self._offsets(low, high)) for low, high in self._ranges]
        return np.concatenate(lengths) if lengths else np.empty(0, np.int64)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory, on average."""
        return max(1, self.values.row_bytes * len(self.values) // max(1, len(self)))

    def __len__(self) -> int:
        return sum(high - low for low, high in self._ranges)

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        sizes = [str(size) for size in self.rest]
        sizes.insert(self.axis, "…")
        key = self.values.key.rpartition("/")[0]
        return f"<{key}{name}: {len(self)} samples of ({', '.join(sizes)}) {self.dtype}>"

    @overload
    def __getitem__(self, index: int | tuple[Any, ...]) -> Any: ...
    @overload
    def __getitem__(self, index: slice | ArrayLike) -> Ragged: ...
    def __getitem__(self, index: int | tuple[Any, ...] | slice | ArrayLike) -> Any:
        index, inside = split_index(index)
        if isinstance(index, int | np.integer):
            row = as_row(index, len(self), self.name)
            return self._read(row, row + 1)[(0, *inside)]
        rows: NDArray[np.intp] = np.arange(len(self))[as_index(index)]
        if not len(rows):
            return self._read(0, 0)
        if (np.diff(rows) == 1).all():
            return self._read(int(rows[0]), int(rows[-1]) + 1)
        wanted, places = np.unique(rows, return_inverse=True)
        ends = np.flatnonzero(np.diff(wanted) > 1) + 1
        runs = np.split(wanted, ends)
        parts = [self._read(int(run[0]), int(run[-1]) + 1) for run in runs]
        return Ragged.concatenate(parts)[places]

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Ragged]]:
        """Yield ``(first row, rows)`` in order, in blocks of about 16 MiB, at least one sample.

        Parameters
        ----------
        start, stop : int
            The range of rows to read; all by default.
        """
        end = len(self) if stop is None else min(stop, len(self))
        while start < end:
            last = self.end_of_block(start, end)
            yield start, self._read(start, last)
            start = last

    def end_of_block(self, start: int, stop: int) -> int:
        """Return the end of a block that begins at `start` and ends at `stop` or earlier."""
        stop = min(start + _OFFSETS, stop)
        ends = self._read_lengths(start, stop).cumsum()
        fits = np.searchsorted(ends * self.values.row_bytes, BLOCK_BYTES, side="right")
        return min(stop, start + max(1, int(fits)))

    def _read_lengths(self, start: int, stop: int) -> NDArray[np.int64]:
        pieces = [np.diff(self._offsets(low, high)) for low, high in self._pieces(start, stop)]
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def _read(self, start: int, stop: int) -> Ragged:
        parts = []
        for low, high in self._pieces(start, stop):
            offsets = self._offsets(low, high)
            values = self.values[int(offsets[0]) : int(offsets[-1])]
            parts.append(Ragged(values, offsets - offsets[0], self.axis))
        if not parts:
            values = np.empty((0, *self.rest), self.dtype)
            return Ragged(values, np.zeros(1, np.int64), self.axis)
        return Ragged.concatenate(parts)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of rows in the store that some rows of this array are."""
        offset = 0
        for low, high in self._ranges:
            first, last = max(start, offset), min(stop, offset + high - low)
            if first < last:
                yield low + first - offset, low + last - offset
            offset += high - low

    def _offsets(self, low: int, high: int) -> NDArray[np.int64]:
        """Read the offsets of rows in the store; StoreDamagedError unless they ascend."""
        offsets: NDArray[np.int64] = self.offsets[low : high + 1]
        begins = low > 0 or offsets[0] == 0
        inside = begins and offsets[0] >= 0 and offsets[-1] <= len(self.values)
        if inside and not (np.diff(offsets) < 0).any():
            return offsets
        raise StoreDamagedError(
            f"{self.offsets.path}: rows {low} to {high - 1} of array {self.offsets.key} do not "
            f"ascend from 0 to at most {len(self.values)}, the length of `values`. "
            "Dump again with `overwrite=True`, or "
            "restore the store from a copy."
        )


class ChunkedRagged:
    """Collects rows of varying length; as `ChunkedArray` does others.

    ``written`` counts the rows, all of which a commit may count after `publish`.
    """

    __slots__ = ("_end", "_offsets", "_values", "axis", "written")

    def __init__(
        self, values: ChunkedArray, offsets: ChunkedArray, axis: int, written: int = 0, end: int = 0
    ) -> None:
        self._values = values
        self._offsets = offsets
        self.axis = axis
        self.written = written
        self._end = end

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the values in the store."""
        return self._values.dtype

    def append(self, rows: Ragged, *, borrowed: bool = False) -> None:
        """Add rows and write the chunks that they fill."""
        self._append_offsets(rows.offsets[1:])
        self._values.append(rows.values, borrowed=borrowed)
        self._end += len(rows.values)

    def copy(self, rows: RaggedArray) -> None:
        """Add all rows of a complete array, whole chunks of values as they are encoded there."""
        for _, block in rows.offsets.blocks(1):
            self._append_offsets(block)
        self._values.copy(rows.values)
        self._end += len(rows.values)

    def publish(self) -> None:
        """Write what is collected; the last chunks are written again once more rows follow."""
        self._begin()
        self._values.publish()
        self._offsets.publish()

    def flush(self) -> None:
        """Write what is collected; nothing can follow."""
        self._begin()
        self._values.flush()
        self._offsets.flush()

    def checksums(self, key: str, rows: int) -> dict[str, ChunkChecksums]:
        """Return the checksums of all rows by the keys of the arrays, as far as they are known."""
        assert rows == self.written  # a commit counts all rows that were published
        values = self._values.checksums(values_key(key), self._end)
        return values | self._offsets.checksums(offsets_key(key), rows + 1)

    def final_rows(self, key: str, *, grows: bool) -> dict[str, int]:
        """Return the final number of rows of the arrays that grew, by key.

        The number of samples was unknown if the split ``grows``.
        """
        offsets = {offsets_key(key): self.written + 1} if grows else {}
        return {values_key(key): self._end} | offsets

    def _append_offsets(self, offsets: NDArray[np.int64]) -> None:
        """Add the offsets of the ends of further rows among their own values."""
        self._begin()
        self._offsets.append(offsets + self._end)
        self.written += len(offsets)

    def _begin(self) -> None:
        """Write the first offset, which is 0."""
        if not self._offsets.rows:
            self._offsets.append(np.zeros(1, np.int64))


def create_ragged(
    create: Callable[..., WritableArray],
    folder: str,
    spec: ArraySpec,
    samples: int,
    rows: int | None,
    commit: int,
    *,
    grows: bool,
) -> ChunkedRagged:
    """Create the arrays of rows that vary in length, with `Tree.create_array`.

    ``samples`` is the number of samples in a chunk if all were as long as the first ones, and
    ``rows`` the number of all, if that is known.
    """
    assert spec.ragged_axis is not None
    values, offsets = spec.stored
    length = spec.shape[spec.ragged_axis]
    sizes = values_chunk_rows(values.row_bytes, samples, length), offsets_chunk_rows(rows, commit)
    shapes = (0, *values.shape), ((rows or 0) + 1,)
    chunked = []
    for each, shape, size in zip((values, offsets), shapes, sizes, strict=True):
        array = create(
            f"{folder}/{each.key}",
            shape,
            each.dtype,
            size,
            axes=each.dimensions,
            name=each.name,
            grows=grows or each is values,
            extends=True,
        )
        chunked.append(ChunkedArray(array, each.dtype))
    return ChunkedRagged(chunked[0], chunked[1], spec.ragged_axis)


def reopen_ragged(
    reopen: Callable[..., WritableArray],
    folder: str,
    spec: ArraySpec,
    rows: RaggedArray,
    record: SplitRecord,
) -> ChunkedRagged:
    """Open the arrays of a split's committed rows to write those that follow.

    ``reopen`` is `Tree.reopen_array`. The rows of the last chunks are read, as these are written
    again.
    """
    goes_on = not record.complete
    chunked = []
    for each, stored in zip(spec.stored, (rows.values, rows.offsets), strict=True):
        grows = goes_on and (record.skips or stored is rows.values)
        committed = len(stored)
        array = reopen(f"{folder}/{each.key}", committed, grows=grows, extends=goes_on)
        whole = committed - committed % stored.chunk_rows if goes_on else committed
        known = stored.checksums
        checksums = None if committed else b""
        if known is not None:
            checksums = bytes.fromhex(known.crc32c)[: 4 * -(-whole // stored.chunk_rows)]
        chunked.append(ChunkedArray(array, each.dtype, whole, checksums))
        chunked[-1].append(stored[whole:], borrowed=True)
    values, offsets = chunked
    return ChunkedRagged(values, offsets, rows.axis, len(rows), len(rows.values))


def as_plain(array: StoredArray | RaggedArray) -> StoredArray:
    """Return an array of one shape; MetricError if its samples differ in length."""
    if isinstance(array, RaggedArray):
        raise MetricError(
            f"{array.values.path}: samples of {array.name} differ in length, but this computation "
            "needs samples of one shape."
        )
    return array
