"""Windows of rows in memory: read by threads, and divided into batches.

While the batches of one window are used, the next one is read, chunk by chunk and into the same
memory as the last but one. It has the rows in the order of the store, and each batch is gathered
from it.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cnatool._util.urls import is_url
from cnatool.records.ragged import concatenate_rows
from cnatool.store.ragged import RaggedArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.records.ragged import Ragged, Rows
    from cnatool.store.reading_order import Window
    from cnatool.store.stored_array import StoredArray

# Parts of a window that are read at the same time.
_THREADS = min(4, os.cpu_count() or 1)
# Bytes that a thread reads at once from a disk, in whole chunks. Of many chunks, the array would
# divide the work among threads of its own, which takes longer.
_PIECE = 1 << 19
# Shares of a window for each thread: few, since handing out work takes time, and enough that the
# threads end together.
_SHARES = 4


class _Content(Protocol):
    """The rows of one array in one window."""

    def tasks(self) -> Iterator[Callable[[], None]]:
        """Yield what reads a part of them each; threads may do so in any order."""

    def batches(self) -> Iterator[Rows]:
        """Yield the batches, once."""


class _Plain:
    """Rows in memory that the next but one window uses again."""

    def __init__(self, array: StoredArray, window: Window, size: int, memory: NDArray[Any]) -> None:
        self._array, self._window, self._size = array, window, size
        self._rows = memory[: window.rows]

    def tasks(self) -> Iterator[Callable[[], None]]:
        place = 0
        for start, stop in self._window.pieces:
            for first, last in self._divide(start, stop):
                target = self._rows[place : place + last - first]
                yield partial(self._array.read_into, first, target)
                place += last - first

    def batches(self) -> Iterator[Rows]:
        order = self._window.order
        for at in range(0, len(order), self._size):
            places = order[at : at + self._size]
            if self._window.mixed:
                yield self._rows.take(places, axis=0)
            else:
                yield self._rows[places[0] : places[-1] + 1].copy()

    def _divide(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide a range of rows into those that are read at once."""
        if is_url(self._array.path):
            yield start, stop  # in few requests
            return
        chunk = self._array.chunk_rows
        step = chunk * max(1, _PIECE // (chunk * self._array.row_bytes))
        for low in range(start // step * step, stop, step):
            yield max(start, low), min(stop, low + step)


class _Ragged:
    """Samples that differ in length, in the order of the store."""

    def __init__(self, array: RaggedArray, window: Window, size: int) -> None:
        self._array, self._window, self._size = array, window, size
        self._parts: dict[int, Ragged] = {}

    def tasks(self) -> Iterator[Callable[[], None]]:
        for start, stop in self._window.pieces:
            yield partial(self._read, start, stop)

    def batches(self) -> Iterator[Rows]:
        rows = concatenate_rows([self._parts[start] for start in sorted(self._parts)])
        self._parts.clear()
        order = self._window.order
        for at in range(0, len(order), self._size):
            yield rows[order[at : at + self._size]]

    def _read(self, start: int, stop: int) -> None:
        self._parts[start] = self._array[start:stop]


class WindowReader:
    """Reads the windows of several arrays.

    Parameters
    ----------
    arrays : sequence of StoredArray or RaggedArray
        The arrays, all with the same rows.
    rows, size : int
        Rows of the longest window, and of a batch.
    """

    def __init__(self, arrays: Sequence[StoredArray | RaggedArray], rows: int, size: int) -> None:
        self._arrays, self._rows, self._size = arrays, rows, size
        self._memory: dict[tuple[int, int], NDArray[Any]] = {}
        self._ended = threading.Event()

    def read(self, windows: Iterable[Window]) -> Iterator[tuple[Window, list[Iterator[Rows]]]]:
        """Yield windows with the batches of each array, to be taken before the next window.

        Threads read that one meanwhile.
        """
        numbered = enumerate(windows)

        def read_next() -> tuple[Window, list[_Content]] | None:
            following = next(numbered, None)
            return None if following is None else (following[1], self._read(pool, *following))

        with (
            ThreadPoolExecutor(_THREADS, "cnatool-batches") as pool,
            ThreadPoolExecutor(1, "cnatool-windows") as ahead,
        ):
            try:
                future = ahead.submit(read_next)
                while (ready := future.result()) is not None:
                    future = ahead.submit(read_next)
                    window, contents = ready
                    yield window, [content.batches() for content in contents]
            finally:
                # A window that is being read ends early; nobody wants it.
                self._ended.set()

    def _read(self, pool: ThreadPoolExecutor, number: int, window: Window) -> list[_Content]:
        contents = [
            self._prepare(array, window, (key, number % 2))
            for key, array in enumerate(self._arrays)
        ]
        tasks = [task for each in contents for task in each.tasks()]
        size = max(1, -(-len(tasks) // (_SHARES * _THREADS)))
        shares = (tasks[at : at + size] for at in range(0, len(tasks), size))
        for _ in pool.map(self._run, shares):
            pass
        return contents

    def _prepare(
        self, array: StoredArray | RaggedArray, window: Window, key: tuple[int, int]
    ) -> _Content:
        if isinstance(array, RaggedArray):
            return _Ragged(array, window, self._size)
        if key not in self._memory:
            self._memory[key] = np.empty((self._rows, *array.shape[1:]), array.dtype)
        return _Plain(array, window, self._size, self._memory[key])

    def _run(self, tasks: Iterable[Callable[[], None]]) -> None:
        for task in tasks:
            if self._ended.is_set():
                raise _EndedError
            task()


class _EndedError(Exception):
    """The batches are not wanted any more."""
