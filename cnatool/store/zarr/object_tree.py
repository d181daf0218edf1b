"""The store's tree in Zarr v3 in a bucket: the same objects as files on disk, put whole.

What a writer adds goes in this order:

1. Chunks are collected in a temporary file of this machine until their shard is full. A shard has
   at most the rows of one commit and a few megabytes, so none is ever continued.
2. A full shard is put as a new object. The last shard of an array that extends is put at each
   commit, in place of a shorter object whose chunks it contains at the same places. Otherwise, only
   where an object is in the way, which a writer that was killed left behind its last commit, it is
   replaced, and only while nobody else writes the store.
3. A commit puts the root's ``zarr.json`` on condition that it is still the one of this writer's
   last commit. It is the only object that is ever replaced otherwise.

A writer names itself in the root, when it continues a store as well. So of two writers, one at most
commits, and the other can no longer replace anything. The root always includes the metadata of all
arrays, so that readers need one request for all of them.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from cnatool._util.text import one_line
from cnatool._util.threads import map_concurrently
from cnatool._util.urls import ObjectURL
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.records.layout import GROUPS
from cnatool.store.object_errors import ConflictError, MissingObjectError
from cnatool.store.object_store import Objects
from cnatool.store.scratch import ScratchFolder
from cnatool.store.unfinished_parts import explain_unfinished_parts
from cnatool.store.write_errors import make_taken_over_error
from cnatool.store.zarr.array import ZarrArray
from cnatool.store.zarr.metadata import (
    ATTRIBUTE,
    CHECKSUM,
    MANY_ROWS,
    ArrayLayout,
    GroupMetadata,
    array_attributes,
    compare_metadata,
    encode_group,
    parse_array,
    parse_arrays,
    parse_group,
)
from cnatool.store.zarr.object_shards import (
    SHARD_BYTES,
    ObjectArrayWriter,
    ObjectShardReader,
    ReadAhead,
    ShardUploads,
)
from cnatool.store.zarr.shard import MOST_CHUNKS, ChunkError, Shards
from cnatool.store.zarr.tree import ZarrTree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from cnatool.records.choices import Codec
    from cnatool.store.format import ReadableArray
    from cnatool.store.object_store import Version

_METADATA = "zarr.json"
# Attribute of the root that names the last writer.
_WRITER = "cnatool_writer"
# Attribute of the root of a temporary tree, until it is complete.
_TEMPORARY = "cnatool_temporary"
# Estimated bytes of a text.
_ID_BYTES = 64


class ObjectTree:
    """A Zarr v3 group in a bucket that holds one store."""

    codecs: ClassVar[tuple[Codec, ...]] = ("lz4", "zstd", "gzip", "none")

    def __init__(self, path: ObjectURL, root: GroupMetadata, version: Version | None) -> None:
        self.path = path
        self._objects = Objects(path)
        self._root = root
        self._version = version
        # The metadata of every array by path.
        self._metadata: dict[str, bytes] = {}
        self._writer = secrets.token_hex(8)
        self._temporary = False
        self._growing: dict[str, ObjectArrayWriter] = {}
        self._extending: list[ObjectArrayWriter] = []
        # Metadata of arrays and groups that are put before the next commit, by name.
        self._unsaved: dict[str, bytes] = {}
        self._groups: set[str] = set()
        self._discarded: list[str] = []  # groups that nothing refers to after the next commit
        self._opened = 0  # arrays
        self._scratch: ScratchFolder | None = None
        self._ahead = ReadAhead()
        self._uploads = ShardUploads(self._objects, self._check_owned)

    @staticmethod
    def metadata_bytes(attribute: int, commits: int, chunks: Sequence[int], *, grows: bool) -> int:
        """Estimate the bytes of a store beside its rows, which are about those on disk."""
        return ZarrTree.metadata_bytes(attribute, commits, chunks, grows=grows)

    @classmethod
    def create(cls, path: Path, *, temporary: bool = False) -> ObjectTree:
        """Create an empty tree where there is none; readers see it after a commit.

        Nothing is renamed in a bucket, so the root of a temporary tree says what it is.
        """
        tree = cls(_url(path), parse_group(encode_group({})), None)
        tree._temporary = temporary
        return tree

    @classmethod
    def open(cls, path: Path) -> ObjectTree:
        """Open a tree for reading."""
        url = _url(path)
        try:
            content, version = Objects(url).get(_METADATA)
        except MissingObjectError:
            raise NotAStoreError(
                explain_unfinished_parts(url) or _explain_missing_root(url)
            ) from None
        try:
            tree = cls(url, parse_group(content), version)
            tree._metadata = parse_arrays(content)
        except (ValueError, RecursionError) as error:
            raise StoreDamagedError(
                f"{url / _METADATA} cannot be read ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error
        return tree

    @classmethod
    def reopen(cls, path: Path, splits: Collection[str]) -> ObjectTree:
        """Open a store to continue it, as its last commit left it.

        From here on, whoever wrote it before cannot commit any more.
        """
        tree = cls.open(path)
        tree._put_root({name: bytes(text) for name, text in tree._root.attributes.items()})
        return tree

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Whether there is anything at a URL, except for shards of a killed dump."""
        return bool(Objects(_url(path)).names() - GROUPS)

    @classmethod
    def is_replaceable(cls, path: Path) -> bool:
        """Return False: nothing is renamed in a bucket, so the old store could not be kept."""
        return False

    @classmethod
    def is_part(cls, path: Path) -> bool:
        """Whether a URL contains only a store or part of one."""
        return Objects(_url(path)).names() <= {_METADATA, *GROUPS}

    @classmethod
    def is_temporary(cls, path: ObjectURL) -> bool:
        """Whether a URL contains a temporary tree that is incomplete, and nothing else."""
        try:
            root = cls.open(path)._root
        except (NotAStoreError, StoreDamagedError):
            return False
        return _TEMPORARY in root.attributes and cls.is_part(path)

    @classmethod
    def check_writable(cls, path: Path) -> None:
        """Do nothing: there are no links in a bucket."""

    @classmethod
    def remove(cls, path: Path) -> None:
        """Delete a store or part of one."""
        objects = Objects(_url(path))
        # First, so that no reader finds part of a store.
        objects.delete(_METADATA)
        objects.delete_all()

    @classmethod
    def forget(cls, path: Path) -> None:
        """Do nothing: nothing belongs beside a store in a bucket."""

    @classmethod
    def foreign(cls, path: Path) -> Path | None:
        """Return None: nothing belongs beside a store in a bucket."""
        return None

    def attribute(self) -> bytes | None:
        """Return the attribute ``cnatool`` as JSON; None if there is none."""
        return self._root.attribute()

    def checksum(self) -> str | None:
        """Return the attribute's committed checksum; None if there is none."""
        return self._root.checksum()

    def commit(self, attribute: bytes, checksum: str, *, final: bool = False) -> None:
        """Replace the attribute once everything written before is safe."""
        for array in self._extending:
            array.publish()
        self._uploads.finish()
        map_concurrently(lambda each: self._objects.put(*each), self._unsaved.items(), waiting=True)
        self._unsaved.clear()
        mark = {_TEMPORARY: b"true"} if self._temporary and not final else {}
        self._put_root({ATTRIBUTE: attribute, CHECKSUM: msgspec.json.encode(checksum), **mark})
        while self._discarded:
            Objects(self.path / self._discarded.pop()).delete_all()

    def close(self) -> None:
        """Stop putting shards; what was not committed is lost."""
        self._uploads.stop()
        if self._scratch is not None:
            self._scratch.remove()

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
        commit_rows: int | None = None,
        extends: bool = False,
    ) -> ObjectArrayWriter:
        """Create an array chunked over rows only, every chunk with a checksum."""
        *groups, _ = key.split("/")
        for depth in range(1, len(groups) + 1):
            group = "/".join(groups[:depth])
            if group not in self._groups:
                self._groups.add(group)
                self._unsaved[f"{group}/{_METADATA}"] = _format(encode_group({}))
        if grows:
            shape = (MANY_ROWS, *shape[1:])
        shard = _shard_chunks(shape, dtype, chunk_rows, commit_rows or shape[0])
        layout = ArrayLayout(shape, dtype, chunk_rows, codec, axes, shard, array_attributes(name))
        self._set_metadata(key, layout)
        return self._open_writer(key, layout, grows=grows, extends=extends)

    def reopen_array(
        self, key: str, committed: int, *, grows: bool = False, extends: bool = False
    ) -> ObjectArrayWriter:
        """Open an array to write the rows after the committed ones."""
        layout = self._layout(key)
        if grows:
            layout = dataclasses.replace(layout, shape=(MANY_ROWS, *layout.shape[1:]))
        shard_rows = layout.chunk_rows * layout.shard_chunks
        if committed % shard_rows and committed < layout.shape[0] and not extends:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be continued in a bucket, because its last shard "
                "is not full. Copy the store to a disk, and resume it there."
            )
        self._metadata[key] = layout.json()
        try:
            return self._open_writer(key, layout, committed, grows=grows, extends=extends)
        except (ChunkError, MissingObjectError) as error:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be continued ({one_line(error)}). "
                "Dump again with `overwrite=True`, or "
                "restore the store from a copy."
            ) from error

    def _open_writer(
        self, key: str, layout: ArrayLayout, committed: int = 0, *, grows: bool, extends: bool
    ) -> ObjectArrayWriter:
        if self._scratch is None:
            self._scratch = ScratchFolder()
        folder = self._scratch.path / str(self._opened)
        self._opened += 1
        folder.mkdir()
        if extends and committed:
            self._fetch_last_shard(key, layout, folder, committed)
        array = ObjectArrayWriter(key, layout, folder, self._uploads, committed, extends=extends)
        if extends:
            self._extending.append(array)
        if grows:
            self._growing[key] = array
        return array

    def _fetch_last_shard(
        self, key: str, layout: ArrayLayout, folder: Path, committed: int
    ) -> None:
        """Copy the shard of the last committed row to a folder, if it has room for more."""
        number, used = divmod(committed, layout.chunk_rows * layout.shard_chunks)
        if used and 0 not in layout.shape[1:]:
            name = Shards(folder, layout.shard_chunks, len(layout.shape)).name(number)
            content, _ = self._objects.get(f"{key}/{name}")
            (folder / name).write_bytes(content)

    def set_rows(self, key: str, rows: int) -> None:
        """Set the final number of rows of an array that grew; counts with the next `commit`."""
        self._set_metadata(key, self._growing[key].end(rows))

    def discard(self, key: str) -> None:
        """Delete a group of arrays once the next commit is done."""
        self._discarded.append(key)
        for known in (self._metadata, self._unsaved):
            for name in [name for name in known if name.startswith(f"{key}/")]:
                del known[name]

    def prune(self, key: str, kept: Collection[str]) -> None:
        """Delete the groups in a group, but for those that are ``kept``."""
        _, groups = Objects(self.path / key).list_level()
        for name in groups.difference(kept):
            Objects(self.path / key / name).delete_all()

    def array(self, key: str) -> ReadableArray:
        """Open an array."""
        layout = self._layout(key)
        return ZarrArray(
            key,
            layout,
            self.path / key,
            lambda shards: ObjectShardReader(self._objects, key, shards, self._ahead),
        )

    def find_metadata_faults(self) -> Iterator[tuple[str, str]]:
        """Find faults in metadata that reading the arrays does not reveal."""
        names = list(self._objects.walk())
        files = {name for name in names if name.rpartition("/")[2] == _METADATA}

        def read(name: str) -> bytes:
            if name not in contents:
                raise FileNotFoundError(name)
            return contents[name]

        def get(name: str) -> bytes:
            return self._objects.get(name)[0]

        contents = dict(zip(files, map_concurrently(get, files, waiting=True), strict=True))
        leaves = {name.rpartition("/")[0] or "." for name in names}
        yield from compare_metadata(read, leaves)

    def _layout(self, key: str) -> ArrayLayout:
        try:
            metadata = self._metadata.get(key)
            if metadata is None:
                metadata, _ = self._objects.get(f"{key}/{_METADATA}")
            layout = parse_array(metadata)
        except MissingObjectError:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be opened (there is no zarr.json). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from None
        if layout is None:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be opened (another program wrote it). Copy the "
                "store to a disk, where such arrays can be read."
            )
        return layout

    def _set_metadata(self, key: str, layout: ArrayLayout) -> None:
        self._metadata[key] = metadata = layout.json()
        self._unsaved[f"{key}/{_METADATA}"] = _format(metadata)

    def _put_root(self, attributes: dict[str, bytes]) -> None:
        """Put the root's metadata, unless another process has put them since."""
        attributes = {**attributes, _WRITER: msgspec.json.encode(self._writer)}
        text = encode_group(attributes, self._metadata or None)
        try:
            if self._version is None:
                self._version = self._objects.create(_METADATA, text)
            else:
                self._version = self._objects.replace(_METADATA, text, self._version)
        except ConflictError:
            try:
                content, version = self._objects.get(_METADATA)
            except MissingObjectError:
                content, version = b"", {}
            # The answer to a put may be lost; what was repeated then meets its own result.
            if content != text:
                raise make_taken_over_error(self.path) from None
            self._version = version
        self._root = parse_group(text)

    def _check_owned(self) -> None:
        """Raise StoreInUseError if another process has put the root since."""
        try:
            version = self._objects.version(_METADATA)
        except MissingObjectError:
            version = None
        if version != self._version:
            raise make_taken_over_error(self.path)


def _explain_missing_root(url: ObjectURL) -> str:
    if not ObjectTree.exists(url):
        return f"{url}: no such store."
    return (
        f"{url} is not a cnatool store: there is no zarr.json. `cnatool dump MODEL DATA "
        f"-o {url.scheme}://BUCKET/STORE.zarr` creates a store."
    )


def _url(path: Path) -> ObjectURL:
    assert isinstance(path, ObjectURL)
    return path


def _format(metadata: bytes) -> bytes:
    return msgspec.json.format(metadata, indent=2)


def _shard_chunks(
    shape: tuple[int, ...], dtype: np.dtype[Any] | type[str], chunk_rows: int, commit_rows: int
) -> int:
    """Choose the chunks per shard: a power of two, so that shards end where commits do."""
    item = dtype.itemsize if isinstance(dtype, np.dtype) else _ID_BYTES
    chunk_bytes = chunk_rows * item * math.prod(shape[1:])
    most = min(MOST_CHUNKS, commit_rows // chunk_rows, SHARD_BYTES // max(1, chunk_bytes))
    # A part of a dump may have no row of a split.
    whole = max(1, -(-shape[0] // chunk_rows))
    return whole if whole <= most else 1 << (max(1, most).bit_length() - 1)
