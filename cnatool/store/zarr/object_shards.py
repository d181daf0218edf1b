"""Shards in a bucket: read by range, put whole."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, ClassVar

from cnatool._util.threads import map_concurrently
from cnatool.store.object_errors import ConflictError, MissingObjectError
from cnatool.store.write_errors import make_taken_over_error
from cnatool.store.zarr.array import ZarrArrayWriter
from cnatool.store.zarr.shard import (
    ChunkError,
    ChunkMissingError,
    check_chunk,
    find_chunk,
    parse_index,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.store.chunk import Chunk
    from cnatool.store.format import ReadableArray
    from cnatool.store.object_store import Objects
    from cnatool.store.zarr.metadata import ArrayLayout
    from cnatool.store.zarr.shard import Shards, ShardWriter

# Bytes that are read with the index of a shard: of a small array, all of its chunks.
_HEAD = 64 << 10
# Most chunks of up to 1 MiB that are read at a time where one follows the other.
_AHEAD = 16
# Most bytes of the rows of a shard: few requests, and little memory while it is put.
SHARD_BYTES = 8 << 20
# Shards that are put at the same time, and the memory that they take.
_PUTS = 16
PUT_BYTES = _PUTS * SHARD_BYTES


class ReadAhead:
    """Chunks that were read before they were asked for: of one array of a store, the last one."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        # Array and chunks by number, replaced together: other threads read them meanwhile.
        self._kept: tuple[str, dict[int, bytes | ChunkError]] = "", {}

    def keep(self, key: str, chunks: dict[int, bytes | ChunkError]) -> None:
        """Keep chunks of an array by number, in place of all others."""
        self._kept = key, chunks

    def take(self, key: str, numbers: range) -> dict[int, bytes | ChunkError]:
        """Return those of some chunks of an array that are kept."""
        kept, chunks = self._kept
        if kept != key:
            return {}
        return {number: chunks[number] for number in numbers if number in chunks}


