"""Files of results in a folder: frames as Parquet and CSV, and JSON, each whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import CnatoolError, StoreWriteError, UsageError
from cnatool.store.tree import store_around
from cnatool.studying.replacing import finish_replacing, replaced_results
from cnatool.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars

__all__ = ["check_folder", "write_results"]


def check_folder(folder: Path) -> None:
    """Make a folder for results, and put those in place that a killed process left.

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
        finish_replacing(folder)
    except CnatoolError:
        raise
    except OSError as error:
        raise _refused(folder, error.strerror or str(error)) from error


def write_results(
    folder: Path, tables: Mapping[str, polars.DataFrame], name: str, document: str
) -> None:
    """Write frames as ``<key>.parquet`` and ``<key>.csv``, and a document as ``<name>.json``.

    However this ends, files of an earlier result and of this one are never side by side.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """
    path = folder
    try:
        with replaced_results(folder, name) as new:
            for key, table in tables.items():
                for ending, write in (("parquet", table.write_parquet), ("csv", table.write_csv)):
                    path = folder / f"{key}.{ending}"
                    write(new / path.name)
            path = folder / f"{name}.json"
            (new / path.name).write_text(document, "utf-8")
    except CnatoolError:
        raise
    except Exception as error:  # polars raises its own kinds for what the system refuses
        why = error.strerror if isinstance(error, OSError) else None
        raise _refused(path, why or one_line(error)) from error


def _refused(path: Path, why: str) -> StoreWriteError:
    return StoreWriteError(f"{path} cannot be written: {why}. Name another folder with -o.")
