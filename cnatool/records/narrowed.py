"""The tensors of a store that were narrowed on write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util import bfloat16
from cnatool.records.layout import activation_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnatool.records.narrowing import NarrowingRecord
    from cnatool.records.store import StoreRecord, TensorRecord


def is_narrowed(tensor: TensorRecord) -> bool:
    """Whether a tensor's whole values are stored in a narrower type than that of the graph."""
    if tensor.stored is None or tensor.stored == tensor.dtype:
        return False
    # The runtime returns bfloat16 as float32.
    return not tensor.stored == tensor.onnx_type == bfloat16.NAME


def narrowed_tensors(record: StoreRecord) -> dict[str, TensorRecord]:
    """Return the tensors that are narrowed, by the keys of their arrays in a split."""
    return {activation_key(t.number): t for t in record.tensors if is_narrowed(t)}


def check_narrowing(
    name: str, narrowed: Mapping[str, NarrowingRecord], record: StoreRecord
) -> Iterator[str]:
    """Find contradictions in the errors of the tensors of a split."""
    known = narrowed_tensors(record)
    for key, errors in narrowed.items():
        if key not in known:
            yield f"split {name!r} has errors of narrowing {key!r}, which was not narrowed"
        elif not (
            min(errors.overflows, errors.underflows, errors.subnormals) >= 0
            and errors.overflows + errors.underflows + errors.subnormals <= errors.values
            and min(errors.absolute_error, errors.relative_error, errors.largest) >= 0
        ):
            yield f"the errors of narrowing {key!r} of split {name!r} are impossible"
