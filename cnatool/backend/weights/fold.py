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
    """List the linear operators of a graph in execution order, which is that of its layers."""
    operators = (linear_operator(graph, node) for node in graph.nodes)
    return [operator for operator in operators if operator is not None]


@dataclass(frozen=True, slots=True)
class Fold:
    """Nodes right behind a linear operator that are one scale and one shift of its result."""

    # (units,)
    scale: NDArray[np.float64]
    # Broadcasts against the result; None where nothing is added.
    shift: NDArray[np.float64] | None
    # Constants that are added, the operator's own bias among them.
    added: tuple[str, ...]
    # Results of the operator and of the folded nodes.
    used: tuple[str, ...]


def fold_scales(
    graph: Graph,
    operator: LinearOperator,
    matrix: LinearMap,
    constants: Constants,
    ranks: Mapping[str, int],
    *,
    until: str = "",
) -> Fold:
    """Follow the result of a linear operator through constant scales and shifts.

    It ends where anything else, or more than one node, reads the tensor, at the tensor ``until``,
    and at a scale that is not one number per unit or one for all of them. ``ranks`` are the numbers
    of axes of tensors, as far as they are known.
    """
    node = operator.node
    scale = np.ones(matrix.units)
    shift: NDArray[np.float64] | None = None
    added: list[str] = []
    if node.op_type in _BIASED and constants.has(operator.bias):
        bias = constants.value(operator.bias).astype(np.float64)
        gain = float(attributes(node).get("beta", 1.0))
        shift = gain * (along(bias, matrix.axis) if "Conv" in node.op_type else bias)
    if operator.bias:
        added.append(operator.bias)
    tensor, used = operator.result, [operator.result]
    while operator.nonlinearity is None and operator.summand is None and tensor != until:
        nodes = readers(graph, tensor)
        step = (
            _step(nodes[0], tensor, operator, matrix, constants, ranks) if len(nodes) == 1 else None
        )
        if step is None:
            break
        factor, addend, name = step
        scale = scale * factor
        if shift is not None:
            shift = shift * along(factor, matrix.axis)
        if addend is not None:
            shift = addend if shift is None else shift + addend
        added += [name] if name else []
        tensor = nodes[0].output[0]
        used.append(tensor)
    return Fold(scale, shift, tuple(added), tuple(used))


_ONE = np.ones(1)
_Step = tuple["NDArray[np.float64]", "NDArray[np.float64] | None", str]


def _step(
    node: onnx.NodeProto,
    tensor: str,
    operator: LinearOperator,
    matrix: LinearMap,
    constants: Constants,
    ranks: Mapping[str, int],
) -> _Step | None:
    """Read a node as a scale, a shift and the constant of the shift; None if it is not that."""
    kind, first = node.op_type, node.input[0] == tensor
    if first and (kind in _UNCHANGED or (kind == "Cast" and attributes(node)["to"] in FLOATS)):
        return _ONE, None, ""
    if kind == "BatchNormalization" and first:
        return _normalization(node, matrix, constants, ranks)
    if kind not in ("Add", "Sub", "Mul", "Div") or not (first or kind in ("Add", "Mul")):
        return None
    other = node.input[1 if first else 0]
    if operator.codes and kind == "Mul" and not constants.has(other):
        factor = find_scale_of_codes(other, constants)
        fits = factor is not None and factor.size in (1, matrix.units)
        return (factor, None, "") if factor is not None and fits else None
    if not constants.has(other):
        return None
    value = constants.value(other).astype(np.float64)
    if kind == "Add":
        return _ONE, value, other
    if kind == "Sub":
        return _ONE, -value, other
    factors = _by_unit(value, matrix)
    if factors is None or (kind == "Div" and not factors.all()):
        return None
    return (1 / factors if kind == "Div" else factors), None, ""


def _normalization(
    node: onnx.NodeProto, matrix: LinearMap, constants: Constants, ranks: Mapping[str, int]
) -> _Step | None:
    settings = attributes(node)
    rank = ranks.get(node.input[0])
    channel_axis = matrix.axis is not None and (rank is None or rank + matrix.axis == 1)
    if not channel_axis or settings.get("training_mode") or not settings.get("spatial", 1):
        return None
    if any(node.output[1:]) or not all(map(constants.has, node.input[1:5])):
        return None
    parts = [constants.value(name).astype(np.float64) for name in node.input[1:5]]
    if any(part.shape != (matrix.units,) for part in parts):
        return None
    gain, bias, mean, variance = parts
    factor = gain / np.sqrt(variance + settings.get("epsilon", _EPSILON))
    return factor, along(bias - mean * factor, matrix.axis), node.input[2]


def find_scale_of_codes(name: str, constants: Constants) -> NDArray[np.float64] | None:
    """Return the scale of an integer product, that of its data taken as 1; None for others."""
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


def _by_unit(value: NDArray[np.float64], matrix: LinearMap) -> NDArray[np.float64] | None:
    """Read a constant factor as one number per unit, or one for all; None if it is neither."""
    if value.size == 1:
        return value.reshape(1)
    if matrix.axis is None or value.ndim < -matrix.axis or value.size != matrix.units:
        return None
    return value.reshape(-1) if value.shape[matrix.axis] == matrix.units else None


def along(units: NDArray[np.float64], axis: int | None) -> NDArray[np.float64]:
    """Arrange one number per unit to broadcast along an axis, counted from the result's end."""
    return units if axis is None or units.size == 1 else units.reshape(-1, *[1] * (-1 - axis))
