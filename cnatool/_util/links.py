"""Links: stores are read through links, but nothing is written or removed through one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool.errors import StoreWriteError

if TYPE_CHECKING:
    from io import FileIO

# Windows has no such flag; making links there takes a privilege.
_HERE = getattr(os, "O_NOFOLLOW", 0)
# Errors of opening a link with O_NOFOLLOW, by system.
_REFUSED = frozenset({errno.ELOOP, errno.EMLINK})


def is_link(path: Path | os.DirEntry[str]) -> bool:
    """Say whether a path is a symbolic link, or a junction on Windows."""
    # New in Python 3.12.
    junction = getattr(path, "is_junction", None)
    return path.is_symlink() or (junction is not None and junction())


def open_nofollow(path: Path, mode: str) -> FileIO:
    """Open a file for writing, unbuffered, unless it is a link.

    Parameters
    ----------
    path : Path
    mode : str
        As of `open`; binary.

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
            raise _link_error(path) from error
        raise


def _opener(path: str, flags: int) -> int:
    if not _HERE and is_link(Path(path)):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(path, flags | _HERE, 0o666)


def check_no_links(store: Path, *, alone: bool = False) -> None:
    """Make sure that a store's folder has no links in it.

    Parameters
    ----------
    store : Path
        The folder of a Zarr store.
    alone : bool
        Refuse hard links too: another store may contain the same file, and would change with it.

    Raises
    ------
    StoreWriteError
        If it has one; the message names it.
    """
    if is_link(store):
        raise _link_error(store)
    folders = [store]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if is_link(entry):
                    raise _link_error(Path(entry.path), store)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif alone:
                    check_one_name(Path(entry.path), entry.stat(follow_symlinks=False), store)


def check_one_name(path: Path, status: os.stat_result, store: Path) -> None:
    """Make sure that a file has no second name (hard link)."""
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise StoreWriteError(
            f"{path} has another name (a hard link), under which it would change too. "
            f"Copy {store} with `cp -r`, and resume the copy."
        )


def _link_error(path: Path, store: Path | None = None) -> StoreWriteError:
    if store is None:
        return StoreWriteError(f"{path} is a link, and nothing is written through it. Remove it.")
    return StoreWriteError(
        f"{path} is a link. A store with links in it can be read, not written to or replaced: "
        f"`cp -rL {store} COPY.zarr` makes a copy without links."
    )
