"""Arrays that zarr reads: those of other programs, and those in a ZIP file.

zarr returns zeros for a chunk that is missing, so the files are looked up before it reads.
"""

from __future__ import annotations

import math
from itertools import product
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import zarr

from cnatool._util.bfloat16 import BFLOAT16
from cnatool._util.files import open_regular
from cnatool._util.text import one_line
from cnatool.errors import StoreDamagedError
from cnatool.store.zarr.blosc import install_checked_blosc
from cnatool.store.zarr.metadata import holds_bfloat16
from cnatool.store.zarr.shard import ChunkError, written_chunks

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

install_checked_blosc()

_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
# A packed file may unpack to a tenth more than its values; so much more, and so much for a text.
_LONGEST_TEXT = 64 << 10
_SLACK = 64 << 10


class ChunkFiles(Protocol):
    """The files of one array, by their names in Zarr."""

    @property
    def where(self) -> Path:
        """Their location, for messages."""

    @property
    def packed(self) -> bool:
        """Whether they are decompressed as they are read, each from its beginning."""

    def size(self, name: str) -> int | None:
        """Return the uncompressed size of a file in bytes; None if it does not exist."""

    def open(self, name: str) -> IO[bytes]:
        """Open a seekable file for reading."""


class ForeignArray:
    """An array that zarr reads."""

    __slots__ = ("_array", "_files", "key")

    def __init__(self, key: str, array: zarr.Array[Any], files: ChunkFiles) -> None:
        self.key = key
        self._array = array
        self._files = files

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type; object for text."""
        dtype = np.dtype(self._array.dtype)
        if holds_bfloat16(dtype.name, self._array.attrs):
            return BFLOAT16
        return np.dtype(object) if dtype.kind in "TU" else dtype

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk; of one shard if each file is read from its beginning."""
        return int((self._file_shape if self._files.packed else self._array.chunks)[0])

    @property
    def codec(self) -> None:
        """None: another program chose the compression, or the store is read-only."""
        return

    @property
    def _file_shape(self) -> tuple[int, ...]:
        return self._array.shards or self._array.chunks

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows.

        Raises StoreDamagedError if a chunk is missing (zarr would return zeros for it), is cut
        short, unpacks to more than it can hold, or does not match its checksum.
        """
        if start >= stop or 0 in self.shape:
            return np.empty((stop - start, *self.shape[1:]), self.dtype)
        try:
            self._check_presence(start, stop)
            rows = np.asarray(self._array[start:stop])
            if self.dtype == BFLOAT16:
                return rows.astype("<u2", order="C", copy=False).view(BFLOAT16)
            return rows.astype(self.dtype, copy=False)
        except StoreDamagedError:
            raise
        except Exception as error:  # every codec raises its own type
            raise StoreDamagedError(
                f"{self._files.where}: rows {start} to {stop - 1} of array {self.key} cannot be "
                f"read ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read rows from one on into an array of their type; errors as `read`."""
        out[:] = self.read(start, start + len(out))

    def _check_presence(self, start: int, stop: int) -> None:
        outer = self._file_shape
        cells = [range(-(-size // step)) for size, step in zip(self.shape, outer, strict=True)]
        cells[0] = range(start // outer[0], -(-stop // outer[0]))
        for cell in product(*cells):
            name = self._array.metadata.encode_chunk_key(cell)
            size = self._files.size(name)
            if size is not None:
                self._check_size(name, size)
            if size is None or not self._has_chunks(name, cell, start, stop):
                first = max(start, cell[0] * outer[0])
                last = min(stop, (cell[0] + 1) * outer[0], self.shape[0]) - 1
                raise StoreDamagedError(
                    f"{self._files.where}: a chunk of array {self.key} (rows {first} to {last}, in "
                    f"{name}) is missing. Restore the store from a copy; if another program wrote "
                    "it, let it write every chunk, including those of zeros."
                )

    def _check_size(self, name: str, size: int) -> None:
        item = self.dtype.itemsize if self.dtype != object else _LONGEST_TEXT
        most = math.prod(self._file_shape) * item * 11 // 10 + _SLACK
        if self._files.packed and size > most:
            raise StoreDamagedError(
                f"{self._files.where}: {name} of array {self.key} claims to unpack to {size} "
                "bytes, more than its chunks take. "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            )

    def _has_chunks(self, name: str, cell: tuple[int, ...], start: int, stop: int) -> bool:
        """Whether a shard's index lists all its chunks of the given rows."""
        codecs: Any = self._array.metadata.to_dict()["codecs"]
        sharding = next((c for c in codecs if c["name"] == "sharding_indexed"), None)
        if sharding is None:
            return True
        shards = self._array.shards
        if shards is None or list(sharding["configuration"]["index_codecs"]) != _CODECS:
            raise ChunkError("the codecs of its shard index are unknown, so chunks may be missing")
        inner = self._array.chunks
        counts = [outer // chunk for outer, chunk in zip(shards, inner, strict=True)]
        with self._files.open(name) as file:
            written = written_chunks(file, counts)
        # Of a shard at the edge of the array, only the chunks within the array.
        inside = [
            slice(0, -(-(size - place * shard) // chunk))
            for size, place, shard, chunk in zip(self.shape, cell, shards, inner, strict=True)
        ]
        first = cell[0] * counts[0]
        inside[0] = slice(
            max(0, start // inner[0] - first), min(counts[0], -(-stop // inner[0]) - first)
        )
        return bool(written[tuple(inside)].all())


def open_foreign_array(key: str, folder: Path) -> ForeignArray:
    """Open an array of a store on disk."""
    return ForeignArray(key, zarr.open_array(folder, mode="r", zarr_format=3), _Folder(folder))


class _Folder:
    packed = False

    def __init__(self, folder: Path) -> None:
        self.where = folder

    def size(self, name: str) -> int | None:
        path = self.where / name
        return path.stat().st_size if path.is_file() else None

    def open(self, name: str) -> IO[bytes]:
        return open_regular(self.where / name)
