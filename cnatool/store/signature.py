"""Signature and committed size of HDF5 files, from their first bytes."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

_SUPERBLOCK = struct.Struct("<8sBBBBQQQ")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class _Readable(Protocol):
    def seek(self, offset: int, whence: int, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


def has_hdf5_signature(file: _Readable) -> bool:
    """Whether a file has the HDF5 signature, at its start or after a user block of 512 · 2ⁿ."""
    size = file.seek(0, os.SEEK_END)
    at = 0
    while at < size:
        file.seek(at, os.SEEK_SET)
        if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
            return True
        at = at * 2 or 512
    return False


def is_hdf5(path: Path) -> bool:
    """Whether a path is a regular file with the HDF5 signature."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return has_hdf5_signature(file)


def committed_end(file: _Readable) -> int | None:
    """Read the end-of-file address of an HDF5 superblock; None if cnatool does not write such.

    After the signature, the superblock (version 2 or 3) contains its version, the sizes of
    addresses and lengths, flags, and the addresses of the base, the superblock extension and the
    end of file.
    """
    file.seek(0, os.SEEK_SET)
    head = file.read(_SUPERBLOCK.size)
    if len(head) < _SUPERBLOCK.size:
        return None
    signature, version, address, _, _, base, _, end = _SUPERBLOCK.unpack(head)
    if signature != HDF5_SIGNATURE or version not in (2, 3) or address != 8 or base:
        return None
    return int(end)
