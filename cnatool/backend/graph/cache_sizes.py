"""Sizes of a past that inputs leave open, as the operators that read it fix them.

onnxruntime-genai declares the size of a head by a name, as it does the length of the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.nodes import attributes, input_name

if TYPE_CHECKING:
    import onnx

    from cnatool.backend.graph.graph import Graph

    Dims = tuple[int | str | None, ...]

# Axes of a past: samples, heads, tokens, size of a head.
_HEADS, _SIZE, _AXES = 1, 3, 4
# Places of what is read among the inputs of operators.
_QUERY, _KEY = 0, 1
_PASTS = {"GroupQueryAttention": (3, 4), "MultiHeadAttention": (6, 7)}


def fix_cache_sizes(graph: Graph, name: str, dims: Dims) -> Dims:
    """Return the declared lengths of an input, with heads and their size if it is a past."""
    if len(dims) != _AXES:
        return dims
    for node in graph.consumers.get(name, ()):
        if any(input_name(node, place) == name for place in _PASTS.get(node.op_type, ())):
            known = _read_attention(graph, node)
        elif node.op_type == "Concat" and attributes(node).get("axis") in (2, -2):
            known = _read_neighbours(graph, node, name)
        else:
            continue
        heads, size = (
            declared if isinstance(declared, int) else found
            for declared, found in zip((dims[_HEADS], dims[_SIZE]), known, strict=True)
        )
        if isinstance(heads, int) and isinstance(size, int):
            return (dims[0], heads, dims[2], size)
    return dims


def _read_attention(graph: Graph, node: onnx.NodeProto) -> tuple[int | None, int | None]:
    """Return the heads of the past of an attention, and their size."""
    known = attributes(node)
    heads = known.get("num_heads") or 0
    kept = known.get("kv_num_heads") or heads
    width = _find_width(graph, node.input[_QUERY])
    # Query, key and value may lie side by side in one tensor.
    parts = heads if input_name(node, _KEY) else heads + 2 * kept
    size = None if width is None or not parts or width % parts else width // parts
    return kept or None, size


def _read_neighbours(
    graph: Graph, node: onnx.NodeProto, name: str
) -> tuple[int | None, int | None]:
    """Return the heads and their size of what is appended to a past."""
    for other in node.input:
        declared = _find_declared(graph, other)
        if other != name and declared is not None and len(declared) == _AXES:
            return declared[_HEADS] or None, declared[_SIZE] or None
    return None, None


def _find_declared(graph: Graph, name: str) -> list[int] | None:
    """Return the lengths of a tensor as the graph declares them, 0 for a free one."""
    for value in graph.model.graph.value_info:
        if value.name == name and value.type.tensor_type.HasField("shape"):
            return [max(0, size.dim_value) for size in value.type.tensor_type.shape.dim]
    return None


def _find_width(graph: Graph, name: str) -> int | None:
    """Find the length of the last axis of a tensor: as declared, or that of weights."""
    declared = _find_declared(graph, name)
    if declared and declared[-1]:
        return declared[-1]
    node = graph.producer.get(name)
    if node is not None and node.op_type == "MatMulNBits":
        return int(attributes(node)["N"])
    if node is not None and node.op_type in ("MatMul", "Add"):
        for operand in node.input:
            weights = graph.constants.get(operand)
            if weights is not None and weights.dims:
                return int(weights.dims[-1])
    return None
