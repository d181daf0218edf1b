"""Stores at some places, and their names within a study."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.local_paths import real_path
from cnatool._util.text import count_text
from cnatool._util.urls import ObjectURL, parse_path
from cnatool.errors import MetricError
from cnatool.store.object_search import find_in_bucket
from cnatool.store.reader import open_silently
from cnatool.studying.omissions import UNUSABLE
from cnatool.studying.results import NotScored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from cnatool.records.parts import PartRecord
    from cnatool.store.store import Store

# A store's name without its suffix names the network.
_SUFFIXES = (".zarr.zip", ".zarr", ".hdf5", ".h5")


@dataclass(frozen=True, slots=True)
class FoundStores:
    """Stores at some places.

    Attributes
    ----------
    stores : list of Path
        In the order of the places, those of a folder by name; each once.
    rejected : list of NotScored
        Folders without a store or that cannot be read, stores whose names are not UTF-8, and parts
        of dumps that were named.
    notes : tuple of str
        How many parts of dumps are in the folders: they are left out, since a merged store has
        their rows.
    """

    stores: list[Path]
    rejected: list[NotScored]
    notes: tuple[str, ...]


def find_stores(places: Iterable[str | Path], *, named_parts: bool = False) -> FoundStores:
    """Find the stores at the given paths, each a store or a folder to search.

    A place that is not a folder is taken as a store, whether it is one or not; with `named_parts`
    also if it is a part of a dump. In a bucket, what does not have the name of a store is a folder.
    """
    stores: dict[Path, Path] = {}
    rejected = []
    parts: set[Path] = set()
    for place in map(parse_path, places):
        paths = [place]
        if _is_searched(place):
            unreadable: list[NotScored] = []
            found = list(
                find_in_bucket(place)
                if isinstance(place, ObjectURL)
                else _search(place, {real_path(place)}, unreadable)
            )
            paths = [path for path in found if _find_part(path) is None]
            parts |= {real_path(path) for path in found} - {real_path(path) for path in paths}
            if not paths and not unreadable:
                only = "only parts of dumps are in this folder: merge the parts of each dump"
                reason = only if found else "no store is in this folder"
                unreadable = [NotScored(_path_text(place), reason)]
            rejected += unreadable
        elif not named_parts and (part := _find_part(place)) is not None:
            rejected.append(NotScored(_path_text(place), _explain_part(part)))
            continue
        for path in paths:
            if _path_text(path) != str(path):
                rejected.append(NotScored(_path_text(path), "its name is not UTF-8, so rename it"))
            else:
                stores.setdefault(real_path(path), path)
    notes = (_note_parts(len(parts)),) if stores and parts else ()
    return FoundStores(list(stores.values()), rejected, notes)


def refuse_part(store: Store) -> None:
    """Raise `MetricError` if a store is a part of a dump, and so has some samples of a network."""
    part = store.record.part
    if part is not msgspec.UNSET:
        raise MetricError(f"{store.path}: {_explain_part(part)}.")


def _find_part(path: Path) -> PartRecord | None:
    """Read which part of a dump a store is; None if it is whole, or cannot be opened."""
    try:
        part = open_silently(path).record.part
    except UNUSABLE:
        # The error is reported when the store is scored.
        return None
    return None if part is msgspec.UNSET else part


def _explain_part(part: PartRecord) -> str:
    return f"it is {part} of a dump: merge all parts, and name the merged store"


def _note_parts(parts: int) -> str:
    dumps, are = ("a dump", "is") if parts == 1 else ("dumps", "are")
    return (
        f"{count_text(parts, 'part')} of {dumps} {are} skipped: a dump counts only once its parts "
        "are merged"
    )


def _is_searched(place: Path) -> bool:
    """Whether a place is a folder, and no store; in a bucket by its name alone."""
    if isinstance(place, ObjectURL):
        return not place.key or not place.name.endswith(_SUFFIXES)
    return _is_folder(place) and not _is_zarr(place)


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


def _path_text(path: Path) -> str:
    """Write a path as text, with escapes for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _search(folder: Path, seen: set[Path], unreadable: list[NotScored]) -> Iterator[Path]:
    """Yield the stores in a folder and its subfolders, each of which is visited once."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        reason = f"it cannot be read: {error.strerror or error}"
        unreadable.append(NotScored(_path_text(folder), reason))
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if not _is_folder(path) or _is_zarr(path):
            # Folders inside a Zarr store are not searched.
            if path.name.endswith(_SUFFIXES) or _is_folder(path):
                yield path
        elif real_path(path) not in seen:
            seen.add(real_path(path))
            yield from _search(path, seen, unreadable)


def name_stores(stores: Sequence[Path]) -> list[str]:
    """Name each store by its file name without suffix, and as many folders as make it unique."""
    paths = [real_path(path) for path in stores]
    names = [_remove_suffix(path.name) for path in paths]
    counts = Counter((path.parent, name) for path, name in zip(paths, names, strict=True))
    # Stores of one network in two formats, in one folder, differ only by their suffixes.
    parts = [
        (*path.parent.parts, name if counts[path.parent, name] == 1 else path.name)
        for path, name in zip(paths, names, strict=True)
    ]
    depth = 1
    ids = [part[-1] for part in parts]
    while len(set(ids)) < len(ids):
        depth += 1
        repeats = Counter(ids)
        ids = [
            "/".join(part[-depth:]) if repeats[name] > 1 else name
            for part, name in zip(parts, ids, strict=True)
        ]
    return ids


def _remove_suffix(name: str) -> str:
    suffix = next((s for s in _SUFFIXES if name.endswith(s) and name != s), "")
    return name.removesuffix(suffix)
