"""``cnatool inspect``."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool._util.text import bytes_text, classes_text, name_with_operator, printable
from cnatool.cli.console import print_json, say, say_each, shown_of
from cnatool.cli.dump_options import with_dump_options
from cnatool.cli.parameter_names import with_options
from cnatool.dumping.left_out import left_out_lines, needs_no_storing
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.records.store import LayerRecord, SkippedTensor, TensorRecord
    from cnatool.store.store import Split, Store

# Skipped samples, and reasons why tensors are not stored, that are shown unasked.
_LISTED = 5


@with_dump_options(names=("constants", "custom_ops"))
def inspect(
    path: Annotated[Path, typer.Argument(metavar="MODEL|STORE", help="An ONNX file or a store.")],
    input_shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--input-shape",
            metavar="[INPUT=]N,N,…",
            help="Shape of one sample, where the model does not fix it.",
        ),
    ] = None,
    *,
    options: dict[str, Any],
    layers: Annotated[
        bool,
        typer.Option("--layers", help="List the layers: which tensor stands for each, and why."),
    ] = False,
    skipped: Annotated[
        bool,
        typer.Option("--skipped", help="Also list tensors that are not stored, with the reasons."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """List the tensors of a model or a store: operator, role, layer, shape, bytes per sample."""
    from cnatool.store.format_table import is_store

    if is_store(path):
        from cnatool.store.reader import open_store

        store = open_store(path)
        if json:
            from cnatool.dumping.results import store_inspection

            print_json(store_inspection(store).to_json())
            return
        _print_store(store, every=skipped)
        _print_tensors(store.tensors, store.layers, stored=True)
        if layers:
            _print_layers(store.layers, {tensor.name: tensor for tensor in store.tensors})
        if store.record.unselected:
            say(f"{len(store.record.unselected)} more in the model, not chosen with --tensors")
        _print_skipped(store.record.skipped, every=skipped)
        return
    from cnatool.dumping.inspect import inspect_model

    found = inspect_model(path, _shapes(input_shapes or ()), **options)
    record = found.network.record
    if json:
        print_json(found.document(path).to_json())
        return
    opsets = ", ".join(f"{domain} {version}" for domain, version in record.opsets.items())
    say(f"{path}: model by {record.producer or 'unknown'}, opset {opsets}")
    for feed in found.network.inputs:
        batch = "any number of samples" if feed.batch is None else f"batches of {feed.batch}"
        say(f"input {feed}, {batch}")
        if feed.name in found.ranges:
            say(f"input {feed.name!r}: the model {found.ranges[feed.name]}")
    if found.batch is not None and all(feed.batch is None for feed in found.network.inputs):
        say(
            f"run with {found.batch} sample{'s' * (found.batch > 1)} at a time: with 2 and 3 it "
            "fails, or no tensor has rows of samples"
        )
    say("")
    _print_tensors(found.tensors, found.network.layers.layers, stored=False)
    if layers:
        _print_layers(
            found.network.layers.layers, {tensor.name: tensor for tensor in found.tensors}
        )
    _print_skipped(found.skipped, every=skipped)


def _print_store(store: Store, *, every: bool) -> None:
    from cnatool.store.format_table import hidden_path

    record = store.record
    say(f"{store.path}: store by {record.created_by}")
    aside = hidden_path(store.path)
    if aside.exists():
        say(f"until it is finished, the store that it replaces is kept as {aside}")
    if record.model is not None:
        say(f"model {record.model.name}, SHA-256 {record.model.files[0].sha256}")
    if record.runtime is not None:
        runtime = record.runtime
        say(f"run by {runtime.name} {runtime.version}, {runtime.provider}")
    steps = zip(record.preprocessing, record.inputs, strict=False)
    levels = [step.input for step, given in steps if given.levels]
    for step in record.preprocessing:
        if step.input in levels:
            say(f"input {step.input}: stored as counts of its 256 levels")
        if step.geometry is not None:
            say(f"input {step.input}: {step.geometry}")
        say(
            f"input {step.input}: {_shape_text(step.source_shape)} {step.source_dtype} -> "
            f"{_shape_text(step.shape)} {step.dtype}, {step.layout}, scale {step.scale:g}"
            + (f", mean {', '.join(map(str, step.mean))}" if step.mean else "")
            + (f", std {', '.join(map(str, step.std))}" if step.std else "")
        )
    for constant in record.constants:
        value = f"{_shape_text(constant.shape)} {constant.dtype}"
        say(
            f"input {constant.input}: constant "
            + (value if constant.value is None else f"{constant.value:g}")
        )
    for key, value in record.tags.items():
        say(f"tag {key}={value}")
    for name, split in shown_of(list(store.splits.items()), "splits"):
        say(f"split {name}: {_rows_text(split)}, from {split.record.source}")
        if split.record.classes:
            say(f"  classes {classes_text(split.record.classes)}")
        if split.record.inputs_from is not None:
            say(f"  raw inputs in {printable(split.record.inputs_from.store)}")
        say_each(
            f"  skipped {sample.id}: {with_options(sample.reason)}"
            for sample in split.record.skipped[: None if every else _LISTED]
        )
        more = 0 if every else len(split.record.skipped) - _LISTED
        if more > 0:
            say(f"  and {more:,} more (--skipped lists all)")
    say("")


def _rows_text(split: Split) -> str:
    record = split.record
    text = f"{len(split)} rows"
    if not record.complete:
        text = f"{len(split)} of {record.rows} rows, unfinished"
    elif record.available is not None and record.rows < record.available:
        text = f"{record.rows:,} of {record.available:,} samples"
    if record.skipped:
        text += f", {len(record.skipped):,} skipped"
    return f"{text}, {'labels' if record.labels else 'no labels'}"


def _print_tensors(
    tensors: Sequence[TensorRecord], layers: Sequence[LayerRecord], *, stored: bool
) -> None:
    import numpy as np

    from cnatool.cli.tables.table import Column, print_table

    numbers: dict[str, list[str]] = {}
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
            tensor.name,
            tensor.operator,
            tensor.role,
            ", ".join(numbers.get(tensor.name, ())),
            _shape_text(tensor.shape) + (", varies" if tensor.varies else ""),
            _dtype_text(tensor),
            str(math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize),
        ]
        for tensor in tensors
    ]
    if stored:
        columns.append(("kept", "left"))
        for row, tensor in zip(rows, tensors, strict=True):
            row.append(_kept_text(tensor))
    print_table(columns, rows)
    whole = sum(math.prod(t.shape) * np.dtype(t.dtype).itemsize for t in tensors)
    say(f"\n{len(tensors)} tensors, {bytes_text(whole)} a sample; {len(layers)} layers")


def _print_layers(layers: Sequence[LayerRecord], tensors: Mapping[str, TensorRecord]) -> None:
    """Print a row a layer: the linear operator, the tensors of both rules, and what marks it."""
    from cnatool.cli.tables.table import print_table

    def made(name: str) -> str:
        tensor = tensors.get(name)
        if tensor is None:
            return f"{name} (not stored)"
        return name_with_operator(name, tensor.operator)

    say("")
    print_table(
        [
            ("layer", "right"),
            ("operator", "left"),
            ("linear", "left"),
            ("pre-activation", "left"),
            ("path", "right"),
            ("", "left"),
        ],
        [
            [
                str(layer.number),
                layer.operator,
                made(layer.linear),
                "the same" if layer.preactivation == layer.linear else made(layer.preactivation),
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


def _print_skipped(skipped: Sequence[SkippedTensor], *, every: bool) -> None:
    if not skipped:
        if every:
            say("nothing is left out")
        return
    for line in left_out_lines(skipped):
        say(with_options(line))
    if every:
        say_each(
            f"  {name_with_operator(tensor.name, tensor.operator)}: {with_options(tensor.reason)}"
            for tensor in skipped
        )
        return
    reasons = Counter(one.reason for one in skipped if not needs_no_storing(one))
    for reason, count in reasons.most_common(_LISTED):
        say(f"  {count} {with_options(reason)}")


def _dtype_text(tensor: TensorRecord) -> str:
    """Write the element type; both where the graph's had to be cast."""
    kind = tensor.onnx_type or tensor.dtype
    if {"float": "float32", "double": "float64"}.get(kind, kind) == tensor.dtype:
        return tensor.dtype
    return f"{kind} as {tensor.dtype}"


def _kept_text(tensor: TensorRecord) -> str:
    if tensor.output is not None:
        return f"output {tensor.output}"
    if tensor.stored in (None, tensor.dtype):
        return tensor.kept
    return f"{tensor.kept}, {tensor.stored}"


def _shape_text(shape: Sequence[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape) or "scalar"


def _shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]] | tuple[int, ...] | None:
    named = [text.rpartition("=") for text in texts]
    if len(named) == 1 and not named[0][1]:
        return _shape(texts[0])
    for text, (_, equals, _) in zip(texts, named, strict=True):
        if not equals:
            raise UsageError(f"--input-shape {text}: of several, each is INPUT=N,N,….")
    return {name: _shape(shape) for name, _, shape in named} or None


def _shape(text: str) -> tuple[int, ...]:
    words = text.replace("x", ",").split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"--input-shape {text}: positive whole numbers with commas between them.")
    return tuple(int(word) for word in words)
