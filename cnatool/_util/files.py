"""Writing files durably, and replacing them whole."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnatool._util.links import open_nofollow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

if sys.platform != "win32":
    import fcntl


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
    """Write a file durably: whatever happens, the path holds the old content or the new."""
    partial.unlink(missing_ok=True)
    with open_nofollow(partial, "xb") as file:
        _write_all(file, content)
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path, whose file replaces another when the context ends.

    However the process ends, the path holds the old file or the new one. A temporary file that a
    killed process left is overwritten by the next one; of two processes that write the same file at
    once, one waits.

    Parameters
    ----------
    path : Path
        The file to replace. A link is replaced, not followed.

    Yields
    ------
    Path
        An empty file in the same folder.

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
    """Make sure that `replace_atomically` can create its temporary file."""
    with _fresh_file(path.with_name(f".{path.name}.partial")) as partial:
        partial.unlink()


@contextmanager
def _fresh_file(path: Path) -> Iterator[Path]:
    """Hold a new, empty file exclusively; remove it if the context ends with an error."""
    file = _open_locked(path)
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


def _open_locked(path: Path) -> FileIO:
    """Open and lock an empty file, once other processes that write it are done."""
    while True:
        with suppress(FileNotFoundError):
            status = path.lstat()
            # Unlink a link, or one name of a hard-linked file, rather than write through it.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                path.unlink()
        file = open_nofollow(path, "a+b")
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
    """Lock a file, if the file system has locks."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def _write_all(file: FileIO, content: bytes) -> None:
    """Write every byte: a raw file may take fewer than it is given."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]
