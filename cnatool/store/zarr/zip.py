"""A Zarr store in a ZIP file, for reading only."""

from __future__ import annotations

import json
import zipfile
from typing import IO, TYPE_CHECKING

import zarr

from cnatool._util.text import one_line
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.store.zarr.foreign import ForeignArray
from cnatool.store.zarr.metadata import ATTRIBUTE, CHECKSUM
from cnatool.store.zarr.zip_store import ReadOnlyZipStore

if TYPE_CHECKING:
    from pathlib import Path

_METADATA = "zarr.json"
# Most bytes that the description of a store unpacks to.
_LARGEST_METADATA = 256 << 20


class _Members:
    """The files of one array inside the archive."""

    packed = True

    def __init__(self, store: ReadOnlyZipStore, folder: str) -> None:
        self.where = store.path
        self._store = store
        self._folder = folder

    def size(self, name: str) -> int | None:
        try:
            return self._store.archive.getinfo(f"{self._folder}/{name}").file_size
        except KeyError:
            return None

    def open(self, name: str) -> IO[bytes]:
        return self._store.archive.open(f"{self._folder}/{name}")


class ZippedTree:
    """A ZIP file that contains one Zarr store, at its top or in a folder."""

    __slots__ = ("_group", "_store", "path")

    def __init__(self, store: ReadOnlyZipStore, group: zarr.Group) -> None:
        self.path = store.path
        self._group = group
        self._store = store

    @classmethod
    def open(cls, path: Path) -> ZippedTree:
        """Open a tree for reading."""
        store = ReadOnlyZipStore(path)
        try:
            archive = store.archive
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise NotAStoreError(
                f"{path} is not a cnatool store: it is not a readable ZIP file ({one_line(error)})."
            ) from None
        members = {member.filename: member.file_size for member in archive.infolist()}
        folders = {name.split("/", 1)[0] for name in members if "/" in name}
        prefixes = [f"{folder}/" for folder in folders if f"{folder}/{_METADATA}" in members]
        if _METADATA in members:
            prefixes = [""]
        if len(prefixes) != 1:
            raise NotAStoreError(
                f"{path} is not a cnatool store: it contains no {_METADATA} at its top or in one "
                "folder. Zip a store as it is: `zip -r STORE.zarr.zip STORE.zarr`."
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
            group = zarr.open_group(store, path=prefix.rstrip("/"), mode="r", zarr_format=3)
        except Exception as error:  # zarr raises whatever its parsing encounters
            raise StoreDamagedError(
                f"{path}: {prefix}{_METADATA} cannot be read ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error
        return cls(store, group)

    def attribute(self) -> bytes | None:
        """Return the attribute ``cnatool`` as JSON; None if there is none."""
        value = self._group.attrs.get(ATTRIBUTE)
        return None if value is None else json.dumps(value).encode()

    def checksum(self) -> str | None:
        """Return the attribute's committed checksum; None if there is none."""
        value = self._group.attrs.get(CHECKSUM)
        return None if value is None else str(value)

    def array(self, key: str) -> ForeignArray:
        """Open an array."""
        try:
            array = self._group[key]
        except Exception as error:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be opened ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error
        if not isinstance(array, zarr.Array):
            raise StoreDamagedError(f"{self.path}: {key} is a group instead of an array.")
        prefix = f"{self._group.path}/".lstrip("/")
        return ForeignArray(key, array, _Members(self._store, f"{prefix}{key}"))
