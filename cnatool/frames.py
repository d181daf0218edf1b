"""Polars frames to files, by the file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import polars

__all__ = ["check_frame_path", "write_frame"]


def write_frame(frame: polars.DataFrame, path: Path) -> None:
    """Write a frame as Parquet or CSV, by the file's name.

    Raises
    ------
    UsageError
        If the name ends in neither ``.parquet`` nor ``.csv``.
    """
    check_frame_path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.suffix == ".parquet":
            frame.write_parquet(partial)
        else:
            frame.write_csv(partial)
        partial.replace(path)
    except Exception as error:  # polars raises its own kinds for what the system refuses
        partial.unlink(missing_ok=True)
        raise UsageError(f"--samples {path}: cannot be written: {error}.") from error


def check_frame_path(path: Path) -> None:
    """Make sure that `write_frame` can write to a path.

    Raises
    ------
    UsageError
        If the name ends in neither ``.parquet`` nor ``.csv``, or its folder does not exist.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--samples {path}: the name must end in .parquet or .csv.")
    if not path.parent.is_dir():
        raise UsageError(f"--samples {path}: no such folder.")
