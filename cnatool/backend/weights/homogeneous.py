"""Operators f with f(a·x) = a·f(x) for a ≥ 0 and no weights, applied to non-negative arrays.

A path norm is defined for a network that has only these beside its linear operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.evaluate import evaluate_node
from cnatool.backend.graph.nodes import attributes, operator_set
from cnatool.backend.graph.preactivation_walk import FLOATS
from cnatool.backend.weights.windows import average_pool, max_pool
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

# Identities on non-negative values.
_RECTIFIERS = frozenset({"Abs", "Dropout", "Identity", "LeakyRelu", "PRelu", "Relu"})
# Evaluated by ONNX's reference evaluator; all inputs but settings depend on the model's input.
_AS_THEY_ARE = operator_set(
    "Add Concat DepthToSpace Expand Flatten Gather GlobalAveragePool GlobalMaxPool Max Mean "
    "Min ReduceMax ReduceMean ReduceSum Reshape Slice SpaceToDepth Split Squeeze Sum Tile "
    "Transpose Unsqueeze"
)
# All their inputs are values, none is a setting.
_OF_VALUES_ALONE = frozenset({"Add", "Concat", "Max", "Mean", "Min", "Sum"})
_CONSTANT = "takes a constant, and follows no linear operator into which it could be folded"
_GATED = "multiplies two tensors that depend on the input"
_WHY = {
    "BatchNormalization": "follows no linear operator into which it could be folded",
    "DequantizeLinear": "is of a quantised graph",
    "Div": _CONSTANT,
    "MatMul": _GATED,
    "Mul": _CONSTANT,
    "QuantizeLinear": "is of a quantised graph",
    "Sub": "subtracts",
}
_OTHERWISE = "is not positively homogeneous, or not known to be"


def apply_homogeneous(
    node: onnx.NodeProto,
    arrays: Mapping[str, NDArray[np.float64]],
    read: Callable[[str], NDArray[Any]],
    graph: Graph,
) -> dict[str, NDArray[np.float64]]:
    """Apply a positively homogeneous operator; ``read`` returns constants by name."""
    kind = node.op_type
    settings = attributes(node)
    others = {name for name in node.input if name and name not in arrays}
    why = _WHY.get(kind, _OTHERWISE)
    first = arrays.get(node.input[0])
    if node.domain not in ("", "ai.onnx"):
        pass
    elif kind in _OF_VALUES_ALONE and others:
        why = _CONSTANT
    elif kind in ("MatMul", "Mul") and not others:
        why = _GATED
    elif kind not in (*_OF_VALUES_ALONE, *_WHY) and arrays.keys() != {node.input[0]}:
        why = "computes with more than one tensor that depends on the input"
    elif first is None:
        pass
    elif _is_rectifier(node, settings, read):
        return {node.output[0]: first}
    elif kind == "Clip":
        why = "is bounded"
    elif kind == "MaxPool" and not any(node.output[1:]):
        return {node.output[0]: max_pool(first, settings)}
    elif kind == "AveragePool":
        return {node.output[0]: average_pool(first, settings)}
    elif kind in _AS_THEY_ARE or _is_weightless(node, settings, read):
        return evaluate_node(node, {**{name: read(name) for name in others}, **arrays}, graph)
    raise ModelError(f"{kind} (tensor {node.output[0]!r}) {why}")


def _is_rectifier(
    node: onnx.NodeProto, settings: Mapping[str, Any], read: Callable[[str], NDArray[Any]]
) -> bool:
    """Whether an operator returns non-negative values as they are, as a Clip without maximum."""
    if node.op_type != "Clip":
        return node.op_type in _RECTIFIERS or (node.op_type == "Cast" and settings["to"] in FLOATS)
    bounds = {"min": settings.get("min", -np.inf), "max": settings.get("max", np.inf)}
    for place, name in enumerate(bounds, start=1):
        if place < len(node.input) and node.input[place]:
            bounds[name] = float(read(node.input[place]).reshape(()))
    # Exporters write the largest float for no bound.
    return bool(bounds["min"] <= 0 and bounds["max"] >= float(np.finfo(np.float32).max))


def _is_weightless(
    node: onnx.NodeProto, settings: Mapping[str, Any], read: Callable[[str], NDArray[Any]]
) -> bool:
    """Whether a Pad or a Resize returns only means and copies of its input."""
    if node.op_type == "Pad":
        value = float(settings.get("value", 0.0))
        if len(node.input) > 2 and node.input[2]:
            value = float(read(node.input[2]).reshape(()))
        return value == 0 or settings.get("mode", b"constant") != b"constant"
    return node.op_type in ("Resize", "Upsample") and settings.get("mode", b"nearest") in (
        b"linear",
        b"nearest",
    )
