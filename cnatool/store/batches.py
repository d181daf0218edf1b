"""Batches of samples for training: in random order, of several arrays that stay aligned.

Whole chunks are read, in a random order, into a window of bounded size, whose rows are mixed. While
the batches of one window are used, threads read the next one, so that two are in memory.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool.errors import MetricError, UsageError
from cnatool.records.ragged import Ragged, concatenate_rows
from cnatool.store.ragged import RaggedArray
from cnatool.store.reading_order import Layout, ReadingOrder, choose_block_rows
from cnatool.store.stored_array import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import DTypeLike, NDArray

    from cnatool.records.ragged import Rows
    from cnatool.store.reading_order import Window
    from cnatool.store.stored_array import StoredArray

# Bytes of both windows.
BUFFER_BYTES = 128 << 20
# Pieces of a window that are read at the same time.
_THREADS = min(4, os.cpu_count() or 1)
# Chunks of values that a block of samples that differ in length is at least: it begins and ends
# inside of one, which is read as a whole.
_RAGGED_CHUNKS = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one batch; all arrays have the same samples in the same order.

    ``batch["conv1"]`` is ``batch.tensors["conv1"]``, and ``len(batch)`` the number of samples.

    Attributes
    ----------
    rows : ndarray
        Number of each sample in the split, (b,) int64: ``split.ids[batch.rows]`` are their ids.
    tensors : mapping of str to ndarray or Ragged
        The tensors by name, (b, …), or `Ragged` where samples differ in length.
    labels : ndarray, Ragged or None
        Labels, (b,) int64, or a list for each sample; None if the split has none.
    ids : ndarray or None
        Origin of each sample, (b,) str; None unless they are asked for.
    inputs : mapping of str to ndarray or Ragged
        The raw inputs by name; empty unless they are asked for.
    """

    rows: NDArray[np.int64]
    tensors: Mapping[str, Rows]
    labels: Rows | None
    ids: NDArray[Any] | None
    inputs: Mapping[str, Rows]

    def __getitem__(self, name: str) -> Rows:
        return self.tensors[name]

    def __len__(self) -> int:
        return len(self.rows)


class Sources(NamedTuple):
    """The arrays that batches are read from, all with the same rows."""

    tensors: Mapping[str, StoredArray | RaggedArray]
    labels: StoredArray | RaggedArray | None
    ids: StoredArray | None
    inputs: Mapping[str, StoredArray | RaggedArray]

    def all(self) -> list[StoredArray | RaggedArray]:
        """List the arrays, in the order that `pack` takes."""
        single = [array for array in (self.labels, self.ids) if array is not None]
        return [*self.tensors.values(), *single, *self.inputs.values()]

    def pack(self, rows: NDArray[np.int64], arrays: Iterator[Any]) -> Batch:
        """Make a batch of the rows of all arrays."""
        tensors = {name: next(arrays) for name in self.tensors}
        labels = None if self.labels is None else next(arrays)
        ids = None if self.ids is None else next(arrays)
        return Batch(rows, tensors, labels, ids, {name: next(arrays) for name in self.inputs})


