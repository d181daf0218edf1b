"""The store's tree in HDF5: groups, datasets, the attribute.

Everything that cnatool writes carries a checksum: metadata because the file is of HDF5 1.10's kind,
chunks by the filter Fletcher-32, the attribute by a second one. `cnatool.store.hdf5.journaled_file`
sees to it that a crash leaves whole commits.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import h5py
import numpy as np

from cnatool._util.links import check_one_name
from cnatool._util.text import one_line
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.records.layout import GROUPS
from cnatool.store.hdf5.array import LEVEL, HDF5Array
from cnatool.store.hdf5.element_types import create_type
from cnatool.store.hdf5.file import HDF5File, has_old_journal
from cnatool.store.hdf5.journal import describe_misfit, find_foreign, forget, recover
from cnatool.store.hdf5.links import check_no_links
from cnatool.store.integrity import attribute_checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from cnatool.records.choices import Codec

ATTRIBUTE = "cnatool"
# CRC-32C of the attribute in hexadecimal: HDF5 keeps text of more than 64 KiB without a checksum.
CHECKSUM = "cnatool_crc32c"
# Attribute of an array: its name in the network, for other programs.
_NAME = "long_name"
# Beginning of a store's attribute, to tell a broken store from another broken file.
_MARK = b"cnatool.store/"


class HDF5Tree:
    """An HDF5 file that contains one store."""

    # The first is the default: every build of HDF5 supports it, and it costs least.
    codecs: ClassVar[tuple[Codec, ...]] = ("none", "gzip")

    def __init__(self, file: HDF5File) -> None:
        self.path = file.path
        self._file = file

    @staticmethod
    def metadata_bytes(attribute: int, commits: int, chunks: Sequence[int], *, grows: bool) -> int:
        """Estimate the bytes of a store beside its rows; see `cnatool.store.format.Format`."""
        # HDF5 does not use the space of a replaced attribute again. Of an array: object header,
        # link, checksum of each chunk, and the index of several chunks.
        of_arrays = (500 + 4 * count + (500 + 16 * count if count > 1 else 0) for count in chunks)
        return round(1.2 * attribute * commits) + sum(of_arrays)

    @classmethod
    def create(cls, path: Path, *, temporary: bool = False) -> HDF5Tree:
        """Create an empty tree at a path that must not exist."""
        return cls(HDF5File.create(path))

    @classmethod
    def open(cls, path: Path) -> HDF5Tree:
        """Open a tree for reading."""
        return cls(HDF5File.open(path))

    @classmethod
    def reopen(cls, path: Path, splits: Collection[str]) -> HDF5Tree:
        """Open a store to continue it, as its last commit left it."""
        _check_journal(path)
        tree = cls(HDF5File.reopen(path))
        try:
            check_no_links(tree._file.root, path)
        except BaseException:
            tree.close()
            raise
        return tree

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Whether there is anything at a path."""
        return os.path.lexists(path)

    @classmethod
    def is_replaceable(cls, path: Path) -> bool:
        """Whether a file contains a store, possibly broken, or nothing at all."""
        if not path.is_file():
            return False
        if not path.stat().st_size:
            return True
        try:
            tree = cls.open(path)
            return tree.attribute() is not None and set(tree._file.root) <= GROUPS
        except NotAStoreError:
            return False
        except StoreDamagedError:
            # A broken HDF5 file may belong to any program.
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                return m.find(_MARK) >= 0

    @classmethod
    def is_part(cls, path: Path) -> bool:
        """Whether a path is a file: a store is a single one."""
        return path.is_file()

    @classmethod
    def check_writable(cls, path: Path) -> None:
        """Make sure that a store is one file with a single name and without links inside."""
        check_one_name(path, path.lstat(), path)
        tree = cls.open(path)
        try:
            tree._file.retry_read(lambda: check_no_links(tree._file.root, path))
        finally:
            tree.close()

    @classmethod
    def move(cls, path: Path, target: Path) -> None:
        """Rename a store, as its last commit left it."""
        _check_journal(path)
        recover(path)
        path.rename(target)

    @classmethod
    def remove(cls, path: Path) -> None:
        """Delete a store; it stays if the operating system refuses."""
        with suppress(OSError):
            path.unlink()

    @classmethod
    def forget(cls, path: Path) -> None:
        """Delete the journal of a store that no longer exists."""
        forget(path)

    @classmethod
    def foreign(cls, path: Path) -> Path | None:
        """Return a file that has the journal's name but is not a journal; None if there is none."""
        return find_foreign(path)

    def attribute(self) -> bytes | None:
        """Return the attribute ``cnatool`` as JSON; None if there is none."""
        return self._read_attribute(ATTRIBUTE)

    def checksum(self) -> str | None:
        """Return the attribute's committed checksum; None if there is none."""
        text = self._read_attribute(CHECKSUM)
        return None if text is None else text.decode(errors="replace")

    def _read_attribute(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            attributes = self._file.root.attrs
            if name not in attributes:
                return None
            text = _attribute_text(attributes[name])
            if text is None:
                raise StoreDamagedError(f"{self.path}: the attribute {name} is not text.")
            return text

        attribute: bytes | None = self._read(read, f"the attribute {name} cannot be read")
        return attribute

    def _read(self, read: Callable[[], Any], problem: str) -> Any:
        try:
            return self._file.retry_read(read)
        except StoreDamagedError:
            raise
        except Exception as error:
            raise StoreDamagedError(
                f"{self.path}: {problem} ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error

    def commit(self, attribute: bytes, checksum: str, *, final: bool = False) -> None:
        """Replace the attribute, and make it and everything written before safe."""
        for name, text in ((ATTRIBUTE, attribute), (CHECKSUM, checksum.encode())):
            _set_text(self._file.root.attrs, name, text)
        self._file.commit()

    def close(self) -> None:
        """Close the file; changes that were not committed are lost."""
        self._file.close()

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
        text_bytes: int,
        grows: bool = False,
        commit_rows: int | None = None,  # chunks are independent
        extends: bool = False,  # the file's journal makes any change safe
    ) -> HDF5Array:
        """Create an array chunked over rows only, every chunk with a checksum.

        Text gets a fixed length and is compressed whatever the codec: most of it is padding.
        """
        if isinstance(dtype, np.dtype):
            kind = create_type(dtype)
        else:
            kind = h5py.h5t.C_S1.copy()
            # With the final zero byte, so that h5dump prints the text alone.
            kind.set_size(text_bytes + 1)
            kind.set_cset(h5py.h5t.CSET_UTF8)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        chunked = 0 not in (shape[1:] if grows else shape)
        most = shape
        if chunked:
            # A part of a split may have fewer rows than a chunk, and HDF5 wants room for a chunk.
            room = h5py.h5s.UNLIMITED if grows else max(shape[0], chunk_rows)
            most = (room, *shape[1:])
        if chunked:
            layout.set_chunk((chunk_rows, *shape[1:]))
            if codec == "gzip" or dtype is str:
                layout.set_deflate(LEVEL)
            layout.set_fletcher32()
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        links.set_char_encoding(h5py.h5t.CSET_UTF8)
        space = h5py.h5s.create_simple(shape, most)
        dataset = h5py.h5d.create(self._file.root.id, key.encode(), kind, space, layout, links)
        if name:
            _set_text(h5py.AttributeManager(h5py.Dataset(dataset)), _NAME, name.encode())
        return HDF5Array(self._file, key)

    def reopen_array(
        self, key: str, committed: int, *, grows: bool = False, extends: bool = False
    ) -> HDF5Array:
        """Open an array to write the rows after the committed ones."""
        return HDF5Array(self._file, key)

    def set_rows(self, key: str, rows: int) -> None:
        """Set the final number of rows of an array that grew; counts with the next `commit`."""
        root = self._file.root
        dataset = root[key]
        if dataset.chunks is not None:
            HDF5Array(self._file, key).resize(rows)
            return
        # It has no elements, and such a dataset cannot grow.
        shape, dtype = (rows, *dataset.shape[1:]), dataset.dtype
        attributes = dict(dataset.attrs)
        del root[key]
        dataset = root.create_dataset(key, shape, dtype)
        for name, value in attributes.items():
            _set_text(dataset.attrs, name, _attribute_text(value) or b"")

    def discard(self, key: str) -> None:
        """Delete a group of arrays with the next commit."""
        with h5py._objects.phil:
            del self._file.root[key]

    def prune(self, key: str, kept: Collection[str]) -> None:
        """Delete the groups in a group, but for those that are ``kept``."""
        for name in set(self._file.root.get(key, ())).difference(kept):
            self.discard(f"{key}/{name}")

    def array(self, key: str) -> HDF5Array:
        """Open an array."""
        array: HDF5Array = self._read(
            lambda: HDF5Array(self._file, key), f"array {key} cannot be opened"
        )
        return array


def _check_journal(path: Path) -> None:
    """Make sure that a journal of the first version, once applied, results in a store."""
    if not has_old_journal(path):
        return
    try:
        tree = HDF5Tree.open(path)
        text, checksum = tree.attribute(), tree.checksum()
        # Before its first commit the attribute is missing.
        whole = text is None or checksum in (None, attribute_checksum(text))
    except Exception:  # a mixture of two files may raise anything
        whole = False
    if not whole:
        raise StoreDamagedError(describe_misfit(path))


def _set_text(attributes: h5py.AttributeManager, name: str, text: bytes) -> None:
    """Set a text attribute, not of variable length: HDF5 has no checksums for such text."""
    attributes.create(name, text, dtype=h5py.string_dtype("utf-8", len(text)))


def _attribute_text(value: object) -> bytes | None:
    """Return an attribute's text in any form of writing it; None if it is not text."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if isinstance(value, bytes) else None
