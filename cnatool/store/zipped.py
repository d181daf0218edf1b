"""A Zarr store in a ZIP file, for reading only."""

from __future__ import annotations

import itertools
import json
import math
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import ZipStore

from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.store.zarr import ATTRIBUTE, CHECKSUM
from cnatool.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ZippedArray", "ZippedTree"]

_METADATA = "zarr.json"
# What a member may unpack to: a tenth more than the chunk it holds, and a description of any store.
_LARGEST_METADATA = 256 << 20
_LONGEST_TEXT = 64 << 10
_SLACK = 64 << 10


class ZippedArray:
    """One array of the archive: row ranges come out.

    Parameters
    ----------
    key : str
        Path of the array inside the store.
    array : zarr.Array
        The array itself.
    where : str
        Archive, for messages.
    sizes : mapping of str to int
        Bytes that each member unpacks to, by its name below the array.
    """

    __slots__ = ("_array", "_sizes", "_where", "key")

    def __init__(
        self, key: str, array: zarr.Array[Any], where: str, sizes: Mapping[str, int]
    ) -> None:
        self.key = key
        self._array = array
        self._where = where
        self._sizes = sizes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type; object for text."""
        dtype = np.dtype(self._array.dtype)
        return dtype if dtype.kind in "fiub" else np.dtype(object)

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk, or of one shard, which is what a member of the archive holds."""
        return int((self._array.shards or self._array.chunks)[0])

    @property
    def codec(self) -> None:
        """None: a zipped store is never gone on with."""
        return

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` up to ``stop``.

        Raises
        ------
        StoreDamagedError
            If a chunk is missing (Zarr would give zeros for it), unpacks to more than it can hold,
            or does not match its checksum.
        """
        if start >= stop or 0 in self.shape:
            return np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._check_members(start, stop)
        try:
            return np.asarray(self._array[start:stop]).astype(self.dtype, copy=False)
        except Exception as error:  # every codec raises its own kind
            raise StoreDamagedError(
                f"{self._where}: rows {start} to {stop - 1} of array {self.key} cannot be read "
                f"({one_line(error)}). Dump again, or restore the store from a copy."
            ) from error

    def _check_members(self, start: int, stop: int) -> None:
        rows, *rest = self._array.shards or self._array.chunks
        item = self.dtype.itemsize if self.dtype != object else _LONGEST_TEXT
        most = math.prod((rows, *rest)) * item * 11 // 10 + _SLACK
        grid = [range(-(-size // chunk)) for size, chunk in zip(self.shape[1:], rest, strict=True)]
        for place in itertools.product(range(start // rows, -(-stop // rows)), *grid):
            size = self._sizes.get(self._array.metadata.encode_chunk_key(place))
            if size is None or size > most:
                wrong = "is missing" if size is None else f"claims to unpack to {size} bytes"
                raise StoreDamagedError(
                    f"{self._where}: chunk {place[0]} of array {self.key} (rows {place[0] * rows} "
                    f"to {min((place[0] + 1) * rows, self.shape[0]) - 1}) {wrong}. "
                    "Dump again, or restore the store from a copy."
                )


class ZippedTree:
    """A ZIP file that holds one Zarr store, at its top or in its only folder.

    Parameters
    ----------
    path : Path
        The archive.
    group : zarr.Group
        The store's root group.
    sizes : mapping of str to int
        Bytes that each member unpacks to, by its name below that group.
    """

    __slots__ = ("_group", "_sizes", "path")

    def __init__(self, path: Path, group: zarr.Group, sizes: Mapping[str, int]) -> None:
        self.path = path
        self._group = group
        self._sizes = sizes

    @classmethod
    def open(cls, path: Path) -> ZippedTree:
        """Open a tree for reading.

        Raises
        ------
        NotAStoreError
            If the path is no ZIP file, or holds no Zarr v3 group.
        StoreDamagedError
            If its metadata cannot be read.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                members = {member.filename: member.file_size for member in archive.infolist()}
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise NotAStoreError(
                f"{path} is no cnatool store: it cannot be read as a ZIP file ({one_line(error)})."
            ) from None
        folders = {name.split("/", 1)[0] for name in members if "/" in name}
        prefixes = [f"{folder}/" for folder in folders if f"{folder}/{_METADATA}" in members]
        if _METADATA in members:
            prefixes = [""]
        if len(prefixes) != 1:
            raise NotAStoreError(
                f"{path} is no cnatool store: it holds no {_METADATA} at its top or in one folder. "
                "Zip a store as it is, `zip -r STORE.zarr.zip STORE.zarr`."
            )
        (prefix,) = prefixes
        large = next(
            (n for n, b in members.items() if n.endswith(_METADATA) and b > _LARGEST_METADATA), None
        )
        if large is not None:
            raise StoreDamagedError(
                f"{path}: {large} claims to unpack to {members[large]} bytes, more than a store's "
                "description takes."
            )
        try:
            store = ZipStore(path, mode="r")
            group = zarr.open_group(store, path=prefix.rstrip("/"), mode="r", zarr_format=3)
        except Exception as error:  # zarr raises whatever its JSON parsing met
            raise StoreDamagedError(
                f"{path}: {prefix}{_METADATA} cannot be read ({one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error
        inside = {n.removeprefix(prefix): size for n, size in members.items()}
        return cls(path, group, inside)

    def attribute(self) -> bytes | None:
        """Give the attribute ``cnatool`` as JSON, or None where there is none."""
        value = self._group.attrs.get(ATTRIBUTE)
        return None if value is None else json.dumps(value).encode()

    def checksum(self) -> str | None:
        """Give the attribute's checksum as it was committed, or None where there is none."""
        value = self._group.attrs.get(CHECKSUM)
        return None if value is None else str(value)

    def array(self, key: str) -> ZippedArray:
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
                f"{self.path}: array {key} cannot be opened ({one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error
        if not isinstance(array, zarr.Array):
            raise StoreDamagedError(f"{self.path}: {key} should be an array and is a group.")
        sizes = {
            name.removeprefix(f"{key}/"): size
            for name, size in self._sizes.items()
            if name.startswith(f"{key}/")
        }
        return ZippedArray(key, array, str(self.path), sizes)
