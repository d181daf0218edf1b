"""Writing results to a folder: tables as Parquet and CSV, a JSON document, and checksums."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cnatool.errors import CnatoolError, StoreWriteError, UsageError
from cnatool.spreadsheets import write_csv
from cnatool.store.tree import store_around
from cnatool.studying.checksums import checksum_list, list_name
from cnatool.studying.replacing import finish_replacing, replaced_results
from cnatool.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import polars

    from cnatool.studying.checksums import ResultKind

__all__ = ["check_folder", "write_results"]


def check_folder(folder: Path) -> None:
    """Create a folder for results, and finish a replacement that a killed process left.

    Raises
    ------
    UsageError
        If the path is not a folder, or is a store or lies in one.
    StoreWriteError
        If something else is in the way, or the operating system refuses.
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
    folder: Path, tables: Mapping[str, polars.DataFrame], kind: ResultKind, document: str
) -> None:
    """Write frames as ``<key>.parquet`` and ``<key>.csv``, and a document as ``<kind>.json``.

    The list of their checksums is ``<kind>.sha256``. However this ends, the folder never mixes
    files of an earlier result with those of this one.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """
    writers: dict[str, Callable[[Path], object]] = {}
    for key, table in tables.items():
        writers[f"{key}.parquet"] = table.write_parquet
        writers[f"{key}.csv"] = partial(write_csv, table)
    writers[f"{kind}.json"] = lambda path: path.write_text(document, "utf-8", newline="")
    name = ""
    try:
        with replaced_results(folder, kind) as new:
            for name, write in writers.items():
                write(new / name)
            name = list_name(kind)
            written = checksum_list({each: new / each for each in writers})
            (new / name).write_text(written, "utf-8", newline="")
    except CnatoolError:
        raise
    except Exception as error:  # polars raises its own kinds for what the system refuses
        why = error.strerror if isinstance(error, OSError) else None
        raise _refused(folder / name, why or one_line(error)) from error


def _refused(path: Path, why: str) -> StoreWriteError:
    return StoreWriteError(f"{path} cannot be written: {why}. Name another folder with -o.")
