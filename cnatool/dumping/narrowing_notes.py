"""What narrowing activations cost, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.names import exclusion
from cnatool._util.text import count_text, list_names
from cnatool.records.narrowed import narrowed_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.narrowing import NarrowingRecord
    from cnatool.records.store import StoreRecord

_ADVICE = {
    "float16": "Dump with `dtype='bfloat16'`, which has the range of float32, or leave",
    "bfloat16": "Dump without `dtype`, or leave",
    "float32": "Dump without `dtype`, or leave",
}


def describe_overflows(record: StoreRecord) -> Iterator[str]:
    """Describe which values of each split became infinite, and what to do; nothing if none did."""
    tensors = narrowed_tensors(record)
    for name, errors in _errors_by_split(record):
        lost = {key: each.overflows for key, each in errors.items() if each.overflows}
        if not lost:
            continue
        worst = max(lost, key=lambda key: lost[key])
        tensor = tensors[worst]
        others = [tensors[key].name for key in lost if key != worst]
        yield (
            f"{name}: {count_text(lost[worst], 'value')} of {errors[worst].values:,} of tensor "
            f"{tensor.name!r} {'is' if lost[worst] == 1 else 'are'} too large for "
            f"{tensor.stored} and stored as infinity"
            + (f", and {sum(lost.values()) - lost[worst]:,} of " if others else "")
            + (list_names(map(repr, others)) if others else "")
            + f". {_ADVICE[tensor.stored or 'float32']} "
            f"{'them' if others else 'the tensor'} out with {exclusion(tensor.name)}"
            + (", …" if others else "")
        )


def describe_narrowing(record: StoreRecord) -> Iterator[str]:
    """Describe the largest errors of the values of each split that were narrowed."""
    tensors = narrowed_tensors(record)
    for name, errors in _errors_by_split(record):
        kinds = list_names(dict.fromkeys(str(tensors[key].stored) for key in errors))
        relative, absolute = (
            max(errors, key=lambda key: getattr(errors[key], kind))
            for kind in ("relative_error", "absolute_error")
        )
        zeros = sum(each.underflows for each in errors.values())
        small = sum(each.subnormals for each in errors.values())
        size = errors[absolute].largest
        yield (
            f"{name}: {count_text(len(errors), 'tensor')} narrowed to {kinds}; largest relative "
            f"error {errors[relative].relative_error:.2g} ({tensors[relative].name!r}), largest "
            f"absolute error {errors[absolute].absolute_error:.2g} ({tensors[absolute].name!r}"
            + (f", values up to {size:.3g})" if size else ")")
            + (f"; {count_text(small, 'value')} near 0 kept fewer digits" if small else "")
            + (f"; {count_text(zeros, 'value')} became 0" if zeros else "")
        )


def tensor_errors(record: StoreRecord) -> dict[str, NarrowingRecord]:
    """Return the errors of each tensor that was narrowed, over all splits, by its name."""
    merged: dict[str, NarrowingRecord] = {}
    for split in record.splits:
        for name, errors in split_errors(record, split).items():
            merged[name] = merged[name].merge(errors) if name in merged else errors
    return merged


def split_errors(record: StoreRecord, split: str) -> dict[str, NarrowingRecord]:
    """Return the errors of each tensor of a split that was narrowed, by its name."""
    tensors = narrowed_tensors(record)
    return {
        tensors[key].name: errors
        for name, by_key in _errors_by_split(record)
        if name == split
        for key, errors in by_key.items()
    }


def _errors_by_split(record: StoreRecord) -> Iterator[tuple[str, dict[str, NarrowingRecord]]]:
    for name, split in record.splits.items():
        if split.narrowed:
            yield name, dict(split.narrowed)
