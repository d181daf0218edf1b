"""Several calls at a time, for work that leaves Python's lock alone: compression, files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["together"]

_T = TypeVar("_T")
_U = TypeVar("_U")

# Calls that compute, of which more than there are processors gain nothing; and calls that wait for
# the disk, of which a file system finishes many at once.
_COMPUTING = min(8, os.cpu_count() or 1)
_WAITING = 16


def together(
    function: Callable[[_T], _U], items: Iterable[_T], *, waiting: bool = False
) -> list[_U]:
    """Give ``function(item)`` for each item in order, several at a time.

    Whatever happens, no call runs on after this returns. The function must not come here itself.

    Parameters
    ----------
    function : callable
        Called from several threads; for a single item from the caller's own.
    items : iterable
        What to call it with.
    waiting : bool
        The calls wait for the disk more than they compute.
    """
    items = list(items)
    if len(items) == 1:
        return [function(items[0])]
    pool = _pool(_WAITING if waiting else _COMPUTING)
    futures = [pool.submit(function, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "cnatool-store")


if hasattr(os, "register_at_fork"):
    # A forked child has the pools' queues and none of their threads: it would wait forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)
