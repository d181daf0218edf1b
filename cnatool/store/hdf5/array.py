"""Arrays of an HDF5 store: whole chunks go in, row ranges come out.

Chunks are encoded byte for byte as HDF5 does it, because HDF5 admits one thread at a time; HDF5
decodes them itself.
"""

from __future__ import annotations

import itertools
import math
import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cnatool._util.bfloat16 import BFLOAT16
from cnatool._util.text import one_line
from cnatool.errors import DataError, StoreDamagedError
from cnatool.store.hdf5.element_types import number_dtype, read_bits
from cnatool.store.hdf5.file import is_text
from cnatool.store.hdf5.fletcher32 import fletcher32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool._util.files import Buffer
    from cnatool.records.choices import Codec
    from cnatool.store.chunk import Chunk
    from cnatool.store.format import ReadableArray
    from cnatool.store.hdf5.file import HDF5File

# Of zlib, for numbers and for text.
LEVEL = 1


class HDF5Array:
    """One array of an HDF5 file; StoreDamagedError if it is missing or unreadable."""

    def __init__(self, file: HDF5File, key: str) -> None:
        self._file = file
        self.key = key
        self._generation = -1
        dataset = self._open()
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype = np.dtype(object) if is_text(dataset) else number_dtype(dataset)
        self.chunk_rows = int(dataset.chunks[0]) if dataset.chunks else 1

    @property
    def commit_rows(self) -> int:
        """Fewest rows that can be committed on their own."""
        return self.chunk_rows

    @property
    def codec(self) -> Codec | None:
        """How chunks are compressed; None for text, which always is, and without chunks."""
        dataset = self._open()
        if dataset.chunks is None or is_text(dataset):
            return None
        return "gzip" if dataset.compression else "none"

    def _open(self) -> h5py.Dataset:
        """Return the dataset; open it again if the file was reopened."""
        if self._generation != self._file.generation:
            self._dataset = self._file.dataset(self.key)
            self._chunks: dict[int, int] | None = None
            self._generation = self._file.generation
        return self._dataset

    def write(self, start: int, chunks: Sequence[Chunk]) -> None:
        """Write chunks from row ``start`` on, which is a multiple of ``chunk_rows``.

        Raises DataError if a text is longer than the array allows. One thread at a time is inside
        HDF5. (h5py before 3.16 does not ensure this when a chunk is written directly and the driver
        is Python, which other threads may interrupt; so its lock is taken here.)
        """
        dataset = self._open()
        if 0 in self.shape[1:]:
            return
        end = start + sum(chunk.rows for chunk in chunks)
        if end > self.shape[0]:
            self.resize(end)
        rest = (0,) * (len(self.shape) - 1)
        for first, chunk in zip(itertools.count(start, self.chunk_rows), chunks):
            sealed = self._seal(dataset, chunk)
            with h5py._objects.phil:
                dataset.id.write_direct_chunk((first, *rest), sealed)
                self._file.check()

    def copy(self, start: int, source: ReadableArray, count: int) -> bool:
        """Append the first chunks of another array if they are encoded in the same way."""
        dataset = self._open()
        if not isinstance(source, HDF5Array) or is_text(dataset) or dataset.chunks is None:
            return False
        other = source._open()
        forms = [(each.chunks, each.compression) for each in (dataset, other)]
        if forms[0] != forms[1] or self.dtype != source.dtype:
            return False
        rest = (0,) * (len(self.shape) - 1)
        end = start + min(count * self.chunk_rows, source.shape[0])
        if end > self.shape[0]:
            self.resize(end)
        for row in range(0, count * self.chunk_rows, self.chunk_rows):
            # Reading a few rows compares the checksum, which the copy keeps.
            source.read(row, min(row + self.chunk_rows, source.shape[0]))
            with h5py._objects.phil:
                _, sealed = other.id.read_direct_chunk((row, *rest))
                dataset.id.write_direct_chunk((start + row, *rest), sealed)
                self._file.check()
        return True

    def _seal(self, dataset: h5py.Dataset, chunk: Chunk) -> bytes | bytearray:
        """Fill up a chunk, compress it if the array is, and append its checksum."""
        content: tuple[Buffer, ...] = chunk.content
        if is_text(dataset):
            content = (_encode_text(b"".join(content), dataset.dtype.itemsize, self.key),)
        row_bytes = dataset.id.get_type().get_size() * math.prod(self.shape[1:])
        content = (*content, bytes((self.chunk_rows - chunk.rows) * row_bytes))
        if dataset.compression:
            content = (zlib.compress(b"".join(content), LEVEL),)
        sealed = bytearray().join((*content, bytes(4)))
        sealed[-4:] = fletcher32(memoryview(sealed)[:-4]).to_bytes(4, "little")
        return sealed

    def resize(self, rows: int) -> None:
        """Change the number of rows of a dataset that grows."""
        self.shape = (rows, *self.shape[1:])
        with h5py._objects.phil:
            self._open().id.set_extent(self.shape)
            self._file.check()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows.

        Raises StoreDamagedError if a chunk is missing (HDF5 would return zeros for it), is cut
        short, or does not match its checksum.
        """
        return self._read(start, stop, None)

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read rows from one on into a contiguous array; raise StoreDamagedError as `read`."""
        self._read(start, start + len(out), out)

    def _read(self, start: int, stop: int, out: NDArray[Any] | None) -> NDArray[Any]:
        try:
            return self._file.retry_read(lambda: self._read_once(start, stop, out))
        except StoreDamagedError:
            raise
        except Exception as error:
            raise StoreDamagedError(
                f"{self._file.path}: rows {start} to {stop - 1} of array {self.key} cannot be read "
                f"({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error

    def _read_once(self, start: int, stop: int, out: NDArray[Any] | None) -> NDArray[Any]:
        dataset = self._open()
        nothing = start >= stop or 0 in self.shape
        if not nothing:
            self._check_written(dataset, start, stop)
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype) if out is None else out
        if nothing:
            return rows
        if is_text(dataset):
            rows[:] = [row.decode() for row in dataset[start:stop]]
        elif self.dtype == BFLOAT16:
            read_bits(dataset, start, stop, rows)
        else:
            dataset.read_direct(rows, np.s_[start:stop])
        return rows

    def _check_written(self, dataset: h5py.Dataset, start: int, stop: int) -> None:
        if dataset.chunks is None:
            if not dataset.id.get_storage_size():
                raise StoreDamagedError(
                    f"{self._file.path}: array {self.key} was never written. "
                    "Dump again with `overwrite=True`, or "
                    "restore the store from a copy."
                )
            return
        if self._chunks is None:
            counts: dict[int, int] = {}

            def count(chunk: h5py.h5d.StoreInfo) -> None:
                row = chunk.chunk_offset[0] // self.chunk_rows
                counts[row] = counts.get(row, 0) + 1

            dataset.id.chunk_iter(count)
            self._chunks = counts
        sizes = zip(self.shape[1:], dataset.chunks[1:], strict=True)
        whole = math.prod(-(-size // chunk) for size, chunk in sizes)
        rows = self.chunk_rows
        for chunk in range(start // rows, -(-stop // rows)):
            if self._chunks.get(chunk, 0) != whole:
                # Only a file that is opened again shows whether a commit came between.
                self._chunks = None
                raise StoreDamagedError(
                    f"{self._file.path}: chunk {chunk} of array {self.key} (rows {chunk * rows} to "
                    f"{min((chunk + 1) * rows, self.shape[0]) - 1}) is missing. "
                    "Dump again with `overwrite=True`, or restore the store from a copy."
                )


def _encode_text(content: bytes, size: int, key: str) -> bytes:
    """Convert texts, each behind its length, to texts of a fixed size in bytes."""
    texts = []
    at = 0
    while at < len(content):
        start = at + 4
        at = start + int.from_bytes(content[at:start], "little")
        text = content[start:at]
        # Text of a fixed length ends at its first zero byte.
        if len(text) >= size or b"\0" in text:
            raise DataError(
                f"{text.decode()!r} cannot be stored in {key}, which takes text of up to "
                f"{size - 1} bytes without zero bytes. Rename the sample."
            )
        texts.append(text.ljust(size, b"\0"))
    return b"".join(texts)
