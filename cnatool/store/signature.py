"""What a file is, by its first bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_hdf5"]

_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file by its signature: at its start, or after a user block of 512, 1024, …."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        at = 0
        while at < size:
            file.seek(at)
            if file.read(len(_HDF5)) == _HDF5:
                return True
            at = at * 2 or 512
    return False
