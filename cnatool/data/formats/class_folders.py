"""Folders of files that are samples: a sub-folder for each class, or files without classes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.local_paths import real_path
from cnatool._util.text import list_names, printable
from cnatool.data.file_names import UNSAFE_CHARACTERS, is_ignored
from cnatool.data.formats.sample_files import SampleFiles
from cnatool.data.labels import encode_labels
from cnatool.data.read_errors import read_error
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.data.file_names import FileKind
    from cnatool.data.labels import LabelEncoding

# Endings of names that a note lists.
_LISTED = 5

_FOLDERS_ADVICE = "name the folders after classes, or by whole numbers."


def list_classes(folder: Path, kind: FileKind, *, links: bool) -> SampleFiles:
    """List the files of one kind in a folder whose sub-folders are classes, or without classes.

    Sub-folders whose names are all whole numbers are the classes of these numbers; others are
    sorted by name and numbered from 0. Sub-folders without a file of the kind are no classes.
    Hidden files and those of other kinds are ignored. Symbolic links that leave the folder are
    refused unless ``links``.
    """
    ignored: Counter[str] = Counter()
    empty: list[str] = []
    by_class: dict[str, list[str]] = {}
    try:
        names = _list_class_folders(folder, kind, links=links)
        if names is None:
            names = []
            by_class[""] = _list_files(folder, ".", kind, ignored, links=links)
        for name in names:
            by_class[name] = _list_files(folder, name, kind, ignored, links=links)
            if not by_class[name]:
                del by_class[name]
                empty.append(name)
    except OSError as error:
        raise read_error(folder, error, "") from error
    if not by_class:
        raise DataError(
            f"{folder} holds no {kind.plural} in class folders: put each {kind.noun} "
            f"({' '.join(sorted(kind.extensions))}) into a sub-folder named after its class."
        )
    notes = _describe_ignored(folder, kind, ignored, empty)
    if "" in by_class:
        files = tuple((file, None) for file in by_class[""])
        return SampleFiles(files, None, notes=tuple(notes), empty=tuple(empty))
    encoding = encode_labels(
        by_class, f"{folder}, the names of its class folders,", _FOLDERS_ADVICE, mixed=True
    )
    _check_numbers(folder, kind, encoding)
    if encoding.classes is None:
        last = max(by_class, key=encoding.numbers.__getitem__)
        notes.append(
            f"class folders of {folder} are named by whole numbers, which are the labels: folder "
            f"{last} is class {encoding.numbers[last]}, whatever its place in the alphabet"
        )
    return SampleFiles(
        tuple(
            (f"{name}/{file}", encoding.numbers[name])
            for name, files in by_class.items()
            for file in files
        ),
        encoding.classes,
        tuple(f"{name}/{files[0]}" for name, files in by_class.items()),
        tuple(notes),
        tuple(empty),
    )


def _check_numbers(folder: Path, kind: FileKind, encoding: LabelEncoding) -> None:
    """Refuse two folders of one number."""
    seen: dict[int, str] = {}
    for name, number in encoding.numbers.items():
        if seen.setdefault(number, name) != name:
            raise DataError(
                f"{folder} holds the class folders {printable(repr(seen[number]))} and "
                f"{printable(repr(name))}, which name one class: put their {kind.plural} into one."
            )


def _list_entries(folder: Path, root: Path, *, links: bool) -> list[os.DirEntry[str]]:
    """List the entries of a folder that are not ignored, by name.

    Links that leave the root are refused unless ``links``.
    """
    with os.scandir(folder) as scanned:
        entries = sorted((e for e in scanned if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in entries:
        if UNSAFE_CHARACTERS.search(entry.name):
            raise DataError(
                f"{folder} holds the name {entry.name!r}, which has control characters or is "
                "not UTF-8: rename it."
            )
        leads_out = entry.is_symlink() and not real_path(Path(entry.path)).is_relative_to(root)
        if leads_out and not links:
            raise DataError(
                f"{entry.path} is a symbolic link to a place outside {root}: copy the file there "
                "instead, or pass `follow_links` if you trust the folder."
            )
    return [entry for entry in entries if not is_ignored(entry.name)]


def _list_class_folders(folder: Path, kind: FileKind, *, links: bool) -> list[str] | None:
    """List the folders that may be classes; None if the files lie in the folder itself."""
    entries = _list_entries(folder, real_path(folder), links=links)
    folders = [entry.name for entry in entries if entry.is_dir()]
    outside = [entry for entry in entries if not entry.is_dir() and kind.matches(entry.name)]
    if outside and not any(kind.lies_in(folder / name) for name in folders):
        return None
    if outside:
        raise DataError(
            f"{outside[0].path} lies outside the class folders: put it into a sub-folder named "
            "after its class."
        )
    return folders


def _list_files(
    folder: Path, name: str, kind: FileKind, ignored: Counter[str], *, links: bool
) -> list[str]:
    files = []
    for entry in _list_entries(folder / name, real_path(folder), links=links):
        if entry.is_dir():
            if name == ".":
                continue
            raise DataError(
                f"{entry.path} is a folder inside the class folder '{name}': put the "
                f"{kind.plural} directly into the folder of their class."
            )
        if kind.matches(entry.name):
            # Opening a pipe would block forever.
            if not entry.is_file():
                raise DataError(
                    f"{entry.path} is named like {kind.article} {kind.noun} and is not a file."
                )
            files.append(entry.name)
        else:
            ignored[Path(entry.name).suffix or "no ending"] += 1
    return files


def _describe_ignored(
    folder: Path, kind: FileKind, endings: Counter[str], empty: Sequence[str]
) -> list[str]:
    notes = []
    if endings:
        count = endings.total()
        kinds = ", ".join(printable(ending) for ending, _ in endings.most_common(_LISTED))
        files = "1 file" if count == 1 else f"{count:,} files"
        notes.append(
            f"{files} in {folder} without the extension of {kind.article} {kind.noun} ignored "
            f"({kinds})"
        )
    if empty:
        folders = "folder" if len(empty) == 1 else "folders"
        notes.append(f"{folders} {list_names(empty)} in {folder} without {kind.plural}: no class")
    return notes
