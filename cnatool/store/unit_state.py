"""Statistics of units in a store: accumulators to arrays and back, parts merged.

The units of all tensors lie behind one another along one axis of each array.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import google_crc32c
import numpy as np

from cnatool.errors import StoreDamagedError
from cnatool.metrics.histogram import Histogram
from cnatool.metrics.selectivity import ClassMeans
from cnatool.metrics.unit_extremes import UnitExtremes
from cnatool.metrics.unit_moments import UnitMoments
from cnatool.metrics.unit_statistics import UnitStatistics, spread_classes
from cnatool.records.units import units_folder
from cnatool.store.integrity import row_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.records.units import UnitsArray, UnitsRecord, UnitsState
    from cnatool.store.store import Split

# Columns of ``counts`` and ``moments``, fields of `UnitMoments`.
COUNTS = ("count", "zeros", "positives", "nan", "below", "above")
MOMENTS = ("mean", "m2", "m3", "minimum", "maximum")
# How often statistics are read that a writer replaces meanwhile.
_ATTEMPTS = 5


# Types of counts, the smallest first.
_NARROW = (np.uint16, np.uint32, np.int64)


class PackedUnits(NamedTuple):
    """Statistics of units as arrays.

    Attributes
    ----------
    bins : tuple of int
        Bins of each tensor's histograms.
    arrays : dict of str to ndarray
        The arrays by name, those of `cnatool.records.unit_checks.ARRAYS`.
    """

    bins: tuple[int, ...]
    arrays: dict[str, NDArray[Any]]


@dataclass(slots=True)
class UnitState:
    """Statistics of the units of several tensors over the first rows of a split.

    Attributes
    ----------
    rows : int
        Rows that they cover.
    labels : ndarray of int64, (classes,)
        Labels of the classes, ascending; empty without labels.
    tensors : dict of int to UnitStatistics
        Statistics by number of the tensor.
    """

    rows: int
    labels: NDArray[np.int64]
    tensors: dict[int, UnitStatistics] = field(default_factory=dict)

    def take(self, number: int, top: int) -> UnitStatistics:
        """Return the statistics of a tensor, with fewer of the samples that excite a unit most."""
        units = self.tensors[number]
        extremes = units.extremes
        fewer = UnitExtremes(
            extremes.values[:, :top], extremes.rows[:, :top], extremes.positions[:, :top]
        )
        return UnitStatistics(units.moments, units.histogram, fewer, units.classes)

    def merge(self, other: Self) -> None:
        """Add the statistics of the rows that follow; extremes are numbered from the same row."""
        labels = np.union1d(self.labels, other.labels)
        for number, units in self.tensors.items():
            for state, each in ((self, units), (other, other.tensors[number])):
                if len(labels):
                    places = np.searchsorted(labels, state.labels)
                    each.classes = spread_classes(each.classes, places, len(labels), each.units)
            units.merge(other.tensors[number])
        self.labels = labels
        self.rows += other.rows

    def pack(self, take: Callable[[int], Histogram | None] | None = None) -> PackedUnits:
        """Return the statistics as arrays; ``take`` returns the histogram of a tensor instead."""
        parts = list(self.tensors.values())
        moments = UnitMoments.join([part.moments for part in parts])
        bins, counts = [], []
        for number, part in self.tensors.items():
            histogram = part.histogram if take is None else take(number)
            assert histogram is not None
            bins.append(histogram.bins)
            counts.append(_narrow(histogram.counts))
        extremes = UnitExtremes.join([part.extremes for part in parts])
        arrays: dict[str, NDArray[Any]] = {
            "counts": np.stack([getattr(moments, name) for name in COUNTS], axis=1),
            "moments": np.stack([getattr(moments, name) for name in MOMENTS], axis=1),
            "top_values": extremes.values,
            "top_rows": extremes.rows,
            "top_positions": extremes.positions,
        }
        sizes = tuple(map(len, bins))
        if any(sizes):
            arrays["histogram_bins"] = np.concatenate(bins)
            arrays["histogram_counts"] = np.concatenate([each.reshape(-1) for each in counts])
        if len(self.labels):
            classes = ClassMeans.join([part.classes for part in parts if part.classes is not None])
            arrays["class_labels"] = self.labels
            arrays["class_sums"] = classes.sums
            arrays["class_counts"] = classes.counts
        return PackedUnits(sizes, arrays)


def _narrow(counts: NDArray[np.int64]) -> NDArray[Any]:
    """Return counts in the smallest type that holds them."""
    most = counts.max(initial=0)
    return counts.astype(next(kind for kind in _NARROW if most <= np.iinfo(kind).max))


def unpack(record: UnitsRecord, state: UnitsState, arrays: Mapping[str, NDArray[Any]]) -> UnitState:
    """Return the statistics that arrays hold."""
    columns = dict(zip(COUNTS, arrays["counts"].T, strict=True))
    columns |= dict(zip(MOMENTS, arrays["moments"].T, strict=True))
    every = UnitMoments(**{name: column.copy() for name, column in columns.items()})
    bins = arrays.get("histogram_bins", np.empty(0, np.int32))
    histograms = arrays.get("histogram_counts", np.empty(0, np.uint16))
    tops = arrays["top_values"], arrays["top_rows"], arrays["top_positions"]
    labels = arrays.get("class_labels", np.empty(0, np.int64))
    unpacked, first, bin_, count = UnitState(state.rows, labels), 0, 0, 0
    for tensor, size in zip(record.tensors, state.bins, strict=True):
        units = slice(first, first + tensor.units)
        first += tensor.units
        moments = every.take(units)
        counted = histograms[count : count + tensor.units * size].astype(np.int64)
        histogram = Histogram(
            bins[bin_ : bin_ + size].copy(),
            counted.reshape(tensor.units, size),
            *(getattr(moments, name).copy() for name in ("nan", "below", "above")),
        )
        bin_, count = bin_ + size, count + tensor.units * size
        unpacked.tensors[tensor.number] = UnitStatistics(
            moments,
            histogram,
            UnitExtremes(*(array[units].copy() for array in tops)),
            ClassMeans(
                arrays["class_sums"][:, units].copy(), arrays["class_counts"][:, units].copy()
            )
            if len(labels)
            else None,
        )
    return unpacked


def checksum(array: NDArray[Any]) -> str:
    """Compute the CRC-32C of an array's bytes, as eight hexadecimal digits."""
    return f"{google_crc32c.value(row_bytes(array)):08x}"


