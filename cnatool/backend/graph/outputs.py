"""Which tensors of a graph can be exposed, and how they become outputs."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from cnatool.backend.graph.control_flow import hand_out
from cnatool.backend.graph.flat_nodes import SUBGRAPH_INPUT
from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.graph.optional_outputs import is_unread, list_unseen
from cnatool.backend.graph.random_operators import find_random_tensors
from cnatool.records.skipped import CONSTANT, ITERATION, SHAPE_ARITHMETIC, random_reason
from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.backend.graph.control_flow import InnerTensor
    from cnatool.backend.graph.graph import Graph

# Element types that NumPy has no arrays for, and the smallest one that holds all their values.
_CASTS = {
    "bfloat16": onnx.TensorProto.FLOAT,
    "float4e2m1": onnx.TensorProto.FLOAT,
    "float8e4m3fn": onnx.TensorProto.FLOAT,
    "float8e4m3fnuz": onnx.TensorProto.FLOAT,
    "float8e5m2": onnx.TensorProto.FLOAT,
    "float8e5m2fnuz": onnx.TensorProto.FLOAT,
    "float8e8m0": onnx.TensorProto.FLOAT,
    "int2": onnx.TensorProto.INT8,
    "int4": onnx.TensorProto.INT8,
    "uint2": onnx.TensorProto.UINT8,
    "uint4": onnx.TensorProto.UINT8,
}


def list_exposable(graph: Graph) -> tuple[list[str], list[SkippedTensor]]:
    """List the tensors of a graph that can be exposed, and those that cannot."""
    names: list[str] = []
    skipped: list[SkippedTensor] = []
    random = find_random_tensors(graph)
    for node in graph.nodes:
        if node.op_type == SUBGRAPH_INPUT:
            continue
        for name in node.output:
            if not name or is_unread(node, name):
                continue
            reason = _reason(graph, name, random)
            if reason:
                skipped.append(SkippedTensor(name, node.op_type, reason))
            else:
                names.append(name)
    computed = {name for node in graph.nodes for name in node.output}
    inputs = {value.name for value in graph.inputs}
    for name in dict.fromkeys(graph.output_names):
        if name in inputs:
            skipped.append(SkippedTensor(name, "Input", "a model input, returned unchanged"))
        elif name not in computed:
            skipped.append(SkippedTensor(name, "Constant", CONSTANT))
    skipped.extend(list_unseen(graph))
    return names, skipped


def _reason(graph: Graph, name: str, random: Mapping[str, str]) -> str:
    """Describe why a tensor cannot be exposed; empty where it can."""
    inner = graph.inner.get(name)
    if name in graph.dynamic:
        return "" if inner is None else inner.obstacle
    if name in graph.shape_arithmetic:
        return ITERATION if inner is not None and inner.loops else SHAPE_ARITHMETIC
    return random_reason(random[name]) if name in random else CONSTANT


def add_outputs(
    model: onnx.ModelProto,
    names: Sequence[str],
    inner: Mapping[str, InnerTensor] = MappingProxyType({}),
) -> onnx.ModelProto:
    """Copy a model with more outputs; ``inner`` are those of its tensors that lie in subgraphs.

    Outputs are added by name alone: the runtime infers type and shape, and refuses wrong ones.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    declared = {output.name for output in copy.graph.output}
    states = [name for name, tensor in inner.items() if tensor.is_state and not tensor.obstacle]
    wanted = dict.fromkeys([*names, *_running_statistics(copy.graph), *states])
    hand_out(copy, (inner[name] for name in wanted if name in inner))
    copy.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in wanted if name not in declared
    )
    return copy


def _running_statistics(graph: onnx.GraphProto) -> list[str]:
    """List the running statistics that a BatchNormalization in training mode returns.

    As outputs of the graph they have memory of their own. Otherwise the runtime overwrites the
    statistics that it reads, which may be the scale or the shift as well, and later runs compute
    with other weights.
    """
    names = []
    for number, node in enumerate(graph.node):
        if node.op_type != "BatchNormalization" or len(node.output) < 2:
            continue
        for place, name in enumerate(node.output[1:], 1):
            if not name:
                # Without a name the runtime reads memory that is not its own.
                node.output[place] = f"{PREFIX}running statistics {number} {place}"
        names += node.output[1:]
    return names


@dataclass(frozen=True, slots=True)
class ReadableModel:
    """A model whose chosen tensors can all be read as NumPy arrays."""

    model: onnx.ModelProto  # the model with more outputs
    outputs: tuple[str, ...]  # the output to fetch for each chosen tensor, in their order
    casts: dict[str, str]  # the output that stands for each tensor that is cast


def make_readable(
    model: onnx.ModelProto,
    names: Sequence[str],
    types: Mapping[str, str] = MappingProxyType({}),
    inner: Mapping[str, InnerTensor] = MappingProxyType({}),
) -> ReadableModel:
    """Make tensors outputs of a model, through a Cast where NumPy has no arrays of their type.

    ``types`` are element types such as ``bfloat16`` or ``tensor(bfloat16)``, by name; a tensor
    without one is not cast. ``inner`` are the model's tensors that lie in subgraphs.
    """
    kinds = {name: element_type(types.get(name, "")) for name in names}
    casts = {name: f"{PREFIX}cast {name}" for name in names if needs_cast(kinds[name])}
    copy = add_outputs(model, [casts.get(name, name) for name in names], inner)
    hand_out(copy, (inner[name] for name in casts if name in inner))
    # Where a declared shape is wrong, the runtime fails as soon as a result depends on it.
    for value in copy.graph.value_info:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    copy.graph.node.extend(
        onnx.helper.make_node("Cast", [name], [cast], name=cast, to=_CASTS[kinds[name]])
        for name, cast in casts.items()
    )
    return ReadableModel(copy, tuple(casts.get(name, name) for name in names), casts)


def needs_cast(kind: str) -> bool:
    """Whether NumPy has no arrays of an ONNX element type."""
    return element_type(kind) in _CASTS


def array_dtype(kind: str) -> np.dtype[Any]:
    """Return the dtype of the arrays in which tensors of an ONNX element type are read."""
    name = element_type(kind)
    names = {"float": "FLOAT", "double": "DOUBLE"}
    number = _CASTS.get(name) or onnx.TensorProto.DataType.Value(names.get(name, name.upper()))
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))


def element_type(kind: str) -> str:
    """Return the element type in ``tensor(…)``, ONNX Runtime's way of writing a type."""
    return kind.removeprefix("tensor(").removesuffix(")")
