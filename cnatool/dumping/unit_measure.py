"""Statistics of units, gathered block by block while a model runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.threads import map_concurrently
from cnatool.dumping.unit_layout import arrange_units
from cnatool.errors import UsageError
from cnatool.metrics.histogram import Histogram, HistogramCounter
from cnatool.metrics.selectivity import ClassMeans
from cnatool.metrics.unit_extremes import UnitExtremes
from cnatool.metrics.unit_moments import UnitMoments
from cnatool.metrics.unit_sums import sum_units
from cnatool.metrics.unit_values import as_unit_values
from cnatool.store.unit_state import (
    PackedUnits,
    TensorUnits,
    UnitState,
    read_own_state,
    spread_classes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cnatool.dumping.resume import Past
    from cnatool.dumping.run import BlockUnits
    from cnatool.records.ragged import Rows
    from cnatool.records.store import StoreRecord
    from cnatool.records.units import UnitsTensor


# Units of which tables of counts have all columns: virtual memory of 128 KiB each.
_DENSE_UNITS = 1 << 14
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
        self._candidates = {
            number: _Candidates(each.extremes) for number, each in state.tensors.items()
        }
        # What was counted before, and since.
        self._before = {number: units.histogram for number, units in state.tensors.items()}
        self._counters = {
            unit.number: HistogramCounter(unit.units, dense=record.units.units <= _DENSE_UNITS)
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
        return self._state.rows

    def pack(self) -> PackedUnits:
        """Return the statistics of all rows that were added as arrays."""
        for candidates in self._candidates.values():
            candidates.settle()
        return self._state.pack(
            lambda number: self._before[number].merge(self._counters[number].histogram())
        )

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

    def _add_tensor(
        self, unit: UnitsTensor, values: Rows, labels: NDArray[np.int64] | None
    ) -> None:
        tensor = self._state.tensors[unit.number]
        for part in arrange_units(values, unit.axis):
            values = as_unit_values(part.values)
            if not values.size:
                continue
            self._counters[unit.number].update(values)
            rows = part.samples + self.rows
            candidates = self._candidates[unit.number]
            sums, counts = _add_values(tensor, candidates, values, rows, part.positions)
            if labels is not None and tensor.classes is not None:
                classes = np.searchsorted(self._state.labels, labels[part.first : part.stop])
                sums, counts = part.add_rows(sums), part.add_rows(counts)
                tensor.classes.update(sums, counts, classes)


class _Candidates:
    """Samples that may be among those that excite a unit most, collected to sort many at a time."""

    def __init__(self, extremes: UnitExtremes) -> None:
        self._extremes = extremes
        self._collected: list[tuple[NDArray[Any], ...]] = []
        self._count = 0

    def add(
        self,
        values: NDArray[np.float32],
        maxima: NDArray[np.float32],
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
    ) -> None:
        """Add values, (m, units, positions), of later samples, and the greatest of each row."""
        # An equal value does not displace one of an earlier sample.
        bound = self._extremes.values[:, -1].astype(np.float32)
        row, unit = np.nonzero(maxima > bound)
        if not len(row):
            return
        place = positions[row] + values[row, unit].argmax(axis=1)
        self._collected.append((unit, maxima[row, unit].astype(np.float64), rows[row], place))
        self._count += len(row)
        if self._count >= self._extremes.values.size:
            self.settle()

    def settle(self) -> None:
        """Sort what was collected."""
        if self._collected:
            self._extremes.insert(*map(np.concatenate, zip(*self._collected, strict=True)))
        self._collected.clear()
        self._count = 0


def _add_values(
    tensor: TensorUnits,
    candidates: _Candidates,
    values: NDArray[np.floating[Any]],
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Add values, (m, units, positions); return sums of rows, (m, units), and their numbers."""
    counts = np.full(values.shape[:2], values.shape[2])
    if values.dtype == np.float32:
        known = tensor.moments.count > 0
        first = np.nan_to_num(values[0].mean(axis=1, dtype=np.float64), posinf=0, neginf=0)
        centre = np.where(known, tensor.moments.mean, first).astype(np.float32)
        found = sum_units(values, centre)
        tensor.moments.merge(found.moments())
        maxima, sums, others = found.maxima, found.rows, np.flatnonzero(~found.sound)
        maxima[:, others] = -np.inf
        candidates.add(values, maxima, rows, positions)
    else:
        sums, others = np.empty(values.shape[:2]), np.arange(values.shape[1])
    for start, stop in _find_runs(others):
        some = values[:, start:stop]
        tensor.moments.update(some, start)
        tensor.extremes.update(some, rows, positions, start)
        finite = np.isfinite(some)
        sums[:, start:stop] = np.where(finite, some, 0).sum(axis=2, dtype=np.float64)
        counts[:, start:stop] = finite.sum(axis=2)
    return sums, counts


def _find_runs(numbers: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of consecutive numbers, which ascend."""
    for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + 1
