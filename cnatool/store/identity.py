"""Whether a path still leads to the store that was opened there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import StoreInUseError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Identity"]


class Identity:
    """The file or folder that is at a path now.

    A store in Zarr is read file by file, by path. Where another takes its place meanwhile, what is
    found belongs to two stores, and is no damage of either.

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
        """Make sure that it is still there.

        Raises
        ------
        StoreInUseError
            If something else is, or nothing.
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
