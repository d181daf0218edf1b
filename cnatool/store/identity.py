"""Checking that a path still holds the store that was opened there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import StoreInUseError

if TYPE_CHECKING:
    from pathlib import Path


class Identity:
    """The device and inode of the file or folder at a path.

    A Zarr store is read file by file, by path. If it is replaced meanwhile, files of two stores are
    read, and what looks like damage is none.

    Parameters
    ----------
    path : Path
        The store.
    """

    __slots__ = ("_number", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = _number(path)

    def check(self) -> None:
        """Make sure that the same file or folder is still at the path.

        Raises
        ------
        StoreInUseError
            If it was replaced or removed.
        """
        if _number(self._path) != self._number:
            raise StoreInUseError(
                f"{self._path} was replaced or removed while it was read. Read it again."
            )


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
