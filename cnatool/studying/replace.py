"""Replacement of results that consist of several files: of all files, or of none.

The new files are written to a hidden folder, which is renamed to ``NAME.new`` once it is on disk
completely; from then on the new files are the result. The old files are then removed,
``NAME.json`` first, and the new ones are moved into place, ``NAME.json`` last. A process that is
killed meanwhile leaves ``NAME.new``, and the next command that writes to the folder finishes the
replacement.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnatool._util.files import sync
from cnatool._util.links import is_link
from cnatool.errors import DataError, StoreWriteError
from cnatool.store.lock import lock_store
from cnatool.studying.checksums import RESULT_KINDS, write_again

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Seconds to wait for another process that is writing its results.
_WAIT = 60.0


def check_finished(folder: Path) -> None:
    """Make sure that no results in a folder are partly replaced."""
    for name in RESULT_KINDS:
        new = folder / f"{name}.new"
        if new.is_dir() and _is_ours(new, name):
            raise DataError(
                f"{folder}: a process was killed while it replaced the results of a {name}, or is "
                f"replacing them now. {write_again(name, folder)}"
            )


def finish_replacing(folder: Path) -> None:
    """Finish the replacements that killed processes began."""
    for name in RESULT_KINDS:
        if os.path.lexists(folder / f"{name}.new"):
            with lock_store(folder / name, wait=_WAIT):
                _move_into_place(folder, name)


@contextmanager
def replace_results(folder: Path, name: str) -> Iterator[Path]:
    """Yield a folder for new results, which replace the earlier ones when the context ends.

    If the context ends with an error, the earlier results stay.
    """
    with lock_store(folder / name, wait=_WAIT):
        _move_into_place(folder, name)
        partial = folder / f".{name}.partial"
        _check_folder(partial, name)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for path in partial.iterdir():
                if (folder / path.name).is_dir():
                    raise StoreWriteError(
                        f"{folder / path.name} is a folder, but a result has that name. Name "
                        "another output."
                    )
                sync(path)
            sync(partial)
            partial.rename(folder / f"{name}.new")
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync(folder)
        _move_into_place(folder, name)


def _move_into_place(folder: Path, name: str) -> None:
    """Move the files of ``NAME.new`` into place, if it exists."""
    new = folder / f"{name}.new"
    _check_folder(new, name)
    if not new.is_dir():
        return
    # All old files are removed before the first new one is moved. Without ``NAME.json``, no file is
    # read.
    last = f"{name}.json"
    files = sorted((path.name for path in new.iterdir()), key=lambda file: (file == last, file))
    for file in reversed(files):
        (folder / file).unlink(missing_ok=True)
    sync(folder)
    for file in files:
        (new / file).rename(folder / file)
    sync(folder)
    with suppress(FileNotFoundError):
        new.rmdir()


def _check_folder(path: Path, name: str) -> None:
    """Raise `StoreWriteError` if a path exists that `replace_results` did not create."""
    if not os.path.lexists(path):
        return
    if is_link(path) or not path.is_dir():
        raise StoreWriteError(f"{path} is in the way: it is not a folder. Rename or remove it.")
    if path.suffix == ".new" and not _is_ours(path, name):
        raise StoreWriteError(
            f"{path} is in the way: cnatool did not write it. Rename or remove it."
        )


def _is_ours(new: Path, name: str) -> bool:
    """Whether a folder holds results that are being moved; ``NAME.json`` is moved last."""
    entries = list(new.iterdir())
    files = {path.name for path in entries if path.is_file() and not is_link(path)}
    return not entries or (len(files) == len(entries) and f"{name}.json" in files)
