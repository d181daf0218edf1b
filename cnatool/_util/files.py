"""Files: opened without following links or waiting, written whole, replaced atomically."""

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
    from io import FileIO, RawIOBase
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

Buffer = bytes | bytearray | memoryview


def open_regular(path: Path) -> FileIO:
    """Open a file for reading, unbuffered.

    Raises OSError for anything but a regular file: a pipe could block, a device may have no end.
    """
    file: FileIO = open(path, "rb", buffering=0, opener=_open_nonblocking)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: Path) -> bytes:
    """Read a whole regular file; see `open_regular`."""
    with open_regular(path) as file:
        return file.readall()


# The operations below are the only ones on an HDF5 store and its journal, so that tests can record
# them and replay what a crash leaves.


def open_file(path: Path, mode: str) -> FileIO:
    """Open a binary file, unbuffered; a link is refused unless the mode is ``rb``."""
    return path.open("rb", buffering=0) if mode == "rb" else open_nofollow(path, mode)


def write_all(file: RawIOBase, data: Buffer) -> None:
    """Write every byte at the file's position: a raw file may take fewer than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def write_at(file: FileIO, offset: int, data: Buffer) -> None:
    """Write every byte from an offset on."""
    if data:
        file.seek(offset)
        write_all(file, data)


def read_at(file: FileIO, offset: int, buffer: memoryview) -> int:
    """Fill a buffer from an offset; return the number of bytes, fewer at the end of the file.

    Where the system allows it, the file's position is neither read nor moved: forked processes
    share it.
    """
    if not hasattr(os, "preadv"):
        file.seek(offset)
    done = 0
    while done < len(buffer):
        rest = buffer[done:]
        if hasattr(os, "preadv"):
            got = os.preadv(file.fileno(), [rest], offset + done)
        else:
            got = file.readinto(rest) or 0
        if not got:
            break
        done += got
    return done


def truncate(file: FileIO, size: int) -> None:
    """Set a file's size."""
    file.truncate(size)


def sync_file(file: FileIO) -> None:
    """Wait until the content of an open file is on disk."""
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on disk."""
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


def remove(path: Path) -> None:
    """Delete a file if it exists."""
    path.unlink(missing_ok=True)


def rename_over(path: Path, target: Path) -> None:
    """Rename a file, replacing the target if it exists."""
    path.replace(target)


def replace_file(path: Path, content: bytes, partial: Path) -> None:
    """Write a file durably by way of a temporary one: a crash leaves the old content or the new.

    The temporary file is created anew, so that nothing is written through a link.
    """
    remove(partial)
    with open_file(partial, "xb") as file:
        write_at(file, 0, content)
        sync_file(file)
    rename_over(partial, path)
    sync(path.parent)


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file, which replaces another when the context ends.

    However the process ends, the path holds the old file or the new one. A temporary file that a
    killed process left is overwritten by the next one; of two processes that write the same file at
    once, one waits. A link at the path is replaced, not followed.
    """
    with _fresh_file(path.with_name(f".{path.name}.partial")) as partial:
        yield partial
        sync(partial)
        rename_over(partial, path)
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
