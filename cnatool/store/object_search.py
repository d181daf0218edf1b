"""Stores below a URL."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from cnatool.errors import NotAStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool._util.urls import ObjectURL

_SUFFIX = ".zarr"
# Most stores that a message names.
_NAMED = 3


def find_in_bucket(folder: ObjectURL) -> Iterator[ObjectURL]:
    """Yield the stores in a folder and its subfolders, by name.

    One request lists each folder, and none what is inside a store.
    """
    from cnatool.store.object_store import Objects

    objects, folders = Objects(folder).list_level()
    if "zarr.json" in objects:
        return  # what another program wrote, or a store under another name
    for name in sorted(folders):
        path = folder / name
        if name.endswith(_SUFFIX):
            yield path
        elif not name.startswith("."):
            yield from find_in_bucket(path)


def make_folder_error(folder: ObjectURL) -> NotAStoreError:
    """Make the error of a folder in a bucket that is named in place of a store."""
    names = [str(path) for path in islice(find_in_bucket(folder), _NAMED + 1)]
    if not names:
        return NotAStoreError(f"{folder}: no store is there. The name of a store ends in .zarr.")
    more = " and others" if len(names) > _NAMED else ""
    return NotAStoreError(
        f"{folder} is a folder. Name a store in it: {', '.join(names[:_NAMED])}{more}."
    )
