"""Overlapping the stages of a dump: bounded hand-overs between threads, in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["AHEAD", "computed", "prefetched"]

_T = TypeVar("_T")
_U = TypeVar("_U")
_END = object()

# Items that may wait between two stages; enough to even out their pace, few enough for memory.
AHEAD = 2


def prefetched(items: Iterable[_T]) -> Generator[_T]:
    """Give what ``items`` gives, made ahead of time in a thread of its own.

    An exception of ``items`` reaches the caller in its place in the order.

    Parameters
    ----------
    items : iterable
        Read by one thread only, two items ahead of the caller.
    """
    iterator = iter(items)

    def step() -> Any:
        return next(iterator, _END)

    with ThreadPoolExecutor(1, thread_name_prefix="cnatool-read") as pool:
        waiting = deque(pool.submit(step) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(step))
            yield item


def computed(function: Callable[[_T], _U], items: Iterable[_T], workers: int) -> Generator[_U]:
    """Give ``function(item)`` for each item in order, computed by several threads.

    An exception of ``items`` or of a call reaches the caller in its place in the order. Closing
    the generator waits for the calls that run and drops those that do not yet.

    Parameters
    ----------
    function : callable
        Called from any of the threads.
    items : iterable
        Read by the caller's thread, two more than there are workers ahead of the caller.
    workers : int
        Calls at a time.
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
                # Enough wait that no worker does while the caller is busy with a result.
                if len(waiting) >= workers + AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if failure is not None:
        raise failure
