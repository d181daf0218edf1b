"""A finished store at a path at once: locked, written under a hidden name, moved into place."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnatool.store.lock import lock_store
from cnatool.store.replace import check_free, move_into_place, recover_replaced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnatool._util.observer import Observer


@contextmanager
def place_new_store(path: Path, *, overwrite: bool, observer: Observer) -> Iterator[Path]:
    """Yield the hidden path of a new store, which replaces what is at its path in the end.

    What a killed process left beside it is recovered first, with a note. Raises NotAStoreError if
    the path is taken or cannot be used, and StoreInUseError if another process is writing there.
    """
    with lock_store(path):
        note = recover_replaced(path)
        if note is not None:
            observer.note(note)
        check_free(path, overwrite=overwrite)
        with move_into_place(path) as new:
            yield new
