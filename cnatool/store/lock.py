"""One writer per store: a lock that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cnatool._util.links import is_link, open_nofollow
from cnatool.errors import StoreInUseError, StoreWriteError
from cnatool.store.replace import check_folder
from cnatool.store.write_errors import report_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def lock_store(store: Path, *, wait: float = 0) -> Iterator[None]:
    """Have the right to write at a path, for as long as the context lasts.

    The lock is the operating system's, on a file beside the store: whatever ends the process, a
    crash or a SIGKILL, ends the lock, and a file that is left over locks nothing.

    Parameters
    ----------
    store : Path
        Where the store is, or will be.
    wait : float
        Seconds to wait for another process that has it.

    Raises
    ------
    NotAStoreError
        If its folder is not there.
    StoreInUseError
        If it is being written already.
    StoreWriteError
        If the operating system refuses.
    """
    from filelock import FileLock, Timeout

    check_folder(store)
    path = store.with_name(f".{store.name}.lock")
    lock = FileLock(path)
    with report_write_errors(store, 0):
        # Where no file can be made, the lock would only say that it is not to be had.
        if os.path.lexists(path) and (is_link(path) or not path.is_file()):
            raise StoreWriteError(f"{path} is in the way: it is no lock. Rename or remove it.")
        open_nofollow(path, "ab").close()
        try:
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise StoreInUseError(
                f"{store} is being written by another process. Wait until it is done, or name "
                "another path."
            ) from error
    try:
        yield
    finally:
        # While it is still locked: whoever waits for this file sees that it is no longer the one.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
