"""Statistics of units, gathered block by block while a model runs."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.threads import map_concurrently
from cnatool.errors import UsageError
from cnatool.metrics.unit_statistics import CLASS_BYTES, UNIT_BYTES, UnitCounter
from cnatool.per_unit.gather import arrange_block
from cnatool.store.codec_choice import encoded_bytes
from cnatool.store.unit_state import PackedUnits, UnitState, read_own_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.dumping.resume import Past
    from cnatool.dumping.run import BlockUnits
    from cnatool.records.choices import Codec
    from cnatool.records.ragged import Rows
    from cnatool.records.store import StoreRecord
    from cnatool.records.units import UnitsTensor

# Bytes of the description of each array.
_ARRAY_BYTES = 1400
# By how much their arrays grow with ten times as many rows, which fill more bins.
_GROWTH = 0.4
# Units of which tables of counts have all columns: virtual memory of 128 KiB each.
_DENSE_UNITS = 1 << 14
# Most bytes of sums of classes.
_MOST_CLASS_BYTES = 2 << 30


class UnitMeasure:
    """Statistics of the units of a split, over its first rows."""

    def __init__(self, record: StoreRecord, state: UnitState | None = None) -> None:
        assert record.units
        self._units = record.units.tensors
        self._forms = {unit.number: record.tensors[unit.number] for unit in self._units}
        self._labels = np.empty(0, np.int64) if state is None else state.labels
        self._rows = 0 if state is None else state.rows
        self._counters = {
            unit.number: UnitCounter(
                unit.units,
                record.units.top,
                dense=record.units.units <= _DENSE_UNITS,
                before=None if state is None else state.tensors[unit.number],
            )
            for unit in self._units
        }

    @classmethod
    def begin(cls, record: StoreRecord, past: Past | None) -> UnitMeasure | None:
        """Begin to measure a split, or go on behind what is committed; None without units."""
        if not record.units or (past is not None and past.split.record.complete):
            return None
        return cls(record, None if past is None else read_own_state(past.split))

    @property
    def rows(self) -> int:
        """Rows that were added."""
        return self._rows

    def pack(self) -> PackedUnits:
        """Return the statistics of all rows that were added as arrays."""
        counters = self._counters
        parts = {
            number: counter.statistics(histogram=False) for number, counter in counters.items()
        }
        state = UnitState(self._rows, self._labels, parts)
        return state.pack(lambda number: counters[number].histogram())

    def add(self, block: BlockUnits) -> None:
        """Add a block, unless it is known: one that is run again, since later ones depend on it."""
        if block.first < self._rows:
            return
        assert block.first == self._rows
        labels = block.labels if isinstance(block.labels, np.ndarray) else None
        classes = None if labels is None else self._find_classes(labels)

        def add(unit: UnitsTensor) -> None:
            self._add_tensor(unit, block.values[unit.number], classes)

        map_concurrently(add, self._units)
        self._rows += len(next(iter(block.values.values())))

    def _find_classes(self, labels: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the class of each sample; make room for those that were not there before."""
        every = np.union1d(self._labels, labels)
        if len(every) > len(self._labels):
            units = sum(unit.units for unit in self._units)
            if CLASS_BYTES * units * len(every) > _MOST_CLASS_BYTES:
                raise UsageError(
                    f"labels have {len(every):,} values, and means of so many classes of "
                    f"{units:,} units take too much memory. Omit labels with `labels='none'`, or "
                    "measure fewer units with `units_tensors`."
                )
            places = np.searchsorted(every, self._labels)
            for counter in self._counters.values():
                counter.spread_classes(places, len(every))
            self._labels = every
        return np.searchsorted(every, labels)

    def _add_tensor(
        self, unit: UnitsTensor, values: Rows, classes: NDArray[np.intp] | None
    ) -> None:
        counter, form = self._counters[unit.number], self._forms[unit.number]
        arranged, rows, positions = arrange_block(values, form, unit.axis)
        of_rows = None if classes is None else classes[rows]
        counter.update(arranged, rows + self._rows, positions, of_rows)


class UnitCost(NamedTuple):
    """What measuring units costs: seconds for each sample, and bytes for each split."""

    seconds: float
    memory_bytes: int
    disk_bytes: int


def estimate_cost(record: StoreRecord, block: BlockUnits, codec: Codec, rows: int) -> UnitCost:
    """Estimate what measuring units of a split of so many rows costs, by measuring a block twice.

    The first time also allocates memory.
    """
    measure = UnitMeasure(record)
    measure.add(replace(block, first=0))
    size = measure.rows
    packed = measure.pack().arrays
    start = time.perf_counter()
    measure.add(replace(block, first=size))
    seconds = (time.perf_counter() - start) / size
    assert record.units
    classes = len(packed.get("class_labels", ()))
    growth = 1 + _GROWTH * math.log10(max(1.0, rows / size))
    encoded = sum(encoded_bytes(array, codec) for array in packed.values())
    return UnitCost(
        seconds,
        record.units.units * (UNIT_BYTES + CLASS_BYTES * classes),
        round(growth * encoded) + _ARRAY_BYTES * len(packed),
    )
