"""Sizes of a past that inputs leave open, as the operator that reads it fixes them.

onnxruntime-genai declares the length of a head by a name, as it does the length of the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.nodes import attributes, input_name

if TYPE_CHECKING:
    import onnx

    from cnatool.backend.graph.graph import Graph

# Places of the key, of the past and of its values among the inputs.
_OPERATOR = "GroupQueryAttention"
_QUERY, _KEY, _PAST = 0, 1, (3, 4)
# Axes of a past: samples, heads, tokens, size of a head.
_HEADS, _SIZE, _AXES = 1, 3, 4


def fix_cache_sizes(
    graph: Graph, name: str, dims: tuple[int | str | None, ...]
) -> tuple[int | str | None, ...]:
    """Return the declared lengths of an input, with heads and their size if it is a past."""
    for node in graph.consumers.get(name, ()):
        places = [place for place in _PAST if input_name(node, place) == name]
        if node.op_type != _OPERATOR or not places or len(dims) != _AXES:
            continue
        known = attributes(node)
        heads, kept = known.get("num_heads"), known.get("kv_num_heads")
        if not heads or not kept:
            continue
        query = _find_width(graph, node.input[_QUERY])
        # Query, key and value may lie side by side in one tensor.
        parts = heads if input_name(node, _KEY) else heads + 2 * kept
        size = None if query is None or query % parts else query // parts
        fixed = list(dims)
        for axis, length in ((_HEADS, kept), (_SIZE, size)):
            if not isinstance(fixed[axis], int) and length:
                fixed[axis] = length
        return tuple(fixed)
    return dims


def _find_width(graph: Graph, name: str) -> int | None:
    """Find the length of the last axis of a tensor: as declared, or that of weights."""
    for value in graph.model.graph.value_info:
        if value.name == name and value.type.tensor_type.shape.dim:
            declared = value.type.tensor_type.shape.dim[-1]
            if declared.dim_value > 0:
                return int(declared.dim_value)
    return _read_width(graph, graph.producer.get(name))


def _read_width(graph: Graph, node: onnx.NodeProto | None) -> int | None:
    if node is None:
        return None
    if node.op_type == "MatMulNBits":
        return int(attributes(node)["N"])
    if node.op_type in ("MatMul", "Add"):
        for operand in node.input:
            weights = graph.constants.get(operand)
            if weights is not None and weights.dims:
                return int(weights.dims[-1])
    return None
