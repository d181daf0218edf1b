"""Polars frames to files, by the file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import StoreWriteError, UsageError
from cnatool.spreadsheets import write_csv
from cnatool.store.durable import check_replaceable, replaced_file
from cnatool.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

    import polars

__all__ = ["check_frame_path", "write_frame"]


def write_frame(frame: polars.DataFrame, path: Path, *, convention: str) -> None:
    """Write a frame of samples as Parquet or CSV, by the file's name.

    Parameters
    ----------
    frame : polars.DataFrame
    path : Path
    convention : str
        The convention behind its numbers: in Parquet's metadata under ``cnatool.convention``, in
        CSV, which has none, as a last column. Text in CSV is made harmless for spreadsheets.

    Raises
    ------
    UsageError
        If the name ends in neither ``.parquet`` nor ``.csv``, or its folder does not exist.
    StoreWriteError
        If the operating system refuses.
    """
    check_frame_path(path)
    try:
        with replaced_file(path) as partial:
            if path.suffix == ".parquet":
                frame.write_parquet(partial, metadata={"cnatool.convention": convention})
            else:
                import polars as pl

                write_csv(frame.with_columns(pl.lit(convention).alias("convention")), partial)
    except Exception as error:  # polars raises its own kinds for what the system refuses
        why = error.strerror if isinstance(error, OSError) else None
        raise _refused(path, why or one_line(error)) from error


def check_frame_path(path: Path) -> None:
    """Make sure that `write_frame` can write to a path.

    Raises
    ------
    UsageError
        If the name ends in neither ``.parquet`` nor ``.csv``, or its folder does not exist.
    StoreWriteError
        If no file can be made there.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--samples {path}: the name must end in .parquet or .csv.")
    if not path.parent.is_dir():
        raise UsageError(f"--samples {path}: no such folder.")
    try:
        check_replaceable(path)
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


def _refused(path: Path, why: str) -> StoreWriteError:
    return StoreWriteError(f"--samples {path} cannot be written: {why}. Name another path.")
