"""The store's tree in Zarr v3: groups, arrays chunked over rows, and the attribute."""

from __future__ import annotations

import json
import shutil
import struct
from typing import TYPE_CHECKING, Any, ClassVar

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec, Crc32cCodec

from cnatool.errors import NotAStoreError, StoreDamagedError

if TYPE_CHECKING:
    from io import RawIOBase
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.store.tree import Codec

__all__ = ["ATTRIBUTE", "ZarrArray", "ZarrTree"]

ATTRIBUTE = "cnatool"
# The same compression twice: as the metadata name it, and as chunks are written.
_CODECS = [BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"), Crc32cCodec()]
_BLOSC = Blosc(cname="lz4", clevel=5, shuffle=Blosc.NOSHUFFLE)


class ZarrArray:
    """One array of the tree: whole chunks go in, row ranges come out.

    Parameters
    ----------
    key : str
        Path of the array inside the store.
    array : zarr.Array
        The array itself.
    folder : Path
        The array's folder on disk.
    """

    __slots__ = ("_array", "_folder", "key")

    def __init__(self, key: str, array: zarr.Array[Any], folder: Path) -> None:
        self.key = key
        self._array = array
        self._folder = folder

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        return np.dtype(self._array.dtype)

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""
        return int(self._array.chunks[0])

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Write rows from ``start`` on; ``start`` is a multiple of ``chunk_rows``.

        Chunks of numbers are encoded here, byte for byte as zarr would do it, but without its
        copies and its event loop, so that several threads can write at a time.
        """
        if rows.dtype.hasobject:
            self._array[start : start + len(rows)] = rows
            return
        rows = np.ascontiguousarray(rows, self.dtype.newbyteorder("<"))
        size = self.chunk_rows
        for first in range(0, len(rows), size):
            self._write_chunk((start + first) // size, rows[first : first + size])

    def _write_chunk(self, chunk: int, rows: NDArray[Any]) -> None:
        missing = self.chunk_rows - len(rows)
        if missing:
            rows = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
        data = _BLOSC.encode(rows)
        path = self._folder / self._chunk_key(chunk)
        # A reader never meets half a chunk, nor does what a crash leaves look like one.
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb", buffering=0) as file:
                _write_all(file, data)
                _write_all(file, struct.pack("<I", google_crc32c.value(data)))
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _chunk_key(self, chunk: int) -> str:
        rest = (0,) * (len(self.shape) - 1)
        return str(self._array.metadata.encode_chunk_key((chunk, *rest)))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` up to ``stop``.

        Raises
        ------
        StoreDamagedError
            If a chunk is missing (Zarr would give zeros for it), cut short, or does not match
            its checksum.
        """
        if 0 in self.shape[1:]:
            return np.empty((stop - start, *self.shape[1:]), self.dtype)  # nothing was ever written
        rows = self.chunk_rows
        for chunk in range(start // rows, -(-stop // rows)):
            if not (self._folder / self._chunk_key(chunk)).exists():
                raise StoreDamagedError(
                    f"{self._folder}: chunk {chunk} of array {self.key} (rows {chunk * rows} to "
                    f"{min((chunk + 1) * rows, self.shape[0]) - 1}) is missing. "
                    "Dump again, or restore the store from a copy."
                )
        try:
            return np.asarray(self._array[start:stop])
        except Exception as error:  # every codec raises its own kind
            raise StoreDamagedError(
                f"{self._folder}: rows {start} to {stop - 1} of array {self.key} cannot be read "
                f"({_one_line(error)}). Dump again, or restore the store from a copy."
            ) from error


class ZarrTree:
    """A Zarr v3 group on disk that holds one store.

    Parameters
    ----------
    path : Path
        The ``.zarr`` folder.
    group : zarr.Group
        Its root group.
    """

    __slots__ = ("_group", "path")

    # The first is the default.
    codecs: ClassVar[tuple[Codec, ...]] = ("lz4",)

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group

    @classmethod
    def create(cls, path: Path) -> ZarrTree:
        """Make an empty tree at a path that must not exist yet."""
        return cls(path, zarr.open_group(path, mode="w-", zarr_format=3))

    @classmethod
    def open(cls, path: Path) -> ZarrTree:
        """Open a tree for reading.

        Raises
        ------
        NotAStoreError
            If the path is no Zarr v3 group.
        StoreDamagedError
            If its metadata cannot be read.
        """
        if not (path / "zarr.json").is_file():
            raise NotAStoreError(
                f"{path} is no cnatool store: it holds no zarr.json. "
                "`cnatool dump MODEL DATA -o STORE.zarr` makes one."
            )
        try:
            return cls(path, zarr.open_group(path, mode="r", zarr_format=3))
        except Exception as error:  # zarr raises whatever its JSON parsing met
            raise StoreDamagedError(
                f"{path / 'zarr.json'} cannot be read ({_one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error

    @classmethod
    def is_replaceable(cls, path: Path) -> bool:
        """Say whether a folder holds a store, be it empty or broken, and nothing else."""
        if not path.is_dir() or {entry.name for entry in path.iterdir()} - {"zarr.json", "splits"}:
            return False
        try:
            return cls.open(path).attribute() is not None or not (path / "splits").exists()
        except StoreDamagedError:
            return True
        except NotAStoreError:
            return not any(path.iterdir())

    @classmethod
    def move(cls, path: Path, target: Path) -> None:
        """Rename a store."""
        path.rename(target)

    @classmethod
    def remove(cls, path: Path) -> None:
        """Remove what is left of a store, if anything is."""
        shutil.rmtree(path, ignore_errors=True)

    def attribute(self) -> bytes | None:
        """Give the attribute ``cnatool`` as JSON, or None where there is none."""
        value = self._group.attrs.get(ATTRIBUTE)
        return None if value is None else json.dumps(value).encode()

    def commit(self, attribute: bytes) -> None:
        """Replace the attribute ``cnatool``; zarr does it by temporary file and rename."""
        self._group.attrs[ATTRIBUTE] = json.loads(attribute)

    def close(self) -> None:
        """Let go of all files: none is ever held."""

    def create_array(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type[str],
        chunk_rows: int,
        *,
        codec: Codec | None = None,
        text_bytes: int = 64,
    ) -> ZarrArray:
        """Make an array chunked over rows only, every chunk with a checksum.

        LZ4 without a shuffle suits activations best: half of what a ReLU gives is zero, and a
        shuffle tears those runs apart. Empty chunks are written like any other, so that "all
        zero" and "missing" never look alike.
        """
        array = self._group.create_array(
            key,
            shape=shape,
            dtype=dtype,
            chunks=(chunk_rows, *(max(1, size) for size in shape[1:])),
            # A chunk is a file in the array's own folder, not at the end of a path of folders.
            chunk_key_encoding={"name": "default", "separator": "."},
            compressors=_CODECS,
            config={"write_empty_chunks": True},
        )
        return ZarrArray(key, array, self.path / key)

    def array(self, key: str) -> ZarrArray:
        """Open an array.

        Raises
        ------
        StoreDamagedError
            If it is not there or its metadata cannot be read.
        """
        try:
            array = self._group[key]
        except Exception as error:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be opened ({_one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error
        if not isinstance(array, zarr.Array):
            raise StoreDamagedError(f"{self.path}: {key} should be an array and is a group.")
        if array.chunks[1:] != tuple(max(1, size) for size in array.shape[1:]) or array.shards:
            raise StoreDamagedError(
                f"{self.path}: array {key} of shape {array.shape} has chunks of {array.chunks}. "
                "A store's arrays are chunked over rows only, without shards."
            )
        return ZarrArray(key, array, self.path / key)


def _write_all(file: RawIOBase, data: bytes) -> None:
    """Write every byte: a raw file may take fewer than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
