"""Opening files of other people: pipes, devices and sockets are refused, not waited for."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

__all__ = ["open_regular", "read_regular"]


def open_regular(path: Path) -> FileIO:
    """Open a file for reading, without a buffer.

    Raises
    ------
    OSError
        If it cannot be opened, or is no regular file. A pipe would keep the caller waiting, and a
        device may have no end.
    """
    file: FileIO = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: Path) -> bytes:
    """Read a whole file.

    Raises
    ------
    OSError
        As of `open_regular`.
    """
    with open_regular(path) as file:
        return file.readall()
