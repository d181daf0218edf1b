"""Several calls at a time, for work that leaves Python's lock alone: compression, files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["together"]

_T = TypeVar("_T")
_U = TypeVar("_U")

_pool: ThreadPoolExecutor | None = None


def together(function: Callable[[_T], _U], items: Iterable[_T]) -> list[_U]:
    """Give ``function(item)`` for each item in order, several at a time.

    Whatever happens, no call runs on after this returns. The function must not come here itself.

    Parameters
    ----------
    function : callable
        Called from several threads.
    items : iterable
        One item is called in the caller's own thread.
    """
    items = list(items)
    if len(items) == 1:
        return [function(items[0])]
    futures = [_threads().submit(function, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "cnatool-store")
    return _pool


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    # A forked child has the pool's queue and none of its threads: it would wait forever.
    os.register_at_fork(after_in_child=_forget)
