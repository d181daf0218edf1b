"""Which of a network's tensors go into the store, and in what form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool._util import bfloat16
from cnatool._util.bfloat16 import storage_dtype
from cnatool._util.names import (
    advise_on_name,
    complete_name,
    find_excluded,
    find_named,
    list_full_names,
    match_names,
)
from cnatool._util.text import list_names, quote_for_shell
from cnatool.backend.graph.tensor_sources import find_sources
from cnatool.errors import ModelError, UsageError
from cnatool.records.store import UnselectedTensor

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.network import Network
    from cnatool.records.choices import Kept, Narrowing
    from cnatool.records.store import SkippedTensor, TensorRecord


# The word for states and attention scores, also those that the model leaves out.
INNER = "inner"
# The word for the tensors of the residual stream.
RESIDUAL = "residual"
# The words for groups of tensors, which name none of them.
_WORDS = ("all", "layers", "*", INNER, RESIDUAL)
_PRODUCTS = ("MatMul", "Einsum")


def select_outputs(
    network: Network,
    probed: Sequence[TensorRecord],
    patterns: Sequence[str] = (),
    measured: Collection[str] = (),
) -> list[TensorRecord]:
    """Return the model's outputs that can be stored whole by sample, in the model's order.

    Of those in ``measured``, what matters is computed in the graph. They are large, and stored
    whole only if a pattern names them.
    """
    dropped, _ = find_excluded([tensor.name for tensor in probed], patterns)
    left_out = dropped.union(set(measured) - _find_asked(probed, patterns))
    by_name = {tensor.name: tensor for tensor in probed if can_be_whole(tensor)}
    names = dict.fromkeys(network.graph.output_names)
    return [by_name[name] for name in names if name in by_name and name not in left_out]


def select_tensors(
    network: Network,
    probed: Sequence[TensorRecord],
    patterns: Sequence[str],
    *,
    skipped: Sequence[SkippedTensor] = (),
    keep: Kept,
    dtype: Narrowing | None,
    measured: Collection[str] = (),
) -> tuple[TensorRecord, ...]:
    """Select the tensors that go into the store, and how each is kept.

    ``measured`` are outputs as in `select_outputs`.
    """
    kept_outputs = select_outputs(network, probed, patterns, measured)
    unkept = set(measured) - _find_asked(probed, patterns)
    outputs = {tensor.name: i for i, tensor in enumerate(kept_outputs)}
    names = _select_names(network, probed, patterns, skipped)
    tensors = [tensor for tensor in probed if tensor.name in names]
    if not tensors:
        raise ModelError(_nothing_text(network, probed, patterns))
    selected = []
    for number, tensor in enumerate(tensors):
        output, whole = outputs.get(tensor.name), keep == "full" and can_be_whole(tensor)
        whole = whole and tensor.name not in unkept
        stored = stored_dtype(tensor, dtype) if whole and output is None else None
        axis = tensor.ragged_axis if whole or output is not None else msgspec.UNSET
        selected.append(
            msgspec.structs.replace(
                tensor,
                number=number,
                # Of a single number in a branch, samples have one or none.
                shape=tensor.shape if axis is msgspec.UNSET else tensor.shape or (1,),
                kept="full" if whole else "statistics",
                output=output,
                stored=stored,
                ragged_axis=axis,
            )
        )
    return _link(network.graph, selected)


def _link(graph: Graph, tensors: Sequence[TensorRecord]) -> tuple[TensorRecord, ...]:
    """Add to each tensor the numbers of those that it is computed from."""
    numbers = {tensor.name: tensor.number for tensor in tensors}
    sources = find_sources(graph, numbers)
    return tuple(
        msgspec.structs.replace(t, sources=tuple(numbers[name] for name in sources.get(t.name, ())))
        for t in tensors
    )


def _find_asked(probed: Sequence[TensorRecord], patterns: Sequence[str]) -> set[str]:
    """Find the tensors that patterns ask for by name."""
    named = [pattern for pattern in patterns if pattern not in _WORDS]
    return find_named([tensor.name for tensor in probed], named)


def can_be_whole(tensor: TensorRecord) -> bool:
    """Whether whole values can be stored: samples differ in length along one axis at most."""
    return not tensor.varies or tensor.ragged_axis is not msgspec.UNSET


def list_unselected(
    probed: Sequence[TensorRecord], selected: Sequence[TensorRecord]
) -> tuple[UnselectedTensor, ...]:
    """List the tensors that were not selected, so that a score can name what it lacks."""
    names = {tensor.name for tensor in selected}
    return tuple(
        UnselectedTensor(tensor.name, tensor.operator, tensor.role, tensor.dtype)
        for tensor in probed
        if tensor.name not in names
    )


def _select_names(
    network: Network,
    probed: Sequence[TensorRecord],
    patterns: Sequence[str],
    skipped: Sequence[SkippedTensor],
) -> set[str]:
    every = [tensor.name for tensor in probed]
    layers = {n for r in network.layers.layers for n in (r.linear, r.preactivation)}
    groups = {
        "all": every,
        "layers": layers,
        INNER: network.inner.intersection(every),
        RESIDUAL: set(network.layers.residual).intersection(every),
    }
    known = [*every, *(tensor.name for tensor in skipped)]
    full = [p if p in groups else complete_name(known, p) for p in patterns]
    names, unmatched = match_names(every, full, groups)
    if unmatched:
        raise UsageError(_unmatched_text(network, every, unmatched[0], skipped))
    return set(names)


def _unmatched_text(
    network: Network, names: Sequence[str], pattern: str, skipped: Sequence[SkippedTensor]
) -> str:
    """Describe a pattern without a match: why its tensor is left out, or how its name continues."""
    path, reasons = network.graph.path, {tensor.name: tensor.reason for tensor in skipped}
    if pattern in reasons:
        return f"`tensors={pattern!r}`: tensor of {path} that is left out: {reasons[pattern]}."
    text = f"`tensors={pattern!r}`: {path} has no such tensor with a sample axis. "
    full = list_full_names([*names, *reasons], pattern)
    if full:
        return f"{text}Several inside subgraphs are called so: {list_names(full)}."
    return f"{text}{advise_on_name(pattern, names, path)} `tensors` takes several."


def _nothing_text(network: Network, probed: Sequence[TensorRecord], patterns: Sequence[str]) -> str:
    path = network.graph.path
    inspect = f"cnatool inspect {quote_for_shell(path)}"
    if probed and INNER in patterns and not network.inner:
        return (
            f"{path}: no node offers states or attention scores, so `tensors='inner'` is empty."
            f"{_attention_text(network, probed)}"
        )
    if probed and RESIDUAL in patterns and not network.layers.residual:
        return (
            f"{path}: nothing adds a branch to what it was computed from, so "
            "`tensors='residual'` is empty. `tensors='layers'` selects what linear operators "
            f"compute, and `tensors='GLOB'` any tensors; `{inspect}` lists them."
        )
    if probed and network.layers.layers:
        return f"{path}: `tensors` leaves no tensor. `{inspect}` lists all tensors."
    if probed:
        return f"{path}: no linear operator, so `tensors='layers'` is empty."
    time_first = next((feed for feed in network.inputs if feed.may_be_time_major), None)
    text = (
        f"{path}: no tensor has an axis that is as long as there are samples in a run, so there is "
        "nothing to store by sample"
    )
    if time_first is not None:
        return (
            f"{text}. Input {time_first} may have its samples along another axis than the first, "
            "where they must be: export the model with the batch first, or with a Transpose."
        )
    if any(feed.batch is not None for feed in network.inputs):
        return f"{text}. Export the model so that the first axis of its inputs holds the samples."
    return f"{text}. With `batch_size=1` all results of a run belong to one sample."


def _attention_text(network: Network, probed: Sequence[TensorRecord]) -> str:
    """Name the attention scores of a graph that computes them with a Softmax and a product."""
    scores = [
        tensor.name
        for tensor in probed
        if tensor.operator == "Softmax"
        and any(n.op_type in _PRODUCTS for n in network.graph.consumers.get(tensor.name, ()))
    ]
    if not scores:
        return ""
    return (
        " Attention is written out, and its scores are ordinary tensors: "
        f"`tensors={scores[0]!r}`" + (f", and {len(scores) - 1} more." if scores[1:] else ".")
    )


def stored_dtype(tensor: TensorRecord, narrowing: Narrowing | None) -> str:
    """Return the type that a tensor is stored in: its own, or a narrower one."""
    own = bfloat16.NAME if tensor.onnx_type == bfloat16.NAME else tensor.dtype
    if narrowing is None or not tensor.dtype.startswith("float"):
        return own
    return min(own, narrowing, key=lambda name: storage_dtype(name).itemsize)
