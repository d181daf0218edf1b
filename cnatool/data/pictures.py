"""Folders of pictures: a sub-folder for each class, or a table of labels beside them."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from cnatool.data.developing import developed, first_readable, made_of, picture_spec, workers
from cnatool.data.source import (
    PICTURE_EXTENSIONS,
    PLAIN,
    UNFIT,
    Block,
    SampleError,
    is_picture,
    spans,
)
from cnatool.errors import DataError
from cnatool.text import listed, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from cnatool.data.decoding import Opener
    from cnatool.data.source import InputSpec, View

__all__ = ["LABEL_TABLES", "PictureSource", "open_listed_pictures", "open_pictures"]

# Tables of file names and labels, beside the pictures.
LABEL_TABLES = ("labels.csv", "metadata.csv")

# First pictures of classes that are held at a time.
_COMPARED = 32
# Endings of names that a note lists.
_LISTED = 5

_FILE_COLUMNS = ("filename", "file_name", "file", "path", "image")
_LABEL_COLUMNS = ("label", "labels", "class", "y")


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Pictures in a fixed order; ids are paths relative to the folder.

    ``left_alone`` says what other files lie among them.
    """

    folder: Path
    files: tuple[tuple[str, int], ...]
    inputs: tuple[InputSpec]
    classes: tuple[str, ...] | None
    view: View
    first: str
    left_alone: str = ""
    labelled: ClassVar[bool] = True

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
        with workers(skip=self.view.skip) as each:
            for start, stop in spans(self.rows, rows, limit):
                part = self.files[start:stop]
                names = [name for name, _ in part]
                labels = np.array([label for _, label in part], np.int64)
                found = partial(_found, self.folder, names)
                made = developed(spec, self.view, len(part), found, each, self.first)
                yield Block(names, (made.stored,), labels, made_of([made]), made.faults)


def open_pictures(folder: Path, view: View = PLAIN) -> PictureSource:
    """Open a folder whose sub-folders, sorted by name, are the classes 0, 1, ….

    Hidden files and files that are no pictures by their extension are ignored. The first picture
    of each class is decoded here, the others as they are read.

    Parameters
    ----------
    folder : Path
        Pictures, each directly in the folder of its class; all of one size and mode unless
        ``view`` makes them so.
    view : View

    Raises
    ------
    DataError
        If there is no picture, one lies where its class is in doubt, one leads out of the folder
        by a symbolic link, or the first pictures are damaged or differ.
    """
    files: list[tuple[str, int]] = []
    firsts: list[str] = []
    left_alone: Counter[str] = Counter()
    try:
        classes = _class_folders(folder, links=view.links)
        for label, name in enumerate(classes):
            names = _pictures_in(folder, name, left_alone, links=view.links)
            files += [(f"{name}/{picture}", label) for picture in names]
            firsts += [f"{name}/{picture}" for picture in names[:1]]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    if not files:
        raise DataError(
            f"{folder} holds no pictures in class folders: put each picture "
            f"({' '.join(sorted(PICTURE_EXTENSIONS))}) into a sub-folder named after its class."
        )
    return _source(folder, files, firsts, tuple(classes), view, left_alone)


def open_listed_pictures(folder: Path, view: View = PLAIN) -> PictureSource:
    """Open pictures that a table beside them lists with their labels, in its order.

    Parameters
    ----------
    folder : Path
        Holds ``labels.csv`` or ``metadata.csv`` with a column of file names, relative to the
        folder, and one of labels: whole numbers, or names of classes, which count from 0 in the
        order of the alphabet.
    view : View

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
        # The path itself never leads out, whatever links may.
        path = Path(os.path.normpath(root / name)) if view.links else (folder / name).resolve()
        if UNFIT.search(name) or not path.is_relative_to(root):
            raise DataError(
                f"{where} {name!r} is no path of a file inside {folder}: list paths relative to "
                "that folder, and copy files there instead of linking to them, or pass "
                "--follow-links."
            )
        if not view.skip and not (folder / name).is_file():
            raise DataError(f"{where} there is no file {folder / name}: take the row away.")
    return _source(folder, list(zip(names, labels, strict=True)), (), classes, view)


def _source(
    folder: Path,
    files: list[tuple[str, int]],
    others: Sequence[str],
    classes: tuple[str, ...] | None,
    view: View,
    left_alone: Counter[str] | None = None,
) -> PictureSource:
    """Make a source, by what the first picture that can be read is like.

    ``others`` are compared with it here already.
    """
    names = [name for name, _ in files]
    first, pixels = first_readable(partial(_found, folder, names), len(names), view)
    spec = picture_spec("pictures", first, pixels, view)
    if spec.levels and view.geometry is not None and view.geometry.is_fixed:
        # They may differ, and need not be looked at before their turn.
        others = ()
    with workers(skip=view.skip) as each:
        # A few at a time: there may be thousands of classes.
        for start in range(0, len(others), _COMPARED):
            part = others[start : start + _COMPARED]
            developed(spec, view, len(part), partial(_found, folder, part), each, first)
    others_text = _left_alone_text(folder, left_alone or Counter())
    return PictureSource(folder, tuple(files), (spec,), classes, view, first, others_text)


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


def _found(folder: Path, names: Sequence[str], row: int) -> tuple[str, Opener]:
    path = folder / names[row]
    # Opening a pipe would wait for ever.
    if not path.is_file():
        raise SampleError(f"{path} is no file.")
    # A file and not its name: by name Pillow maps uncompressed TIFFs into memory, and then mixes
    # up the rows of those that are to be turned by 90 degrees (Pillow 13.0).
    return str(path), lambda: path.open("rb")


def _entries(folder: Path, root: Path, *, links: bool) -> list[os.DirEntry[str]]:
    """List what a folder holds and is not hidden, by name.

    Links that leave the root are refused unless ``links``.
    """
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in found:
        if UNFIT.search(entry.name):
            raise DataError(f"{folder} holds a file with the name {entry.name!r}: rename it.")
        leads_out = entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root)
        if leads_out and not links:
            raise DataError(
                f"{entry.path} is a symbolic link that leaves {root}: copy the file there instead, "
                "or pass --follow-links if you trust the folder."
            )
    return found


def _class_folders(folder: Path, *, links: bool) -> list[str]:
    entries = _entries(folder, folder.resolve(), links=links)
    for entry in entries:
        if not entry.is_dir() and is_picture(entry.name):
            raise DataError(
                f"{entry.path} lies outside the class folders: put it into a sub-folder named "
                "after its class."
            )
    return [entry.name for entry in entries if entry.is_dir()]


def _left_alone_text(folder: Path, endings: Counter[str]) -> str:
    if not endings:
        return ""
    count = endings.total()
    kinds = ", ".join(printable(ending) for ending, _ in endings.most_common(_LISTED))
    return (
        f"{count:,} file{'s' * (count != 1)} in {folder} {'are' if count != 1 else 'is'} left "
        f"alone, being no picture{'s' * (count != 1)} by {'their' if count != 1 else 'its'} "
        f"name{'s' * (count != 1)} ({kinds})"
    )


def _pictures_in(folder: Path, name: str, left_alone: Counter[str], *, links: bool) -> list[str]:
    pictures = []
    for entry in _entries(folder / name, folder.resolve(), links=links):
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
        else:
            left_alone[Path(entry.name).suffix or "no ending"] += 1
    return pictures
