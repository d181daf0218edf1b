"""Folders of images: a sub-folder for each class, or images without classes."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool._util.text import list_names, printable
from cnatool.data.file_names import (
    IMAGE_EXTENSIONS,
    UNSAFE_CHARACTERS,
    holds_images,
    is_ignored,
    is_image,
)
from cnatool.data.images.batch import (
    collect_model_arrays,
    decode_batch,
    decode_threads,
    describe_image,
    read_first_image,
)
from cnatool.data.images.decode import file_opener
from cnatool.data.labels import encode_labels
from cnatool.data.read_errors import read_error
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Block, SampleError, SourceDefaults, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.data.images.decode import Opener
    from cnatool.data.labels import LabelEncoding
    from cnatool.data.selection import ArraySelection, ImageOptions
    from cnatool.data.source import InputSpec

# First images of classes that are decoded at a time.
_COMPARED = 32
# Endings of names that a note lists.
_LISTED = 5

_FOLDERS_ADVICE = "name the folders after classes, or by whole numbers."


@dataclass(frozen=True, slots=True)
class ImageFolder(SourceDefaults):
    """Images in a fixed order; ids are paths relative to the folder.

    ``files`` are paths and labels; ``first`` is the first image, for messages.
    """

    folder: Path
    files: tuple[tuple[str, int | None], ...]
    inputs: tuple[InputSpec]
    classes: tuple[str, ...] | None
    options: ImageOptions
    first: str
    notes: tuple[str, ...] = ()
    numbered_by_name: bool = False
    empty_classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def labelled(self) -> bool:
        """Whether the images have labels; all have, or none."""
        return self.files[0][1] is not None

    @property
    def rows(self) -> int:
        """Number of images."""
        return len(self.files)

    @property
    def id_bytes(self) -> int:
        """Length of the longest path."""
        return max(len(name.encode()) for name, _ in self.files)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` images from ``start`` on, ``limit`` in all."""
        [spec] = self.inputs
        with decode_threads(skip=self.options.skip_unreadable) as each:
            for first, stop in row_ranges(self.rows, rows, limit, start):
                part = self.files[first:stop]
                names = [name for name, _ in part]
                labels = None
                if self.labelled:
                    labels = np.array([label for _, label in part], np.int64)
                find = partial(_find_image, self.folder, names)
                batch = decode_batch(spec, self.options, len(part), find, each, self.first)
                arrays = collect_model_arrays([batch])
                yield Block(names, (batch.stored,), labels, arrays, batch.faults)


def open_image_folder(folder: Path, selection: ArraySelection = SINGLE_INPUT) -> ImageFolder:
    """Open a folder whose sub-folders are classes, or one of images without classes.

    Sub-folders whose names are all whole numbers are the classes of these numbers; others are
    sorted by name and numbered from 0. Sub-folders without an image are no classes. Hidden files
    and files that are no images by their extension are ignored. The first image of each class is
    decoded here, the others as they are read.
    """
    options = selection.images
    ignored: Counter[str] = Counter()
    empty: list[str] = []
    images: dict[str, list[str]] = {}
    try:
        names = _list_class_folders(folder, links=options.follow_links)
        if names is None:
            names = []
            images[""] = _list_images(folder, ".", ignored, links=options.follow_links)
        for name in names:
            images[name] = _list_images(folder, name, ignored, links=options.follow_links)
            if not images[name]:
                del images[name]
                empty.append(name)
    except OSError as error:
        raise read_error(folder, error, "") from error
    if not images:
        raise DataError(
            f"{folder} holds no images in class folders: put each image "
            f"({' '.join(sorted(IMAGE_EXTENSIONS))}) into a sub-folder named after its class."
        )
    notes = _describe_ignored(folder, ignored, empty)
    if "" in images:
        return make_image_source(
            folder, [(image, None) for image in images[""]], None, options, notes
        )
    encoding = encode_labels(
        images, f"{folder}, the names of its class folders,", _FOLDERS_ADVICE, mixed=True
    )
    _check_numbers(folder, encoding)
    files = [
        (f"{name}/{image}", encoding.numbers[name])
        for name, class_images in images.items()
        for image in class_images
    ]
    if encoding.classes is None:
        last = max(images, key=encoding.numbers.__getitem__)
        notes.append(
            f"class folders of {folder} are named by whole numbers, which are the labels: folder "
            f"{last} is class {encoding.numbers[last]}, whatever its place in the alphabet"
        )
    return make_image_source(
        folder,
        files,
        encoding.classes,
        options,
        notes,
        firsts=[f"{name}/{class_images[0]}" for name, class_images in images.items()],
        numbered_by_name=True,
        empty_classes=empty,
    )


