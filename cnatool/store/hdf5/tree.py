"""The store's tree in HDF5: groups, datasets, the attribute, and the file that holds them.

Everything that cnatool writes carries a checksum: metadata because the file is of HDF5 1.10's kind,
chunks by the filter Fletcher-32, the attribute by a second one. `cnatool.store.hdf5.journaled_file`
sees to it that a crash leaves whole commits.
"""

from __future__ import annotations

import mmap
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import h5py
import numpy as np

from cnatool._util.links import check_one_name
from cnatool._util.text import one_line
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.store.hdf5.array import LEVEL, HDF5Array, is_text
from cnatool.store.hdf5.journal import (
    Journal,
    JournalDamage,
    describe_misfit,
    find_foreign,
    forget,
    recover,
)
from cnatool.store.hdf5.journaled_file import JournaledFile
from cnatool.store.hdf5.links import check_no_links
from cnatool.store.integrity import attribute_checksum
from cnatool.store.signature import has_hdf5_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from cnatool.records.choices import Codec

ATTRIBUTE = "cnatool"
# CRC-32C of the attribute in hexadecimal: HDF5 keeps text of more than 64 KiB without a checksum.
CHECKSUM = "cnatool_crc32c"
# What a store's attribute begins with, to tell a broken store from another broken file.
_MARK = b"cnatool.store/"
# The oldest format whose index of chunks has checksums; every HDF5 since 2016 reads it.
_VERSIONS = ("v110", "v110")
# Bytes of decoded chunks kept for each dataset that is read.
_CACHE = 8 << 20
# A reader that a commit disturbed tries again, after so many seconds more each time.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

_Found = TypeVar("_Found")


