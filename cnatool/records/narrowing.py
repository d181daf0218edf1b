"""What narrowing cost: the errors of values that were rounded to a narrower type on write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool._util import bfloat16
from cnatool.records.layout import activation_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cnatool.records.store import StoreRecord, TensorRecord


class NarrowingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The errors of the values of one tensor that were narrowed.

    Attributes
    ----------
    values : int
        Values that were narrowed.
    overflows : int
        Finite values that became infinite.
    underflows : int
        Values other than 0 that became 0.
    absolute_error : float
        Largest difference between a value and the stored one, overflows left out.
    relative_error : float
        Largest such difference divided by the value, overflows and underflows left out.
    """

    values: int = 0
    overflows: int = 0
    underflows: int = 0
    absolute_error: float = 0.0
    relative_error: float = 0.0

    def merge(self, other: NarrowingRecord) -> NarrowingRecord:
        """Return the errors of the values of both."""
        return NarrowingRecord(
            self.values + other.values,
            self.overflows + other.overflows,
            self.underflows + other.underflows,
            max(self.absolute_error, other.absolute_error),
            max(self.relative_error, other.relative_error),
        )


def is_narrowed(tensor: TensorRecord) -> bool:
    """Whether a tensor's whole values are stored in a narrower type than that of the graph."""
    if tensor.stored is None or tensor.stored == tensor.dtype:
        return False
    # The runtime returns bfloat16 as float32.
    return not tensor.stored == tensor.onnx_type == bfloat16.NAME


def narrowed_tensors(record: StoreRecord) -> dict[str, TensorRecord]:
    """Return the tensors that are narrowed, by the keys of their arrays in a split."""
    return {activation_key(t.number): t for t in record.tensors if is_narrowed(t)}


def merge_narrowing(
    parts: Iterable[Mapping[str, NarrowingRecord] | msgspec.UnsetType],
) -> dict[str, NarrowingRecord] | msgspec.UnsetType:
    """Return the errors of the rows of all parts of a split, by key; unset if those of one are."""
    merged: dict[str, NarrowingRecord] = {}
    for part in parts:
        if isinstance(part, msgspec.UnsetType):
            return msgspec.UNSET
        merged |= {key: merged.get(key, NarrowingRecord()).merge(part[key]) for key in part}
    return merged or msgspec.UNSET


def check_narrowing(
    name: str, narrowed: Mapping[str, NarrowingRecord], record: StoreRecord
) -> Iterator[str]:
    """Find contradictions in the errors of the tensors of a split."""
    known = narrowed_tensors(record)
    for key, errors in narrowed.items():
        if key not in known:
            yield f"split {name!r} has errors of narrowing {key!r}, which was not narrowed"
        elif not (
            min(errors.overflows, errors.underflows) >= 0
            and errors.overflows + errors.underflows <= errors.values
            and min(errors.absolute_error, errors.relative_error) >= 0
        ):
            yield f"the errors of narrowing {key!r} of split {name!r} are impossible"
