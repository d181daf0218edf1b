"""Making sure that files are on disk: what a commit rests on, and results that are replaced."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnatool.store.links import opened_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["check_replaceable", "replace_file", "replaced_file", "sync"]


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
        Where it is written first, in the same folder; nobody else writes there.
    """
    partial.unlink(missing_ok=True)
    with opened_here(partial, "xb") as file:
        _write_all(file, content)
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which takes the place of another when the context ends.

    Whatever ends the process, the file is the old one or the new one. What a killed process left is
    overwritten by the next one that writes the same file; of two at the same time one waits.

    Parameters
    ----------
    path : Path
        The file. A link is replaced, not followed.

    Yields
    ------
    Path
        An empty file beside it.

    Raises
    ------
    OSError
        If the operating system refuses.
    """
    with _fresh_file(path.with_name(f".{path.name}.partial")) as partial:
        yield partial
        sync(partial)
        partial.replace(path)
    sync(path.parent)


def check_replaceable(path: Path) -> None:
    """Make sure that `replaced_file` can make a file beside another.

    Raises
    ------
    OSError
        If it cannot.
    """
    with _fresh_file(path.with_name(f".{path.name}.partial")) as partial:
        partial.unlink()


@contextmanager
def _fresh_file(path: Path) -> Iterator[Path]:
    """Have a new, empty file for oneself; remove it where the context ends with an error."""
    file = _held(path)
    if sys.platform == "win32":
        file.close()  # what is open cannot be renamed there
    try:
        yield path
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        file.close()


def _held(path: Path) -> FileIO:
    """Open an empty file, after others that write the same one are done."""
    while True:
        with suppress(FileNotFoundError):
            status = path.lstat()
            # Of a link, or a file with a second name, this name alone goes.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                path.unlink()
        file = opened_here(path, "a+b")
        try:
            _lock(file)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                    file.truncate(0)
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: FileIO) -> None:
    """Wait for others that write the same file, where the file system has locks."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def _write_all(file: FileIO, content: bytes) -> None:
    """Write every byte: a raw file may take fewer than it is given."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]
