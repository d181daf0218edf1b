"""Results of several files that take the place of earlier ones, all of them or none.

They are written to a hidden folder, which is renamed to ``NAME.new`` once all of it is on disk:
from then on they count. Then the old files are removed, ``NAME.json`` first, and the new ones put
in their places, ``NAME.json`` last. A process that is killed meanwhile leaves ``NAME.new``, and the
next one that writes to the folder finishes its work.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnatool.errors import StoreWriteError
from cnatool.store.durable import sync
from cnatool.store.links import is_link
from cnatool.store.lock import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["RESULTS", "finish_replacing", "replaced_results", "unfinished_results"]

# Of the commands that write results of several files.
RESULTS = ("study", "trajectory", "landscape")
# Another process that writes its results is soon done.
_WAIT = 60.0


def unfinished_results(folder: Path, name: str) -> bool:
    """Say whether a process was killed while it replaced some results."""
    return (folder / f"{name}.new").is_dir()


def finish_replacing(folder: Path) -> None:
    """Put results in place that a killed process left.

    Raises
    ------
    StoreWriteError
        If something else is in the way.
    StoreInUseError
        If another process is at it, and does not end.
    OSError
        If the operating system refuses.
    """
    for name in RESULTS:
        if os.path.lexists(folder / f"{name}.new"):
            with locked(folder / name, wait=_WAIT):
                _put(folder, name)


@contextmanager
def replaced_results(folder: Path, name: str) -> Iterator[Path]:
    """Give a folder to write results to, which take the place of earlier ones.

    Parameters
    ----------
    folder : Path
        Where they will be.
    name : str
        One of `RESULTS`. Where the context ends without an error, there is a file ``<name>.json``.

    Yields
    ------
    Path
        An empty folder.

    Raises
    ------
    StoreWriteError
        If something else is in the way.
    StoreInUseError
        If another process writes the same, and does not end.
    OSError
        If the operating system refuses.
    """
    with locked(folder / name, wait=_WAIT):
        _put(folder, name)
        partial = folder / f".{name}.partial"
        _check_folder(partial)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for path in partial.iterdir():
                if (folder / path.name).is_dir():
                    raise StoreWriteError(
                        f"{folder / path.name} is a folder, and a result of that name is to be "
                        "written. Name another folder with -o."
                    )
                sync(path)
            sync(partial)
            partial.rename(folder / f"{name}.new")
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync(folder)
        _put(folder, name)


def _put(folder: Path, name: str) -> None:
    """Put the files of ``NAME.new`` in their places; do nothing where there is none."""
    new = folder / f"{name}.new"
    _check_folder(new)
    if not new.is_dir():
        return
    # Before any new file is there all old ones are gone, and a result without this one is none.
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


def _check_folder(path: Path) -> None:
    if os.path.lexists(path) and (is_link(path) or not path.is_dir()):
        raise StoreWriteError(f"{path} is in the way: it is no folder. Rename or remove it.")
