"""Making room for a new store: nothing but a store is ever replaced, and not before its time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cnatool.errors import NotAStoreError
from cnatool.store.failures import reported
from cnatool.store.tree import format_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Replaced", "check_free"]


def check_free(path: Path, *, overwrite: bool) -> None:
    """Make sure that a new store can be made at a path.

    Parameters
    ----------
    path : Path
        Where the store will be.
    overwrite : bool
        A cnatool store may be there; anything else never.

    Raises
    ------
    NotAStoreError
        If the path is taken, is not named like a store, or its folder does not exist.
    """
    form = format_of(path)
    if not path.parent.is_dir():
        raise NotAStoreError(f"{path.parent}: no such folder. Make it, or name another path.")
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise NotAStoreError(
            f"{path} exists already. Name another path with -o, or pass --overwrite."
        )
    if path.is_symlink():
        raise NotAStoreError(f"{path} is a link, so it is not overwritten. Name another path.")
    if not form.is_replaceable(path):
        raise NotAStoreError(f"{path} is no cnatool store, so it is not overwritten.")


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
        self._aside = path.with_name(f".{path.name}.replaced-{os.getpid()}")
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
        if not self._there:
            return None
        names = (f"{self._path.stem}.previous{i or ''}{self._path.suffix}" for i in range(1000))
        kept = next(p for p in map(self._path.with_name, names) if not p.exists())
        self._aside.rename(kept)
        return kept

    def remove(self) -> None:
        """Remove the old store."""
        if self._there:
            self._form.remove(self._aside)
