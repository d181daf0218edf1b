"""Reading regular files only: pipes, devices and sockets are refused instead of waited for."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path


def open_regular(path: Path) -> FileIO:
    """Open a file for reading, without a buffer.

    Raises
    ------
    OSError
        If it cannot be opened, or is not a regular file: a pipe could block, and a device may have
        no end.
    """
    file: FileIO = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: Path) -> bytes:
    """Read a whole file.

    Raises
    ------
    OSError
        If `open_regular` raises it, or the file cannot be read.
    """
    with open_regular(path) as file:
        return file.readall()
