"""The weights of a linear operator as the matrix that it multiplies by, whatever their layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.nodes import attributes
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.constants import Constants
    from cnatool.backend.graph.linear_operators import LinearOperator


@dataclass(frozen=True, slots=True)
class LinearMap:
    """The matrix of a linear operator, block-diagonal where it has groups.

    Attributes
    ----------
    blocks : ndarray, shape (g, out, in)
        A group's kernels are (out, in·kh·kw); of a stack of matrices, one block each. As they are
        in the file, or dequantised.
    factor : float
        What the operator multiplies all of them by.
    axis : int or None
        Axis of the units in the operator's result, counted from its end, -1 for the last; None
        where there is one unit and no axis.
    units : int
        Length of that axis, or 1.
    shape : tuple of int
        Shape of the weights in the model.
    """

    blocks: NDArray[Any]
    factor: float
    axis: int | None
    units: int
    shape: tuple[int, ...]

    def row_scale(self, units: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arrange one number a unit as one a row of the blocks, (g, out) or (1, out)."""
        rows = self.blocks.shape[1]
        spread = units if units.size > 1 else np.broadcast_to(units, rows)
        return spread.reshape(-1, rows) * self.factor


def linear_map(operator: LinearOperator, constants: Constants) -> LinearMap:
    """Read the weights of a linear operator."""
    node = operator.node
    reader = _READERS.get(node.op_type)
    if reader is None or node.domain == "com.microsoft.nchwc":
        raise ModelError(f"{node.op_type} keeps its weights in a form that is not read")
    weights = _weights(operator, constants)
    try:
        found = reader(operator, weights, attributes(node))
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"the weights {operator.weights!r} of shape {weights.shape} do not fit {node.op_type}"
        ) from error
    if not found.blocks.size:
        raise ModelError(f"the weights {operator.weights!r} hold no number")
    return found


def _convolution(
    operator: LinearOperator, weights: NDArray[Any], given: Mapping[str, Any]
) -> LinearMap:
    group = int(given.get("group", 1))
    blocks = weights.reshape(group, len(weights) // group, -1)
    return LinearMap(blocks, 1.0, 1 - weights.ndim, len(weights), weights.shape)


def _transposed_convolution(
    operator: LinearOperator, weights: NDArray[Any], given: Mapping[str, Any]
) -> LinearMap:
    group, taps = int(given.get("group", 1)), weights.shape[2:]
    parts = weights.reshape(group, len(weights) // group, weights.shape[1], int(np.prod(taps)))
    blocks = parts.swapaxes(1, 2).reshape(group, weights.shape[1], -1)
    units = group * weights.shape[1]
    return LinearMap(blocks, 1.0, 1 - weights.ndim, units, weights.shape)


def _product(
    operator: LinearOperator, weights: NDArray[Any], given: Mapping[str, Any]
) -> LinearMap:
    if given.get("transBatchA") or given.get("transBatchB"):
        raise ModelError(f"{operator.node.op_type} with a transposed batch is not read")
    factor = float(given.get("alpha", 1.0))
    left = operator.weights == operator.node.input[0]
    if weights.ndim == 1:
        return LinearMap(weights[None, None, :], factor, None, 1, weights.shape)
    transposed = bool(given.get("transA" if left else "transB", 0))
    matrices = weights.reshape(-1, *weights.shape[-2:])
    # The units are the columns of weights that stand right, and the rows of those that stand left.
    blocks = matrices if left != transposed else matrices.swapaxes(1, 2)
    return LinearMap(blocks, factor, -2 if left else -1, blocks.shape[1], weights.shape)


def _contraction(
    operator: LinearOperator, weights: NDArray[Any], given: Mapping[str, Any]
) -> LinearMap:
    """Read an Einsum: its weights' indices are of the batch, of the sum, or of the units."""
    operands, _, result = given["equation"].decode().replace(" ", "").partition("->")
    terms = operands.split(",")
    place = 0 if operator.weights == operator.node.input[0] else 1
    own, other = terms[place], terms[1 - place]
    if "." in own or len(set(own)) < len(own):
        raise ModelError(f"Einsum {operands}->{result} is not read")
    kinds = ([], [], [])  # type: tuple[list[int], list[int], list[int]]
    for axis, index in enumerate(own):
        kinds[0 if index in other and index in result else 1 if index in result else 2].append(axis)
    sizes = [int(np.prod([weights.shape[axis] for axis in axes])) for axes in kinds]
    blocks = weights.transpose([axis for axes in kinds for axis in axes]).reshape(sizes)
    if len(kinds[1]) != 1:
        # Constants that scale the result are then of several axes, and stay where they are.
        return LinearMap(blocks, 1.0, None, 1, weights.shape)
    axis = result.rindex(own[kinds[1][0]]) - len(result)
    return LinearMap(blocks, 1.0, axis, blocks.shape[1], weights.shape)


_READERS: Mapping[str, Callable[[LinearOperator, NDArray[Any], Mapping[str, Any]], LinearMap]] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "ConvTranspose": _transposed_convolution,
    "DynamicQuantizeMatMul": _product,
    "Einsum": _contraction,
    "FusedConv": _convolution,
    "FusedGemm": _product,
    "FusedMatMul": _product,
    "Gemm": _product,
    "MatMul": _product,
    "MatMulInteger": _product,
    "MatMulIntegerToFloat": _product,
    "QGemm": _product,
    "QLinearConv": _convolution,
    "QLinearMatMul": _product,
}
# Where quantised operators have the weights' scale and zero point; None where scale comes later.
_QUANTISATION: Mapping[str, tuple[int | None, int]] = {
    "ConvInteger": (None, 3),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulIntegerToFloat": (3, 5),
    "QGemm": (4, 5),
    "QLinearConv": (4, 5),
}


def _weights(operator: LinearOperator, constants: Constants) -> NDArray[Any]:
    """Return the weights as numbers: those of a quantised operator less zero point, times scale."""
    node = operator.node
    weights = constants.value(operator.weights)
    places = _QUANTISATION.get(node.op_type)
    left = operator.weights == node.input[0]
    if node.op_type == "MatMulInteger":
        places = (None, 2 if left else 3)
    elif node.op_type == "QLinearMatMul":
        places = (1, 2) if left else (4, 5)
    if places is None:
        return weights
    # One number a unit: of convolutions the first axis, of products that of the units.
    axis = 0 if "Conv" in node.op_type else weights.ndim - (2 if left else 1)
    if node.op_type == "QGemm" and attributes(node).get("transB", 0):
        axis = 0
    scale, zero = (_parameter(node, place, constants, weights, axis) for place in places)
    found = weights.astype(np.float32)
    if zero is not None:
        found -= zero
    if scale is not None:
        found *= scale
    return found


def _parameter(
    node: onnx.NodeProto,
    place: int | None,
    constants: Constants,
    weights: NDArray[Any],
    axis: int,
) -> NDArray[np.float32] | None:
    if place is None or place >= len(node.input) or not node.input[place]:
        return None
    values = constants.value(node.input[place]).astype(np.float32)
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1 and values.size == weights.shape[axis]:
        return values.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    # As the runtime broadcasts it, for stacks of matrices.
    if np.broadcast_shapes(values.shape, weights.shape) == weights.shape:
        return values
    raise ModelError(f"the scale or zero point {node.input[place]!r} does not fit its weights")
