"""What is done to a store's HDF5 file and its journal: every change of them goes through here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cnatool._util.links import open_nofollow

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

Buffer = bytes | bytearray | memoryview


def opened(path: Path, mode: str) -> FileIO:
    """Open a file unbuffered; for writing, refuse a link."""
    if mode == "rb":
        return path.open("rb", buffering=0)
    return open_nofollow(path, mode)


def write(file: FileIO, offset: int, data: Buffer) -> None:
    """Write every byte: a raw file may take fewer than it is given."""
    rest = memoryview(data)
    if rest:
        file.seek(offset)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def truncate(file: FileIO, size: int) -> None:
    """Set a file's size."""
    file.truncate(size)


def sync(file: FileIO) -> None:
    """Wait until a file is on disk."""
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable, where the system knows such a thing."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)


def replace(path: Path, target: Path) -> None:
    """Rename a file, over another if one has that name."""
    path.replace(target)
