"""Pipelines of threads: bounded queues, results in order."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_T = TypeVar("_T")
_U = TypeVar("_U")
_END = object()

# Items that may wait between two stages; enough to even out their pace, few enough for memory.
AHEAD = 2


class Stages:
    """Busy time of each stage of a pipeline, as a share of the elapsed time."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Add busy time of a stage; thread-safe."""
        with self._lock:
            self._busy[stage] = self._busy.get(stage, 0.0) + seconds

    def __str__(self) -> str:
        whole = time.perf_counter() - self._began
        shares = {stage: min(1.0, busy / whole) for stage, busy in self._busy.items()}
        slowest = max(shares, key=lambda stage: shares[stage], default="none")
        busy = ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items())
        return f"slowest stage: {slowest}; share of the time that each was busy: {busy}"


def prefetch(items: Iterable[_T], *, ahead: int = AHEAD) -> Generator[_T]:
    """Iterate over ``items`` in a thread, ``ahead`` items before the caller.

    An exception of ``items`` reaches the caller in its place in the order.
    """
    iterator = iter(items)

    def step() -> Any:
        return next(iterator, _END)

    with ThreadPoolExecutor(1, thread_name_prefix="cnatool-read") as pool:
        waiting = deque(pool.submit(step) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(step))
            yield item


def map_ordered(
    function: Callable[[_T], _U], items: Iterable[_T], workers: int, *, ahead: int = AHEAD
) -> Generator[_U]:
    """Yield ``function(item)`` for each item in order, computed by several threads.

    The caller's thread takes up to ``ahead`` items more than there are workers before it yields.
    An exception of ``items`` or of a call reaches the caller in its place in the order. Closing
    the generator waits for the calls that are running and drops those that are not.
    """
    waiting: deque[Future[_U]] = deque()
    rest = iter(items)
    failure: Exception | None = None
    with ThreadPoolExecutor(workers, thread_name_prefix="cnatool-run") as pool:
        try:
            while True:
                try:
                    item = next(rest)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                waiting.append(pool.submit(function, item))
                # Enough are queued that no worker waits while the caller is busy with a result.
                if len(waiting) >= workers + ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if failure is not None:
        raise failure


def compute_beside(function: Callable[[_T], _U], items: Iterable[_T]) -> list[Future[_U]]:
    """Start ``function(item)`` for each item in a few threads, for results needed later."""
    pool = ThreadPoolExecutor(_COMPUTING, "cnatool-beside")
    futures = [pool.submit(function, item) for item in items]
    pool.shutdown(wait=False)
    return futures


# Threads for calls that compute, where more than the processors gain nothing, and for calls that
# wait for the disk, of which a file system handles many at once.
_COMPUTING = min(8, os.cpu_count() or 1)
_WAITING = 16


def map_concurrently(
    function: Callable[[_T], _U], items: Iterable[_T], *, waiting: bool = False
) -> list[_U]:
    """Return ``function(item)`` for each item in order, computed by several threads.

    No call is still running when this returns or raises. With ``waiting``, the calls wait for the
    disk more than they compute. The function must not call `map_concurrently` itself.
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


def fetch_beside(function: Callable[..., _U], *arguments: Any) -> Future[_U]:
    """Start a call that waits for a disk or a network, for a result needed later."""
    return _pool(_WAITING).submit(function, *arguments)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "cnatool-store")


if hasattr(os, "register_at_fork"):
    # A forked child has the pools' queues but none of their threads, and would wait forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)
