"""What a file is, and how long it should be, by its first bytes."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HDF5_SIGNATURE", "committed_end", "has_hdf5_signature", "is_hdf5"]

_SUPERBLOCK = struct.Struct("<8sBBBBQQQ")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class _Readable(Protocol):
    def seek(self, offset: int, whence: int, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


def has_hdf5_signature(file: _Readable) -> bool:
    """Tell HDF5 by its signature: at the file's start, or after a user block of 512, 1024, …."""
    size = file.seek(0, os.SEEK_END)
    at = 0
    while at < size:
        file.seek(at, os.SEEK_SET)
        if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
            return True
        at = at * 2 or 512
    return False


def is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file from others; what is no regular file is none."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return has_hdf5_signature(file)


def committed_end(file: _Readable) -> int | None:
    """Give the size that an HDF5 file says it has; None where it is not of the kind written here.

    The superblock holds, after the signature, the version, the bytes of an address and of a length,
    flags, and the addresses of the base, of its extension and of the end.
    """
    file.seek(0, os.SEEK_SET)
    head = file.read(_SUPERBLOCK.size)
    if len(head) < _SUPERBLOCK.size:
        return None
    signature, version, address, _, _, base, _, end = _SUPERBLOCK.unpack(head)
    if signature != HDF5_SIGNATURE or version not in (2, 3) or address != 8 or base:
        return None
    return int(end)