class Batches:
    """The batches of one epoch of a split; `Split.batches` makes them.

    It can be iterated over any number of times, with the same batches. ``len(batches)`` is their
    number.

    Attributes
    ----------
    rows : int
        Samples in these batches.
    block_rows : int
        Samples of a block, which is read as it is stored; blocks come in random order.
    window_rows : int
        Samples that are mixed with each other: those of a batch come from
        ``window_rows / block_rows`` blocks.
    buffer_bytes : int
        Bytes of the two windows in memory; of samples that differ in length, on average.
    """

    def __init__(
        self,
        sources: Sources,
        rows: int,
        *,
        size: int,
        shuffle: bool,
        seed: int,
        epoch: int,
        start: int,
        worker: tuple[int, int],
        drop_last: bool,
        buffer_bytes: int,
        dtype: DTypeLike | None,
    ) -> None:
        _check_number("size", size, 1)
        _check_number("seed", seed, 0)
        _check_number("epoch", epoch, 0)
        _check_number("start", start, 0)
        _check_number("buffer_bytes", buffer_bytes, 1)
        _check_worker(worker)
        self._sources, self._arrays = sources, sources.all()
        self._dtype = _check_dtype(dtype, sources)
        self._size, self._start = size, start
        layouts = [_layout(array) for array in self._arrays] or [Layout(BLOCK_BYTES // 8, 8)]
        row_bytes = sum(layout.row_bytes for layout in layouts)
        # In the order of the store, mixing needs no memory.
        held = buffer_bytes // 2 if shuffle else min(buffer_bytes // 2, BLOCK_BYTES)
        window = max(1, held // row_bytes // size) * size
        self.block_rows = choose_block_rows(layouts, window)
        order = ReadingOrder(
            rows, self.block_rows, window, seed if shuffle else None, epoch, worker
        )
        first, end = order.share
        share = end - first
        steps = rows // worker[1] // size if drop_last else -(-share // size)
        if start > steps:
            raise UsageError(
                f"`start={start}` is behind the end of the epoch, step {steps}. Go on with the "
                "next epoch."
            )
        self._order, self._steps = order, steps
        self._end = min(share, steps * size)
        self.rows = self._end - min(self._end, start * size)
        self.window_rows = min(window, max(1, share))
        self.buffer_bytes = self.window_rows * row_bytes * (2 if share > window else 1)

    def __len__(self) -> int:
        return self._steps - self._start

    def __repr__(self) -> str:
        return f"<{len(self)} batches of {self._size}: {self.rows} rows>"

    def __iter__(self) -> Iterator[Batch]:
        left = self.rows
        windows = self._order.windows(self._start * self._size, self._end)
        for window, arrays in _read_windows(self._arrays, windows, self.window_rows):
            numbers = np.concatenate([np.arange(*piece) for piece in window.pieces])
            for at in range(0, min(left, len(window.order)), self._size):
                places = window.order[at : at + min(self._size, left - at)]
                rows = (_take(array, places) for array in arrays)
                yield self._convert(self._sources.pack(numbers[places], rows))
            left -= min(left, len(window.order))

    def _convert(self, batch: Batch) -> Batch:
        """Convert the tensors of a batch to the element type that is asked for."""
        if self._dtype is None:
            return batch
        tensors = {}
        for name, values in batch.tensors.items():
            try:
                with np.errstate(over="raise"):
                    tensors[name] = values.astype(self._dtype)
            except FloatingPointError:
                array = self._sources.tensors[name]
                path = (array.values if isinstance(array, RaggedArray) else array).path
                raise MetricError(
                    f"{path}: values of tensor {name!r} are too large for {self._dtype}, as which "
                    "`dtype` asks for them. Choose a wider type."
                ) from None
        return Batch(batch.rows, tensors, batch.labels, batch.ids, batch.inputs)


# An array, its buffer, a range of its rows, and where these end in the buffer.
_Task = tuple["StoredArray | RaggedArray", "NDArray[Any] | None", tuple[int, int], int]


class _Windows:
    """Reads windows of several arrays into memory that is used again."""

    def __init__(
        self, arrays: list[StoredArray | RaggedArray], rows: int, pool: ThreadPoolExecutor
    ) -> None:
        self._arrays = arrays
        self._rows = rows
        self._pool = pool
        self._buffers: list[list[NDArray[Any] | None]] = []
        self._ended = threading.Event()

    def stop(self) -> None:
        """Let a window that is being read end early; nobody wants it."""
        self._ended.set()

    def read(self, number: int, window: Window) -> list[Rows]:
        """Read a window into one of two sets of buffers."""
        if len(self._buffers) <= number % 2:
            plain = (None if isinstance(a, RaggedArray) else a for a in self._arrays)
            self._buffers.append(
                [a if a is None else np.empty((self._rows, *a.shape[1:]), a.dtype) for a in plain]
            )
        buffers = self._buffers[number % 2]
        ends = list(accumulate(stop - start for start, stop in window.pieces))
        tasks = [
            (array, buffer, piece, end)
            for array, buffer in zip(self._arrays, buffers, strict=True)
            for piece, end in zip(window.pieces, ends, strict=True)
        ]
        pieces = self._pool.map(self._read_piece, tasks)
        read: list[Rows] = []
        for buffer in buffers:
            part = list(islice(pieces, len(ends)))
            read.append(concatenate_rows(part) if buffer is None else buffer[: ends[-1]])
        return read

    def _read_piece(self, task: _Task) -> Rows:
        """Read some rows of an array, into its buffer if it has one."""
        array, buffer, (start, stop), end = task
        if self._ended.is_set():
            raise _EndedError
        if buffer is None or isinstance(array, RaggedArray):
            rows: Rows = array[start:stop]
            return rows
        target = buffer[end - (stop - start) : end]
        array.read_into(start, target)
        return target


class _EndedError(Exception):
    """The batches are not wanted any more."""


def _read_windows(
    arrays: list[StoredArray | RaggedArray], windows: Iterable[Window], rows: int
) -> Iterator[tuple[Window, list[Rows]]]:
    """Yield windows with the rows of each array, which count until the next one is asked for.

    ``rows`` are those of the longest window.
    """
    numbered = enumerate(windows)
    with (
        ThreadPoolExecutor(_THREADS, "cnatool-batches") as pool,
        ThreadPoolExecutor(1, "cnatool-windows") as ahead,
    ):
        reader = _Windows(arrays, rows, pool)
        try:
            following = next(numbered, None)
            future = None if following is None else ahead.submit(reader.read, *following)
            while following is not None and future is not None:
                _, window = following
                values = future.result()
                following = next(numbered, None)
                if following is not None:
                    future = ahead.submit(reader.read, *following)
                yield window, values
        finally:
            reader.stop()


def _layout(array: StoredArray | RaggedArray) -> Layout:
    if not isinstance(array, RaggedArray):
        return Layout(array.chunk_rows, array.row_bytes)
    length = max(1, len(array.values) // max(1, len(array)))
    return Layout(max(1, _RAGGED_CHUNKS * array.values.chunk_rows // length), array.row_bytes)


def _take(rows: Rows, places: NDArray[np.intp]) -> Rows:
    return rows[places] if isinstance(rows, Ragged) else rows.take(places, axis=0)


def _check_number(name: str, value: int, least: int) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise UsageError(f"`{name}={value!r}` is not a whole number of at least {least}.")


def _check_worker(worker: tuple[int, int]) -> None:
    try:
        number, workers = worker
        valid = int(number) == number and int(workers) == workers and 0 <= number < workers
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise UsageError(
            f"`worker={worker!r}` is not the number of a worker, counted from 0, and how many "
            "there are, as in `worker=(0, 4)`."
        )


def _check_dtype(dtype: DTypeLike | None, sources: Sources) -> np.dtype[Any] | None:
    """Refuse an element type that the values of a tensor do not fit in kind."""
    if dtype is None:
        return None
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise UsageError(f"`dtype={dtype!r}` is not an element type of NumPy.") from None
    for name, array in sources.tensors.items():
        if not np.can_cast(array.dtype, wanted, "same_kind"):
            raise UsageError(
                f"`dtype={str(wanted)!r}` cannot hold tensor {name!r}, which is {array.dtype}. "
                "Choose a floating type, or leave `dtype` out."
            )
    return wanted
