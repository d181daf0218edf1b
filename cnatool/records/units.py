"""Typed records of statistics of units that a store holds, and the checks of their consistency."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

import msgspec

from cnatool.records.limits import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.store import SplitRecord, StoreRecord

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


class UnitsTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor whose units are measured.

    Attributes
    ----------
    number : int
        Number of the tensor.
    axis : int, "element" or None
        The axis of its ``shape`` that has the units; ``element`` if each element is one, and null
        if the whole tensor is.
    units : int
        Number of units.
    ragged_axis : int
        The axis of ``shape`` along which samples differ in length; absent if all have one shape.
    """

    number: int
    axis: int | Literal["element"] | None
    units: int
    ragged_axis: int | msgspec.UnsetType = msgspec.UNSET


class UnitsRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured of units, in the arrays ``units/<rows>/<name>`` of each split.

    Attributes
    ----------
    tensors : tuple of UnitsTensor
        The tensors, in the order in which their units lie along the axis of units.
    top : int
        Number of samples that are kept of those that excite a unit most.
    """

    tensors: tuple[UnitsTensor, ...]
    top: int

    @property
    def units(self) -> int:
        """Units of all tensors."""
        return sum(tensor.units for tensor in self.tensors)


class UnitsArray(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An array of statistics of units.

    Attributes
    ----------
    shape : tuple of int
        Its shape.
    dtype : str
        Its element type.
    crc32c : str
        CRC-32C of its bytes, C-contiguous and little-endian, in eight hexadecimal digits.
    """

    shape: tuple[int, ...]
    dtype: str
    crc32c: str


class UnitsState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which statistics of units of a split are safely on disk.

    Attributes
    ----------
    rows : int
        The first rows of the split, which the statistics cover: committed ones, and all once the
        split is complete. It is the name of the group that has the arrays.
    bins : tuple of int
        For each tensor, in order, the number of bins of the histograms of its units.
    arrays : dict of str to UnitsArray
        The arrays by name: ``counts`` and ``moments`` with a row for each unit, ``histogram_bins``
        with the numbers of the bins of all tensors, ``histogram_counts`` with the counts of all,
        those of each tensor by unit and bin, ``top_values``, ``top_rows`` and ``top_positions``,
        and where samples have labels ``class_labels``, ``class_sums`` and ``class_counts``.
    """

    rows: int
    bins: tuple[int, ...]
    arrays: dict[str, UnitsArray]


def units_folder(split: str, rows: int | None = None) -> str:
    """Return the key of the group of a split's statistics of units, or of those of so many rows."""
    folder = f"splits/{split}/units"
    return folder if rows is None else f"{folder}/{rows}"


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
