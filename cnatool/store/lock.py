"""One writer per store: a lock that ends with its process."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cnatool._util.links import is_link, open_nofollow
from cnatool._util.urls import ObjectURL
from cnatool.errors import StoreWriteError
from cnatool.store.replace import check_folder
from cnatool.store.write_errors import make_in_use_error, report_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def lock_store(store: Path, *, wait: float = 0) -> Iterator[None]:
    """Hold the right to write at a path during the context; wait for another process some seconds.

    The operating system locks a file beside the store: a crash or a SIGKILL ends the lock, and a
    leftover file locks nothing. In a bucket, an object does (`cnatool.store.object_lock`). Raises
    StoreInUseError if another process is writing.
    """
    if isinstance(store, ObjectURL):
        from cnatool.store.object_lock import lock_object

        with lock_object(store):
            yield
        return
    from filelock import FileLock, Timeout

    check_folder(store)
    path = store.with_name(f".{store.name}.lock")
    lock = FileLock(path)
    with report_write_errors(store, 0):
        # If no file can be created there, `FileLock` would only report a timeout.
        if os.path.lexists(path) and (is_link(path) or not path.is_file()):
            raise StoreWriteError(
                f"{path} is in the way: it is not a lock file. Rename or remove it."
            )
        open_nofollow(path, "ab").close()
        try:
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise make_in_use_error(store) from error
    try:
        yield
    finally:
        # While it is still locked: a process waiting for this file notices that it was removed.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