class HDF5Tree:
    """An HDF5 file that holds one store.

    Parameters
    ----------
    path : Path
        The file.
    file : JournaledFile
        The file, open.
    root : h5py.File
        What HDF5 sees in it.
    """

    # The first is the default: no build of HDF5 lacks what it needs, and it costs least.
    codecs: ClassVar[tuple[Codec, ...]] = ("none", "gzip")

    def __init__(self, path: Path, file: JournaledFile, root: h5py.File) -> None:
        self.path = path
        # Counts how often the file was opened: what was opened inside it before is stale.
        self.generation = 0
        self._lock = threading.RLock()
        self._hold(file, root)

    def _hold(self, file: JournaledFile, root: h5py.File) -> None:
        self._file = file
        self._root = root
        # HDF5 must be done with the file before the interpreter is.
        self._closed = weakref.finalize(self, _close, file, root)

    @classmethod
    def create(cls, path: Path) -> HDF5Tree:
        """Make an empty tree at a path that must not exist yet."""
        file = JournaledFile.create(path)
        return cls(path, file, h5py.File(file, "w", libver=_VERSIONS))

    @classmethod
    def open(cls, path: Path) -> HDF5Tree:
        """Open a tree for reading.

        Raises
        ------
        NotAStoreError
            If the path is no HDF5 file.
        StoreDamagedError
            If its metadata cannot be read.
        """
        return cls(path, *_open(path))

    @classmethod
    def reopen(cls, path: Path, splits: Collection[str]) -> HDF5Tree:
        """Open a store to go on with it, as its last commit left it."""
        _check_journal(path)
        file = JournaledFile.reopened(path)
        try:
            root = h5py.File(file, "r+", libver=_VERSIONS)
            file.check()
        except Exception as error:
            raise StoreDamagedError(
                f"{path} cannot be continued ({one_line(error)}). "
                "Dump again with --overwrite, or restore the store from a copy."
            ) from error
        tree = cls(path, file, root)
        try:
            check_no_links(tree._root, path)
        except BaseException:
            tree.close()
            raise
        return tree

    @classmethod
    def is_replaceable(cls, path: Path) -> bool:
        """Say whether a file holds a store, be it broken, or nothing at all."""
        if not path.is_file():
            return False
        if not path.stat().st_size:
            return True
        try:
            tree = cls.open(path)
            return tree.attribute() is not None and set(tree._root) <= {"splits"}
        except NotAStoreError:
            return False
        except StoreDamagedError:
            # A broken HDF5 file may be anybody's.
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                return m.find(_MARK) >= 0

    @classmethod
    def is_part(cls, path: Path) -> bool:
        """Say whether a path is a file: a store is a single one."""
        return path.is_file()

    @classmethod
    def check_writable(cls, path: Path) -> None:
        """Make sure that a store lies in one file, which has no other name."""
        check_one_name(path, path.lstat(), path)
        tree = cls.open(path)
        try:
            tree.retry_read(lambda: check_no_links(tree._root, path))
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
        """Delete a store; if the operating system refuses, it stays."""
        with suppress(OSError):
            path.unlink()

    @classmethod
    def forget(cls, path: Path) -> None:
        """Delete the journal of a store that is no longer there."""
        forget(path)

    @classmethod
    def foreign(cls, path: Path) -> Path | None:
        """Give a file that has the journal's name and is no journal; None if there is none."""
        return find_foreign(path)

    def attribute(self) -> bytes | None:
        """Give the attribute ``cnatool`` as JSON, or None where there is none.

        Raises
        ------
        StoreDamagedError
            If it cannot be read, or is no text.
        """
        try:
            return self.retry_read(self._attribute)
        except StoreDamagedError:
            raise
        except Exception as error:
            raise StoreDamagedError(
                f"{self.path}: the attribute {ATTRIBUTE} cannot be read ({one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error

    def _attribute(self) -> bytes | None:
        attributes = self._root.attrs
        if ATTRIBUTE not in attributes:
            return None
        text = _attribute_text(attributes[ATTRIBUTE])
        if text is None:
            raise StoreDamagedError(f"{self.path}: the attribute {ATTRIBUTE} is no text.")
        return text

    def checksum(self) -> str | None:
        """Give the attribute's checksum as it was committed, or None where there is none.

        Raises
        ------
        StoreDamagedError
            If it cannot be read, or is no text.
        """
        try:
            found = self.retry_read(lambda: self._root.attrs.get(CHECKSUM))
            text = None if found is None else _attribute_text(found)
        except Exception as error:
            raise StoreDamagedError(
                f"{self.path}: the attribute {CHECKSUM} cannot be read ({one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error
        if found is not None and text is None:
            raise StoreDamagedError(f"{self.path}: the attribute {CHECKSUM} is no text.")
        return None if text is None else text.decode(errors="replace")

    def commit(self, attribute: bytes, checksum: str, *, final: bool = False) -> None:
        """Replace the attribute, and make it and all that was written before it safe."""
        for name, text in ((ATTRIBUTE, attribute), (CHECKSUM, checksum.encode())):
            # Not of variable length: HDF5 keeps such text in a heap without checksums.
            self._root.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", len(text)))
        with h5py._objects.phil:
            self._root.flush()
            self._file.commit()

    def close(self) -> None:
        """Let go of the file; what was not committed is lost."""
        self._closed()

    def create_array(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type[str],
        chunk_rows: int,
        codec: Codec,
        *,
        axes: tuple[str, ...],
        text_bytes: int,
        grows: bool = False,
    ) -> HDF5Array:
        """Make an array chunked over rows only, every chunk with a checksum.

        Text becomes text of a fixed length, which is compressed whatever the codec: it is mostly
        what fills it up.
        """
        if isinstance(dtype, np.dtype):
            kind = h5py.h5t.py_create(dtype.newbyteorder("<"), logical=True)
        else:
            kind = h5py.h5t.C_S1.copy()
            # With the zero byte that ends it, so that h5dump prints the text alone.
            kind.set_size(text_bytes + 1)
            kind.set_cset(h5py.h5t.CSET_UTF8)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        chunked = 0 not in (shape[1:] if grows else shape)
        most = (h5py.h5s.UNLIMITED, *shape[1:]) if chunked and grows else shape
        if chunked:
            layout.set_chunk((chunk_rows, *shape[1:]))
            if codec == "gzip" or dtype is str:
                layout.set_deflate(LEVEL)
            layout.set_fletcher32()
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        links.set_char_encoding(h5py.h5t.CSET_UTF8)
        h5py.h5d.create(
            self._root.id,
            key.encode(),
            kind,
            h5py.h5s.create_simple(shape, most),
            layout,
            links,
        )
        return HDF5Array(self, key)

    def reopen_array(self, key: str, committed: int, *, grows: bool = False) -> HDF5Array:
        """Open an array to write the rows that follow the committed ones."""
        return HDF5Array(self, key)

    def set_rows(self, key: str, rows: int) -> None:
        """Say how many rows an array has that grew; counts with the next `commit`."""
        dataset = self._root[key]
        if dataset.chunks is not None:
            HDF5Array(self, key).resize(rows)
            return
        # Nothing is in it, and such a dataset cannot grow.
        shape, dtype = (rows, *dataset.shape[1:]), dataset.dtype
        del self._root[key]
        self._root.create_dataset(key, shape, dtype)

    def array(self, key: str) -> HDF5Array:
        """Open an array.

        Raises
        ------
        StoreDamagedError
            If it is not there or its metadata cannot be read.
        """
        try:
            return self.retry_read(lambda: HDF5Array(self, key))
        except StoreDamagedError:
            raise
        except Exception as error:
            raise StoreDamagedError(
                f"{self.path}: array {key} cannot be opened ({one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error

    def dataset(self, key: str) -> h5py.Dataset:
        """Open a dataset that lies in this file and nowhere else.

        Raises
        ------
        StoreDamagedError
            If it leads out of the file, is none, or holds neither numbers nor text.
        """
        group: Any = self._root
        for part in key.split("/"):
            # A link or a dataset that names another file would have us read it.
            if not isinstance(group, h5py.Group) or not isinstance(
                group.get(part, getlink=True), h5py.HardLink
            ):
                raise StoreDamagedError(
                    f"{self.path}: array {key} cannot be opened (there is no {part} in this file). "
                    "Dump again, or restore the store from a copy."
                )
            group = group[part]
        if not isinstance(group, h5py.Dataset):
            raise StoreDamagedError(f"{self.path}: {key} should be an array and is a group.")
        if group.is_virtual or group.external:
            raise StoreDamagedError(
                f"{self.path}: the values of array {key} lie in other files. Copy them into the "
                "store, as h5repack does."
            )
        if group.dtype.kind not in "fiub" and not is_text(group):
            raise StoreDamagedError(
                f"{self.path}: array {key} holds {group.dtype}, neither numbers nor text."
            )
        return group

    def retry_read(self, read: Callable[[], _Found]) -> _Found:
        """Read something; again from a fresh look at the file where a commit came between.

        Every piece of metadata has a checksum, and committed chunks never move, so that what is
        read while a writer changes the file is right or an error.
        """
        # No other thread may be inside when the file is opened anew.
        with self._lock:
            for pause in _PAUSES:
                try:
                    return self._checked(read)
                except Exception:
                    if not self._file.changed():
                        raise
                time.sleep(pause)
                opened = _open(self.path)
                self.close()
                self._hold(*opened)
                self.generation += 1
            return self._checked(read)

    def _checked(self, read: Callable[[], _Found]) -> _Found:
        with h5py._objects.phil:
            try:
                return read()
            finally:
                self.check()

    def check(self) -> None:
        """Raise what the operating system refused, of which HDF5 knows nothing."""
        self._file.check()


def _open(path: Path) -> tuple[JournaledFile, h5py.File]:
    for pause in (*_PAUSES, None):
        file = JournaledFile.reader(path)
        try:
            root = h5py.File(file, "r", rdcc_nbytes=_CACHE)
            file.check()
            return file, root
        except Exception as error:  # h5py raises what HDF5's hundred kinds of errors look like
            if pause is not None and file.changed():
                time.sleep(pause)
                continue
            if _has_old_journal(path):
                raise StoreDamagedError(describe_misfit(path)) from error
            if not has_hdf5_signature(file):
                raise NotAStoreError(
                    f"{path} is no cnatool store: it is no HDF5 file. "
                    "`cnatool dump MODEL DATA -o STORE.h5` makes one."
                ) from None
            raise StoreDamagedError(
                f"{path} cannot be read ({one_line(error)}). "
                "Dump again, or restore the store from a copy."
            ) from error
    raise AssertionError("the last try returns or raises")


def _check_journal(path: Path) -> None:
    """Make sure that a journal of the first version, once applied, gives a store."""
    if not _has_old_journal(path):
        return
    try:
        tree = HDF5Tree.open(path)
        text, checksum = tree.attribute(), tree.checksum()
        # Before the attribute is first committed there is none.
        whole = text is None or checksum in (None, attribute_checksum(text))
    except Exception:  # what a mixture of two files looks like
        whole = False
    if not whole:
        raise StoreDamagedError(describe_misfit(path))


def _has_old_journal(path: Path) -> bool:
    """Say whether a file has a journal of the first version, which does not identify the file."""
    try:
        journal = Journal.of(path)
    except JournalDamage:
        return False
    return journal is not None and journal.before is None


def _close(file: JournaledFile, root: h5py.File) -> None:
    file.abandon()
    root.close()
    file.close()


def _attribute_text(value: object) -> bytes | None:
    """Give an attribute's text as any writer may have put it: fixed or variable, alone or not."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if isinstance(value, bytes) else None
