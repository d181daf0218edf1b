"""Links: stores are read through links, but never written or removed through one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool.errors import StoreWriteError

if TYPE_CHECKING:
    from io import FileIO

# Windows lacks this flag; creating links there takes a privilege.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Errors of opening a link with O_NOFOLLOW, which depend on the system.
_LINK_ERRORS = frozenset({errno.ELOOP, errno.EMLINK})


def is_link(path: Path | os.DirEntry[str]) -> bool:
    """Whether a path is a symbolic link, or a junction on Windows."""
    # New in Python 3.12.
    junction = getattr(path, "is_junction", None)
    return path.is_symlink() or (junction is not None and junction())


def open_nofollow(path: Path, mode: str) -> FileIO:
    """Open a binary file for writing, unbuffered; raise StoreWriteError if it is a link."""
    try:
        return open(path, mode, buffering=0, opener=_opener)  # type: ignore[return-value]
    except OSError as error:
        if error.errno in _LINK_ERRORS or is_link(path):
            raise _link_error(path) from error
        raise


def _opener(path: str, flags: int) -> int:
    if not _NOFOLLOW and is_link(Path(path)):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(path, flags | _NOFOLLOW, 0o666)


def check_no_links(store: Path, *, alone: bool = False) -> None:
    """Make sure that a store's folder has no links in it.

    With ``alone``, refuse hard links too: a file that another store shares would change there.
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
    """Make sure that a file has a single name, without further hard links."""
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise StoreWriteError(
            f"{path} has a second hard link, under which it would change too. "
            f"Copy {store} with `cp -r` and resume the copy."
        )


def _link_error(path: Path, store: Path | None = None) -> StoreWriteError:
    if store is None:
        return StoreWriteError(
            f"{path} is a link, and cnatool does not write through links. Remove it."
        )
    return StoreWriteError(
        f"{path} is a link. A store that contains links is read-only: "
        f"`cp -rL {store} COPY.zarr` makes a copy without links."
    )
