"""Replacing a store: nothing but a store is ever replaced, and a kill loses neither of the two.

Whoever replaces a store holds the lock of its path (`cnatool.store.lock`), and begins with
`recovered`. Beside a store there may be, under hidden names:

- ``.NAME.replaced``: the old store, whole, from when the new one is begun until it is finished;
- ``.NAME.new``: a new store of a command that shows nothing before it is finished;
- ``.NAME.removed``: what is being removed. A store gets this name first, by one renaming, so that
  under no other name a part of a store is ever found.

A killed process leaves them, and the next one that replaces the store finds them. An HDF5 file has
no journal under any of these names, and before a file gets a name no journal is there that was
another file's.
"""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnatool.errors import CnatoolError, NotAStoreError, StoreWarning, StoreWriteError
from cnatool.store.durable import sync
from cnatool.store.failures import reported
from cnatool.store.layout import split_arrays
from cnatool.store.links import check_own, is_link
from cnatool.store.tree import aside_of, format_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnatool.store.reader import Store
    from cnatool.store.tree import Format

__all__ = [
    "Replaced",
    "check_folder",
    "check_free",
    "discard",
    "put_in_place",
    "recovered",
    "safe_rows",
]

# Names under which something may be left because it could not be removed.
_REMOVED = 100


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
    StoreWriteError
        If what would be overwritten has links in it.
    """
    form = format_of(path)
    check_folder(path)
    if not os.path.lexists(path):
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
    if is_link(path):
        raise NotAStoreError(f"{path} is a link, so it is not overwritten. Name another path.")
    if not form.is_replaceable(path):
        raise NotAStoreError(f"{path} is no cnatool store, so it is not overwritten.")
    if path.is_dir():
        check_own(path)


def safe_rows(path: Path) -> int | None:
    """Count the rows of a store that was cut off; None where it cannot be read.

    What a reader finds is what counts: an interruption may come just behind a commit.
    """
    try:
        return sum(map(len, _opened(path).splits.values()))
    except NotAStoreError:
        return 0
    except CnatoolError:
        return None


def recovered(path: Path, *, resumes: bool = False) -> str | None:
    """Put right what a killed process left where it was replacing a store.

    The old store gets its name back where the new one has no row; else it gets a name that shows.
    What was being removed, or was not finished and cannot be gone on with, goes.

    Parameters
    ----------
    path : Path
        Where the store is, or was; its lock is held.
    resumes : bool
        The caller goes on with the new store, so that the old one does not get its name back.

    Returns
    -------
    str or None
        What the user should know.

    Raises
    ------
    StoreWriteError
        If something else is in the way, or the operating system refuses.
    """
    form = format_of(path)
    aside = aside_of(path)
    with reported(path, 0):
        for left in _removed_names(path):
            if _is_ours(form, left):
                form.remove(left)
        others = [
            left
            for left in (_new(path), aside)
            if os.path.lexists(left) and not _is_ours(form, left)
        ]
        # What goes on with a store says itself what it needs.
        beside = [None if resumes else form.foreign(path), form.foreign(_new(path))]
        for other in (*others, *(one for one in beside if one is not None)):
            raise StoreWriteError(
                f"{other} is in the way: cnatool did not put it there. Rename or remove it."
            )
        _discard(path, _new(path))
        if not os.path.lexists(aside):
            return None
        if not resumes and _has_no_row(form, path):
            _put_back(path)
            return None
        if _is_finished(path) and not _is_whole(aside):
            # An earlier version removed a store under this name.
            _discard(path, aside)
            return None
        shown = _shown(path)
    return (
        f"{path} was being replaced when its writer was killed. The store that it would have "
        f"replaced is {shown}"
    )


def _opened(path: Path) -> Store:
    """Open a store to look at it: whoever works with it is warned then."""
    from cnatool.store.reader import open_store

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        return open_store(path)


def _is_ours(form: Format, path: Path) -> bool:
    """Tell a store, or what is left of one, from anything else that has its hidden name."""
    return not is_link(path) and form.is_part(path)


def _has_no_row(form: Format, path: Path) -> bool:
    """Say whether nothing would be lost with what is at a path."""
    if not os.path.lexists(path):
        return True
    if is_link(path) or not form.is_replaceable(path):
        return False
    return safe_rows(path) == 0 and not _is_finished(path)


def _is_finished(path: Path) -> bool:
    try:
        splits = _opened(path).splits
    except CnatoolError:
        return False
    return bool(splits) and all(split.record.complete for split in splits.values())


def _is_whole(path: Path) -> bool:
    """Say whether a store has all of its arrays, from their first committed row to their last."""
    try:
        _read_ends(_opened(path))
    except CnatoolError:
        return False
    return True


def _read_ends(store: Store) -> None:
    for split in store.splits.values():
        record = split.record
        held = record.inputs_from is None
        for spec in split_arrays(store.record, labels=record.labels, inputs=held):
            array = split.array(spec.key)
            for row in {0, len(split) - 1} if len(split) else ():
                array[row : row + 1]


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _removed_names(path: Path) -> Iterator[Path]:
    for number in range(_REMOVED):
        name = path.with_name(f".{path.name}.removed{number or ''}")
        if not os.path.lexists(name):
            return
        yield name


def discard(path: Path) -> None:
    """Remove a store whose lock is held, or what is there of one.

    Raises
    ------
    OSError
        If the operating system refuses.
    """
    _discard(path, path)


def _discard(path: Path, gone: Path) -> None:
    """Remove one of the stores at or beside a path."""
    form = format_of(path)
    if not os.path.lexists(gone):
        form.forget(gone)
        return
    names = (path.with_name(f".{path.name}.removed{i or ''}") for i in range(_REMOVED))
    name = next(name for name in names if not os.path.lexists(name))
    gone.rename(name)
    # Only now: while the file is there its journal belongs to it.
    form.forget(gone)
    form.remove(name)


def _put_back(path: Path) -> None:
    """Give the old store its name back, in place of whatever is there."""
    _discard(path, path)
    sync(path.parent)
    aside_of(path).rename(path)
    sync(path.parent)


def _shown(path: Path) -> Path:
    """Give the old store a name that shows."""
    names = (f"{path.stem}.previous{i or ''}{path.suffix}" for i in range(1000))
    kept = next(name for name in map(path.with_name, names) if not os.path.lexists(name))
    format_of(path).forget(kept)
    aside_of(path).rename(kept)
    sync(path.parent)
    return kept


class Replaced:
    """A store moved out of the way of a new one, until that has something to show.

    Parameters
    ----------
    path : Path
        Where the new store will be, after `recovered`; whatever is there was accepted by
        `check_free`.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._there = os.path.lexists(path)
        if self._there:
            with reported(path, 0):
                if os.path.lexists(aside_of(path)):
                    raise StoreWriteError(f"{aside_of(path)} is in the way. Rename or remove it.")
                format_of(path).move(path, aside_of(path))
                sync(path.parent)

    def restore(self) -> Path | None:
        """Remove what is at the path, and put the old store back.

        Returns
        -------
        Path or None
            Where the old store is, if the operating system refuses: what made the writing fail may
            well make this fail, too. The next command that writes at the path puts it back.
        """
        try:
            if self._there:
                _put_back(self._path)
            else:
                _discard(self._path, self._path)
        except OSError:
            hidden = aside_of(self._path)
            return hidden if os.path.lexists(hidden) else None
        return None

    def keep(self) -> Path | None:
        """Keep the old store under a name that shows.

        Returns
        -------
        Path or None
            Where it is: under its hidden name, if the operating system refuses. None where there
            was none.
        """
        if not self._there:
            return None
        try:
            return _shown(self._path)
        except OSError:
            return aside_of(self._path)

    def remove(self) -> None:
        """Remove the old store."""
        if self._there:
            # The new one is finished. What cannot be removed now is tried again by the next one.
            with suppress(OSError):
                _discard(self._path, aside_of(self._path))


@contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """Give a path to make a store at, which takes its place once it is finished.

    Parameters
    ----------
    path : Path
        Where it will be, after `recovered` and `check_free`; its lock is held. What is there stays
        until the context ends without an error.

    Yields
    ------
    Path
        A hidden name beside it.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """
    new = _new(path)
    try:
        yield new
        with reported(path, 0):
            replaced = Replaced(path)
            try:
                format_of(path).forget(path)
                new.rename(path)
                sync(path.parent)
            except BaseException:
                replaced.restore()
                raise
    except BaseException:
        with suppress(OSError):
            _discard(path, new)
        raise
    replaced.remove()
