"""Files of results in a folder: frames as Parquet and CSV, and JSON, each whole or not at all."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from cnatool.errors import StoreWriteError, UsageError
from cnatool.spreadsheets import write_csv
from cnatool.store.tree import store_around
from cnatool.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import polars

__all__ = ["check_folder", "write_results"]


def check_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    UsageError
        If something else is there, or the folder is a store or lies in one.
    StoreWriteError
        If the operating system refuses.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: this is no folder. Name another path.")
    if (folder / "zarr.json").exists():
        raise UsageError(f"-o {folder}: this is a Zarr store. Name another folder.")
    if (store := store_around(folder)) is not None:
        raise UsageError(f"-o {folder}: {store} is a store. Name a folder outside of it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error.strerror or str(error)) from error


def write_results(
    folder: Path, tables: Mapping[str, polars.DataFrame], name: str, document: str
) -> None:
    """Write frames as ``<key>.parquet`` and ``<key>.csv``, and a document as ``<name>.json``.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """
    for key, table in tables.items():
        _written(folder / f"{key}.parquet", table.write_parquet)
        _written(folder / f"{key}.csv", partial(write_csv, table))
    _written(folder / f"{name}.json", lambda path: path.write_text(document, "utf-8"))


def _written(path: Path, write: Callable[[Any], object]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(unfinished)
        unfinished.replace(path)
    except Exception as error:  # polars raises its own kinds for what the system refuses
        unfinished.unlink(missing_ok=True)
        why = error.strerror if isinstance(error, OSError) else None
        raise _refused(path, why or one_line(error)) from error


def _refused(path: Path, why: str) -> StoreWriteError:
    return StoreWriteError(f"{path} cannot be written: {why}. Name another folder with -o.")
