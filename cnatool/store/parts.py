"""Reading a store made of parts: arrays whose rows lie in other stores, which are opened on use."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool._util.bfloat16 import memory_dtype
from cnatool._util.local_paths import real_path
from cnatool._util.text import printable
from cnatool.errors import CnatoolError, NotAStoreError, StoreDamagedError
from cnatool.records.layout import SPLITS, split_arrays
from cnatool.store.chunks import chunk_rows, values_chunk_rows
from cnatool.store.integrity import attribute_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.records.layout import ArraySpec
    from cnatool.records.parts import PartReference
    from cnatool.records.store import StoreRecord
    from cnatool.store.format import ReadableArray, ReadableTree
    from cnatool.store.stored_array import StoredArray

# Parts that stay open: each may hold a file, and its attribute in memory.
_MOST_OPEN = 8


class OpenedPart(NamedTuple):
    """A part that is open: its attribute as JSON, and its arrays by split and key."""

    path: Path
    attribute: bytes
    array: Callable[[str, str], StoredArray]
    # Those that belong to all splits, by their keys in the store
    common: Callable[[str], ReadableArray]


class MergedParts:
    """The parts of a merged store, in order.

    A part that is missing, or whose attribute is not the one that was merged, is an error that
    names it.
    """

    def __init__(
        self, path: Path, parts: tuple[PartReference, ...], open_part: Callable[[Path], OpenedPart]
    ) -> None:
        self._path = path
        self._parts = parts
        self._open_part = open_part
        self._opened: OrderedDict[int, OpenedPart] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._parts)

    def path(self, number: int) -> Path:
        """Return the path of a part, counted from 0."""
        return real_path(self._path).parent / self._parts[number].store

    def ends(self, split: str) -> list[int]:
        """List the row of a split behind the last row of each part."""
        return list(accumulate(part.rows.get(split, 0) for part in self._parts))

    def open(self, number: int) -> OpenedPart:
        """Open a part; the last few stay open."""
        with self._lock:
            part = self._opened.pop(number, None)
        if part is None:
            part = self._open(number)
        with self._lock:
            self._opened[number] = part
            while len(self._opened) > _MOST_OPEN:
                self._opened.popitem(last=False)
        return part

    def _open(self, number: int) -> OpenedPart:
        path = self.path(number)
        where = f"{self._path}: part {number + 1} of {len(self)} is {printable(path)}"
        try:
            part = self._open_part(path)
        except NotAStoreError as error:
            raise StoreDamagedError(
                f"{where}, and there is no such store. Move it back, or merge the parts again "
                "where they are now."
            ) from error
        except CnatoolError as error:
            raise StoreDamagedError(f"{where}, which cannot be opened: {error}") from error
        if attribute_digest(part.attribute) != self._parts[number].sha256:
            raise StoreDamagedError(
                f"{where}, which is not the store that was merged: its attribute has changed. "
                "Restore it from a copy, or merge the parts again."
            )
        return part


class PartedArray:
    """An array of a merged store.

    Its chunks are those that the array would have in one store, so that readers of either read the
    same blocks of rows.
    """

    def __init__(
        self, parts: MergedParts, split: str, spec: ArraySpec, ends: list[int], chunk: int
    ) -> None:
        self.key = f"splits/{split}/{spec.key}"
        self.shape = (ends[-1], *spec.shape)
        # That of the stored arrays; bfloat16 is read as float32 from each part.
        self.dtype = spec.dtype if isinstance(spec.dtype, np.dtype) else np.dtype(object)
        self._read_dtype = memory_dtype(self.dtype)
        self.chunk_rows = chunk
        self._parts = parts
        self._split = split
        self._spec = spec
        self._ends = ends  # the row behind the last one of each part
        # The part that was read last: its indexes of chunks are read.
        self._last: tuple[int, StoredArray] | None = None

    @property
    def codec(self) -> Codec | None:
        """Compression of chunks, as in the first part with rows."""
        return self._open(bisect_right(self._ends, 0)).codec

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows from the parts that have them."""
        rows = np.empty((stop - start, *self.shape[1:]), self._read_dtype)
        self.read_into(start, rows)
        return rows

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read rows from one on into an array of the type that is read."""
        number, done = bisect_right(self._ends, start), 0
        while done < len(out):
            end = self._ends[number]
            first = end - self._length(number)
            last = min(start + len(out), end)
            if start + done < last:
                target = out[done : last - start]
                self._open(number).read_into(start + done - first, target)
                done = last - start
            number += 1

    def _length(self, number: int) -> int:
        return self._ends[number] - (self._ends[number - 1] if number else 0)

    def _rows(self, number: int) -> int:
        """Return the rows of the array in a part."""
        return self._length(number)

    def _open(self, number: int) -> StoredArray:
        number = min(number, len(self._ends) - 1)
        last = self._last
        if last is None or last[0] != number:
            part = self._parts.open(number)
            array = part.array(self._split, self._spec.key)
            expected = (self._rows(number), *self.shape[1:])
            if (array.shape, array.dtype) != (expected, self._read_dtype):
                raise StoreDamagedError(
                    f"{part.path}: array {self.key} is {array.shape} of {array.dtype} instead of "
                    f"{expected} of {self._read_dtype}. Restore it from a copy, or merge the "
                    "parts again."
                )
            self._last = last = number, array
        return last[1]


class PartedOffsets(PartedArray):
    """Offsets of samples that differ in length: those of each part begin with 0.

    ``totals`` has the number of values of each part.
    """

    def __init__(
        self,
        parts: MergedParts,
        split: str,
        spec: ArraySpec,
        ends: list[int],
        chunk: int,
        totals: list[int],
    ) -> None:
        super().__init__(parts, split, spec, ends, chunk)
        self.shape = (ends[-1] + 1,)
        self._firsts = [0, *accumulate(totals)]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read offsets from the parts that have their rows."""
        pieces = [np.zeros(1 if start == 0 < stop else 0, np.int64)]
        first, last = max(0, start - 1), stop - 1  # rows that end at these offsets
        for number, end in enumerate(self._ends):
            begin = end - self._length(number)
            low, high = max(first, begin), min(last, end)
            if low < high:
                ends = self._open(number)[low - begin + 1 : high - begin + 1]
                pieces.append(ends + self._firsts[number])
        return np.concatenate(pieces)

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read offsets from one on into an array of integers."""
        out[:] = self.read(start, start + len(out))

    def _rows(self, number: int) -> int:
        return self._length(number) + 1


class PartedTree:
    """The tree of a merged store: its attribute, and arrays in its parts."""

    def __init__(self, tree: ReadableTree, record: StoreRecord, parts: MergedParts) -> None:
        self.path = tree.path
        self.parts = parts
        self._tree = tree
        self._record = record

    def attribute(self) -> bytes | None:
        """Return the attribute of the merged store itself."""
        return self._tree.attribute()

    def checksum(self) -> str | None:
        """Return its checksum."""
        return self._tree.checksum()

    def array(self, key: str) -> ReadableArray:
        """Return an array; its parts are opened when their rows are read.

        What belongs to all splits is the same in all parts, and read in the first.
        """
        if not key.startswith(f"{SPLITS}/"):
            return self.parts.open(0).common(key)
        _, name, key = key.split("/", 2)
        split = self._record.splits[name]
        own_inputs = split.inputs_from is None
        layout = split_arrays(self._record, labels=split.labels, inputs=own_inputs)
        chunks = chunk_rows([spec.row_bytes for spec in layout], split.rows)
        ends = self.parts.ends(name)
        for spec, chunk in zip(layout, chunks, strict=True):
            if spec.key == key:
                return PartedArray(self.parts, name, spec, ends, max(1, chunk))
            if spec.ragged_axis is not None and key in (spec.values.key, spec.offsets.key):
                return self._open_ragged(name, spec, key, ends, chunk)
        raise StoreDamagedError(f"{self.path}: there is no array {key} in split {name!r}.")

    def _open_ragged(
        self, split: str, spec: ArraySpec, key: str, ends: list[int], chunk: int
    ) -> PartedArray:
        """Open the values or the offsets of samples that differ in length."""
        values, offsets = spec.stored
        parts = map(self.parts.open, range(len(self.parts)))
        totals = [len(part.array(split, values.key)) for part in parts]
        if key == offsets.key:
            return PartedOffsets(self.parts, split, offsets, ends, max(1, chunk), totals)
        assert spec.ragged_axis is not None
        rows = values_chunk_rows(values.row_bytes, chunk, spec.shape[spec.ragged_axis])
        return PartedArray(self.parts, split, values, list(accumulate(totals)), rows)
