"""Check that a path still contains the store that was opened there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.urls import ObjectURL
from cnatool.errors import StoreInUseError

if TYPE_CHECKING:
    from pathlib import Path


class Identity:
    """The device and inode of the file or folder at a path.

    A Zarr store is read file by file, by path. If it is replaced meanwhile, files of two stores are
    read, which looks like damage.
    """

    __slots__ = ("_number", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        # A bucket has no such number, and a store there is never replaced by another.
        self._number = None if isinstance(path, ObjectURL) else _number(path)

    def check(self) -> None:
        """Raise StoreInUseError if the file or folder at the path was replaced or removed."""
        if isinstance(self._path, ObjectURL):
            return
        if _number(self._path) != self._number:
            raise StoreInUseError(
                f"{self._path} was replaced or removed while it was read. Read it again."
            )


def _number(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
