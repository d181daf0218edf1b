"""The store's tree in Zarr v3: groups, sharded arrays, the attribute, and what makes a commit safe.

A commit goes in this order, so that however the process or the machine ends, what is found
afterwards is the tree of the last commit or of this one:

1. The shards that got chunks since the last commit get their new index, and are synced, several at
   a time (`cnatool.store.zarr.shard` says why no index can be lost). No order is needed between
   them: an index only grows, and a chunk that it names too early lies in rows that are not
   committed.
2. New files ``zarr.json`` and new folders are synced.
3. The root's ``zarr.json``, which lists the committed rows, is written beside the old one, synced,
   put in its place by renaming, and the root folder is synced. This is the moment of the commit:
   all that it speaks of is on disk by then.

4. Statistics of units that the new ones replace are deleted.

Nothing else is ever overwritten. The last commit also writes the metadata of all arrays into the
root's ``zarr.json``, where other libraries look for them first; earlier ones leave them out, since
with thousands of arrays they are megabytes.

A tree that is reopened begins at the last commit: what was written after it is cut off or removed.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from cnatool._util.files import read_regular, replace_file, sync
from cnatool._util.links import check_no_links
from cnatool._util.text import one_line
from cnatool._util.threads import map_concurrently
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.records.layout import GROUPS
from cnatool.store.zarr.array import ZarrArray, ZarrArrayWriter
from cnatool.store.zarr.metadata import (
    ATTRIBUTE,
    CHECKSUM,
    MANY_ROWS,
    ArrayLayout,
    GroupMetadata,
    array_attributes,
    encode_group,
    parse_array,
    parse_group,
)
from cnatool.store.zarr.shard import INDEX_PAGE, ChunkError, ShardWriter, shard_chunks

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import numpy as np

    from cnatool.records.choices import Codec
    from cnatool.store.format import ReadableArray

_METADATA = "zarr.json"
# The next metadata of the root while they are written.
_PARTIAL = "zarr.json.partial"


class ZarrTree:
    """A Zarr v3 group on disk that holds one store."""

    codecs: ClassVar[tuple[Codec, ...]] = ("lz4", "zstd", "gzip", "none")

    __slots__ = (
        "_arrays",
        "_discarded",
        "_groups",
        "_growing",
        "_metadata",
        "_root",
        "_unsynced",
        "path",
    )

    def __init__(self, path: Path, root: GroupMetadata) -> None:
        self.path = path
        self._root = root
        # Writers of the arrays that were created or reopened, and the metadata of each by path.
        self._arrays: list[ZarrArrayWriter] = []
        self._metadata: dict[str, bytes] = {}
        self._growing: dict[str, ArrayLayout] = {}
        self._groups: set[Path] = set()
        # Folders that nothing refers to after the next commit.
        self._discarded: list[Path] = []
        # In the order in which they were created.
        self._unsynced: dict[Path, None] = {}

    @staticmethod
    def metadata_bytes(attribute: int, commits: int, chunks: Sequence[int], *, grows: bool) -> int:
        """Estimate the bytes of a store beside its rows; see `cnatool.store.format.Format`."""

        def shards_bytes(count: int) -> int:
            slots = shard_chunks(MANY_ROWS if grows else count)
            index = 40 if slots == 1 else INDEX_PAGE + 16 * slots
            return -(-count // slots) * index + 4 * count

        # The attribute is indented. The consolidated metadata repeat an array's zarr.json.
        return round(2.7 * attribute) + sum(1900 + shards_bytes(count) for count in chunks)

    @classmethod
    def create(cls, path: Path, *, temporary: bool = False) -> ZarrTree:
        """Create an empty tree at a path that must not exist; readers see it after a commit."""
        path.mkdir()
        tree = cls(path, parse_group(encode_group({})))
        tree._unsynced[path.parent] = None
        return tree

    @classmethod
    def open(cls, path: Path) -> ZarrTree:
        """Open a tree for reading."""
        try:
            return cls(path, parse_group(read_regular(path / _METADATA)))
        except (FileNotFoundError, NotADirectoryError):
            if path.is_dir() and any(path.glob("*.zarr")):
                raise NotAStoreError(
                    f"{path} is not a cnatool store but a folder that contains stores. Name one "
                    f"of them; `cnatool study {path}` scores all of them."
                ) from None
            raise NotAStoreError(
                f"{path} is not a cnatool store: it contains no zarr.json. "
                "`cnatool dump MODEL DATA -o STORE.zarr` creates a store."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise StoreDamagedError(
                f"{path / _METADATA} cannot be read ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error

    @classmethod
    def reopen(cls, path: Path, splits: Collection[str]) -> ZarrTree:
        """Open a store to continue it, as its last commit left it."""
        tree = cls.open(path)
        cls.check_writable(path)
        (path / _PARTIAL).unlink(missing_ok=True)
        folder = path / "splits"
        for leftover in folder.iterdir() if splits else [folder]:
            # Its arrays were being created when the writer was killed.
            if leftover.is_dir() and leftover.name not in splits:
                shutil.rmtree(leftover)
        return tree

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Whether there is anything at a path."""
        return os.path.lexists(path)

    @classmethod
    def is_replaceable(cls, path: Path) -> bool:
        """Whether a folder contains a store, possibly empty or broken, and nothing else."""
        if not path.is_dir():
            return False
        names = {entry.name for entry in path.iterdir()} - {_PARTIAL}
        if names - {_METADATA, *GROUPS}:
            return False
        try:
            return cls.open(path).attribute() is not None or not (path / "splits").exists()
        except StoreDamagedError:
            return True
        except NotAStoreError:
            return not names

    @classmethod
    def is_part(cls, path: Path) -> bool:
        """Whether a folder contains only a store or part of one."""
        if not path.is_dir():
            return False
        return {entry.name for entry in path.iterdir()} <= {_PARTIAL, _METADATA, *GROUPS}

    @classmethod
    def check_writable(cls, path: Path) -> None:
        """Make sure that nothing in a store is a link."""
        check_no_links(path, alone=True)

    @classmethod
    def move(cls, path: Path, target: Path) -> None:
        """Rename a store."""
        path.rename(target)

    @classmethod
    def remove(cls, path: Path) -> None:
        """Delete a store or part of one; links are deleted, not their targets."""
        shutil.rmtree(path, ignore_errors=True)

    @classmethod
    def forget(cls, path: Path) -> None:
        """Do nothing: no files belong beside a Zarr store."""

    @classmethod
    def foreign(cls, path: Path) -> Path | None:
        """Return None: no files belong beside a Zarr store."""
        return None

    def attribute(self) -> bytes | None:
        """Return the attribute ``cnatool`` as JSON; None if there is none."""
        return self._root.attribute()

    def checksum(self) -> str | None:
        """Return the attribute's committed checksum; None if there is none."""
        return self._root.checksum()

    def commit(self, attribute: bytes, checksum: str, *, final: bool = False) -> None:
        """Replace the attribute once everything written before is safe."""
        shards = [shard for array in self._arrays for shard in array.take_unpublished()]
        for shard in shards:
            # The folder may be new.
            self._unsynced[shard.path.parent] = None
        map_concurrently(ShardWriter.publish, shards, waiting=True)
        map_concurrently(sync, self._unsynced, waiting=True)
        self._unsynced.clear()
        attributes = {ATTRIBUTE: attribute, CHECKSUM: msgspec.json.encode(checksum)}
        text = encode_group(attributes, self._metadata if final else None)
        replace_file(self.path / _METADATA, text, self.path / _PARTIAL)
        self._root = parse_group(text)
        while self._discarded:
            shutil.rmtree(self._discarded.pop(), ignore_errors=True)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def create_array(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type[str],
        chunk_rows: int,
        codec: Codec,
        *,
        axes: tuple[str, ...],
        name: str | None = None,
        text_bytes: int,  # text may be of any length here
        grows: bool = False,
        commit_rows: int | None = None,  # a shard goes on where the last commit left it
        extends: bool = False,
    ) -> ZarrArrayWriter:
        """Create an array chunked over rows only, every chunk with a checksum.

        Chunks of zeros are written like any other, so that they differ from missing ones.
        """
        *groups, _ = key.split("/")
        folder = self.path
        for group in groups:
            folder /= group
            if folder not in self._groups:
                self._groups.add(folder)
                self._create_node(folder, encode_group({}))
        if grows:
            shape = (MANY_ROWS, *shape[1:])
        shard = shard_chunks(-(-shape[0] // chunk_rows))
        layout = ArrayLayout(shape, dtype, chunk_rows, codec, axes, shard, array_attributes(name))
        metadata = layout.json()
        self._create_node(self.path / key, metadata)
        self._metadata[key] = metadata
        if grows:
            self._growing[key] = layout
        array = ZarrArrayWriter(key, layout, self.path / key)
        self._arrays.append(array)
        return array

    def reopen_array(
        self, key: str, committed: int, *, grows: bool = False, extends: bool = False
    ) -> ZarrArrayWriter:
        """Open an array to write the rows after the committed ones.

        One that grows has room for any number of rows again, whatever was set last.
        """
        folder = self.path / key
        self._groups.update(folder.parents)
        try:
            metadata = read_regular(folder / _METADATA)
            layout = parse_array(metadata)
            if layout is None:
                raise ValueError("another program wrote it")
            if grows:
                shape = (MANY_ROWS, *layout.shape[1:])
                layout = dataclasses.replace(layout, shape=shape)
            array = ZarrArrayWriter(key, layout, folder, committed, extends=extends)
        except (ChunkError, OSError, ValueError) as error:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be continued ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error
        self._metadata[key] = layout.json()
        if grows:
            self._growing[key] = layout
        self._arrays.append(array)
        return array

    def set_rows(self, key: str, rows: int) -> None:
        """Set the final number of rows of an array that grew; counts with the next `commit`.

        The metadata are on disk before the commit, so a reader expects at least the committed rows
        of an array of an unfinished split.
        """
        layout = self._growing[key]
        metadata = dataclasses.replace(layout, shape=(rows, *layout.shape[1:])).json()
        self._metadata[key] = metadata
        path = self.path / key / _METADATA
        text = msgspec.json.format(metadata, indent=2)
        replace_file(path, text, path.with_name(_PARTIAL))

    def discard(self, key: str) -> None:
        """Delete a group of arrays once the next commit is done."""
        folder = self.path / key
        self._discarded.append(folder)
        self._groups.discard(folder)
        self._metadata = {
            name: text for name, text in self._metadata.items() if not name.startswith(f"{key}/")
        }
        self._arrays = [a for a in self._arrays if not a.key.startswith(f"{key}/")]

    def prune(self, key: str, kept: Collection[str]) -> None:
        """Delete the folders in a group, but for those that are ``kept``."""
        folder = self.path / key
        if not folder.is_dir():
            return
        if not kept:
            # Its own metadata may be missing.
            shutil.rmtree(folder)
            return
        self._groups.add(folder)
        for leftover in folder.iterdir():
            if leftover.is_dir() and leftover.name not in kept:
                shutil.rmtree(leftover)

    def array(self, key: str) -> ReadableArray:
        """Open an array."""
        folder = self.path / key
        try:
            layout = parse_array(read_regular(folder / _METADATA))
            if layout is not None:
                return ZarrArray(key, layout, folder)
            # Slow to import and seldom needed.
            from cnatool.store.zarr.foreign import open_foreign_array

            return open_foreign_array(key, folder)
        except Exception as error:  # zarr raises whatever its parsing encounters
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be opened ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error

    def _create_node(self, folder: Path, metadata: bytes) -> None:
        folder.mkdir()
        path = folder / _METADATA
        # Readers may open it at any time, so it never exists in part.
        partial = folder / _PARTIAL
        partial.write_bytes(msgspec.json.format(metadata, indent=2))
        partial.rename(path)
        self._unsynced |= dict.fromkeys((path, folder, folder.parent))
