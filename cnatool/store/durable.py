"""Making sure that files are on disk: what a commit rests on."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["replace_file", "sync"]


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    folder = path.is_dir()
    if os.name == "nt" and folder:
        return  # Windows opens no folders; NTFS has a journal of their entries
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno != errno.EINVAL:
            raise  # a file system that cannot sync folders says EINVAL; there is nothing to do
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, partial: Path) -> None:
    """Put a file at a path, whole and safe, or leave what is there.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes
        What it will hold.
    partial : Path
        Where it is written first, in the same folder.
    """
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)