def read_unit_state(split: Split) -> UnitState | None:
    """Read the statistics of units that were gathered while the model ran.

    Rows of extremes are counted from the first row of the whole split. Returns None if there are
    none, such as before the first commit. Raises StoreDamagedError if they are damaged.
    """
    if not split.store.record.units:
        return None
    if split.store.parts is not None:
        states = [read_unit_state(part) for part in open_parts(split)]
        return merge_states([state for state in states if state is not None])
    state = read_own_state(split)
    for units in () if state is None else state.tensors.values():
        units.extremes.rows[units.extremes.rows >= 0] += split.first_row
    return state


def read_own_state(split: Split) -> UnitState | None:
    """Read the statistics of units of a split that has them itself, rows counted from its first."""
    record = split.store.record.units
    for attempt in range(_ATTEMPTS):
        state = split.record.units
        if not state or not record:
            return None
        try:
            arrays = {
                name: read_unit_array(split, name, array) for name, array in state.arrays.items()
            }
            return unpack(record, state, arrays)
        except StoreDamagedError:
            # A writer may have replaced them.
            if split.record.complete or attempt + 1 == _ATTEMPTS:
                raise
            split = split.store.reopen().splits[split.name]
    return None


def open_parts(split: Split) -> Iterator[Split]:
    """Open a split with rows in each part of a merged store."""
    from cnatool.store.reader import open_store

    parts = split.store.parts
    for number in range(0 if parts is None else len(parts)):
        assert parts is not None
        part = open_store(parts.open(number).path).splits[split.name]
        if len(part):
            yield part


def merge_states(states: Sequence[UnitState]) -> UnitState | None:
    """Merge the statistics of all parts, in order; None without any."""
    merged = None
    for state in states:
        if merged is None:
            merged = state
        else:
            merged.merge(state)
    return merged


def read_unit_array(split: Split, name: str, array: UnitsArray) -> NDArray[Any]:
    """Read one array of the statistics of units; raise StoreDamagedError if it is damaged."""
    state = split.record.units
    assert state
    key = f"{units_folder(split.name, state.rows)}/{name}"
    stored = split.store._tree.array(key)
    for what, actual, expected in (
        ("shape", stored.shape, array.shape),
        ("type", stored.dtype.name, array.dtype),
    ):
        if actual != expected:
            raise StoreDamagedError(
                f"{split.path}: array {key} has {what} {actual} instead of {expected}, as in the "
                "store's attribute. "
                "Dump again with `overwrite=True`, or restore the store from a copy."
            )
    values = stored.read(0, array.shape[0])
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if checksum(values) != array.crc32c:
        raise StoreDamagedError(
            f"{split.path}: array {key} does not match its checksum. "
            "Dump again with `overwrite=True`, or restore the "
            "store from a copy."
        )
    return values
