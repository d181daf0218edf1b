"""Raw inputs that a new store does not hold, since another store has them already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool._util.text import list_names, printable
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.records.layout import IDS, input_key
from cnatool.store.reader import open_store
from cnatool.store.references import make_reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.records.references import InputsReference
    from cnatool.records.store import ArrayRecord
    from cnatool.store.reader import Split
    from cnatool.store.stored_array import StoredArray

_OTHER = "Name a store of the same data, or leave --inputs-from out"


class SharedInputs:
    """The raw inputs of a finished store, which a new one refers to.

    Where that store refers to a third one, so does the new one: a reference leads straight to the
    inputs.

    Parameters
    ----------
    store : str or Path
        The store that has them.
    target : Path
        Where the new one will be.

    Attributes
    ----------
    inputs : tuple of ArrayRecord
        What it says of them.

    Raises
    ------
    NotAStoreError, StoreDamagedError
        If the store cannot be opened.
    UsageError
        If it is the new store itself, or refers to one that cannot be used.
    """

    def __init__(self, store: str | Path, target: Path) -> None:
        base = open_store(store)
        self._path = base.path
        self.inputs = base.record.inputs
        self._target = target
        try:
            self._held = {name: split.inputs_split() for name, split in base.splits.items()}
        except MetricError as error:
            raise UsageError(
                f"--inputs-from {store} refers to another store, which is not as it should be. "
                "Name the store that has the inputs itself."
            ) from error
        for path in {base.path, *(split.path for split in self._held.values())}:
            if real_path(path).is_relative_to(real_path(target)):
                raise UsageError(f"--inputs-from {store}: {path} is where the new store goes.")

    def held(self, name: str) -> Split:
        """Give the split that holds the inputs of a split.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        found = self._held.get(name)
        if found is None:
            raise UsageError(
                f"--inputs-from {self._path}: it has no split {name!r}, only "
                f"{list_names(self._held)}. {_OTHER}."
            )
        return found

    def reference(self, name: str) -> InputsReference:
        """Give what the new store says of where the inputs of a split are.

        Raises
        ------
        UsageError
            If there is no such split, it is not finished, or no relative path leads to it.
        """
        return make_reference(self._target, self.held(name))

    def check(self, inputs: Sequence[ArrayRecord], rows: Mapping[str, int]) -> None:
        """Compare what the store says of its inputs with what a dump is to have.

        Parameters
        ----------
        inputs : sequence of ArrayRecord
            What the new store says of its inputs.
        rows : mapping of str to int
            Its splits, and how many samples each has.

        Raises
        ------
        UsageError
            If they differ.
        """
        for name, count in rows.items():
            split = self.held(name)
            self.reference(name)
            where = f"--inputs-from {self._path}: split {name!r}"
            for there, here in zip(self.inputs, inputs, strict=False):
                if there.levels != here.levels:
                    kept = "values" if there.levels is None else "levels"
                    raise UsageError(f"{where} keeps {kept} of inputs: pass --keep-inputs {kept}.")
            forms = [(array.dtype, array.shape) for array in inputs]
            if forms != [(array.dtype, array.shape) for array in self.inputs]:
                raise UsageError(f"{where} has inputs of another shape or type. {_OTHER}.")
            if count not in (len(split), split.record.taken):
                raise UsageError(
                    f"{where} has {len(split)} samples, and this dump has {count}. {_OTHER}."
                )


class SampleComparison:
    """Samples that come in order, and those of a split that they should be.

    Parameters
    ----------
    split : Split
        It holds the inputs.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        self._ids = RowCursor(split.ids)
        numbers = range(len(split.store.record.inputs))
        self._inputs = [RowCursor(split.array(input_key(number))) for number in numbers]
        self._done = 0

    def next(self, count: int) -> tuple[list[str], list[NDArray[Any]]]:
        """Give the ids and raw inputs of the next samples, which stay the next until `accept`.

        Raises
        ------
        DataError
            If there are fewer.
        """
        ids = [str(one) for one in self._ids.next(count)]
        if len(ids) < count:
            raise DataError(
                f"split {self._split.name!r} goes on behind the {len(self._split)} rows of "
                f"{self._split.path}, which should hold its inputs. {_OTHER}."
            )
        return ids, [one.next(count) for one in self._inputs]

    def compare(self, ids: Sequence[str] | None, inputs: Sequence[NDArray[Any]]) -> None:
        """Compare the next samples with what they should be.

        Raises
        ------
        DataError
            If they differ in any bit, or there are fewer; the message names the first that does.
        """
        there_ids, there = self.next(len(inputs[0]))
        pairs = [(input_key(i), *pair) for i, pair in enumerate(zip(there, inputs, strict=True))]
        if ids is not None:
            pairs.insert(0, (IDS, np.array(there_ids, object), np.array(list(ids), object)))
        for key, stored, given in pairs:
            differ = compare_rows(stored, given)
            if differ.any():
                row = int(np.argmax(differ))
                raise DataError(
                    f"split {self._split.name!r}: row {self._done + row} "
                    f"({printable((ids or there_ids)[row])}) has another "
                    f"{'id' if key == IDS else 'input'} in {self._split.path}, which should hold "
                    f"its inputs. {_OTHER}."
                )

    def accept(self, count: int) -> None:
        """Go on behind the next samples."""
        for one in (self._ids, *self._inputs):
            one.take(count)
        self._done += count

    def finish(self) -> None:
        """Make sure that no sample is left.

        Raises
        ------
        DataError
            If one is.
        """
        if self._done != len(self._split):
            raise DataError(
                f"split {self._split.name!r} has {self._done} samples, and {self._split.path}, "
                f"which should hold its inputs, {len(self._split)}. {_OTHER}."
            )


class RowCursor:
    """The rows of an array from its start on, as many at a time as are asked for."""

    def __init__(self, array: StoredArray) -> None:
        self._blocks = array.blocks()
        self._block: NDArray[Any] = array[:0]

    def take(self, count: int) -> NDArray[Any]:
        """Give the next rows, and go on behind them; fewer where the array ends."""
        rows = self.next(count)
        self._block = self._block[count:]
        return rows

    def next(self, count: int) -> NDArray[Any]:
        """Give the next rows, which stay the next; fewer where the array ends."""
        parts = [self._block]
        while sum(map(len, parts)) < count:
            _, block = next(self._blocks, (0, None))
            if block is None:
                break
            parts.append(block)
        filled = [part for part in parts if len(part)] or parts[:1]
        self._block = filled[0] if len(filled) == 1 else np.concatenate(filled)
        return self._block[:count]


def compare_rows(there: NDArray[Any], now: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which rows differ in any bit."""
    if there.dtype == object:
        return np.array([a != b for a, b in zip(there, now, strict=True)], bool)
    octets = [
        np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1) for rows in (there, now)
    ]
    if octets[0].shape != octets[1].shape:
        return np.ones(len(now), bool)
    return np.asarray((octets[0] != octets[1]).any(axis=1))
