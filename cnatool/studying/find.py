"""Which stores a study is of, and what to call them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.local_paths import real_path
from cnatool.studying.results import NotScored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# A store's name without its ending names the network.
_ENDINGS = (".zarr.zip", ".zarr", ".hdf5", ".h5")


def find_stores(places: Iterable[str | Path]) -> tuple[list[Path], list[NotScored]]:
    """Find the stores at some places: a store itself, or all of a folder and of its folders.

    Parameters
    ----------
    places : iterable of str or Path

    Returns
    -------
    list of Path
        In the order of the places, those of a folder by name; each once. A place that is no
        folder is taken as it is, whatever is there.
    list of NotScored
        Folders without a store, or that cannot be read, and stores whose names no result can
        hold.
    """
    stores: dict[Path, Path] = {}
    nothing = []
    for place in map(Path, places):
        found = [place]
        if _is_folder(place) and not _is_zarr(place):
            unread: list[NotScored] = []
            found = list(_stores_below(place, {real_path(place)}, unread))
            if not found and not unread:
                unread = [NotScored(_text(place), "no store is in this folder")]
            nothing += unread
        for path in found:
            if _text(path) != str(path):
                nothing.append(NotScored(_text(path), "its name is not UTF-8, so rename it"))
            else:
                stores.setdefault(real_path(path), path)
    return list(stores.values()), nothing


def _is_zarr(folder: Path) -> bool:
    try:
        return folder.name.endswith(".zarr") or (folder / "zarr.json").exists()
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    """As `Path.is_dir`, but also False where permission to look is denied."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _text(path: Path) -> str:
    """Give a path as text, with escapes for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _stores_below(folder: Path, seen: set[Path], unread: list[NotScored]) -> Iterator[Path]:
    """Give the stores of a folder and of its folders, each of which is looked into once."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        unread.append(NotScored(_text(folder), f"it cannot be read: {error.strerror or error}"))
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if not _is_folder(path) or _is_zarr(path):
            # What is inside a Zarr store is none of its own.
            if path.name.endswith(_ENDINGS) or _is_folder(path):
                yield path
        elif real_path(path) not in seen:
            seen.add(real_path(path))
            yield from _stores_below(path, seen, unread)


def store_ids(stores: Sequence[Path]) -> list[str]:
    """Name each store: its name without the ending, after as many folders as tell all apart."""
    places = [real_path(path) for path in stores]
    names = [_without_ending(path.name) for path in places]
    here = Counter((path.parent, name) for path, name in zip(places, names, strict=True))
    # The same network in two formats, in one folder, has only its ending to tell them apart.
    parts = [
        (*path.parent.parts, name if here[path.parent, name] == 1 else path.name)
        for path, name in zip(places, names, strict=True)
    ]
    depth = 1
    ids = [part[-1] for part in parts]
    while len(set(ids)) < len(ids):
        depth += 1
        counts = Counter(ids)
        ids = [
            "/".join(part[-depth:]) if counts[name] > 1 else name
            for part, name in zip(parts, ids, strict=True)
        ]
    return ids


def _without_ending(name: str) -> str:
    ending = next((e for e in _ENDINGS if name.endswith(e) and name != e), "")
    return name.removesuffix(ending)


def paired_store(store: Path, folder: Path) -> Path:
    """Give where the test split's store of a store should be: in `folder`, under the same name."""
    return folder / store.name
