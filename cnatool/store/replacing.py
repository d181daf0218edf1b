"""Making room for a new store: nothing but a store is ever replaced, and not before its time.

Whoever replaces a store holds the lock of its path (`cnatool.store.lock`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import NotAStoreError
from cnatool.store.failures import reported
from cnatool.store.tree import format_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Replaced", "check_folder", "check_free", "show_replaced"]


def check_folder(path: Path) -> None:
    """Make sure that the folder of a new store is there.

    Raises
    ------
    NotAStoreError
        If it is not.
    """
    if not path.parent.is_dir():
        raise NotAStoreError(f"{path.parent}: no such folder. Make it, or name another path.")


def check_free(path: Path, *, overwrite: bool, resumes: bool = False) -> None:
    """Make sure that a new store can be made at a path.

    Parameters
    ----------
    path : Path
        Where the store will be.
    overwrite : bool
        A cnatool store may be there; anything else never.
    resumes : bool
        The caller could go on with a store.

    Raises
    ------
    NotAStoreError
        If the path is taken, is not named like a store, or its folder does not exist.
    """
    form = format_of(path)
    check_folder(path)
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise NotAStoreError(
            f"{path} exists already. Name another path"
            + (
                " with -o, pass --overwrite to begin anew, or --resume to go on with it."
                if resumes
                else ", or pass --overwrite."
            )
        )
    if path.is_symlink():
        raise NotAStoreError(f"{path} is a link, so it is not overwritten. Name another path.")
    if not form.is_replaceable(path):
        raise NotAStoreError(f"{path} is no cnatool store, so it is not overwritten.")


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def show_replaced(path: Path) -> Path | None:
    """Give a store that was put aside a name that shows; None where there is none.

    Parameters
    ----------
    path : Path
        Where it was.
    """
    if not _aside(path).exists():
        return None
    names = (f"{path.stem}.previous{i or ''}{path.suffix}" for i in range(1000))
    kept = next(p for p in map(path.with_name, names) if not p.exists())
    _aside(path).rename(kept)
    return kept


class Replaced:
    """A store moved out of the way of a new one, until that has something to show.

    Parameters
    ----------
    path : Path
        Where the new store will be; whatever is there was accepted by `check_free`.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._form = format_of(path)
        self._aside = _aside(path)
        self._there = path.exists()
        if self._there:
            with reported(path, 0):
                self._form.move(path, self._aside)

    def restore(self) -> None:
        """Remove what is at the path, and put the old store back."""
        self._form.remove(self._path)
        if self._there:
            self._aside.rename(self._path)

    def keep(self) -> Path | None:
        """Keep the old store under a name that shows; give it, or None where there was none."""
        return show_replaced(self._path) if self._there else None

    def remove(self) -> None:
        """Remove the old store."""
        if self._there:
            self._form.remove(self._aside)
