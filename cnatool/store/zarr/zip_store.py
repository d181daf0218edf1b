"""A ZIP file that zarr reads."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from zarr.storage import ZipStore

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path


class ReadOnlyZipStore(ZipStore):
    """A Zarr store in a ZIP file, closed when the last array that reads it is gone.

    Left to the garbage collector, the file would be closed with a ResourceWarning, which may
    appear anywhere. A process that is forked opens the file anew: it would share its position in
    the file with its parent, and its lock might be held by a thread that it does not have.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="r", read_only=True)

    @property
    def archive(self) -> zipfile.ZipFile:
        """The ZIP file, opened when first needed.

        Raises what `zipfile.ZipFile` raises: BadZipFile, OSError, ValueError,
        NotImplementedError.
        """
        if not self._is_open:
            self._sync_open()
        return self._zf

    def reopen(self) -> None:
        """Open the file anew, if it is open."""
        if self._is_open:
            self._is_open = False
            self._sync_open()

    def _sync_open(self) -> None:
        super()._sync_open()
        weakref.finalize(self, self._zf.close)
        _OPEN[id(self)] = self


# By identity, since stores are equal if their paths are, and not hashable.
_OPEN: weakref.WeakValueDictionary[int, ReadOnlyZipStore] = weakref.WeakValueDictionary()


def _reopen_all() -> None:
    for store in list(_OPEN.values()):
        with suppress(Exception):  # reading from it says what is wrong
            store.reopen()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_all)
