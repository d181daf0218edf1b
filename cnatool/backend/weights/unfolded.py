"""Scales and normalisations of the data that are not part of a layer's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.nodes import operator_set
from cnatool.backend.graph.preactivation_walk import FLOATS
from cnatool.backend.weights.activations import find_activation
from cnatool.backend.weights.fold import find_scale_of_codes, linear_operators

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from cnatool.backend.graph.constants import Constants
    from cnatool.backend.graph.graph import Graph

_NORMALIZATIONS = operator_set(
    "BatchNormalization EmbedLayerNormalization GroupNorm GroupNormalization "
    "InstanceNormalization LayerNormalization LpNormalization MeanVarianceNormalization "
    "RMSNormalization SimplifiedLayerNormalization SkipGroupNorm SkipLayerNormalization "
    "SkipSimplifiedLayerNormalization"
)
_SCALERS = frozenset({"ImageScaler", "Normalizer", "Scaler"})
# Operators that may lie between a root or a norm and the division by it.
_BEFORE_QUOTIENT = frozenset(
    {"Add", "Cast", "Clip", "Expand", "Identity", "Max", "Reshape", "Squeeze", "Unsqueeze"}
)
_LENGTHS = frozenset({"Pow", "ReduceL1", "ReduceL2", "Sqrt"})


def find_unfolded_scale(graph: Graph, constants: Constants, used: Collection[str]) -> str | None:
    """Describe the first scale or normalisation that no norm of a layer shows; None without any.

    It can be multiplied and the weights behind it divided by the same number without a change of
    the network's values, so products of norms do not reflect it. Constant factors in front of the
    first layers count as preprocessing, like those that are applied before the model.
    """
    behind = {operator.result for operator in linear_operators(graph)}
    layers = frozenset(behind)
    activations: set[str] = set()
    for node in graph.nodes:
        result = node.output[0]
        if not behind.isdisjoint(node.input):
            behind.update(filter(None, node.output))
        if result in used or result in layers or result not in graph.dynamic:
            continue
        scales = result in behind and result not in activations and _scales(node, graph, constants)
        if scales:
            activations |= find_activation(graph, constants, node)
            scales = result not in activations
        if node.op_type in _NORMALIZATIONS or scales:
            return (
                f"{node.op_type} (tensor {result!r}) scales the data and is folded into no layer, "
                "so that products of norms would leave it out"
            )
    return None


def _scales(node: onnx.NodeProto, graph: Graph, constants: Constants) -> bool:
    """Whether a node multiplies by a constant, or divides by a root or a length."""
    kind = node.op_type
    if kind in _SCALERS:
        return True
    if kind not in ("Div", "Einsum", "Mul", "Reciprocal"):
        return False
    if kind in ("Div", "Reciprocal") and _is_length(node.input[-1], graph):
        return True
    factors = node.input[1:] if kind == "Div" else node.input
    factor = next(filter(constants.has, factors), None)
    if kind == "Reciprocal" or factor is None or constants.element_type(factor) not in FLOATS:
        return False
    if find_scale_of_codes(node.output[0], constants) is not None:
        return False
    return bool((constants.value(factor) != 1).any())


def _is_length(name: str, graph: Graph) -> bool:
    """Whether a tensor is a root or a norm of a tensor that depends on the input."""
    waiting, seen = [name], {name}
    while waiting:
        name = waiting.pop()
        node = graph.producer.get(name)
        if node is None or name not in graph.dynamic:
            continue
        if node.op_type in _LENGTHS:
            return True
        if node.op_type in _BEFORE_QUOTIENT:
            waiting += [other for other in node.input if other not in seen]
            seen.update(node.input)
    return False
