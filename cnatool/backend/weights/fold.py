"""BatchNormalization and other constant scales and shifts folded into the operator before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.backend.graph.linear_operators import linear_operator
from cnatool.backend.graph.nodes import attributes
from cnatool.backend.graph.preactivation_walk import FLOATS, QUANTIZATION, readers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.constants import Constants
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.linear_operators import LinearOperator
    from cnatool.backend.weights.matrix import LinearMap

_UNCHANGED = frozenset({"Dropout", "Identity", *QUANTIZATION})
# Operators that add a bias of numbers, not of codes.
_BIASED = frozenset({"Conv", "ConvTranspose", "FusedConv", "FusedGemm", "Gemm"})
_EPSILON = 1e-5


def linear_operators(graph: Graph) -> list[LinearOperator]:
    """Return the linear operators of a graph in execution order, which is that of its layers."""
    found = (linear_operator(graph, node) for node in graph.nodes)
    return [operator for operator in found if operator is not None]


@dataclass(frozen=True, slots=True)
class Fold:
    """What follows a linear operator at once and is one scale and one shift of its result.

    Attributes
    ----------
    scale : ndarray, shape (units,)
    shift : ndarray or None
        Broadcasts against the result; None where nothing is added.
    added : tuple of str
        Constants that are added, the operator's own bias among them.
    end : str
        The tensor that holds the result after scale and shift.
    used : tuple of str
        Results of the operator and of the nodes that are folded.
    """

    scale: NDArray[np.float64]
    shift: NDArray[np.float64] | None
    added: tuple[str, ...]
    end: str
    used: tuple[str, ...]


def fold_scales(
    graph: Graph,
    operator: LinearOperator,
    found: LinearMap,
    constants: Constants,
    ranks: Mapping[str, int],
    *,
    until: str = "",
) -> Fold:
    """Follow the result of a linear operator through constant scales and shifts.

    The way ends where anything else, or more than one node, reads the tensor. A scale that is not
    one number a unit, or one for all of them, cannot be folded and ends it too.
    """
    node = operator.node
    scale = np.ones(found.units)
    shift: NDArray[np.float64] | None = None
    added: list[str] = []
    if node.op_type in _BIASED and constants.has(operator.bias):
        bias = constants.value(operator.bias).astype(np.float64)
        gain = float(attributes(node).get("beta", 1.0))
        shift = gain * (along(bias, found.axis) if "Conv" in node.op_type else bias)
    if operator.bias:
        added.append(operator.bias)
    tensor, used = operator.result, [operator.result]
    while operator.nonlinearity is None and operator.summand is None and tensor != until:
        nodes = readers(graph, tensor)
        step = (
            _step(nodes[0], tensor, operator, found, constants, ranks) if len(nodes) == 1 else None
        )
        if step is None:
            break
        factor, addend, name = step
        scale = scale * factor
        if shift is not None:
            shift = shift * along(factor, found.axis)
        if addend is not None:
            shift = addend if shift is None else shift + addend
        added += [name] if name else []
        tensor = nodes[0].output[0]
        used.append(tensor)
    return Fold(scale, shift, tuple(added), tensor, tuple(used))


_ONE = np.ones(1)
_Step = tuple["NDArray[np.float64]", "NDArray[np.float64] | None", str]


def _step(
    node: onnx.NodeProto,
    tensor: str,
    operator: LinearOperator,
    found: LinearMap,
    constants: Constants,
    ranks: Mapping[str, int],
) -> _Step | None:
    """Return the scale, the shift and its constant by which a node changes a tensor, or None."""
    kind, first = node.op_type, node.input[0] == tensor
    if first and (kind in _UNCHANGED or (kind == "Cast" and attributes(node)["to"] in FLOATS)):
        return _ONE, None, ""
    if kind == "BatchNormalization" and first:
        return _normalization(node, found, constants, ranks)
    if kind not in ("Add", "Sub", "Mul", "Div") or not (first or kind in ("Add", "Mul")):
        return None
    other = node.input[1 if first else 0]
    if operator.codes and kind == "Mul" and not constants.has(other):
        factor = find_scale_of_codes(other, constants)
        fits = factor is not None and factor.size in (1, found.units)
        return (factor, None, "") if factor is not None and fits else None
    if not constants.has(other):
        return None
    value = constants.value(other).astype(np.float64)
    if kind == "Add":
        return _ONE, value, other
    if kind == "Sub":
        return _ONE, -value, other
    factors = _by_unit(value, found)
    if factors is None or (kind == "Div" and not factors.all()):
        return None
    return (1 / factors if kind == "Div" else factors), None, ""


def _normalization(
    node: onnx.NodeProto, found: LinearMap, constants: Constants, ranks: Mapping[str, int]
) -> _Step | None:
    given = attributes(node)
    rank = ranks.get(node.input[0])
    channel_axis = found.axis is not None and (rank is None or rank + found.axis == 1)
    if not channel_axis or given.get("training_mode") or not given.get("spatial", 1):
        return None
    if any(node.output[1:]) or not all(map(constants.has, node.input[1:5])):
        return None
    parts = [constants.value(name).astype(np.float64) for name in node.input[1:5]]
    if any(part.shape != (found.units,) for part in parts):
        return None
    gain, bias, mean, variance = parts
    factor = gain / np.sqrt(variance + given.get("epsilon", _EPSILON))
    return factor, along(bias - mean * factor, found.axis), node.input[2]


def find_scale_of_codes(name: str, constants: Constants) -> NDArray[np.float64] | None:
    """Return the constant part of the scale of an integer product; that of the data is 1 of it."""
    node = constants.graph.producer.get(name)
    if constants.has(name):
        return constants.value(name).astype(np.float64).reshape(-1)
    if node is None:
        return None
    if node.op_type == "DynamicQuantizeLinear" and node.output[1] == name:
        return _ONE
    if node.op_type != "Mul":
        return None
    left, right = (find_scale_of_codes(part, constants) for part in node.input)
    return None if left is None or right is None else left * right


def _by_unit(value: NDArray[np.float64], found: LinearMap) -> NDArray[np.float64] | None:
    """Read a constant factor as one number a unit, or one for all; None if it is neither."""
    if value.size == 1:
        return value.reshape(1)
    if found.axis is None or value.ndim < -found.axis or value.size != found.units:
        return None
    return value.reshape(-1) if value.shape[found.axis] == found.units else None


def along(units: NDArray[np.float64], axis: int | None) -> NDArray[np.float64]:
    """Arrange one number a unit so that it broadcasts against an operator's result."""
    return units if axis is None or units.size == 1 else units.reshape(-1, *[1] * (-1 - axis))
