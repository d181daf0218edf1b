"""Parts that a cluster dumps in a folder beside a store, until they are merged."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from cnatool.store.small_files import list_names, read_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Present in a folder until its parts are merged.
UNFINISHED = "unfinished.json"
_MOST_FOLDERS = 1000


class UnfinishedParts(NamedTuple):
    """A folder of parts that were not all finished and merged, and what it says of them."""

    folder: Path
    settings: bytes


def parts_folders(store: Path) -> Iterator[Path]:
    """Yield the folders in which parts of a store may lie, in the order in which they are used."""
    return map(store.with_name, _folder_names(store))


def _folder_names(store: Path) -> Iterator[str]:
    stem = store.stem
    return (f"{stem}.parts{number or ''}" for number in range(_MOST_FOLDERS))


def find_unfinished_parts(store: Path) -> UnfinishedParts | None:
    """Find the parts of a store that were not all finished and merged."""
    names = list_names(store.parent)
    # A path is made for the few that are there, not for each of a thousand names.
    for folder in (store.with_name(name) for name in _folder_names(store) if name in names):
        with suppress(OSError):
            if (settings := read_file(folder / UNFINISHED)) is not None:
                return UnfinishedParts(folder, settings)
    return None


def explain_unfinished_parts(store: Path) -> str | None:
    """Return the message of an error about a store that has only parts; None if it has none."""
    unfinished = find_unfinished_parts(store)
    if unfinished is None:
        return None
    return (
        f"{store} is not there yet: the parts of its dump are in {unfinished.folder}, and they are "
        "not finished. Wait until the dump ends or, if it was interrupted, run it again with "
        "`resume=True` to continue it."
    )
