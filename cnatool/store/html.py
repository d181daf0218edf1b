"""Stores, splits and verifications as notebooks show them, from what the attribute says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util import svg
from cnatool._util.bfloat16 import dtype_name
from cnatool._util.html import Markup, card, details, prose, table
from cnatool._util.text import bytes_text, classes_text, count_text
from cnatool.records.layout import IDS, LABELS, split_arrays

if TYPE_CHECKING:
    from cnatool.records.layout import ArraySpec
    from cnatool.records.store import StoreRecord
    from cnatool.store.store import Split, Store
    from cnatool.store.verify import Verification


def store_html(store: Store) -> str:
    """Show a store's splits and tensors."""
    record = store.record
    specs = split_arrays(record, labels=True)
    sample = sum(spec.row_bytes for spec in specs)
    rows = sum(len(split) for split in store.splits.values())
    model = "" if record.model is None else f"model {record.model.name}, "
    tags = ", ".join(f"{name} {value}" for name, value in record.tags.items())
    return card(
        f"cnatool store {store.path}",
        [
            f"{model}{count_text(len(record.tensors), 'tensor')}, "
            f"{count_text(len(record.layers), 'layer')}; {bytes_text(sample)} a sample, "
            f"{bytes_text(sample * rows)} before compression",
            tags and f"tags: {tags}",
        ],
        _splits_table(store),
        details("tensors", _tensors_table(record)),
    )


def _splits_table(store: Store) -> Markup:
    rows = []
    for name, split in store.splits.items():
        of = split.record
        labels = "–" if not of.labels else classes_text(of.classes) if of.classes else "yes"
        state = "complete" if of.complete else f"of {of.rows:,}, incomplete"
        rows.append([name, f"{len(split):,}", state, labels, of.source])
    return table(("split", "rows", "", "labels", "source"), "lrlll", rows)


def _tensors_table(record: StoreRecord) -> Markup:
    sizes = [math.prod(tensor.shape) for tensor in record.tensors]
    largest = max(sizes, default=0)
    rows = [
        [
            tensor.name,
            tensor.operator,
            tensor.role,
            " × ".join(map(str, tensor.shape)) or "1",
            tensor.stored or tensor.dtype,
            "whole" if tensor.kept == "full" else "statistics",
            svg.bar(size, largest),
        ]
        for tensor, size in zip(record.tensors, sizes, strict=True)
    ]
    names = ("tensor", "operator", "role", "shape", "type", "stored", "values per sample")
    return table(names, "lllrlll", rows)


def split_html(split: Split) -> str:
    """Show the arrays of a split, and how to read them."""
    record = split.record
    state = "" if record.complete else f" of {record.rows:,}, incomplete"
    classes = f"classes {classes_text(record.classes)}" if record.classes else ""
    specs = split_arrays(split.store.record, labels=record.labels)
    rows = [
        [
            _expression(split, spec),
            " × ".join(map(str, (len(split), *spec.shape))),
            "str" if spec.dtype is str else dtype_name(np.dtype(spec.dtype)),
            bytes_text(spec.row_bytes * len(split)),
        ]
        for spec in specs
    ]
    return card(
        f"split {split.name} of {split.path}",
        [f"{count_text(len(split), 'row')}{state} from {record.source}", classes],
        table(("array", "shape", "type", "size"), "lrlr", rows),
    )


def _expression(split: Split, spec: ArraySpec) -> str:
    """Write how an array is read in Python."""
    folder, _, number = spec.key.partition("/")
    if spec.key in (IDS, LABELS):
        return f".{spec.key}"
    argument = repr(spec.name) if folder == "activations" else number
    if folder == "statistics":
        argument = repr(number)
    if folder == "tokens":
        return f".token_scores({number!r})"
    return f".{folder}({argument})"


def verification_html(result: Verification) -> str:
    """Show whether a store is whole, and its faults."""
    faults = []
    for fault in result.faults:
        rows = "all" if fault.rows is None else f"{fault.rows[0]} to {fault.rows[1] - 1}"
        faults.append([fault.where, rows, prose(fault.problem)])
    shown = table(("array", "rows", "fault"), "lrl", faults)
    return card(
        f"verification of {result.store}: {count_text(len(faults), 'fault')}",
        [
            f"{result.committed:,} of {count_text(result.rows, 'row')}, "
            f"{count_text(result.arrays, 'array')}, {bytes_text(result.bytes)} read"
        ],
        *([shown] if faults else []),
    )
