"""Folders of pictures: a sub-folder for each class, or a table of labels beside them."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool._util.text import list_names, one_line, printable
from cnatool.data.images.batch import (
    collect_model_arrays,
    decode_batch,
    decode_threads,
    describe_image,
    read_first_image,
)
from cnatool.data.images.decode import file_opener
from cnatool.data.labels import encode_labels
from cnatool.data.source import (
    IMAGE_EXTENSIONS,
    LABEL_TABLES,
    PLAIN_IMAGES,
    UNSAFE_CHARACTERS,
    Block,
    SampleError,
    holds_images,
    is_ignored,
    is_image,
    row_ranges,
)
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from cnatool.data.images.decode import Opener
    from cnatool.data.labels import LabelEncoding
    from cnatool.data.source import ImageOptions, InputSpec

# First pictures of classes that are held at a time.
_COMPARED = 32
# Endings of names that a note lists.
_LISTED = 5

_FOLDERS_ADVICE = "name the folders after classes, or by whole numbers."
_FILE_COLUMNS = ("filename", "file_name", "file", "path", "image")
_LABEL_COLUMNS = ("label", "labels", "class", "y")


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Pictures in a fixed order; ids are paths relative to the folder.

    ``left_alone`` says what other files lie among them; ``counted`` whether classes are numbered by
    their names alone; ``spare`` names folders without a picture.
    """

    folder: Path
    files: tuple[tuple[str, int | None], ...]
    inputs: tuple[InputSpec]
    classes: tuple[str, ...] | None
    view: ImageOptions
    first: str
    notes: str = ""
    counted: bool = False
    spare: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def labelled(self) -> bool:
        """Whether the pictures have labels; all have, or none."""
        return self.files[0][1] is not None

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
        with decode_threads(skip=self.view.skip_unreadable) as each:
            for start, stop in row_ranges(self.rows, rows, limit):
                part = self.files[start:stop]
                names = [name for name, _ in part]
                labels = None
                if self.labelled:
                    labels = np.array([label for _, label in part], np.int64)
                found = partial(_found, self.folder, names)
                made = decode_batch(spec, self.view, len(part), found, each, self.first)
                yield Block(
                    names, (made.stored,), labels, collect_model_arrays([made]), made.faults
                )


