"""Which tensors of a graph can be exposed, and the promotion of tensors to outputs."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from cnatool.backend.graph.graph import inner_nodes
from cnatool.backend.graph.random_operators import find_random_tensors
from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.backend.graph.graph import Graph

# Of the names of tensors and constants that are added to a graph.
PREFIX = "cnatool::"
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
    """Sort every tensor of a graph into those that can be exposed and those that are left out."""
    names: list[str] = []
    skipped: list[SkippedTensor] = []
    random = find_random_tensors(graph)
    for node in graph.nodes:
        for name in node.output:
            if not name:
                continue
            if name in graph.dynamic:
                names.append(name)
            elif name in graph.shape_arithmetic:
                skipped.append(
                    SkippedTensor(name, node.op_type, "depends on an input's shape alone")
                )
            elif name in random:
                reason = f"random ({random[name]}), whatever the input"
                skipped.append(SkippedTensor(name, node.op_type, reason))
            else:
                skipped.append(SkippedTensor(name, node.op_type, "constant"))
        for inner in inner_nodes(node):
            reason = f"inside {node.op_type}: cannot be an output of the graph"
            skipped.extend(
                SkippedTensor(name, inner.op_type, reason) for name in inner.output if name
            )
    made = {name for node in graph.nodes for name in node.output}
    given = {value.name for value in graph.inputs}
    for name in dict.fromkeys(graph.output_names):
        if name in given:
            skipped.append(SkippedTensor(name, "Input", "a model input, returned unchanged"))
        elif name not in made:
            skipped.append(SkippedTensor(name, "Constant", "constant"))
    return names, skipped


def add_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Copy a model with more outputs.

    Outputs go in by name alone: the runtime infers type and shape, and a wrong one could not load.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {output.name for output in copy.graph.output}
    wanted = dict.fromkeys([*names, *_running_statistics(copy.graph)])
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in there)
    return copy


def _running_statistics(graph: onnx.GraphProto) -> list[str]:
    """Name what a BatchNormalization in training mode gives beside its result.

    As outputs of the graph they have memory of their own. Otherwise the runtime writes them over
    the statistics that it reads, which may be the scale or the shift as well, and later runs then
    compute with other weights.
    """
    found = []
    for number, node in enumerate(graph.node):
        if node.op_type != "BatchNormalization" or len(node.output) < 2:
            continue
        for place, name in enumerate(node.output[1:], 1):
            if not name:
                # Without a name the runtime reads memory that is not there.
                node.output[place] = f"{PREFIX}running statistics {number} {place}"
        found += node.output[1:]
    return found


@dataclass(frozen=True, slots=True)
class ReadableModel:
    """A model all of whose chosen tensors can be read as NumPy arrays.

    Attributes
    ----------
    model : onnx.ModelProto
        The model with more outputs.
    outputs : tuple of str
        What to fetch for each of the chosen tensors, in their order.
    casts : dict of str to str
        Of the tensors that are cast, the output that stands for each.
    """

    model: onnx.ModelProto
    outputs: tuple[str, ...]
    casts: dict[str, str]


def make_readable(
    model: onnx.ModelProto, names: Sequence[str], types: Mapping[str, str] = MappingProxyType({})
) -> ReadableModel:
    """Promote tensors, through a Cast where NumPy has no arrays of their type.

    Parameters
    ----------
    model : onnx.ModelProto
    names : sequence of str
        The tensors.
    types : mapping of str to str
        Element types, as in ``bfloat16`` or ``tensor(bfloat16)``; none is cast without.
    """
    kinds = {name: element_type(types.get(name, "")) for name in names}
    casts = {name: f"{PREFIX}cast {name}" for name in names if needs_cast(kinds[name])}
    copy = add_outputs(model, [casts.get(name, name) for name in names])
    copy.graph.node.extend(
        onnx.helper.make_node("Cast", [name], [cast], name=cast, to=_CASTS[kinds[name]])
        for name, cast in casts.items()
    )
    return ReadableModel(copy, tuple(casts.get(name, name) for name in names), casts)


def needs_cast(kind: str) -> bool:
    """Say whether NumPy has no arrays of an ONNX element type."""
    return element_type(kind) in _CASTS


def array_dtype(kind: str) -> np.dtype[Any]:
    """Give the type of the arrays in which tensors of an ONNX element type are read."""
    name = element_type(kind)
    names = {"float": "FLOAT", "double": "DOUBLE"}
    number = _CASTS.get(name) or onnx.TensorProto.DataType.Value(names.get(name, name.upper()))
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))


def element_type(kind: str) -> str:
    """Give the element type that ``tensor(…)`` names, ONNX Runtime's way of writing a type."""
    return kind.removeprefix("tensor(").removesuffix(")")
