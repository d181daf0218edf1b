"""Replacement of a store: only stores are replaced, and a kill loses neither the old nor the new.

A process that replaces a store holds the lock of its path (`cnatool.store.lock`) and calls
`recover_replaced` first. Hidden names beside a store:

- ``.NAME.replaced``: the old store, whole, while the new one is written at its path;
- ``.NAME.new``: a new store that is moved to its path once it is finished;
- ``.NAME.removed``: a store that is being deleted. It is renamed before the first file is deleted,
  so that no other name ever contains part of a store.

A killed process leaves them behind, and the next process that replaces the store recovers them. An
HDF5 file has no journal under any of these names, and a journal left by another file is removed
before a file is renamed.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnatool._util.files import sync
from cnatool._util.links import check_no_links, is_link
from cnatool._util.urls import ObjectURL
from cnatool.errors import CnatoolError, NotAStoreError, StoreWriteError
from cnatool.records.layout import split_arrays
from cnatool.store.format_table import (
    find_store_around,
    format_by_name,
    hidden_path,
    local_format_by_name,
)
from cnatool.store.reader import open_silently
from cnatool.store.write_errors import name_deletion, report_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnatool.store.format import Format
    from cnatool.store.store import Store

# Most stores that are waiting for deletion.
_REMOVED = 100


def check_folder(path: Path) -> None:
    """Make sure that the folder of a new store exists and lies in no store.

    A bucket has no folders.
    """
    if (around := find_store_around(path.parent)) is not None:
        raise NotAStoreError(f"{path} lies inside the store {around}. Name another path.")
    if not isinstance(path, ObjectURL) and not path.parent.is_dir():
        raise NotAStoreError(f"{path.parent}: no such folder. Create it, or name another path.")


def check_free(path: Path, *, overwrite: bool, resumes: bool = False) -> None:
    """Make sure that a new store can be created at a path.

    With ``overwrite``, a cnatool store at the path is accepted, anything else never. With
    ``resumes``, the message mentions that the store can be resumed.
    """
    form = format_by_name(path)
    check_folder(path)
    if not form.exists(path):
        return
    if isinstance(path, ObjectURL):
        if _is_killed_copy(path):
            return  # `recover_replaced` deletes it
        if overwrite and form.is_part(path) and _is_without_rows(path):
            return
        unfinished = resumes and not _is_finished(path)
        ways = ", or pass `resume=True` to continue it" if unfinished else ""
        raise NotAStoreError(
            f"{path} exists already, and nothing is overwritten in a bucket. Name another path"
            f"{ways}, or delete what is there{name_deletion(path)}."
        )
    if not overwrite:
        if not is_link(path) and not form.is_replaceable(path):
            raise NotAStoreError(
                f"{path} exists already, and is not a cnatool store. Name another path."
            )
        raise NotAStoreError(
            f"{path} exists already. Name another path, "
            + (
                "pass `overwrite=True` to begin anew, or `resume=True` to continue it."
                if resumes
                else "or pass `overwrite=True`."
            )
        )
    if is_link(path):
        raise NotAStoreError(f"{path} is a link, so it is not overwritten. Name another path.")
    if not form.is_replaceable(path):
        raise NotAStoreError(f"{path} is not a cnatool store, so it is not overwritten.")
    if path.is_dir():
        check_no_links(path)


def _is_killed_copy(path: ObjectURL) -> bool:
    """Whether a URL contains an unfinished copy, which nobody continues."""
    from cnatool.store.zarr.object_tree import ObjectTree

    return ObjectTree.is_temporary(path)


def _is_without_rows(path: Path) -> bool:
    """Whether a path contains a store whose dump was killed before its first commit of rows."""
    try:
        return not any(map(len, open_silently(path).splits.values()))
    except CnatoolError:
        return False


def count_committed_rows(path: Path) -> int | None:
    """Count the committed rows of an interrupted store; None if it cannot be read.

    The store is read for it: an interruption may come right after a commit.
    """
    try:
        return sum(map(len, open_silently(path).splits.values()))
    except NotAStoreError:
        return 0
    except CnatoolError:
        return None


def recover_replaced(path: Path, *, resumes: bool = False) -> str | None:
    """Clean up after a process that was killed while it replaced a store.

    The old store gets its name back if the new one has no rows, and otherwise a visible name beside
    it. Stores that were being deleted, and unfinished ones that cannot be resumed, are deleted.
    With ``resumes``, the caller continues the new store, so the old one does not get its name back.
    The caller holds the lock. Returns a note for the user, or None.
    """
    form = format_by_name(path)
    if isinstance(path, ObjectURL):
        if not _is_killed_copy(path):
            return None
        _discard(path, path)
        return f"{path} was being copied when its writer was killed. It is deleted and begun anew"
    aside = hidden_path(path)
    with report_write_errors(path, 0):
        for removed in _removed_paths(path):
            if os.path.lexists(removed) and _is_ours(form, removed):
                form.remove(removed)
        others = [
            hidden
            for hidden in (_new_path(path), aside)
            if os.path.lexists(hidden) and not _is_ours(form, hidden)
        ]
        # A resumed dump checks the journal itself.
        beside = [None if resumes else form.foreign(path), form.foreign(_new_path(path))]
        for other in (*others, *(file for file in beside if file is not None)):
            raise StoreWriteError(
                f"{other} is in the way: cnatool did not create it. Rename or remove it."
            )
        _discard(path, _new_path(path))
        if not os.path.lexists(aside):
            return None
        if not resumes and _has_no_row(form, path):
            _put_back(path)
            return None
        if _is_finished(path) and not _is_whole(aside):
            # An earlier version deleted stores under this name.
            _discard(path, aside)
            return None
        shown = _make_visible(path)
    return f"{path} was being replaced when its writer was killed. The old store is {shown}"


def _is_ours(form: Format, path: Path) -> bool:
    """Whether a hidden name contains a store or part of one, and nothing else."""
    return not is_link(path) and form.is_part(path)


def _has_no_row(form: Format, path: Path) -> bool:
    """Whether a path contains no committed rows, so that it can be deleted."""
    if not os.path.lexists(path):
        return True
    if is_link(path) or not form.is_replaceable(path):
        return False
    return count_committed_rows(path) == 0 and not _is_finished(path)


def _is_finished(path: Path) -> bool:
    try:
        return open_silently(path).record.complete
    except CnatoolError:
        return False


def _is_whole(path: Path) -> bool:
    """Whether the first and the last committed row of each array of a store can be read."""
    try:
        _read_ends(open_silently(path))
    except CnatoolError:
        return False
    return True


def _read_ends(store: Store) -> None:
    for split in store.splits.values():
        record = split.record
        own_inputs = record.inputs_from is None
        for spec in split_arrays(store.record, labels=record.labels, inputs=own_inputs):
            array = split.array(spec.key)
            for row in {0, len(split) - 1} if len(split) else ():
                array[row : row + 1]


def _new_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _removed_paths(path: Path) -> list[Path]:
    return [path.with_name(f".{path.name}.removed{i or ''}") for i in range(_REMOVED)]


def discard(path: Path) -> None:
    """Delete a store or part of one; the caller holds its lock."""
    _discard(path, path)


def _discard(path: Path, gone: Path) -> None:
    """Delete one of the stores at or beside a path."""
    form = format_by_name(path)
    if isinstance(gone, ObjectURL):
        from cnatool.store.object_lock import holds_lock

        # Another process may have taken the store over.
        if holds_lock(gone):
            form.remove(gone)
        return
    if not os.path.lexists(gone):
        form.forget(gone)
        return
    free = (name for name in _removed_paths(path) if not os.path.lexists(name))
    name = next(free, None)
    if name is None:
        raise FileExistsError(
            errno.EEXIST, f"{_REMOVED} stores beside it could not be deleted", str(path)
        )
    gone.rename(name)
    # Only now: as long as the file had this name, the journal belonged to it.
    form.forget(gone)
    form.remove(name)


def _put_back(path: Path) -> None:
    """Delete the new store, and give the old one its name back."""
    _discard(path, path)
    sync(path.parent)
    hidden_path(path).rename(path)
    sync(path.parent)


def _make_visible(path: Path) -> Path:
    """Rename the old store to a visible name; return its path."""
    names = (f"{path.stem}.previous{i or ''}{path.suffix}" for i in range(1000))
    kept = next(name for name in map(path.with_name, names) if not os.path.lexists(name))
    format_by_name(path).forget(kept)
    hidden_path(path).rename(kept)
    sync(path.parent)
    return kept


class ReplacedStore:
    """A store that is set aside while a new one is written at its path.

    `recover_replaced` and `check_free` were called for the path before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._exists = os.path.lexists(path)
        if isinstance(path, ObjectURL) and format_by_name(path).exists(path):
            _discard(path, path)  # it has no rows
        if self._exists:
            with report_write_errors(path, 0):
                if os.path.lexists(hidden_path(path)):
                    raise StoreWriteError(
                        f"{hidden_path(path)} is in the way. Rename or remove it."
                    )
                local_format_by_name(path).move(path, hidden_path(path))
                sync(path.parent)

    def restore(self) -> Path | None:
        """Delete the new store, and put the old one back.

        Returns None on success. If the operating system refuses, returns the hidden path of the old
        store, which the next command that writes at the path puts back.
        """
        try:
            if self._exists:
                _put_back(self._path)
            else:
                _discard(self._path, self._path)
        except OSError:
            hidden = hidden_path(self._path)
            return hidden if os.path.lexists(hidden) else None
        return None

    def keep(self) -> Path | None:
        """Keep the old store under a visible name; return its path, or None if there was none.

        The path is a hidden one if the operating system refuses to rename the store.
        """
        if not self._exists:
            return None
        try:
            return _make_visible(self._path)
        except OSError:
            return hidden_path(self._path)

    def remove(self) -> None:
        """Delete the old store: the new one is finished."""
        if self._exists:
            # If this fails, the next process that replaces the store tries again.
            with suppress(OSError):
                _discard(self._path, hidden_path(self._path))


@contextmanager
def move_into_place(path: Path) -> Iterator[Path]:
    """Yield a hidden path for a new store, which is moved to its own path once it is finished.

    A bucket moves nothing: there, the path is the final one.
    """
    if isinstance(path, ObjectURL):
        try:
            yield path
        except BaseException:
            with suppress(OSError):
                _discard(path, path)
            raise
        return
    new = _new_path(path)
    try:
        yield new
        with report_write_errors(path, 0):
            replaced = ReplacedStore(path)
            try:
                format_by_name(path).forget(path)
                new.rename(path)
                sync(path.parent)
            except BaseException as error:
                hidden = replaced.restore()
                if hidden is not None and isinstance(error, OSError):
                    raise StoreWriteError(
                        f"{path} cannot be replaced: {error.strerror or error}. The old store is "
                        f"{hidden}, and gets its name back when {path} is written again."
                    ) from error
                raise
    except BaseException:
        with suppress(OSError):
            _discard(path, new)
        raise
    replaced.remove()