def open_image_folder(folder: Path, view: ImageOptions = PLAIN_IMAGES) -> ImageFolder:
    """Open a folder whose sub-folders are classes, or one of pictures without classes.

    Sub-folders whose names are all whole numbers are the classes of these numbers; others are
    sorted by name and count from 0. Sub-folders without a picture are no classes. Hidden files and
    files that are no pictures by their extension are ignored. The first picture of each class is
    decoded here, the others as they are read.
    """
    left_alone: Counter[str] = Counter()
    empty: list[str] = []
    held: dict[str, list[str]] = {}
    try:
        names = _class_folders(folder, links=view.follow_links)
        if names is None:
            names = []
            held[""] = _pictures_in(folder, ".", left_alone, links=view.follow_links)
        for name in names:
            held[name] = _pictures_in(folder, name, left_alone, links=view.follow_links)
            if not held[name]:
                del held[name]
                empty.append(name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    if not held:
        raise DataError(
            f"{folder} holds no pictures in class folders: put each picture "
            f"({' '.join(sorted(IMAGE_EXTENSIONS))}) into a sub-folder named after its class."
        )
    said = _left_alone_texts(folder, left_alone, empty)
    if "" in held:
        flat = [(picture, None) for picture in held[""]]
        return _source(folder, flat, (), None, view, said)
    numbering = encode_labels(
        held, f"{folder}, the names of its class folders,", _FOLDERS_ADVICE, mixed=True
    )
    _check_numbers(folder, numbering)
    files = [
        (f"{name}/{picture}", numbering.numbers[name])
        for name, pictures in held.items()
        for picture in pictures
    ]
    if numbering.classes is None:
        said.append(
            f"class folders of {folder} are named by whole numbers, which are the labels: folder "
            f"{max(held, key=numbering.numbers.__getitem__)} is class "
            f"{max(numbering.numbers.values())}, whatever its place in the alphabet"
        )
    firsts = [f"{name}/{pictures[0]}" for name, pictures in held.items()]
    return _source(folder, files, firsts, numbering.classes, view, said, counted=True, spare=empty)


def _check_numbers(folder: Path, numbering: LabelEncoding) -> None:
    """Refuse two folders of one number, and one whose name means a missing value."""
    seen: dict[int, str] = {}
    for name, number in numbering.numbers.items():
        if seen.setdefault(number, name) != name:
            raise DataError(
                f"{folder} holds the class folders {printable(repr(seen[number]))} and "
                f"{printable(repr(name))}, which name one class: put their pictures into one."
            )


def open_image_table(
    folder: Path,
    view: ImageOptions = PLAIN_IMAGES,
    label: str | None = None,
    *,
    unlabelled: bool = False,
) -> ImageFolder:
    """Open pictures that a table beside them lists, in its order."""
    import polars as pl

    from cnatool.data.formats.csv_text import scan_table

    [table] = [folder / name for name in LABEL_TABLES if (folder / name).is_file()][:1]
    try:
        # As text: what looks like a number in one row may be a name in the next.
        frame = scan_table(table)[0].collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        # What polars advises are arguments of its own.
        text = printable(one_line(Exception(str(error).partition("Consider setting")[0].strip())))
        raise DataError(
            f"{table} cannot be read as a table ({text}). Rows need as many cells as the line of "
            "names, in UTF-8 or UTF-16; a name with a comma in it stands in double quotes."
        ) from error
    names = _values(frame, table, _column(frame, table, _FILE_COLUMNS, "file names"))
    if not names:
        raise DataError(f"{table} lists no pictures.")
    labels: list[int | None] = [None] * len(names)
    classes = None
    if label is not None and label not in frame.columns:
        raise DataError(
            f"--labels {label}: {table} has no such column, but {list_names(frame.columns)}."
        )
    if not unlabelled and len(frame.columns) > 1:
        column = label or _column(frame, table, _LABEL_COLUMNS, "labels")
        labels, classes = _labels(frame, table, column)
    root = real_path(folder)
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        where = f"{table}, row {row}:"
        if seen.setdefault(name, row) != row:
            raise DataError(f"{where} {name!r} is listed in row {seen[name]} as well: keep one.")
        # The path itself never leads out, whatever links may.
        unsafe = UNSAFE_CHARACTERS.search(name) is not None
        resolve = _normalize if view.follow_links else real_path
        if unsafe or not resolve(root / name).is_relative_to(root):
            raise DataError(
                f"{where} {name!r} is no path of a file inside {folder}: list paths relative to "
                "that folder, and copy files there instead of linking to them, or pass "
                "--follow-links."
            )
        if not view.skip_unreadable and not (folder / name).is_file():
            raise DataError(
                f"{where} there is no file {folder / name}: correct the name, or take the row away."
            )
    files = list(zip(names, labels, strict=True))
    return _source(folder, files, (), classes, view, _unlisted(table, names), counted=True)


def _normalize(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _unlisted(table: Path, names: Sequence[str]) -> list[str]:
    """Say how many pictures lie beside those that a table lists."""
    listed_ones = {os.path.normpath(name) for name in names}
    count = 0
    for below in sorted({os.path.dirname(name) for name in listed_ones}):  # noqa: PTH120
        try:
            with os.scandir(table.parent / below) as entries:
                beside = [entry.name for entry in entries if is_image(entry.name)]
        except OSError:
            # A name that is wrong is said where its picture is read.
            continue
        count += sum(os.path.join(below, name) not in listed_ones for name in beside)  # noqa: PTH118
    if not count:
        return []
    return [
        f"{table} lists {len(names):,} of {len(names) + count:,} pictures in its folders; the "
        "others are left out"
    ]


def _source(
    folder: Path,
    files: Sequence[tuple[str, int | None]],
    others: Sequence[str],
    classes: tuple[str, ...] | None,
    view: ImageOptions,
    said: Sequence[str],
    *,
    counted: bool = False,
    spare: Sequence[str] = (),
) -> ImageFolder:
    """Make a source, by what the first picture that can be read is like.

    ``others`` are compared with it here already.
    """
    names = [name for name, _ in files]
    first, pixels = read_first_image(partial(_found, folder, names), len(names), view)
    spec = describe_image("pictures", first, pixels, view)
    if spec.levels and view.geometry is not None and view.geometry.is_fixed:
        # They may differ, and need not be looked at before their turn.
        others = ()
    with decode_threads(skip=view.skip_unreadable) as each:
        # A few at a time: there may be thousands of classes.
        for start in range(0, len(others), _COMPARED):
            part = others[start : start + _COMPARED]
            decode_batch(spec, view, len(part), partial(_found, folder, part), each, first)
    return ImageFolder(
        folder, tuple(files), (spec,), classes, view, first, "; ".join(said), counted, tuple(spare)
    )


def _column(frame: pl.DataFrame, table: Path, names: Sequence[str], meaning: str) -> str:
    found = [name for name in frame.columns if name.strip().lower() in names]
    if len(found) != 1:
        option = " (or name it with --labels NAME)" if meaning == "labels" else ""
        raise DataError(
            f"{table} needs one column of {meaning}, called {' or '.join(names)}{option}, and "
            f"holds {list_names(frame.columns)}."
        )
    return found[0]


def _values(frame: pl.DataFrame, table: Path, name: str) -> list[str]:
    values: list[str | None] = frame[name].to_list()
    if None in values:
        raise DataError(f"{table}, row {values.index(None)}, has no value in {name!r}.")
    return cast("list[str]", values)


def _labels(
    frame: pl.DataFrame, table: Path, name: str
) -> tuple[list[int | None], tuple[str, ...] | None]:
    words = _values(frame, table, name)
    advice = "name another column with --labels NAME, or leave labels out with --labels none."
    numbering = encode_labels(set(words), f"{table}, column {name!r},", advice)
    for row, word in enumerate(words):
        if word not in numbering.numbers:
            raise DataError(
                f"{table}, row {row}, has the label {word!r}, and others are numbers: correct it, "
                "or take the row away."
            )
    return [numbering.numbers[word] for word in words], numbering.classes


def _found(folder: Path, names: Sequence[str], row: int) -> tuple[str, Opener]:
    path = folder / names[row]
    # Opening a pipe would wait for ever.
    if not path.is_file():
        raise SampleError(f"{path} is no file.")
    # A file and not its name: by name Pillow maps uncompressed TIFFs into memory, and then mixes
    # up the rows of those that are to be turned by 90 degrees (Pillow 13.0).
    return str(path), file_opener(path)


def _entries(folder: Path, root: Path, *, links: bool) -> list[os.DirEntry[str]]:
    """List what a folder holds and is neither hidden nor of some program's own, by name.

    Links that leave the root are refused unless ``links``.
    """
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in found:
        if UNSAFE_CHARACTERS.search(entry.name):
            raise DataError(
                f"{folder} holds the name {entry.name!r}, which has control characters or is "
                "not UTF-8: rename it."
            )
        leads_out = entry.is_symlink() and not real_path(Path(entry.path)).is_relative_to(root)
        if leads_out and not links:
            raise DataError(
                f"{entry.path} is a symbolic link that leaves {root}: copy the file there instead, "
                "or pass --follow-links if you trust the folder."
            )
    return [entry for entry in found if not is_ignored(entry.name)]


def _class_folders(folder: Path, *, links: bool) -> list[str] | None:
    """Name the folders that may be classes; None where the pictures lie in the folder itself."""
    entries = _entries(folder, real_path(folder), links=links)
    folders = [entry.name for entry in entries if entry.is_dir()]
    loose = [entry for entry in entries if not entry.is_dir() and is_image(entry.name)]
    if loose and not any(holds_images(str(folder / name)) for name in folders):
        return None
    for entry in loose:
        raise DataError(
            f"{entry.path} lies outside the class folders: put it into a sub-folder named "
            "after its class."
        )
    return folders


def _left_alone_texts(folder: Path, endings: Counter[str], empty: Sequence[str]) -> list[str]:
    said = []
    if endings:
        count = endings.total()
        kinds = ", ".join(printable(ending) for ending, _ in endings.most_common(_LISTED))
        said.append(
            f"{count:,} file{'s' * (count != 1)} in {folder} {'are' if count != 1 else 'is'} left "
            f"alone, being no picture{'s' * (count != 1)} by {'their' if count != 1 else 'its'} "
            f"name{'s' * (count != 1)} ({kinds})"
        )
    if empty:
        one = len(empty) == 1
        said.append(
            f"folder{'' if one else 's'} {list_names(empty)} in {folder} hold{'s' if one else ''} "
            f"no picture and {'is no class' if one else 'are no classes'}"
        )
    return said


def _pictures_in(folder: Path, name: str, left_alone: Counter[str], *, links: bool) -> list[str]:
    pictures = []
    for entry in _entries(folder / name, real_path(folder), links=links):
        if entry.is_dir():
            if name == ".":
                continue
            raise DataError(
                f"{entry.path} is a folder inside the class folder '{name}': put the pictures "
                "directly into the folder of their class."
            )
        if is_image(entry.name):
            # Opening a pipe would wait for ever.
            if not entry.is_file():
                raise DataError(f"{entry.path} is named like a picture and is not a file.")
            pictures.append(entry.name)
        else:
            left_alone[Path(entry.name).suffix or "no ending"] += 1
    return pictures
