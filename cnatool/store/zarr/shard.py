"""Files that hold many chunks of one array: Zarr's codec ``sharding_indexed``, index first.

A shard is one file. At its head stands the index: offset and size of each chunk, then the index'
own CRC-32C. Chunks follow, in the order in which they were written; none is ever moved. While rows
are written, chunks are appended and the index stays as it is, so that a reader sees the chunks of
the last commit. A commit of a shard goes in this order:

1. the new index is written behind the last chunk, as a copy;
2. if the index at the head speaks of chunks already, the file is synced;
3. the new index is written over the one at the head;
4. the file is synced.

An index takes at most one page of 4 KiB, and where it is written more than once it has that page
to itself. Should the machine stop in the middle of step 3 all the same, the copy is whole, because
of step 2, and is the end of the file, because nothing is appended between steps 2 and 4: a reader
takes it where the head does not match its checksum. The next chunks overwrite the copy; by then
the head is safe.

A writer that goes on where another was cut off puts a torn head right first, and then cuts the file
at the end of the last committed chunk, so that the next copy ends it again.
"""

from __future__ import annotations

import math
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar

import google_crc32c
import numpy as np

from cnatool._util import files
from cnatool._util.files import open_regular
from cnatool._util.links import open_nofollow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool._util.files import Buffer

# Chunks that an index of one page can list; at 1 MiB per chunk, a shard is 255 MiB.
MOST_CHUNKS = 255
INDEX_PAGE = 4096
_NOTHING = 2**64 - 1
# Bytes that are worth writing to the disk at once.
_LARGE = 4 << 20
# Attempts of a reader whom a writer may disturb at the head, then at the end.
_ATTEMPTS = 3


class ChunkError(Exception):
    """A chunk that is damaged; the text says how."""


class ChunkMissingError(ChunkError):
    """A chunk that was never written, or whose file is missing."""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """The bytes of a chunk as its file has them, in one or more parts, and their CRC-32C."""

    parts: tuple[Buffer, ...]
    crc: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self.parts))


@dataclass(frozen=True, slots=True)
class Shards:
    """Distribution of the chunks of an array over files."""

    folder: Path  # of the array
    size: int  # chunks per shard
    axes: int  # of the array; its files' names have one number for each

    @property
    def index_bytes(self) -> int:
        """Bytes of an index including its checksum."""
        return 16 * self.size + 4

    @property
    def data_start(self) -> int:
        """Offset of the first chunk. An index that is written once shares its page."""
        return self.index_bytes if self.size == 1 else INDEX_PAGE

    def path(self, shard: int) -> Path:
        """Return the path of a shard."""
        return self.folder / self.name(shard)

    def name(self, shard: int) -> str:
        """Return the name of a shard in the array's folder."""
        return ".".join(["c", str(shard), *["0"] * (self.axes - 1)])


def shard_chunks(chunks: int) -> int:
    """Return the chunks per shard of an array on disk with a number of chunks."""
    return max(1, min(MOST_CHUNKS, chunks))


def _with_checksum(content: bytes) -> bytes:
    """Append the CRC-32C of bytes, as Zarr's codec ``crc32c`` does."""
    return content + struct.pack("<I", google_crc32c.value(content))


class ShardWriter:
    """One shard being written, by one thread at a time.

    The first ``committed`` chunks stay; ChunkError is raised if they are missing. Without any, the
    file is created, in place of one that another writer left behind.
    """

    __slots__ = ("_end", "_index", "_published", "_sent", "_shards", "path")

    def __init__(self, shards: Shards, number: int, committed: int = 0) -> None:
        self.path = shards.path(number)
        self._shards = shards
        self._index = np.full((shards.size, 2), _NOTHING, "<u8")
        self._end = shards.data_start
        self._published = False
        # Up to here the system has begun to write to the disk.
        self._sent = self._end
        if committed:
            self._reopen(committed)
            return
        with open_nofollow(self.path, "wb") as file:
            # Until the first commit other libraries find it empty, not broken.
            files.write_all(file, _with_checksum(self._index.tobytes()))

    def _reopen(self, committed: int) -> None:
        with open_nofollow(self.path, "r+b") as file:
            index = _read_index(file, self._shards.size)
            offsets, sizes = index[:committed].T.astype(object)
            end = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
            if end > file.seek(0, os.SEEK_END):
                raise ChunkError(f"{self.path.name} is cut short, or lacks chunks")
            whole = _with_checksum(index.tobytes())
            file.seek(0)
            if _read(file, len(whole)) != whole:
                # It came from the copy, which goes now.
                file.seek(0)
                files.write_all(file, whole)
                os.fsync(file.fileno())
            files.truncate(file, end)
        self._index[:committed] = index[:committed]
        self._end = self._sent = end
        self._published = True
        if (index[committed:] != _NOTHING).any():
            # Its writer was cut off inside a commit.
            self.publish()

    def append(self, place: int, chunk: EncodedChunk) -> None:
        """Write a chunk and its checksum after all others; it counts after `publish`."""
        size = chunk.size
        with open_nofollow(self.path, "r+b") as file:
            file.seek(self._end)
            for part in (*chunk.parts, struct.pack("<I", chunk.crc)):
                files.write_all(file, part)
            self._index[place] = self._end, size + 4
            self._end += size + 4
            waiting = self._end - self._sent
            if waiting >= _LARGE and hasattr(os, "posix_fadvise"):
                # Linux begins to write them to the disk, so that a commit has little to wait for.
                with suppress(OSError):  # only a hint
                    os.posix_fadvise(file.fileno(), self._sent, waiting, os.POSIX_FADV_DONTNEED)
                self._sent = self._end

    @property
    def full(self) -> bool:
        """Whether it has all chunks that it has room for."""
        return bool((self._index != _NOTHING).all())

    def content(self) -> bytes:
        """Return the whole shard, as it is so far."""
        index = _with_checksum(self._index.tobytes())
        with open_nofollow(self.path, "r+b") as file:
            files.write_all(file, index)
        return self.path.read_bytes()

    def publish(self) -> None:
        """Make the appended chunks part of the shard, durably."""
        index = _with_checksum(self._index.tobytes())
        with open_nofollow(self.path, "r+b") as file:
            file.seek(self._end)
            files.write_all(file, index)
            if self._published:
                os.fsync(file.fileno())
            file.seek(0)
            files.write_all(file, index)
            os.fsync(file.fileno())
        self._published = True


