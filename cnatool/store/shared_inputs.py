"""Raw inputs of a new store that another store contains already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.local_paths import real_path
from cnatool._util.text import count_text, list_names, printable
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.records.layout import IDS, input_key, sample_form
from cnatool.records.ragged import Ragged
from cnatool.store.missing_rows import explain_missing_rows
from cnatool.store.reader import open_store
from cnatool.store.references import make_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.records.references import InputsReference
    from cnatool.records.store import ArrayRecord
    from cnatool.store.ragged import RaggedArray
    from cnatool.store.store import Split
    from cnatool.store.stored_array import StoredArray

_ADVICE = "Name a store of the same data, or omit `inputs_from`"


class SharedInputs:
    """The raw inputs of a finished store, which a new one at ``target`` refers to.

    If that store refers to a third one, so does the new one: references are never chained.
    """

    def __init__(self, store: str | Path, target: Path) -> None:
        base = open_store(store)
        if not base.splits:
            raise UsageError(explain_missing_rows(base))
        if base.record.part is not msgspec.UNSET:
            raise UsageError(
                f"{_named(store)} is {base.record.part} of a dump. Name the store that all parts "
                "are merged into."
            )
        self.path = base.path
        self.inputs = base.record.inputs
        self._target = target
        try:
            self._splits = {name: split.inputs_split() for name, split in base.splits.items()}
        except MetricError as error:
            raise UsageError(
                f"{_named(store)} refers to another store that cannot be used. Name the store that "
                "contains the inputs itself."
            ) from error
        for path in {base.path, *(split.path for split in self._splits.values())}:
            if real_path(path).is_relative_to(real_path(target)):
                raise UsageError(
                    f"{_named(store)}: the new store would replace {path}. Name another path for "
                    "the new store."
                )

    def split(self, name: str) -> Split:
        """Return the split that contains the inputs of the new store's split of that name."""
        split = self._splits.get(name)
        if split is None:
            raise UsageError(
                f"{_named(self.path)}: it has no split {name!r}, only "
                f"{list_names(self._splits)}. {_ADVICE}."
            )
        return split

    def reference(self, name: str) -> InputsReference:
        """Return the new store's reference to the inputs of a split."""
        return make_reference(
            self._target,
            self.split(name),
            advice="Write the new store there, or leave `inputs_from` out.",
        )

    def check(self, inputs: Sequence[ArrayRecord], rows: Mapping[str, int]) -> None:
        """Compare the records of inputs, and the number of rows by split, with a new store's."""
        for name, count in rows.items():
            split = self.split(name)
            self.reference(name)
            where = f"{_named(self.path)}: split {name!r}"
            for there, here in zip(self.inputs, inputs, strict=False):
                if there.levels != here.levels:
                    kept = "values" if there.levels is None else "levels"
                    raise UsageError(
                        f"{where} contains {kept} of inputs: pass `keep_inputs={kept!r}`."
                    )
            if list(map(sample_form, inputs)) != list(map(sample_form, self.inputs)):
                raise UsageError(f"{where} has inputs of another shape or type. {_ADVICE}.")
            if count not in (len(split), split.record.taken):
                raise UsageError(
                    f"{where} has {count_text(len(split), 'sample')}, but this dump has {count:,}. "
                    f"{_ADVICE}."
                )


class SampleComparison:
    """Compares samples, in order, with those of the split that contains their inputs.

    They are its rows ``start`` to ``stop``, by default all.
    """

    def __init__(self, split: Split, start: int = 0, stop: int | None = None) -> None:
        self._split = split
        self._ids = RowCursor(split.ids, start)
        numbers = range(len(split.store.record.inputs))
        self._inputs = [RowCursor(split.array(input_key(number)), start) for number in numbers]
        self._done = start
        self._end = len(split) if stop is None else stop

    def next(self, count: int) -> tuple[list[str], list[Rows]]:
        """Return ids and raw inputs of the next samples; `accept` advances past them."""
        ids = [str(sample) for sample in self._ids.next(count)]
        if len(ids) < count:
            raise DataError(
                f"split {self._split.name!r} has more samples than the {len(self._split)} rows of "
                f"{self._split.path}, which should contain its inputs. {_ADVICE}."
            )
        return ids, [cursor.next(count) for cursor in self._inputs]

    def compare(self, ids: Sequence[str] | None, inputs: Sequence[Rows]) -> None:
        """Compare the next samples; raise DataError, which names the first, if a bit differs.

        Without ids, inputs alone are compared.
        """
        there_ids, there = self.next(len(inputs[0]))
        pairs: list[tuple[str, Rows, Rows]] = [
            (input_key(i), *pair) for i, pair in enumerate(zip(there, inputs, strict=True))
        ]
        if ids is not None:
            pairs.insert(0, (IDS, np.array(there_ids, object), np.array(list(ids), object)))
        for key, stored, new in pairs:
            differ = compare_rows(stored, new)
            if differ.any():
                row = int(np.argmax(differ))
                raise DataError(
                    f"split {self._split.name!r}: row {self._done + row} "
                    f"({printable((ids or there_ids)[row])}) has another "
                    f"{'id' if key == IDS else 'input'} in {self._split.path}, which should "
                    f"contain its inputs. {_ADVICE}."
                )

    def accept(self, count: int) -> None:
        """Advance past the next samples."""
        for cursor in (self._ids, *self._inputs):
            cursor.take(count)
        self._done += count

    def finish(self) -> None:
        """Raise DataError if samples remain."""
        if self._done != self._end:
            raise DataError(
                f"split {self._split.name!r} has {count_text(self._done, 'sample')}, but "
                f"{self._split.path}, which should contain its inputs, has {len(self._split):,}. "
                f"{_ADVICE}."
            )


class RowCursor:
    """Reads the rows of an array in order from a row on, any number at a time."""

    def __init__(self, array: StoredArray | RaggedArray, start: int = 0) -> None:
        self._blocks: Iterator[tuple[int, Any]] = array.blocks(start)
        self._block: Any = array[:0]

    def take(self, count: int) -> Any:
        """Return the next rows, fewer at the array's end, and advance past them."""
        rows = self.next(count)
        self._block = self._block[count:]
        return rows

    def next(self, count: int) -> Any:
        """Return the next rows, fewer at the array's end, without advancing."""
        parts = [self._block]
        while sum(map(len, parts)) < count:
            _, block = next(self._blocks, (0, None))
            if block is None:
                break
            parts.append(block)
        filled = [part for part in parts if len(part)] or parts[:1]
        if len(filled) == 1:
            self._block = filled[0]
        elif isinstance(filled[0], Ragged):
            self._block = Ragged.concatenate(filled)
        else:
            self._block = np.concatenate(filled)
        return self._block[:count]


def _named(store: str | Path) -> str:
    return f"`inputs_from={str(store)!r}`"


def compare_rows(there: Rows, now: Rows) -> NDArray[np.bool_]:
    """Find the rows that differ in any bit; (n,) bool."""
    if isinstance(there, Ragged) and isinstance(now, Ragged):
        pairs = zip(there, now, strict=True)
        return np.array([a.shape != b.shape or a.tobytes() != b.tobytes() for a, b in pairs], bool)
    if isinstance(there, Ragged) or isinstance(now, Ragged):
        return np.ones(len(now), bool)
    if there.dtype == object:
        return np.array([a != b for a, b in zip(there, now, strict=True)], bool)
    octets = [
        np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1) for rows in (there, now)
    ]
    if octets[0].shape != octets[1].shape:
        return np.ones(len(now), bool)
    return np.asarray((octets[0] != octets[1]).any(axis=1))
