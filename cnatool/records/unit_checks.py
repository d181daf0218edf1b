"""Consistency of the records of statistics of units, beyond their types."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import msgspec

from cnatool.records.limits import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.store import SplitRecord, StoreRecord
    from cnatool.records.units import UnitsArray, UnitsRecord, UnitsState

# Of the arrays, with the number of their axes.
ARRAYS = {
    "counts": ("int64", 2),
    "moments": ("float64", 2),
    "histogram_bins": ("int32", 1),
    "histogram_counts": ("int64", 1),
    "top_values": ("float64", 2),
    "top_rows": ("int64", 2),
    "top_positions": ("int64", 2),
    "class_labels": ("int64", 1),
    "class_sums": ("float64", 2),
    "class_counts": ("int64", 2),
}
# Counts that fit are stored in fewer bytes.
_NARROW = {"histogram_counts": ("uint16", "uint32")}
_CHECKSUM = re.compile(r"[0-9a-f]{8}")


def check_units(record: StoreRecord, units: UnitsRecord) -> Iterator[str]:
    """Find contradictions in what is measured of units."""
    if not 1 <= units.top <= LARGEST:
        yield f"it keeps {units.top} samples of each unit"
    numbers = [tensor.number for tensor in units.tensors]
    if not numbers or numbers != sorted(set(numbers)):
        yield "the tensors whose units are measured are none, or not in order"
    for each in units.tensors:
        if not 0 <= each.number < len(record.tensors):
            yield f"units of tensor {each.number} are measured, which does not exist"
            continue
        tensor = record.tensors[each.number]
        ragged = None if each.ragged_axis is msgspec.UNSET else each.ragged_axis
        shape = tensor.shape
        count: int | None
        if each.axis is None:
            count = 1
        elif each.axis == "element":
            count = None if ragged is not None else math.prod(shape)
        elif each.axis == ragged or not 0 <= each.axis < len(shape):
            count = None
        else:
            count = shape[each.axis]
        if each.units != count or not count:
            yield (
                f"tensor {tensor.name!r} of shape {shape} cannot have {each.units} units along "
                f"axis {each.axis}"
            )


def check_state(name: str, split: SplitRecord, record: StoreRecord) -> Iterator[str]:
    """Find contradictions in the state of a split's statistics of units."""
    state = split.units
    if state is msgspec.UNSET:
        own = record.units is not msgspec.UNSET and record.parts is msgspec.UNSET
        if own and split.complete and split.rows:
            yield f"split {name!r} is complete, but has no statistics of units"
        return
    if record.units is msgspec.UNSET:
        yield f"split {name!r} has statistics of units, of which the store measures none"
        return
    end = split.committed[-1][1] if split.committed else 0
    if not 0 <= state.rows <= end or (split.complete and state.rows != end):
        yield f"split {name!r} has {end} committed rows, and statistics of units of {state.rows}"
    for key, (problem, array) in (
        (key, (_find_problem(key, array, record.units), array))
        for key, array in state.arrays.items()
    ):
        if problem:
            yield f"array units/{key} of split {name!r} is {array.shape} of {array.dtype}"
        elif not _CHECKSUM.fullmatch(array.crc32c):
            yield f"the checksum of array units/{key} of split {name!r} is malformed"
    yield from _check_bins(name, state, record.units)
    missing = set(ARRAYS).difference(state.arrays)
    optional = {key for key in ARRAYS if key.startswith(("histogram_", "class_"))}
    groups = [
        {key for key in optional if key.startswith(word)} for word in ("histogram_", "class_")
    ]
    if missing - optional or any(group & missing and group - missing for group in groups):
        yield f"arrays of units of split {name!r} are missing: {', '.join(sorted(missing))}"


def _check_bins(name: str, state: UnitsState, record: UnitsRecord) -> Iterator[str]:
    """Compare the numbers of bins with the sizes of the arrays that have their counts."""
    if len(state.bins) != len(record.tensors) or min(state.bins, default=0) < 0:
        yield f"the histograms of split {name!r} are not those of {len(record.tensors)} tensors"
        return
    counts = sum(n * tensor.units for n, tensor in zip(state.bins, record.tensors, strict=True))
    for key, size in (("histogram_bins", sum(state.bins)), ("histogram_counts", counts)):
        if size != (math.prod(state.arrays[key].shape) if key in state.arrays else 0):
            yield f"array units/{key} of split {name!r} should have {size} elements"


def _find_problem(key: str, array: UnitsArray, record: UnitsRecord) -> bool:
    """Whether an array is none of statistics of so many units."""
    if key not in ARRAYS:
        return True
    dtype, axes = ARRAYS[key]
    if array.dtype not in (dtype, *_NARROW.get(key, ())) or len(array.shape) != axes:
        return True
    if not all(0 < size <= LARGEST for size in array.shape) or math.prod(array.shape) > LARGEST:
        return True
    if key in ("class_sums", "class_counts"):
        return array.shape[1] != record.units
    if axes == 1:
        return False
    sizes = {"counts": 6, "moments": 5}
    return array.shape != (record.units, sizes.get(key, record.top))