class ShardReader:
    """Reads the chunks of an array by number; thread-safe."""

    most: ClassVar[int | None] = None

    __slots__ = ("_indexes", "_shards")

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._indexes: dict[int, NDArray[Any]] = {}

    def fetch(self, numbers: range) -> Callable[[int], bytes]:
        """Return what reads any of some chunks."""
        return self._chunk

    def _chunk(self, number: int) -> bytes:
        """Read a chunk, without its checksum."""
        shard, place = divmod(number, self._shards.size)
        path = self._shards.path(shard)
        try:
            with open_regular(path) as file:
                offset, size = self._entry(file, shard, place)
                if offset + size > file.seek(0, os.SEEK_END):
                    raise ChunkError(f"{path.name} is cut short")
                file.seek(offset)
                content, checksum = _read(file, size - 4), _read(file, 4)
        except FileNotFoundError:
            raise ChunkMissingError(f"there is no {path.name}") from None
        except OSError as error:
            raise ChunkError(f"{path.name}: {error.strerror or error}") from error
        check_chunk(number, content, checksum)
        return content

    def _entry(self, file: IO[bytes], shard: int, place: int) -> tuple[int, int]:
        index = self._indexes.get(shard)
        if index is None or index[place, 1] == _NOTHING:
            # A shard that is still being written may have got more chunks since.
            index = self._indexes[shard] = _read_index(file, self._shards.size)
        return find_chunk(index, place)


def find_chunk(index: NDArray[Any], place: int) -> tuple[int, int]:
    """Return offset and size of a chunk, its checksum included, from a shard's index."""
    offset, size = map(int, index[place])
    if size == _NOTHING:
        raise ChunkMissingError("it was never written")
    if size < 4:
        raise ChunkError("the index lists a chunk without a checksum")
    return offset, size


def check_chunk(number: int, content: Buffer, checksum: Buffer) -> None:
    """Raise ChunkError if a chunk does not match its checksum."""
    if struct.pack("<I", google_crc32c.value(content)) != checksum:
        raise ChunkError(f"chunk {number} does not match its checksum")


def parse_index(content: bytes) -> NDArray[Any] | None:
    """Parse an index, (chunks, 2) offsets and sizes; None if it does not match its checksum."""
    if _with_checksum(content[:-4]) != content:
        return None
    return np.frombuffer(content[:-4], "<u8").reshape(-1, 2)


def written_chunks(file: IO[bytes], counts: Sequence[int]) -> NDArray[np.bool_]:
    """Read which chunks are present in a shard, which any program may have written."""
    sizes = _read_index(file, math.prod(counts))[:, 1]
    present: NDArray[np.bool_] = (sizes != _NOTHING).reshape(counts)
    return present


def _read_index(file: IO[bytes], chunks: int) -> NDArray[Any]:
    """Read the index at the head, or the copy at the end; (chunks, 2) offsets and sizes."""
    size = 16 * chunks + 4
    for at_end in (False, True) * _ATTEMPTS:
        # To find the end of a file inside an archive all of it is unpacked.
        file.seek(max(0, file.seek(0, os.SEEK_END) - size) if at_end else 0)
        content = _read(file, size)
        index = parse_index(content) if len(content) == size else None
        if index is not None:
            return index
    raise ChunkError("the index does not match its checksum")


def _read(file: IO[bytes], size: int) -> bytes:
    """Read a number of bytes, fewer only at the end of the file: raw reads may be short."""
    content = file.read(size) or b""
    while len(content) < size and (more := file.read(size - len(content))):
        content += more
    return content
