"""An array of a store that something else than cnatool wrote: zarr reads it, whatever its codecs.

What zarr does not say is whether a chunk is there: for one that is not it gives zeros. That is
looked up here.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from cnatool.errors import StoreDamagedError
from cnatool.store.shards import ChunkError, shard_index
from cnatool.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ForeignArray"]

_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


class ForeignArray:
    """An array that is read by way of zarr.

    Parameters
    ----------
    key : str
        Path of the array inside the store.
    folder : Path
        The array's folder on disk.

    Raises
    ------
    Exception
        Of whatever kind zarr's own are, if its metadata cannot be read.
    """

    __slots__ = ("_array", "_folder", "key")

    def __init__(self, key: str, folder: Path) -> None:
        self.key = key
        self._folder = folder
        self._array: zarr.Array[Any] = zarr.open_array(folder, mode="r", zarr_format=3)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type; object for text."""
        dtype = np.dtype(self._array.dtype)
        return np.dtype(object) if dtype.kind in "TU" else dtype

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""
        return int(self._array.chunks[0])

    @property
    def codec(self) -> None:
        """None: another program chose how chunks are compressed."""
        return

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` up to ``stop``.

        Raises
        ------
        StoreDamagedError
            If a chunk is missing (Zarr would give zeros for it), cut short, or does not match
            a checksum that it has.
        """
        if 0 in self.shape[1:] or start == stop:
            return np.empty((stop - start, *self.shape[1:]), self.dtype)
        try:
            self._check_presence(start, stop)
            return np.asarray(self._array[start:stop]).astype(self.dtype, copy=False)
        except StoreDamagedError:
            raise
        except Exception as error:  # every codec raises its own kind
            raise StoreDamagedError(
                f"{self._folder}: rows {start} to {stop - 1} of array {self.key} cannot be read "
                f"({one_line(error)}). Dump again, or restore the store from a copy."
            ) from error

    def _check_presence(self, start: int, stop: int) -> None:
        outer = self._array.shards or self._array.chunks
        cells = [range(-(-size // step)) for size, step in zip(self.shape, outer, strict=True)]
        cells[0] = range(start // outer[0], -(-stop // outer[0]))
        for cell in product(*cells):
            path = self._folder / self._array.metadata.encode_chunk_key(cell)
            if not path.is_file() or not self._has_chunks(path, cell, start, stop):
                first = max(start, cell[0] * outer[0])
                last = min(stop, (cell[0] + 1) * outer[0], self.shape[0]) - 1
                raise StoreDamagedError(
                    f"{path}: a chunk of array {self.key} (rows {first} to {last}) is missing. "
                    "Every chunk must be written, one of zeros too."
                )

    def _has_chunks(self, path: Path, cell: tuple[int, ...], start: int, stop: int) -> bool:
        """Say whether a shard's index lists all its chunks of the given rows."""
        codecs: Any = self._array.metadata.to_dict()["codecs"]
        sharding = next((c for c in codecs if c["name"] == "sharding_indexed"), None)
        if sharding is None:
            return True
        shards = self._array.shards
        if shards is None or list(sharding["configuration"]["index_codecs"]) != _CODECS:
            raise ChunkError("whether all chunks of its shards are there cannot be told")
        inner = self._array.chunks
        counts = [outer // chunk for outer, chunk in zip(shards, inner, strict=True)]
        with path.open("rb", buffering=0) as file:
            written = shard_index(file, counts)
        # Of a shard at the edge of the array, only what lies within it.
        inside = [
            slice(0, -(-(size - place * shard) // chunk))
            for size, place, shard, chunk in zip(self.shape, cell, shards, inner, strict=True)
        ]
        first = cell[0] * counts[0]
        inside[0] = slice(
            max(0, start // inner[0] - first), min(counts[0], -(-stop // inner[0]) - first)
        )
        return bool(written[tuple(inside)].all())
