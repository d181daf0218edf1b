"""Links: a store may be read through them; nothing is written or removed through one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool.errors import StoreWriteError

if TYPE_CHECKING:
    from io import FileIO

__all__ = ["check_own", "is_link", "opened_here"]

# Windows has no such flag, and nobody but an administrator makes links there.
_HERE = getattr(os, "O_NOFOLLOW", 0)
# What systems say of a link where O_NOFOLLOW was given.
_REFUSED = frozenset({errno.ELOOP, errno.EMLINK})


def is_link(path: Path) -> bool:
    """Say whether a path is a symbolic link, or what Windows calls a junction."""
    # Python 3.12 knows junctions.
    junction = getattr(path, "is_junction", None)
    return path.is_symlink() or (junction is not None and junction())


def opened_here(path: Path, mode: str) -> FileIO:
    """Open a file to write to it, without a buffer; refuse a link.

    Raises
    ------
    StoreWriteError
        If the path is a link.
    OSError
        If the operating system refuses.
    """
    try:
        return open(path, mode, buffering=0, opener=_opener)  # type: ignore[return-value]
    except OSError as error:
        if error.errno in _REFUSED or is_link(path):
            raise _a_link(path) from error
        raise


def _opener(path: str, flags: int) -> int:
    if not _HERE and is_link(Path(path)):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(path, flags | _HERE, 0o666)


def check_own(store: Path, *, alone: bool = False) -> None:
    """Make sure that everything in a store's folder lies in it.

    Parameters
    ----------
    store : Path
        The folder of a Zarr store.
    alone : bool
        Make sure too that no file has a second name (a hard link), under which another store would
        change.

    Raises
    ------
    StoreWriteError
        If something does not; the message names it.
    """
    if is_link(store):
        raise _a_link(store)
    folders = [store]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                junction = getattr(entry, "is_junction", None)
                if entry.is_symlink() or (junction is not None and junction()):
                    raise _a_link(Path(entry.path), store)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif alone:
                    check_alone(Path(entry.path), entry.stat(follow_symlinks=False), store)


def check_alone(path: Path, status: os.stat_result, store: Path) -> None:
    """Refuse to write into a file that has a second name.

    Raises
    ------
    StoreWriteError
        If it has one.
    """
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise StoreWriteError(
            f"{path} is also the file of another name (a hard link), which would change with it. "
            f"Copy {store} with `cp -r`, and resume the copy."
        )


def _a_link(path: Path, store: Path | None = None) -> StoreWriteError:
    if store is None:
        return StoreWriteError(f"{path} is a link, and nothing is written through it. Remove it.")
    return StoreWriteError(
        f"{path} is a link. A store with links in it can be read, not written to or replaced: "
        f"`cp -rL {store} COPY.zarr` makes a copy without links."
    )
