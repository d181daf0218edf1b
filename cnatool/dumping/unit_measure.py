"""Statistics of units, gathered block by block while a model runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.threads import map_concurrently
from cnatool.dumping.unit_layout import arrange_units
from cnatool.errors import UsageError
from cnatool.metrics.histogram import Histogram, HistogramCounter
from cnatool.metrics.selectivity import ClassMeans
from cnatool.metrics.unit_extremes import UnitExtremes
from cnatool.metrics.unit_moments import UnitMoments
from cnatool.store.unit_state import TensorUnits, UnitState, read_own_state, spread_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.dumping.resume import Past
    from cnatool.dumping.run import BlockUnits
    from cnatool.records.ragged import Rows
    from cnatool.records.store import StoreRecord
    from cnatool.records.units import UnitsTensor


# Most bytes of sums of classes.
_CLASS_BYTES = 4 << 30


class UnitMeasure:
    """Statistics of the units of a split, over the first rows."""

    def __init__(self, record: StoreRecord, state: UnitState | None = None) -> None:
        assert record.units
        self._units = record.units.tensors
        self._forms = {unit.number: record.tensors[unit.number] for unit in self._units}
        if state is None:
            state = UnitState(0, np.empty(0, np.int64))
            for unit in self._units:
                state.tensors[unit.number] = TensorUnits(
                    UnitMoments.empty(unit.units),
                    Histogram.empty(unit.units),
                    UnitExtremes.empty(unit.units, record.units.top),
                    None,
                )
        self._state = state
        # What was counted before, and since.
        self._before = {number: units.histogram for number, units in state.tensors.items()}
        self._counters = {
            unit.number: HistogramCounter(unit.units, dense=False) for unit in self._units
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
        return self._state.rows

    def state(self) -> UnitState:
        """Return the statistics of all rows that were added."""
        for number, counter in self._counters.items():
            histogram = self._before[number].merge(counter.histogram())
            self._state.tensors[number].histogram = histogram
        return self._state

    def add(self, block: BlockUnits) -> None:
        """Add a block, unless it is known: one that is run again, since later ones depend on it."""
        if block.first < self.rows:
            return
        assert block.first == self.rows
        labels = block.labels if isinstance(block.labels, np.ndarray) else None
        if labels is not None:
            self._add_labels(labels)

        def add(unit: UnitsTensor) -> None:
            self._add_tensor(unit, block.values[unit.number], labels)

        map_concurrently(add, self._units)
        self._state.rows += len(next(iter(block.values.values())))

    def _add_labels(self, labels: NDArray[np.int64]) -> None:
        """Make room for classes that were not there before."""
        known = self._state.labels
        every = np.union1d(known, labels)
        if len(every) == len(known):
            return
        units = sum(unit.units for unit in self._units)
        if 16 * units * len(every) > _CLASS_BYTES:
            raise UsageError(
                f"labels have {len(every):,} values, and means of so many classes of {units:,} "
                "units take too much memory. Leave labels out with `labels='none'`, or measure "
                "fewer units with `units_tensors`."
            )
        for unit in self._units:
            tensor = self._state.tensors[unit.number]
            classes = tensor.classes or ClassMeans.empty(0, unit.units)
            tensor.classes = spread_classes(classes, known, every)
        self._state.labels = every

    def _add_tensor(self, unit: UnitsTensor, values: Rows, labels: NDArray[np.int64] | None) -> None:
        tensor = self._state.tensors[unit.number]
        for part in arrange_units(values, unit.axis):
            tensor.moments.update(part.values)
            self._counters[unit.number].update(part.values)
            tensor.extremes.update(part.values, part.samples + self.rows, part.positions)
            if labels is not None and tensor.classes is not None:
                sums, counts = part.sample_sums()
                classes = np.searchsorted(self._state.labels, labels[part.first : part.stop])
                tensor.classes.update(sums, counts, classes)
