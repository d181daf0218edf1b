"""Batches of samples for training: in random order, of several arrays that stay aligned.

Whole chunks are read, in a random order, into a window of bounded size, whose rows are mixed. While
the batches of one window are used, threads read the next one, so that two are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool._util.numbers import check_whole_number
from cnatool._util.text import count_text
from cnatool.errors import MetricError, UsageError
from cnatool.records.ragged import Ragged
from cnatool.store.ragged import RaggedArray
from cnatool.store.reading_order import Layout, ReadingOrder, choose_block_rows
from cnatool.store.stored_array import BLOCK_BYTES
from cnatool.store.windows import WindowReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import DTypeLike, NDArray

    from cnatool.records.ragged import Rows
    from cnatool.store.stored_array import StoredArray

# Tensors and inputs that a batch shows.
_SHOWN = 4
# Bytes of both windows.
BUFFER_BYTES = 128 << 20
# Chunks of values that a block of samples that differ in length is at least: it begins and ends
# inside of one, which is read as a whole.
_RAGGED_CHUNKS = 4


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        arrays = [_describe(name, rows) for name, rows in self.tensors.items()]
        arrays += [_describe(f"input {name}", rows) for name, rows in self.inputs.items()]
        more = [f"and {len(arrays) - _SHOWN} more"] * (len(arrays) > _SHOWN)
        kinds = {"labels": self.labels, "ids": self.ids}
        shown = [*arrays[:_SHOWN], *more, *(k for k, rows in kinds.items() if rows is not None)]
        return f"<batch of {count_text(len(self), 'sample')}: {', '.join(shown)}>"


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
    """The batches of one epoch of a split, as `Split.batches` returns them.

    Every iteration yields the same batches. ``len(batches)`` is their number.

    Attributes
    ----------
    rows : int
        Samples in these batches.
    block_rows : int
        Samples in a block. A block is read in the order in which it is stored; blocks come in
        random order.
    window_rows : int
        Samples that are shuffled together: those of a batch come from ``window_rows / block_rows``
        blocks.
    buffer_bytes : int
        Bytes of the two windows in memory; an average if samples differ in length.
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
        check_whole_number("size", size, 1)
        check_whole_number("seed", seed, 0)
        check_whole_number("epoch", epoch, 0)
        check_whole_number("start", start, 0)
        check_whole_number("buffer_bytes", buffer_bytes, 1)
        _check_worker(worker)
        self._sources, self._arrays = sources, sources.all()
        self._dtype = _check_dtype(dtype, sources)
        self._size, self._start = size, start
        layouts = [_layout(array) for array in self._arrays]
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
                f"`start={start}` is past the end of the epoch, step {steps}. Continue with the "
                "next epoch."
            )
        self._order, self._steps = order, steps
        last = min(share, steps * size)
        self.rows = last - min(last, start * size)
        self.window_rows = min(window, max(1, share))
        self.buffer_bytes = self.window_rows * row_bytes * (2 if share > window else 1)

    def __len__(self) -> int:
        return self._steps - self._start

    def __repr__(self) -> str:
        return f"<{len(self)} batches of {self._size}: {self.rows} rows>"

    def __iter__(self) -> Iterator[Batch]:
        start = self._start * self._size
        windows = self._order.windows(start, start + self.rows)
        reader = WindowReader(self._arrays, self.window_rows, self._size)
        for window, columns in reader.read(windows):
            numbers = np.concatenate([np.arange(*piece) for piece in window.pieces])
            for at in range(0, len(window.order), self._size):
                places = window.order[at : at + self._size]
                yield self._convert(self._sources.pack(numbers[places], map(next, columns)))

    def _convert(self, batch: Batch) -> Batch:
        """Convert the tensors of a batch to the element type that is asked for."""
        if self._dtype is None:
            return batch
        tensors = {}
        for name, values in batch.tensors.items():
            try:
                with np.errstate(over="raise"):
                    tensors[name] = _convert(values, self._dtype)
            except FloatingPointError:
                array = self._sources.tensors[name]
                path = (array.values if isinstance(array, RaggedArray) else array).path
                raise MetricError(
                    f"{path}: values of tensor {name!r} are too large for {self._dtype}, as which "
                    "`dtype` asks for them. Choose a wider type."
                ) from None
        return Batch(batch.rows, tensors, batch.labels, batch.ids, batch.inputs)


def _layout(array: StoredArray | RaggedArray) -> Layout:
    if not isinstance(array, RaggedArray):
        return Layout(array.chunk_rows, array.row_bytes)
    length = max(1, len(array.values) // max(1, len(array)))
    return Layout(max(1, _RAGGED_CHUNKS * array.values.chunk_rows // length), array.row_bytes)


def _convert(rows: Rows, dtype: np.dtype[Any]) -> Rows:
    """Convert rows; FloatingPointError if a value is too large for the type."""
    values = rows.values if isinstance(rows, Ragged) else rows
    # NumPy says nothing of integers that it wraps around, nor of integers that become infinite.
    if values.dtype.kind in "iu" and not np.can_cast(values.dtype, dtype) and values.size:
        limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
        if not limits.min <= values.min() <= values.max() <= limits.max:
            raise FloatingPointError
    return rows.astype(dtype) if isinstance(rows, Ragged) else rows.astype(dtype, copy=False)


def _describe(name: str, rows: Rows) -> str:
    kind = repr(rows) if isinstance(rows, Ragged) else f"{rows.shape} {rows.dtype}"
    return f"{name} {kind}"


def _check_worker(worker: tuple[int, int]) -> None:
    try:
        number, workers = map(index, worker)
        valid = 0 <= number < workers
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise UsageError(
            f"`worker={worker!r}` is not the number of a worker, counted from 0, and the number "
            "of workers, as in `worker=(0, 4)`."
        )


def _check_dtype(dtype: DTypeLike | None, sources: Sources) -> np.dtype[Any] | None:
    """Refuse an element type that the values of a tensor do not fit in kind."""
    if dtype is None:
        return None
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise UsageError(f"`dtype={dtype!r}` is not an element type of NumPy.") from None
    if wanted.kind not in "biufc":
        raise UsageError(f"`dtype={str(wanted)!r}` is not an element type of numbers.")
    for name, array in sources.tensors.items():
        if not np.can_cast(array.dtype, wanted, "same_kind"):
            raise UsageError(
                f"`dtype={str(wanted)!r}` cannot hold tensor {name!r}, which is {array.dtype}. "
                "Choose a floating type, or leave `dtype` out."
            )
    return wanted