class ObjectShardReader:
    """Reads the chunks of an array by number; thread-safe.

    The index of a shard is read once, and all chunks of a shard that are wanted at the same time
    in one request. Where a few chunks follow those that were read last, more of their shard are
    read ahead.
    """

    most: ClassVar[int | None] = 128

    __slots__ = ("_ahead", "_folder", "_indexes", "_next", "_objects", "_shards")

    def __init__(self, objects: Objects, folder: str, shards: Shards, ahead: ReadAhead) -> None:
        self._ahead = ahead
        # The chunk after those that were read last.
        self._next: int | None = None
        self._objects = objects
        self._folder = folder
        self._shards = shards
        self._indexes: dict[int, NDArray[Any]] = {}

    def fetch(self, numbers: range) -> Callable[[int], bytes]:
        """Read some chunks; return what returns each of them, or raises what is wrong with it."""
        size = self._shards.size
        chunks = self._ahead.take(self._folder, numbers)
        missing = [number for number in numbers if number not in chunks]
        ahead = range(0)
        if missing and numbers.start == self._next:
            ahead = range(numbers.stop, min(-(-numbers.stop // size) * size, missing[0] + _AHEAD))
        self._next = numbers.stop
        wanted: dict[int, list[int]] = {}
        for number in (*missing, *ahead):
            wanted.setdefault(number // size, []).append(number)
        for read in map_concurrently(self._fetch_shard, wanted.items(), waiting=True):
            chunks |= read
        if ahead:
            self._ahead.keep(self._folder, {number: chunks.pop(number) for number in ahead})

        def chunk(number: int) -> bytes:
            # Taken out, so that its memory is free once it is decoded.
            content = chunks.pop(number)
            if isinstance(content, ChunkError):
                raise content
            data = content[:-4]
            check_chunk(number, data, content[-4:])
            return data

        return chunk

    def _fetch_shard(self, wanted: tuple[int, list[int]]) -> dict[int, bytes | ChunkError]:
        shard, numbers = wanted
        name = f"{self._folder}/{self._shards.name(shard)}"
        chunks: dict[int, bytes | ChunkError] = {}
        ranges: dict[int, tuple[int, int]] = {}
        try:
            index, head = self._open(shard, name)
            for number in numbers:
                try:
                    offset, size = find_chunk(index, number % self._shards.size)
                except ChunkError as error:
                    chunks[number] = error
                    continue
                if offset + size <= len(head):
                    chunks[number] = head[offset : offset + size]
                else:
                    ranges[number] = offset, offset + size
            if ranges:
                contents = self._objects.get_ranges(name, list(ranges.values()))
                for (number, (start, end)), content in zip(ranges.items(), contents, strict=True):
                    whole = len(content) == end - start
                    chunks[number] = content if whole else self._cut_short(shard)
        except MissingObjectError:
            missing = ChunkMissingError(f"there is no {self._shards.name(shard)}")
            return dict.fromkeys(numbers, missing)
        except ChunkError as error:
            return dict.fromkeys(numbers, error)
        return chunks

    def _open(self, shard: int, name: str) -> tuple[NDArray[Any], bytes]:
        """Return the index of a shard, and the bytes at its head if they were read for it."""
        index = self._indexes.get(shard)
        if index is not None:
            return index, b""
        head = self._objects.get_head(name, max(_HEAD, self._shards.index_bytes))
        if len(head) < self._shards.index_bytes:
            raise self._cut_short(shard)
        index = parse_index(head[: self._shards.index_bytes])
        if index is None:
            raise ChunkError("the index does not match its checksum")
        self._indexes[shard] = index
        return index, head

    def _cut_short(self, shard: int) -> ChunkError:
        return ChunkError(f"{self._shards.name(shard)} is cut short")


class ShardUploads:
    """Puts full shards while further rows are written."""

    __slots__ = ("_check_owned", "_error", "_objects", "_pool", "_puts", "_room")

    def __init__(self, objects: Objects, check_owned: Callable[[], None]) -> None:
        self._objects = objects
        self._check_owned = check_owned
        self._pool = ThreadPoolExecutor(_PUTS, "cnatool-put")
        self._error: BaseException | None = None
        self._room = threading.BoundedSemaphore(_PUTS)
        self._puts: list[Future[None]] = []

    def add(self, name: str, shard: ShardWriter, *, keeps: bool = False) -> None:
        """Begin to put a shard, once there is room for it; raise the error of an earlier one.

        Its file is deleted, unless it ``keeps`` it for further chunks.
        """
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        future = self._pool.submit(self._put, name, shard, keeps=keeps)
        future.add_done_callback(lambda _: self._room.release())
        self._puts.append(future)

    def finish(self) -> None:
        """Wait until all shards are put; raise the first error."""
        puts, self._puts = self._puts, []
        wait(puts)
        for future in puts:
            future.result()

    def stop(self) -> None:
        """Put no more shards."""
        self._pool.shutdown(cancel_futures=True)

    def _put(self, name: str, shard: ShardWriter, *, keeps: bool) -> None:
        try:
            content = shard.content()
            if not keeps:
                shard.path.unlink()
            try:
                self._objects.create(name, content)
            except ConflictError:
                self._replace(name, content)
        except BaseException as error:
            self._error = error
            raise

    def _replace(self, name: str, content: bytes) -> None:
        """Replace a shard that a killed writer left behind its last commit, or this put itself.

        Its version is read first: should another writer take over meanwhile and put the shard, it
        has another version.
        """
        try:
            version = self._objects.version(name)
            self._check_owned()
            self._objects.replace(name, content, version)
        except (ConflictError, MissingObjectError):
            raise make_taken_over_error(self._objects.url) from None


class ObjectArrayWriter:
    """An array in a bucket being written: shards grow in a folder on disk, and are put when full.

    Its rows go on at the border of a shard, so nothing is read of those that are there. If it
    ``extends``, they go on anywhere: the shard of the first ``committed`` rows' last chunk is in
    the folder, and the last shard is put at each commit, as a longer object in place of the last.
    """

    __slots__ = ("_array", "_extends", "_kept", "_layout", "_open", "_uploads")

    def __init__(
        self,
        key: str,
        layout: ArrayLayout,
        folder: Path,
        uploads: ShardUploads,
        committed: int = 0,
        *,
        extends: bool = False,
    ) -> None:
        # Otherwise shards are full where rows go on.
        begun = committed if extends else 0
        self._array = ZarrArrayWriter(key, layout, folder, begun, extends=extends)
        self._layout = layout
        self._uploads = uploads
        self._extends = extends
        self._open: list[ShardWriter] = []
        # The shard that was put and may get more chunks.
        self._kept: ShardWriter | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        return self._array.shape

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""
        return self._array.chunk_rows

    @property
    def commit_rows(self) -> int:
        """Rows of one shard."""
        return self._layout.chunk_rows * self._layout.shard_chunks

    @property
    def codec(self) -> Codec:
        """How chunks are compressed."""
        return self._array.codec

    def write(self, start: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks from row ``start`` on, all full but for the array's last."""
        self._array.write(start, chunks)
        for shard in self._array.take_unpublished():
            if shard not in self._open:
                self._open.append(shard)
        if self._extends:
            self._put_all_but_last()
            return
        self._put(last=start + sum(chunk.rows for chunk in chunks) == self.shape[0])

    def copy(self, start: int, source: ReadableArray, count: int) -> bool:
        """Return False: rows are written a block at a time, so that few shards lie on disk."""
        return False

    def end(self, rows: int) -> ArrayLayout:
        """Put the last shard, which need not be full; return the layout with the final rows."""
        self._put(last=True)
        return dataclasses.replace(self._layout, shape=(rows, *self._layout.shape[1:]))

    def publish(self) -> None:
        """Begin to put the last shard, to which more chunks may be added."""
        for shard in self._open:
            self._uploads.add(self._name(shard), shard, keeps=True)
            self._kept = shard
        self._open.clear()

    def _put_all_but_last(self) -> None:
        """Put the shards that get no more chunks."""
        if not self._open:
            return  # rows without elements
        *full, last = self._open
        self._open = [last]
        for shard in full:
            self._uploads.add(self._name(shard), shard)
        if self._kept not in (None, last, *full):
            assert self._kept is not None
            self._kept.path.unlink()
        if self._kept is not last:
            self._kept = None

    def _name(self, shard: ShardWriter) -> str:
        return f"{self._array.key}/{shard.path.name}"

    def _put(self, *, last: bool) -> None:
        full = [shard for shard in self._open if last or shard.full]
        self._open = [shard for shard in self._open if shard not in full]
        for shard in full:
            self._uploads.add(self._name(shard), shard)
