"""Arrays that cnatool writes: whole chunks go into shards, row ranges come out of them.

Chunks are encoded and decoded byte for byte as zarr does it, but without its copies and its event
loop. Several are decoded at a time; while rows are written, other arrays need the processors.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import google_crc32c
import numpy as np
from numcodecs import VLenUTF8

from cnatool._util.threads import map_concurrently
from cnatool.errors import StoreDamagedError
from cnatool.store.zarr.shard import (
    ChunkError,
    ChunkMissingError,
    EncodedChunk,
    ShardReader,
    Shards,
    ShardWriter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.store.chunk import Chunk
    from cnatool.store.format import ReadableArray
    from cnatool.store.zarr.metadata import ArrayLayout

_TEXT = np.dtype(object)
# Fewer bytes are decoded sooner than handed to another thread.
_WORTH_A_THREAD = 1 << 18
# Encoded chunks that are fetched together and held in memory while they are copied.
_FETCHED = 8


class _Chunks:
    """Base of reading and writing an array."""

    __slots__ = ("_compressor", "_layout", "_shards", "key")

    def __init__(self, key: str, layout: ArrayLayout, folder: Path) -> None:
        self.key = key
        self._layout = layout
        self._compressor = layout.compressor
        self._shards = Shards(folder, layout.shard_chunks, len(layout.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        return self._layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type; object for text."""
        return self._layout.dtype if isinstance(self._layout.dtype, np.dtype) else _TEXT

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""
        return self._layout.chunk_rows

    @property
    def codec(self) -> Codec:
        """How chunks are compressed."""
        return self._layout.codec


