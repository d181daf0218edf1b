"""Frames written to a Parquet or CSV file, which appears whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.files import check_replaceable, replace_atomically
from cnatool._util.spreadsheets import write_csv
from cnatool._util.write_failures import make_write_error
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import polars


def check_frame_path(path: Path) -> None:
    """Raise an error if no table can be written to a path."""
    if path.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{path}: the name of a table must end in .parquet or .csv.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: no such folder.")
    try:
        check_replaceable(path)
    except OSError as error:
        raise make_write_error(path, error) from error


def write_frame(frame: polars.DataFrame, path: Path) -> None:
    """Write a frame to a file, by its suffix."""
    check_frame_path(path)
    try:
        with replace_atomically(path) as partial:
            if path.suffix == ".parquet":
                frame.write_parquet(partial)
            else:
                write_csv(frame, partial)
    except Exception as error:  # polars raises its own kinds for what the system refuses
        raise make_write_error(path, error) from error
