"""Nodes of an ONNX graph: their attributes, inputs, constant values and subgraphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator


# Prefix of the names of tensors and constants that are added to a graph.
PREFIX = "cnatool::"


def operator_set(names: str) -> frozenset[str]:
    """Make a set of operators from their names, with spaces between them."""
    return frozenset(names.split())


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    return {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }


def input_name(node: onnx.NodeProto, number: int) -> str:
    """Return the name of an input; empty where the node does not have it."""
    name: str = node.input[number] if number < len(node.input) else ""
    return name


def first_output(node: onnx.NodeProto) -> str:
    """Return the name of the first result that a node has; empty for a node without any."""
    return next((name for name in node.output if name), "")


def constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the value of a Constant, from whichever attribute; None for a sparse one or text."""
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor: onnx.TensorProto = attribute.t
            return tensor
        if attribute.name in ("value_float", "value_floats"):
            floats = attribute.floats if attribute.name == "value_floats" else attribute.f
            return numpy_helper.from_array(np.asarray(floats, np.float32))
        if attribute.name in ("value_int", "value_ints"):
            integers = attribute.ints if attribute.name == "value_ints" else attribute.i
            return numpy_helper.from_array(np.asarray(integers, np.int64))
    return None


def overwrites_weights(node: onnx.NodeProto) -> bool:
    """Whether a node writes to its weights, unless its statistics have memory of their own."""
    if node.op_type != "BatchNormalization":
        return False
    return len(node.output) > 1 or bool(attributes(node).get("training_mode"))


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs inside a node, such as the branches of an If."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def captured_names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node's subgraphs take from the graph around them."""
    for graph in subgraphs(node):
        own = {tensor.name for tensor in graph.initializer}
        own.update(value.name for value in graph.input)
        own.update(name for inner in graph.node for name in inner.output)
        reads = [name for node in graph.node for name in (*node.input, *captured_names(node))]
        reads += [output.name for output in graph.output]
        yield from (name for name in reads if name and name not in own)
