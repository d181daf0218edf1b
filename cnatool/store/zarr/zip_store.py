"""A ZIP file that zarr reads."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from zarr.storage import ZipStore

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path


class ReadOnlyZipStore(ZipStore):
    """A Zarr store in a ZIP file, closed when the last array that reads it is gone.

    Left to the garbage collector, the file would be closed with a ResourceWarning, which may
    appear anywhere.
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

    def _sync_open(self) -> None:
        super()._sync_open()
        weakref.finalize(self, self._zf.close)