class ZarrArrayWriter(_Chunks):
    """An array being written, its rows in order.

    The first ``committed`` rows stay: whole chunks, or all, unless it ``extends``. ChunkError is
    raised if they are missing.

    A chunk may be written again, with more rows behind the same ones: it goes behind all others in
    its shard, and the next index lists it in place of the old one, which stays where it is. So the
    committed rows are in the chunk that is listed, whichever of the two indexes is found.
    """

    __slots__ = ("_shard", "_unpublished")

    def __init__(
        self,
        key: str,
        layout: ArrayLayout,
        folder: Path,
        committed: int = 0,
        *,
        extends: bool = False,
    ) -> None:
        super().__init__(key, layout, folder)
        self._shard: tuple[int, ShardWriter] | None = None
        self._unpublished: list[ShardWriter] = []
        number, chunks = divmod(committed // layout.chunk_rows, self._shards.size)
        if extends and committed % layout.chunk_rows:
            chunks += 1
        goes_on = extends or committed < layout.shape[0]
        if chunks and goes_on and 0 not in layout.shape[1:]:
            self._shard = number, ShardWriter(self._shards, number, chunks)

    @property
    def commit_rows(self) -> int:
        """Fewest rows that can be committed on their own."""
        return self.chunk_rows

    def write(self, start: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks from row ``start`` on, all full but for the array's last."""
        if 0 in self.shape[1:]:
            return  # Zarr has no empty chunks
        for number, chunk in enumerate(chunks, start // self.chunk_rows):
            self._append(number, self._encode(chunk))

    def copy(self, start: int, source: ReadableArray, count: int) -> bool:
        """Append the first chunks of another array if they are encoded in the same way."""
        if not isinstance(source, ZarrArray) or not source.encodes_as(self._layout):
            return False
        number = start // self.chunk_rows
        for place, content in enumerate(source.encoded(count), number):
            self._append(place, EncodedChunk((content,), google_crc32c.value(content)))
        return True

    def take_unpublished(self) -> list[ShardWriter]:
        """Return the shards that received chunks since the last call, and forget them."""
        shards, self._unpublished = self._unpublished, []
        return shards

    def _encode(self, chunk: Chunk) -> EncodedChunk:
        """Fill up and compress a chunk; without compression its rows are not copied."""
        content, crc = chunk.content, chunk.crc
        if chunk.rows < self.chunk_rows:
            padding = bytes((self.chunk_rows - chunk.rows) * self._row_bytes)
            content, crc = (*content, padding), google_crc32c.extend(crc, padding)
        text = self.dtype == _TEXT
        if self.codec == "none" and not text:
            return EncodedChunk(content, crc)
        if text:
            # After a number of texts, `vlen-utf8` is what the checksum of rows covers.
            content = (self.chunk_rows.to_bytes(4, "little"), *content)
        joined = content[0] if len(content) == 1 else b"".join(content)
        data = self._compressor.encode(bytes(joined) if text else np.frombuffer(joined, self.dtype))
        return EncodedChunk((data,), google_crc32c.value(data))

    @property
    def _row_bytes(self) -> int:
        """Bytes of one row; of text, those of an empty one."""
        return 4 if self.dtype == _TEXT else self.dtype.itemsize * math.prod(self.shape[1:])

    def _append(self, number: int, chunk: EncodedChunk) -> None:
        shard, place = divmod(number, self._shards.size)
        if self._shard is None or self._shard[0] != shard:
            self._shard = shard, ShardWriter(self._shards, shard)
        writer = self._shard[1]
        writer.append(place, chunk)
        if writer not in self._unpublished:
            self._unpublished.append(writer)


class ChunkReader(Protocol):
    """Reads the chunks of an array by number; thread-safe.

    Attributes
    ----------
    most : int or None
        Most chunks to fetch at a time; None if fetching reads nothing yet.
    """

    most: ClassVar[int | None]

    def fetch(self, numbers: range) -> Callable[[int], bytes]:
        """Return what returns each of some chunks, without its checksum.

        It raises ChunkMissingError if the chunk or its shard is missing, and ChunkError if either
        is cut short or does not match a checksum.
        """


class ZarrArray(_Chunks):
    """An array being read, on disk or wherever else ``reader`` finds its shards."""

    __slots__ = ("_reader",)

    def __init__(
        self,
        key: str,
        layout: ArrayLayout,
        folder: Path,
        reader: Callable[[Shards], ChunkReader] = ShardReader,
    ) -> None:
        super().__init__(key, layout, folder)
        self._reader = reader(self._shards)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows; raise StoreDamagedError if a chunk is missing, cut short or damaged."""
        dtype = self.dtype if self.dtype == _TEXT else self.dtype.newbyteorder("<")
        out = np.empty((stop - start, *self.shape[1:]), dtype)
        self.read_into(start, out)
        return out

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read rows from one on into a contiguous array; raise StoreDamagedError as `read`."""
        if out.size == 0:
            return
        size, stop = self.chunk_rows, start + len(out)
        numbers = range(start // size, -(-stop // size))

        def fill(number: int) -> None:
            first = max(start, number * size)
            last = min(stop, (number + 1) * size)
            rows = out[first - start : last - start]
            self._read_chunk(chunk, number, first - number * size, rows)

        step = self._reader.most or len(numbers)
        for at in range(0, len(numbers), step):
            part = numbers[at : at + step]
            chunk = self._reader.fetch(part)
            if out.nbytes // len(numbers) < _WORTH_A_THREAD:
                for number in part:
                    fill(number)
            else:
                map_concurrently(fill, part)

    def encodes_as(self, layout: ArrayLayout) -> bool:
        """Whether the chunks of an array with another layout are encoded as these."""
        forms = [
            (each.dtype, each.chunk_shape, each.codec, each.level)
            for each in (self._layout, layout)
        ]
        return forms[0] == forms[1]

    def encoded(self, count: int) -> Iterator[bytes]:
        """Read the first chunks as they are encoded, without their checksums."""
        for first in range(0, count, _FETCHED):
            numbers = range(first, min(first + _FETCHED, count))
            chunk = self._reader.fetch(numbers)
            for number in numbers:
                with self._naming_rows(number):
                    content = chunk(number)
                yield content

    def _read_chunk(
        self, chunk: Callable[[int], bytes], number: int, skip: int, out: NDArray[Any]
    ) -> None:
        """Read rows of a chunk into an array, from row ``skip`` of the chunk on."""
        rows = self.chunk_rows
        with self._naming_rows(number):
            data = chunk(number)
            if out.dtype == _TEXT:
                out[:] = self._text(self._compressor.decode(data))[skip : skip + len(out)]
            elif len(out) == rows:
                self._compressor.decode_into(data, out)
            else:
                # Memory that the metadata claim is not allocated before the data prove it.
                whole = np.frombuffer(self._compressor.decode(data), out.dtype)
                out[:] = whole.reshape(rows, *out.shape[1:])[skip : skip + len(out)]

    @contextmanager
    def _naming_rows(self, number: int) -> Iterator[None]:
        """Turn errors of a chunk into those of its rows."""
        first = number * self.chunk_rows
        last = min(first + self.chunk_rows, self.shape[0]) - 1
        try:
            yield
        except ChunkMissingError as error:
            raise StoreDamagedError(
                f"{self._shards.folder}: chunk {number} of array {self.key} (rows {first} to "
                f"{last}) is missing ({error}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error
        except (ChunkError, ValueError, RuntimeError) as error:
            raise StoreDamagedError(
                f"{self._shards.folder}: rows {first} to {last} of array {self.key} cannot be read "
                f"({error}). Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error

    def _text(self, content: bytes) -> NDArray[np.object_]:
        values: NDArray[np.object_] = VLenUTF8().decode(content)
        if len(values) != self.chunk_rows:
            raise ValueError(f"it contains {len(values)} texts instead of {self.chunk_rows}")
        return values
