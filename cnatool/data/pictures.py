"""Folders of pictures: a sub-folder for each class, or a table of labels beside them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from cnatool.data.decoding import decode, decoders, differs, picture_spec
from cnatool.data.source import PICTURE_EXTENSIONS, UNFIT, Block, InputSpec, is_picture, spans
from cnatool.errors import DataError
from cnatool.text import listed, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from cnatool.data.decoding import Pixels

__all__ = ["LABEL_TABLES", "PictureSource", "open_listed_pictures", "open_pictures"]

# Tables of file names and labels, beside the pictures.
LABEL_TABLES = ("labels.csv", "metadata.csv")

_FILE_COLUMNS = ("filename", "file_name", "file", "path", "image")
_LABEL_COLUMNS = ("label", "labels", "class", "y")


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Pictures in a fixed order; ids are paths relative to the folder."""

    folder: Path
    files: tuple[tuple[str, int], ...]
    inputs: tuple[InputSpec]
    classes: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def rows(self) -> int:
        """Number of pictures."""
        return len(self.files)

    @property
    def id_bytes(self) -> int:
        """Bytes of the longest path."""
        return max(len(name.encode()) for name, _ in self.files)

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels: always."""
        return True

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Decode blocks of ``rows`` pictures in order, ``limit`` in all.

        Raises
        ------
        DataError
            Naming the picture that is damaged, or differs from the first in size or mode.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        [spec] = self.inputs
        with decoders() as fill:
            for start, stop in spans(self.rows, rows, limit):
                part = self.files[start:stop]
                names = [name for name, _ in part]
                pixels = np.empty((len(part), *spec.shape), spec.dtype)
                fill(pixels, partial(self._row, names))
                yield Block(names, (pixels,), np.array([label for _, label in part], np.int64))

    def _row(self, names: Sequence[str], row: int) -> Pixels:
        return _decode(self.folder, names[row], self.files[0][0], self.inputs[0])


def open_pictures(folder: Path) -> PictureSource:
    """Open a folder whose sub-folders, sorted by name, are the classes 0, 1, ….

    Hidden files and files that are no pictures by their extension are ignored. The first picture
    of each class is decoded here, the others as they are read.

    Parameters
    ----------
    folder : Path
        Pictures all of one size and mode, each directly in the folder of its class.

    Raises
    ------
    DataError
        If there is no picture, one lies where its class is in doubt, one leads out of the folder
        by a symbolic link, or the first pictures are damaged or differ.
    """
    files: list[tuple[str, int]] = []
    firsts: list[str] = []
    try:
        classes = _class_folders(folder)
        for label, name in enumerate(classes):
            names = _pictures_in(folder, name)
            files += [(f"{name}/{picture}", label) for picture in names]
            firsts += [f"{name}/{picture}" for picture in names[:1]]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    if not files:
        raise DataError(
            f"{folder} holds no pictures in class folders: put each picture "
            f"({' '.join(sorted(PICTURE_EXTENSIONS))}) into a sub-folder named after its class."
        )
    return _source(folder, files, firsts, tuple(classes))


def open_listed_pictures(folder: Path) -> PictureSource:
    """Open pictures that a table beside them lists with their labels, in its order.

    Parameters
    ----------
    folder : Path
        Holds ``labels.csv`` or ``metadata.csv`` with a column of file names, relative to the
        folder, and one of labels: whole numbers, or names of classes, which count from 0 in the
        order of the alphabet.

    Raises
    ------
    DataError
        If the table lacks a column or a value, a file is listed twice, is not there, or lies
        outside the folder, or the first picture is damaged.
    """
    import polars as pl

    [table] = [folder / name for name in LABEL_TABLES if (folder / name).is_file()][:1]
    try:
        # As text: what looks like a number in one row may be a name in the next.
        frame = pl.read_csv(table, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        text = printable(one_line(Exception(error)))
        raise DataError(f"{table} cannot be read as a table ({text}).") from error
    names = _column(frame, table, _FILE_COLUMNS, "file names")
    words = _column(frame, table, _LABEL_COLUMNS, "labels")
    if not names:
        raise DataError(f"{table} lists no pictures.")
    labels, classes = _numbered(words)
    root = folder.resolve()
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        where = f"{table}, row {row}:"
        if seen.setdefault(name, row) != row:
            raise DataError(f"{where} {name!r} is listed in row {seen[name]} as well: keep one.")
        if UNFIT.search(name) or not (folder / name).resolve().is_relative_to(root):
            raise DataError(
                f"{where} {name!r} is no path of a file inside {folder}: list paths relative to "
                "that folder, and copy files there instead of linking to them."
            )
        # Opening a pipe would wait for ever.
        if not (folder / name).is_file():
            raise DataError(f"{where} there is no file {folder / name}: take the row away.")
    return _source(folder, list(zip(names, labels, strict=True)), names[:1], classes)


def _source(
    folder: Path,
    files: list[tuple[str, int]],
    firsts: Sequence[str],
    classes: tuple[str, ...] | None,
) -> PictureSource:
    path = folder / firsts[0]
    spec = picture_spec("pictures", decode(str(path), lambda: path.open("rb")))
    for name in firsts[1:]:
        _decode(folder, name, firsts[0], spec)
    return PictureSource(folder, tuple(files), (spec,), classes)


def _column(frame: pl.DataFrame, table: Path, names: Sequence[str], meaning: str) -> list[str]:
    found = [name for name in frame.columns if name.strip().lower() in names]
    if len(found) != 1:
        raise DataError(
            f"{table} needs one column of {meaning}, called {' or '.join(names)}, and holds "
            f"{listed(frame.columns)}."
        )
    values: list[str | None] = frame[found[0]].to_list()
    if None in values:
        raise DataError(f"{table}, row {values.index(None)}, has no value in {found[0]!r}.")
    return cast("list[str]", values)


def _numbered(words: Sequence[str]) -> tuple[list[int], tuple[str, ...] | None]:
    if all(re.fullmatch(r"\s*-?\d{1,18}\s*", word, re.ASCII) for word in words):
        return [int(word) for word in words], None
    classes = sorted(set(words))
    number = {name: i for i, name in enumerate(classes)}
    return [number[word] for word in words], tuple(classes)


def _decode(folder: Path, name: str, first: str, spec: InputSpec) -> Pixels:
    """Decode a picture that must look like the first one; a larger one is not even decoded."""
    path = folder / name
    # A file and not its name: by name Pillow maps uncompressed TIFFs into memory, and then mixes
    # up the rows of those that are to be turned by 90 degrees (Pillow 13.0).
    pixels = decode(str(path), lambda: path.open("rb"), spec.shape[0] * spec.shape[1])
    if differs(pixels, spec):
        raise DataError(
            f"{folder}: {first} is {spec.shape} and {name} is {pixels.shape}"
            + ("" if pixels.dtype == spec.dtype else f", of {pixels.dtype} and not {spec.dtype}")
            + "; all pictures must have the same size and mode. Resize or convert them first."
        )
    return pixels


def _entries(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    """List what a folder holds and is not hidden, by name; refuse links that leave the root."""
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in found:
        if UNFIT.search(entry.name):
            raise DataError(f"{folder} holds a file with the name {entry.name!r}: rename it.")
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
            raise DataError(
                f"{entry.path} is a symbolic link that leaves {root}: copy the file there instead."
            )
    return found


def _class_folders(folder: Path) -> list[str]:
    entries = _entries(folder, folder.resolve())
    for entry in entries:
        if not entry.is_dir() and is_picture(entry.name):
            raise DataError(
                f"{entry.path} lies outside the class folders: put it into a sub-folder named "
                "after its class."
            )
    return [entry.name for entry in entries if entry.is_dir()]


def _pictures_in(folder: Path, name: str) -> list[str]:
    pictures = []
    for entry in _entries(folder / name, folder.resolve()):
        if entry.is_dir():
            raise DataError(
                f"{entry.path} is a folder inside the class folder '{name}': put the pictures "
                "directly into the folder of their class."
            )
        if is_picture(entry.name):
            # Opening a pipe would wait for ever.
            if not entry.is_file():
                raise DataError(f"{entry.path} is named like a picture and is not a file.")
            pictures.append(entry.name)
    return pictures
