"""Links inside an HDF5 file, and values in other files: a store with either is not written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from cnatool.errors import StoreDamagedError, StoreWriteError

if TYPE_CHECKING:
    from pathlib import Path


def check_no_links(root: h5py.Group, path: Path) -> None:
    """Make sure that each object of a file has one name, and that its values lie in the file.

    Parameters
    ----------
    root : h5py.Group
        The open file.
    path : Path
        The file, for messages.

    Raises
    ------
    StoreWriteError
        If an object has not; the message names it.
    StoreDamagedError
        If the file cannot be read.
    """
    groups = [root]
    try:
        while groups:
            group = groups.pop()
            for name in group:
                key = f"{group.name.rstrip('/')}/{name}".lstrip("/")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise _refusal(path, key, "is a link")
                found = group[name]
                if h5py.h5o.get_info(found.id).rc > 1:
                    raise _refusal(path, key, "has a second name in the file")
                if isinstance(found, h5py.Group):
                    groups.append(found)
                elif isinstance(found, h5py.Dataset) and (found.is_virtual or found.external):
                    raise _refusal(path, key, "has its values in other files")
    except StoreWriteError:
        raise
    except Exception as error:  # h5py raises what HDF5's hundred kinds of errors look like
        raise StoreDamagedError(
            f"{path} cannot be continued ({error}). Dump again with --overwrite, or restore the "
            "store from a copy."
        ) from error


def _refusal(path: Path, key: str, what: str) -> StoreWriteError:
    return StoreWriteError(
        f"{path}: {key} {what}, and such a store is not written to. Dump again to another path."
    )
