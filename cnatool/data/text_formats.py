"""The table of formats of texts, for models that take strings or token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.data.file_names import TEXTS
from cnatool.data.format import Format, files_of, has_suffix, holds_files, list_folders, path_of

if TYPE_CHECKING:
    from cnatool.data.location import Location

# Endings of files with a text in each row; those of one row are one format.
TEXT_ENDINGS = (
    (".txt",),
    (".jsonl", ".ndjson"),
    (".parquet",),
    (".csv", ".tsv"),
    (".npz",),
    (".npy",),
)


def _is_text_folder(location: Location) -> bool:
    if not location.path.is_dir() or location.files:
        return False
    if any(map(TEXTS.lies_in, list_folders(location.path))):
        return True
    # One file may have a text in each line instead.
    return len(location.files_ending_in(".txt")) > 1


def _is_one_file(location: Location) -> bool:
    """Whether a folder has a single text file."""
    if not location.path.is_dir():
        return has_suffix(".txt")(location)
    files = location.files_ending_in(".txt")
    return bool(location.files and files) or (
        len(files) == 1 and not any(map(TEXTS.lies_in, list_folders(location.path)))
    )


TEXT_FORMATS: tuple[Format, ...] = (
    Format(
        "txt",
        "a .txt file with a text in each line",
        _is_one_file,
        "text_lines.open_lines",
        files_of(".txt"),
        labels_from="lines have none",
    ),
    Format(
        "jsonl",
        "JSON lines (.jsonl)",
        holds_files(".jsonl", ".ndjson"),
        "text_json.open_json",
        files_of(".jsonl", ".ndjson"),
        labels=True,
    ),
    Format(
        "texts",
        "a folder of .txt files by class",
        _is_text_folder,
        "text_folder.open_text_folder",
        path_of,
        folder=True,
        labels_from="the folder of a text is its class",
    ),
    Format(
        "parquet",
        ".parquet files",
        holds_files(".parquet"),
        "text_table.open_parquet_texts",
        files_of(".parquet"),
        labels=True,
    ),
    Format(
        "csv",
        "a .csv or .tsv table",
        has_suffix(".csv", ".tsv"),
        "text_table.open_csv_texts",
        files_of(".csv", ".tsv"),
        labels=True,
    ),
    Format("npz", "a .npz archive", has_suffix(".npz"), "text.open_arrays", path_of, labels=True),
    Format(
        "npy",
        "a .npy file",
        has_suffix(".npy"),
        "text.open_arrays",
        path_of,
        labels_from="an array of texts has none",
    ),
)
