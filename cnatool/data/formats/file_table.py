"""Folders of images or sound files with a table of their names and labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cnatool._util.local_paths import real_path
from cnatool._util.text import list_names
from cnatool.data.file_names import IMAGES, LABEL_TABLES, SOUNDS, UNSAFE_CHARACTERS
from cnatool.data.formats.csv_text import scan_table, table_error
from cnatool.data.formats.sample_files import SampleFiles
from cnatool.data.formats.table import TABLE_ERRORS, missing_column_error
from cnatool.data.labels import encode_labels
from cnatool.data.selection import SINGLE_INPUT
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from cnatool.data.file_names import FileKind
    from cnatool.data.formats.audio_folder import AudioFolder
    from cnatool.data.formats.image_folder import ImageFolder
    from cnatool.data.selection import ArraySelection, ImageOptions

_FILE_COLUMNS = ("filename", "file_name", "file", "path", "image", "audio", "sound")
_LABEL_COLUMNS = ("label", "labels", "class", "y")


def open_file_table(
    folder: Path, selection: ArraySelection = SINGLE_INPUT
) -> ImageFolder | AudioFolder:
    """Open the images or sound files that a table beside them lists, in its order.

    The extension of the first tells which of the two they are.
    """
    table = next(folder / name for name in LABEL_TABLES if (folder / name).is_file())
    try:
        # As text: what looks like a number in one row may be a name in the next.
        frame = scan_table(table).collect()
    except TABLE_ERRORS as error:
        raise table_error(table, error) from error
    names = _read_values(frame, table, _find_column(frame, table, _FILE_COLUMNS, "file names"))
    if not names:
        raise DataError(f"{table} lists no images or sound files.")
    labels: list[int | None] = [None] * len(names)
    classes = None
    if selection.labels is not None and selection.labels not in frame.columns:
        raise missing_column_error(table, "`labels`", selection.labels, frame.columns)
    if not selection.ignore_labels and len(frame.columns) > 1:
        column = selection.labels or _find_column(frame, table, _LABEL_COLUMNS, "labels")
        labels, classes = _read_labels(frame, table, column)
    _check_names(folder, table, names, selection.images)
    kind = SOUNDS if SOUNDS.matches(names[0]) else IMAGES
    found = SampleFiles(
        tuple(zip(names, labels, strict=True)),
        classes,
        notes=tuple(_describe_unlisted(table, names, kind)),
    )
    if kind is SOUNDS:
        # Imported on use: each of the two should not wait for the libraries of the other.
        from cnatool.data.formats.audio_folder import make_audio_source

        return make_audio_source(folder, found, selection)

    from cnatool.data.formats.image_folder import make_image_source

    return make_image_source(folder, found, selection.images)


def _check_names(folder: Path, table: Path, names: Sequence[str], options: ImageOptions) -> None:
    """Refuse names that occur twice, lead out of the folder, or name no file."""
    root = real_path(folder)
    # The path itself never leads out, whatever links may.
    resolve = _normalize if options.follow_links else real_path
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        where = f"{table}, row {row}:"
        if seen.setdefault(name, row) != row:
            raise DataError(f"{where} {name!r} is listed in row {seen[name]} as well: keep one.")
        unsafe = UNSAFE_CHARACTERS.search(name) is not None
        if unsafe or not resolve(root / name).is_relative_to(root):
            raise DataError(
                f"{where} {name!r} is not the path of a file inside {folder}: list paths relative "
                "to that folder, and copy files there instead of linking to them, or pass "
                "`follow_links`."
            )
        if not options.skip_unreadable and not (folder / name).is_file():
            raise DataError(
                f"{where} there is no file {folder / name}: correct the name, or remove the row."
            )


def _normalize(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _describe_unlisted(table: Path, names: Sequence[str], kind: FileKind) -> list[str]:
    """Describe the files of a kind that lie beside those that a table lists."""
    normalized = {os.path.normpath(name) for name in names}
    count = 0
    for below in sorted({os.path.dirname(name) for name in normalized}):  # noqa: PTH120
        try:
            with os.scandir(table.parent / below) as entries:
                beside = [entry.name for entry in entries if kind.matches(entry.name)]
        except OSError:
            # A wrong name is an error when its file is read.
            continue
        count += sum(os.path.join(below, name) not in normalized for name in beside)  # noqa: PTH118
    if not count:
        return []
    return [
        f"{table} lists {len(names):,} of {len(names) + count:,} {kind.plural} in its folders; the "
        "others are left out"
    ]


def _find_column(frame: pl.DataFrame, table: Path, names: Sequence[str], meaning: str) -> str:
    matches = [name for name in frame.columns if name.strip().lower() in names]
    if len(matches) != 1:
        option = " (or chosen with `labels=NAME`)" if meaning == "labels" else ""
        raise DataError(
            f"{table} needs one column of {meaning}, called {' or '.join(names)}{option}, and "
            f"holds {list_names(frame.columns)}."
        )
    return matches[0]


def _read_values(frame: pl.DataFrame, table: Path, name: str) -> list[str]:
    values: list[str | None] = frame[name].to_list()
    if None in values:
        raise DataError(f"{table}, row {values.index(None)}, has no value in {name!r}.")
    return cast("list[str]", values)


def _read_labels(
    frame: pl.DataFrame, table: Path, name: str
) -> tuple[list[int | None], tuple[str, ...] | None]:
    words = _read_values(frame, table, name)
    advice = "choose another column with `labels=NAME`, or ignore labels with `labels=none`."
    encoding = encode_labels(set(words), f"{table}, column {name!r},", advice)
    for row, word in enumerate(words):
        if word not in encoding.numbers:
            raise DataError(
                f"{table}, row {row}, has the label {word!r}, and others are numbers: correct it, "
                "or remove the row."
            )
    return [encoding.numbers[word] for word in words], encoding.classes
