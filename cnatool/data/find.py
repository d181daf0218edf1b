"""From the path that the user gave to sources: what it holds, and which splits it has."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from cnatool.data.source import ONE_INPUT, Wanted, is_picture
from cnatool.errors import DataError, UsageError
from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cnatool.data.source import Source

# A source's module is imported where it is needed: arrays should not wait for Pillow.

__all__ = ["find_splits", "open_source"]

_ORDER = ("train", "val", "test")
# MNIST's files call the test split t10k.
_IDX_STEMS = {"train-": "train", "val-": "val", "test-": "test", "t10k-": "test"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNDERSTOOD = (
    "Understood are .npz, .npy, .parquet, IDX (MNIST's files, plain or .gz), and folders of "
    "pictures with a sub-folder for each class."
)


def open_source(path: Path, wanted: Wanted = ONE_INPUT) -> Source:
    """Open the samples of one split.

    Parameters
    ----------
    path : Path
        An ``.npz``, ``.npy`` or ``.parquet`` file, an IDX images file, a folder with one IDX pair,
        or a folder of pictures by class.
    wanted : Wanted
        Which arrays are samples, where a file holds several by name.

    Raises
    ------
    DataError
        If there is nothing at the path, it is not understood, or it is damaged.
    """
    _check_exists(path)
    try:
        return _open_folder(path) if path.is_dir() else _open_file(path, wanted)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error


def find_splits(path: Path | None, named: Mapping[str, Path]) -> dict[str, Path]:
    """Say which splits there are and where.

    Parameters
    ----------
    path : Path or None
        DATA: one split called ``all``, or a folder with parts called train, val and test: as
        sub-folders, ``.npz`` or ``.npy`` files, or IDX files (``t10k`` is test).
    named : mapping of str to Path
        From ``--split NAME=PATH``, instead of DATA.

    Returns
    -------
    dict of str to Path
        Each path is one for `open_source`; train, val and test first, others in the given order.

    Raises
    ------
    UsageError
        If both or neither are given, or a name is not made of letters, digits, ``_`` and ``-``.
    DataError
        If there is nothing at a path, or a folder holds a part twice.
    """
    if named and path is not None:
        raise UsageError(
            "DATA and --split were both given: name every split with --split NAME=PATH."
        )
    if named:
        for name, part in named.items():
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"a split cannot be called {name!r}: use 1 to 64 letters, digits, _ and -."
                )
            _check_exists(part)
        return _in_order(named)
    if path is None:
        raise UsageError("there is no data to read: give DATA, or --split NAME=PATH.")
    _check_exists(path)
    if not path.is_dir():
        return {"all": path}
    try:
        return _in_order(_parts(path)) or {"all": path}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error


def _check_exists(path: Path) -> None:
    try:
        there = path.exists()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
    if not there:
        raise DataError(f"no such file or folder: {path}")


def _in_order(parts: Mapping[str, Path]) -> dict[str, Path]:
    names = [name for name in _ORDER if name in parts]
    names += [name for name in parts if name not in _ORDER]
    return {name: parts[name] for name in names}


def _open_file(path: Path, wanted: Wanted) -> Source:
    from cnatool.data.idx import looks_like_idx, open_idx

    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        from cnatool.data.arrays import open_npy, open_npz

        return open_npz(path, wanted) if suffix == ".npz" else open_npy(path)
    if suffix == ".parquet":
        from cnatool.data.parquet import open_parquet

        return open_parquet(path, wanted)
    # A pipe or a device has no size and cannot be read twice.
    if path.is_file() and looks_like_idx(path):
        return open_idx(path)
    raise DataError(f"{path} is not a file of samples that is understood. {_UNDERSTOOD}")


def _open_folder(path: Path) -> Source:
    pairs = _idx_files(path)
    if len(pairs) == 1:
        from cnatool.data.idx import open_idx

        return open_idx(next(iter(pairs.values())))
    if pairs:
        names = ", ".join(printable(file.name) for file in pairs.values())
        raise DataError(f"{path} holds several IDX images files ({names}): give one of them.")
    with os.scandir(path) as entries:
        folders = any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    if not folders:
        raise DataError(f"{path} is not a folder of samples that is understood. {_UNDERSTOOD}")
    from cnatool.data.pictures import open_pictures

    return open_pictures(path)


def _idx_files(folder: Path) -> dict[str, Path]:
    """IDX images files by what stands before ``images``; the plain one of two copies."""
    from cnatool.data.idx import images_stem

    found: dict[str, Path] = {}
    # Sorted, "X" comes before "X.gz": torchvision leaves both.
    for file in sorted(folder.iterdir()):
        stem = images_stem(file.name)
        if stem is not None and file.is_file():
            found.setdefault(stem, file)
    return found


def _parts(folder: Path) -> dict[str, Path]:
    found = [
        (_IDX_STEMS[stem], file) for stem, file in _idx_files(folder).items() if stem in _IDX_STEMS
    ]
    for name in _ORDER:
        found += [
            (name, folder / f"{name}{ending}")
            for ending in (".npz", ".npy", ".parquet")
            if (folder / f"{name}{ending}").is_file()
        ]
        if (folder / name).is_dir() and not _is_class_folder(folder / name):
            found.append((name, folder / name))
    parts: dict[str, Path] = {}
    for name, part in found:
        if name in parts:
            raise DataError(
                f"{folder} holds the split {name} twice, as {parts[name].name} and {part.name}: "
                f"say which with --split {name}=PATH."
            )
        parts[name] = part
    return parts


def _is_class_folder(folder: Path) -> bool:
    """Whether pictures lie directly in it: then "train" is a class (a railway's), not a split."""
    with os.scandir(folder) as entries:
        return any(
            is_picture(entry.name) and not entry.name.startswith(".") and not entry.is_dir()
            for entry in entries
        )