def make_image_source(
    folder: Path,
    files: Sequence[tuple[str, int | None]],
    classes: tuple[str, ...] | None,
    options: ImageOptions,
    notes: Sequence[str],
    *,
    firsts: Sequence[str] = (),
    numbered_by_name: bool = False,
    empty_classes: Sequence[str] = (),
) -> ImageFolder:
    """Make a source, described by the first image that can be read.

    The images ``firsts`` are compared with it at once.
    """
    names = [name for name, _ in files]
    first, pixels = read_first_image(partial(_find_image, folder, names), len(names), options)
    # The name of the input is part of stores.
    spec = describe_image("pictures", first, pixels, options)
    if spec.levels and options.geometry is not None and options.geometry.is_fixed:
        # They may differ, and need not be decoded before their turn.
        firsts = ()
    with decode_threads(skip=options.skip_unreadable) as each:
        # A few at a time: there may be thousands of classes.
        for start in range(0, len(firsts), _COMPARED):
            part = firsts[start : start + _COMPARED]
            decode_batch(spec, options, len(part), partial(_find_image, folder, part), each, first)
    return ImageFolder(
        folder,
        tuple(files),
        (spec,),
        classes,
        options,
        first,
        tuple(notes),
        numbered_by_name,
        tuple(empty_classes),
    )


def _check_numbers(folder: Path, encoding: LabelEncoding) -> None:
    """Refuse two folders of one number."""
    seen: dict[int, str] = {}
    for name, number in encoding.numbers.items():
        if seen.setdefault(number, name) != name:
            raise DataError(
                f"{folder} holds the class folders {printable(repr(seen[number]))} and "
                f"{printable(repr(name))}, which name one class: put their images into one."
            )


def _find_image(folder: Path, names: Sequence[str], row: int) -> tuple[str, Opener]:
    path = folder / names[row]
    # Opening a pipe would block forever.
    if not path.is_file():
        raise SampleError(f"{path} is no file.")
    # A file and not its name: by name Pillow maps uncompressed TIFFs into memory, and then mixes
    # up the rows of those that are to be turned by 90 degrees (Pillow 13.0).
    return str(path), file_opener(path)


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
                f"{entry.path} is a symbolic link that leaves {root}: copy the file there instead, "
                "or pass `follow_links` if you trust the folder."
            )
    return [entry for entry in entries if not is_ignored(entry.name)]


def _list_class_folders(folder: Path, *, links: bool) -> list[str] | None:
    """List the folders that may be classes; None if the images lie in the folder itself."""
    entries = _list_entries(folder, real_path(folder), links=links)
    folders = [entry.name for entry in entries if entry.is_dir()]
    outside = [entry for entry in entries if not entry.is_dir() and is_image(entry.name)]
    if outside and not any(holds_images(folder / name) for name in folders):
        return None
    if outside:
        raise DataError(
            f"{outside[0].path} lies outside the class folders: put it into a sub-folder named "
            "after its class."
        )
    return folders


def _list_images(folder: Path, name: str, ignored: Counter[str], *, links: bool) -> list[str]:
    images = []
    for entry in _list_entries(folder / name, real_path(folder), links=links):
        if entry.is_dir():
            if name == ".":
                continue
            raise DataError(
                f"{entry.path} is a folder inside the class folder '{name}': put the images "
                "directly into the folder of their class."
            )
        if is_image(entry.name):
            # Opening a pipe would block forever.
            if not entry.is_file():
                raise DataError(f"{entry.path} is named like an image and is not a file.")
            images.append(entry.name)
        else:
            ignored[Path(entry.name).suffix or "no ending"] += 1
    return images


def _describe_ignored(folder: Path, endings: Counter[str], empty: Sequence[str]) -> list[str]:
    notes = []
    if endings:
        count = endings.total()
        kinds = ", ".join(printable(ending) for ending, _ in endings.most_common(_LISTED))
        files = "1 file" if count == 1 else f"{count:,} files"
        notes.append(f"{files} in {folder} without the extension of an image ignored ({kinds})")
    if empty:
        folders = "folder" if len(empty) == 1 else "folders"
        notes.append(f"{folders} {list_names(empty)} in {folder} without images: no class")
    return notes
