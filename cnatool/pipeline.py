"""Overlapping the stages of a dump: two bounded hand-overs between threads, in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["InOrder", "prefetched"]

_T = TypeVar("_T")
_END = object()

# Batches that may wait between two stages; enough to even out their pace, few enough for memory.
_AHEAD = 2


def prefetched(items: Iterable[_T]) -> Iterator[_T]:
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
        waiting = deque(pool.submit(step) for _ in range(_AHEAD))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(step))
            yield item


class InOrder:
    """Runs calls one after another in a thread of its own; at most two wait.

    Leaving the ``with`` block waits for all of them. The first exception of a call is raised by
    the next `submit`, or when the block is left; no call that was submitted after it runs.
    """

    def __init__(self) -> None:
        self._failed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cnatool-write")
        self._waiting: deque[Future[object]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            while error is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, call: Callable[[], object]) -> None:
        """Have a call run after those submitted before; wait if two are waiting already."""
        while len(self._waiting) >= _AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._run, call))

    def _run(self, call: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            call()
        except BaseException:
            self._failed = True
            raise
