"""An HDF5 file that is read while another process may commit to it."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import h5py

from cnatool._util.text import one_line
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.store.hdf5.journal import Journal, JournalDamage, describe_misfit
from cnatool.store.hdf5.journaled_file import JournaledFile
from cnatool.store.signature import has_hdf5_signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The oldest format whose index of chunks has checksums; every HDF5 since 2016 reads it.
_VERSIONS = ("v110", "v110")
# Bytes of decoded chunks kept for each dataset that is read.
_CACHE = 8 << 20
# Seconds before each further attempt of a reader that a commit disturbed.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

_Result = TypeVar("_Result")


class HDF5File:
    """An open file: its commits (`JournaledFile`) and HDF5's view of it."""

    def __init__(self, path: Path, file: JournaledFile, root: h5py.File) -> None:
        self.path = path
        # Counts how often the file was opened: objects opened inside it before are stale.
        self.generation = 0
        self._lock = threading.RLock()
        self._hold(file, root)

    def _hold(self, file: JournaledFile, root: h5py.File) -> None:
        self._file = file
        self.root = root
        # HDF5 must close the file before the interpreter exits.
        self.close = weakref.finalize(self, _close, file, root)

    @classmethod
    def create(cls, path: Path) -> HDF5File:
        """Create an empty file at a path that must not exist."""
        file = JournaledFile.create(path)
        return cls(path, file, h5py.File(file, "w", libver=_VERSIONS))

    @classmethod
    def open(cls, path: Path) -> HDF5File:
        """Open a file for reading.

        Raises NotAStoreError if it is not HDF5, StoreDamagedError if its metadata are unreadable.
        """
        return cls(path, *_open(path))

    @classmethod
    def reopen(cls, path: Path) -> HDF5File:
        """Open a file to continue it, as its last commit left it."""
        file = JournaledFile.reopen(path)
        try:
            root = h5py.File(file, "r+", libver=_VERSIONS)
            file.check()
        except Exception as error:
            raise StoreDamagedError(
                f"{path} cannot be continued ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error
        return cls(path, file, root)

    def commit(self) -> None:
        """Make everything written so far durable, in one step."""
        with h5py._objects.phil:
            self.root.flush()
            self._file.commit()

    def check(self) -> None:
        """Raise the error of the operating system that HDF5 did not notice, if there was one."""
        self._file.check()

    def dataset(self, key: str) -> h5py.Dataset:
        """Open a dataset; StoreDamagedError if it leads out of the file or is not an array."""
        group: Any = self.root
        for part in key.split("/"):
            # A link or a dataset that names another file would have us read it.
            if not isinstance(group, h5py.Group) or not isinstance(
                group.get(part, getlink=True), h5py.HardLink
            ):
                raise StoreDamagedError(
                    f"{self.path}: array {key} cannot be opened (there is no {part} in this file). "
                    "Dump again with `overwrite=True`, or restore the store from a copy."
                )
            group = group[part]
        if not isinstance(group, h5py.Dataset):
            raise StoreDamagedError(f"{self.path}: {key} is a group instead of an array.")
        if group.is_virtual or group.external:
            raise StoreDamagedError(
                f"{self.path}: the values of array {key} lie in other files. Copy them into the "
                "store, as h5repack does."
            )
        if group.dtype.kind not in "fiub" and not is_text(group):
            raise StoreDamagedError(
                f"{self.path}: array {key} contains {group.dtype}, neither numbers nor text."
            )
        return group

    def retry_read(self, read: Callable[[], _Result]) -> _Result:
        """Read something; reopen the file and read again if a commit disturbed the reading.

        All metadata have checksums and committed chunks never move, so that what is read while a
        writer changes the file is right or raises an error.
        """
        # No other thread may read while the file is reopened.
        with self._lock:
            for pause in _PAUSES:
                try:
                    return self._read(read)
                except Exception:
                    if not self._file.changed():
                        raise
                time.sleep(pause)
                reopened = _open(self.path)
                self.close()
                self._hold(*reopened)
                self.generation += 1
            return self._read(read)

    def _read(self, read: Callable[[], _Result]) -> _Result:
        with h5py._objects.phil:
            try:
                return read()
            finally:
                self.check()


def is_text(dataset: h5py.Dataset) -> bool:
    """Whether a dataset contains text."""
    return h5py.check_string_dtype(dataset.dtype) is not None


def has_old_journal(path: Path) -> bool:
    """Whether a file has a journal of the first version, which does not identify the file."""
    try:
        journal = Journal.read(path)
    except JournalDamage:
        return False
    return journal is not None and journal.before is None


def _open(path: Path) -> tuple[JournaledFile, h5py.File]:
    for pause in (*_PAUSES, None):
        file = JournaledFile.open(path)
        try:
            root = h5py.File(file, "r", rdcc_nbytes=_CACHE)
            file.check()
            return file, root
        except Exception as error:  # h5py raises exceptions of many types
            if pause is not None and file.changed():
                time.sleep(pause)
                continue
            if has_old_journal(path):
                raise StoreDamagedError(describe_misfit(path)) from error
            if not has_hdf5_signature(file):
                raise NotAStoreError(
                    f"{path} is not a cnatool store: it is not an HDF5 file. "
                    "`cnatool dump MODEL DATA -o STORE.h5` creates a store."
                ) from None
            raise StoreDamagedError(
                f"{path} cannot be read ({one_line(error)}). "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            ) from error
    raise AssertionError("the last attempt returns or raises")


def _close(file: JournaledFile, root: h5py.File) -> None:
    file.abandon()
    root.close()
    file.close()
