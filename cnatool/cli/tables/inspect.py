"""A model or a store as tables: its tensors, its layers, and what is left out."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from cnatool._util import bfloat16
from cnatool._util.text import bytes_text, classes_text, count_text, name_with_operator, printable
from cnatool.backend.derived_inputs import describe_rules
from cnatool.cli.console import first_parts, print_line, print_lines
from cnatool.cli.parameter_names import with_options
from cnatool.cli.tables.names import print_cut, shorten_names
from cnatool.cli.tables.reductions import describe_reductions
from cnatool.cli.tables.table import print_table
from cnatool.dumping.branch_notes import describe_branches
from cnatool.dumping.narrowing_notes import (
    describe_narrowing,
    describe_overflows,
    tensor_errors,
)
from cnatool.dumping.skipped_summary import describe_missing_outputs, is_lost, summarise_skipped
from cnatool.records.parts import describe_rows
from cnatool.store.format_table import hidden_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.cli.tables.table import Column
    from cnatool.dumping.inspect import ModelInspection
    from cnatool.records.narrowing import NarrowingRecord
    from cnatool.records.store import LayerRecord, SkippedTensor, TensorRecord
    from cnatool.store.store import Split, Store

# Skipped samples, and reasons why tensors are not stored, that are listed by default.
_LISTED = 5


def print_store(store: Store, *, layers: bool = False, skipped: bool = False) -> None:
    """Print how a store was made and what it holds; layers and reasons if asked for."""
    _print_origin(store, every=skipped)
    _print_tensors(store.tensors, store.layers, stored=True, errors=tensor_errors(store.record))
    print_lines(describe_reductions(store.tensors, every=skipped))
    if layers:
        _print_layers(store.layers, {tensor.name: tensor for tensor in store.tensors})
    if store.record.unselected:
        print_line(f"{len(store.record.unselected)} more in the model, not chosen with --tensors")
    outputs = store.record.model.outputs if store.record.model is not None else ()
    _print_skipped(
        store.record.skipped,
        store.tensors,
        outputs,
        others=len(store.record.unselected),
        every=skipped,
    )


def print_model(
    path: Path, inspection: ModelInspection, *, layers: bool = False, skipped: bool = False
) -> None:
    """Print the inputs and tensors of a model; layers and reasons if asked for."""
    network = inspection.network
    opsets = ", ".join(f"{domain} {version}" for domain, version in network.record.opsets.items())
    print_line(f"{path}: model by {network.record.producer or 'unknown'}, opset {opsets}")
    for target in network.inputs:
        batch = "any number of samples" if target.batch is None else f"batches of {target.batch}"
        print_line(f"input {target}, {batch}")
        if target.name in inspection.ranges:
            print_line(f"input {target.name!r}: the model {inspection.ranges[target.name]}")
    filled = describe_rules(inspection.rules)
    if filled is not None:
        print_line(filled)
    if inspection.batch is not None and all(target.batch is None for target in network.inputs):
        print_line(
            f"run with {count_text(inspection.batch, 'sample')} at a time: with 2 "
            "and 3 it fails, or no tensor has rows of samples"
        )
    print_lines(describe_branches(network.branch_record))
    print_line("")
    records = network.layers.layers
    _print_tensors(inspection.tensors, records, stored=False)
    if layers:
        _print_layers(records, {tensor.name: tensor for tensor in inspection.tensors})
    outputs = [output.name for output in network.graph.model.graph.output]
    _print_skipped(inspection.skipped, inspection.tensors, outputs, every=skipped)


def _print_origin(store: Store, *, every: bool) -> None:
    record = store.record
    print_line(f"{store.path}: store by {record.created_by}")
    aside = hidden_path(store.path)
    if aside.exists():
        print_line(f"until it is finished, the store that it replaces is kept as {aside}")
    if record.part:
        rows = describe_rows(record.part, {n: split.rows for n, split in record.splits.items()})
        print_line(f"{record.part} of a dump: {rows}; `cnatool merge` makes one store of all parts")
    if record.parts:
        count = count_text(len(record.parts), "part")
        print_line(f"merged from {count}, the first {printable(record.parts[0].store)}")
    if record.model is not None:
        print_line(f"model {record.model.name}, SHA-256 {record.model.files[0].sha256}")
    if record.runtime is not None:
        runtime = record.runtime
        print_line(f"run by {runtime.name} {runtime.version}, {runtime.provider}")
        print_lines(describe_branches(runtime.branches))
    steps = zip(record.steps, record.inputs, strict=True)
    levels = [step.input for step, array in steps if step is not None and array.levels]
    for step in record.preprocessing:
        if step.input in levels:
            print_line(f"input {step.input}: stored as counts of its 256 levels")
        if step.geometry is not None:
            print_line(f"input {step.input}: {step.geometry}")
        any_length = step.ragged_axis is not msgspec.UNSET
        if step.sound is not msgspec.UNSET:
            print_line(f"input {step.input}: {step.sound}")
        print_line(
            f"input {step.input}: {_shape_text(step.source_shape)} {step.source_dtype} -> "
            f"{_shape_text(step.shape)} {step.dtype}{' (any length)' * any_length}, {step.layout}, "
            f"scale {step.scale:g}"
            + (f", mean {', '.join(map(str, step.mean))}" if step.mean else "")
            + (f", std {', '.join(map(str, step.std))}" if step.std else "")
        )
        if step.tokenizer is not UNSET:
            tokenizer = step.tokenizer
            most = tokenizer.max_length
            print_line(
                f"input {step.input}: tokens of texts by {printable(tokenizer.name)}, "
                f"{tokenizer.vocabulary:,} ids, SHA-256 {tokenizer.sha256}"
                + (f", at most {most:,} per text" if most is not None else "")
            )
    for constant in record.constants:
        value = f"{_shape_text(constant.shape)} {constant.dtype}"
        print_line(
            f"input {constant.input}: constant "
            + (value if constant.value is None else f"{constant.value:g}")
        )
    filled = describe_rules({each.input: each.rule for each in record.derived or ()})
    if filled is not None:
        print_line(filled)
    for key, value in record.tags.items():
        print_line(f"tag {key}={value}")
    for name, split in first_parts(list(store.splits.items()), "splits"):
        print_line(f"split {name}: {_rows_text(split)}, from {split.record.source}")
        if split.record.classes:
            print_line(f"  classes {classes_text(split.record.classes)}")
        if split.record.inputs_from is not None:
            print_line(f"  raw inputs in {printable(split.record.inputs_from.store)}")
        print_lines(
            f"  skipped {sample.id}: {with_options(sample.reason)}"
            for sample in split.record.skipped[: None if every else _LISTED]
        )
        more = 0 if every else len(split.record.skipped) - _LISTED
        if more > 0:
            print_line(f"  and {more:,} more (--skipped lists all)")
    print_lines(map(with_options, describe_narrowing(record)))
    print_lines(map(with_options, describe_overflows(record)))
    print_line("")


def _rows_text(split: Split) -> str:
    record = split.record
    text = count_text(len(split), "row")
    if not record.complete:
        text = f"{len(split):,} of {record.rows:,} rows, unfinished"
    elif (
        record.available is not None
        and record.rows < record.available
        and not split.store.record.part
    ):
        text = f"{record.rows:,} of {count_text(record.available, 'sample')}"
    if record.skipped:
        text += f", {len(record.skipped):,} skipped"
    return f"{text}, {'labels' if record.labels else 'no labels'}"


def _print_tensors(
    tensors: Sequence[TensorRecord],
    layers: Sequence[LayerRecord],
    *,
    stored: bool,
    errors: Mapping[str, NarrowingRecord] = MappingProxyType({}),
) -> None:
    numbers: dict[str, list[str]] = {}
    shown = shorten_names(tensor.name for tensor in tensors)
    for layer in layers:
        mark = " shortcut" if layer.shortcut else ""
        for name in dict.fromkeys((layer.linear, layer.preactivation)):
            numbers.setdefault(name, []).append(f"{layer.number}{mark}")
    columns: list[Column] = [
        ("#", "right"),
        ("tensor", "left"),
        ("operator", "left"),
        ("role", "left"),
        ("layer", "left"),
        ("shape", "left"),
        ("dtype", "left"),
        ("bytes", "right"),
    ]
    rows = [
        [
            str(tensor.number),
            shown[tensor.name],
            tensor.operator,
            tensor.role,
            ", ".join(numbers.get(tensor.name, ())),
            _shape_text(tensor.shape) + _variation_text(tensor),
            _dtype_text(tensor),
            str(_sample_bytes(tensor)),
        ]
        for tensor in tensors
    ]
    if stored:
        columns.append(("kept", "left"))
        for row, tensor in zip(rows, tensors, strict=True):
            row.append(_kept_text(tensor))
    if errors:
        columns += [("largest error", "right"), ("overflows", "right")]
        for row, tensor in zip(rows, tensors, strict=True):
            row += _error_texts(errors.get(tensor.name))
    print_table(columns, rows)
    print_cut(shown)
    whole = sum(map(_sample_bytes, tensors))
    print_line(
        f"\n{count_text(len(tensors), 'tensor')}, {bytes_text(whole)} a sample; "
        f"{count_text(len(layers), 'layer')}"
    )


def _print_layers(layers: Sequence[LayerRecord], tensors: Mapping[str, TensorRecord]) -> None:
    """Print for each layer its linear operator, the tensors of both rules, and its marks."""
    shown = shorten_names(n for layer in layers for n in (layer.linear, layer.preactivation))

    def text(name: str) -> str:
        tensor = tensors.get(name)
        if tensor is None:
            return f"{shown[name]} (not stored)"
        return name_with_operator(shown[name], tensor.operator)

    blocks: list[Column] = [("block", "left")] if any(layer.block for layer in layers) else []
    print_line("")
    print_table(
        [
            ("layer", "right"),
            *blocks,
            ("operator", "left"),
            ("linear", "left"),
            ("pre-activation", "left"),
            ("path", "right"),
            ("", "left"),
        ],
        [
            [
                str(layer.number),
                *([layer.block or ""] if blocks else []),
                layer.operator,
                text(layer.linear),
                "the same" if layer.preactivation == layer.linear else text(layer.preactivation),
                str(layer.path),
                ", ".join(
                    word
                    for word, holds in (("output", layer.output), ("shortcut", layer.shortcut))
                    if holds
                ),
            ]
            for layer in layers
        ],
    )
    print_cut(shown)


def _print_skipped(
    skipped: Sequence[SkippedTensor],
    tensors: Sequence[TensorRecord],
    outputs: Sequence[str],
    *,
    others: int = 0,
    every: bool,
) -> None:
    """Print what is left out; ``others`` is the number of tensors that could be stored as well."""
    lines = (
        *summarise_skipped(skipped, len(tensors) + others),
        *describe_missing_outputs(outputs, skipped, tensors),
    )
    print_lines(map(with_options, lines))
    if every and not skipped:
        print_line("nothing is left out")
    if every:
        print_lines(
            f"  {name_with_operator(tensor.name, tensor.operator)}: {with_options(tensor.reason)}"
            for tensor in skipped
        )
        return
    reasons = Counter(tensor.reason for tensor in skipped if is_lost(tensor))
    for reason, count in reasons.most_common(_LISTED):
        print_line(f"  {count} {with_options(reason)}")


def _sample_bytes(tensor: TensorRecord) -> int:
    """Return the bytes of a sample as it is stored, or would be."""
    own = bfloat16.NAME if tensor.onnx_type == bfloat16.NAME else tensor.dtype
    kind = tensor.stored or own
    return math.prod(tensor.shape) * bfloat16.storage_dtype(kind).itemsize


def _dtype_text(tensor: TensorRecord) -> str:
    """Write the element type; both types where that of the graph had to be cast."""
    kind = tensor.onnx_type or tensor.dtype
    if {"float": "float32", "double": "float64"}.get(kind, kind) == tensor.dtype:
        return tensor.dtype
    if kind == bfloat16.NAME and (tensor.stored or tensor.output is not None):
        return kind
    return f"{kind} as {tensor.dtype}"


def _error_texts(errors: NarrowingRecord | None) -> list[str]:
    """Write the largest relative error of a tensor that was narrowed, and how many overflowed."""
    if errors is None:
        return ["", ""]
    return [f"{errors.relative_error:.2g}", f"{errors.overflows:,}" if errors.overflows else ""]


def _variation_text(tensor: TensorRecord) -> str:
    if tensor.conditional:
        return ", in some samples"
    return ", varies" if tensor.varies else ""


def _kept_text(tensor: TensorRecord) -> str:
    if tensor.output is not None:
        return f"output {tensor.output}"
    if tensor.stored in (None, tensor.dtype, tensor.onnx_type):
        return tensor.kept
    return f"{tensor.kept}, {tensor.stored}"


def _shape_text(shape: Sequence[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape) or "scalar"
