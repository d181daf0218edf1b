"""Links inside an HDF5 file, and values in other files: a store with either is read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from cnatool.errors import StoreDamagedError, StoreWriteError

if TYPE_CHECKING:
    from pathlib import Path


def check_no_links(root: h5py.Group, path: Path) -> None:
    """Make sure that each object of a file has one name and its values in the file."""
    groups = [root]
    try:
        while groups:
            group = groups.pop()
            for name in group:
                key = f"{group.name.rstrip('/')}/{name}".lstrip("/")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise _refusal(path, key, "is a link")
                node = group[name]
                if h5py.h5o.get_info(node.id).rc > 1:
                    raise _refusal(path, key, "has a second name in the file")
                if isinstance(node, h5py.Group):
                    groups.append(node)
                elif isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
                    raise _refusal(path, key, "has its values in other files")
    except StoreWriteError:
        raise
    except Exception as error:  # h5py raises exceptions of many types
        raise StoreDamagedError(
            f"{path} cannot be continued ({error}). Dump again with `overwrite=True`, or restore "
            "the store from a copy."
        ) from error


def _refusal(path: Path, key: str, what: str) -> StoreWriteError:
    return StoreWriteError(
        f"{path}: {key} {what}, and such a store is read-only. Dump again to another path."
    )
