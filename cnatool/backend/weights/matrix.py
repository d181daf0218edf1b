"""The weights of a linear operator as a matrix, whatever their layout."""

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
    """The matrix of a linear operator, block-diagonal where it has groups."""

    # (groups, out, in): kernels are (out, in·kh·kw), a stack of matrices has one block each. As in
    # the file, or dequantised.
    blocks: NDArray[Any]
    # The operator multiplies all of them by this.
    factor: float
    # Axis of the units in the operator's result, counted from its end; None for one unit.
    axis: int | None
    # Length of that axis, or 1.
    units: int
    # Shape of the weights in the model.
    shape: tuple[int, ...]

    def row_scale(self, units: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arrange one number per unit as one per row of the blocks, (groups, out) or (1, out)."""
        rows = self.blocks.shape[1]
        spread = units if units.size > 1 else np.broadcast_to(units, rows)
        return spread.reshape(-1, rows) * self.factor


def linear_map(operator: LinearOperator, constants: Constants) -> LinearMap:
    """Read the weights of a linear operator."""
    node = operator.node
    reader = _READERS.get(node.op_type)
    if reader is None or node.domain == "com.microsoft.nchwc":
        raise ModelError(f"{node.op_type} stores its weights in a form that is not supported")
    weights = _weights(operator, constants)
    try:
        matrix = reader(operator, weights, attributes(node))
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"the weights {operator.weights!r} of shape {weights.shape} do not fit {node.op_type}"
        ) from error
    if not matrix.blocks.size:
        raise ModelError(f"the weights {operator.weights!r} hold no number")
    return matrix


def _convolution(
    operator: LinearOperator, weights: NDArray[Any], settings: Mapping[str, Any]
) -> LinearMap:
    group = int(settings.get("group", 1))
    blocks = weights.reshape(group, len(weights) // group, -1)
    return LinearMap(blocks, 1.0, 1 - weights.ndim, len(weights), weights.shape)


def _transposed_convolution(
    operator: LinearOperator, weights: NDArray[Any], settings: Mapping[str, Any]
) -> LinearMap:
    group, taps = int(settings.get("group", 1)), weights.shape[2:]
    parts = weights.reshape(group, len(weights) // group, weights.shape[1], int(np.prod(taps)))
    blocks = parts.swapaxes(1, 2).reshape(group, weights.shape[1], -1)
    units = group * weights.shape[1]
    return LinearMap(blocks, 1.0, 1 - weights.ndim, units, weights.shape)


def _product(
    operator: LinearOperator, weights: NDArray[Any], settings: Mapping[str, Any]
) -> LinearMap:
    if settings.get("transBatchA") or settings.get("transBatchB"):
        raise ModelError(f"{operator.node.op_type} with a transposed batch is not supported")
    factor = float(settings.get("alpha", 1.0))
    left = operator.weights == operator.node.input[0]
    if weights.ndim == 1:
        return LinearMap(weights[None, None, :], factor, None, 1, weights.shape)
    transposed = bool(settings.get("transA" if left else "transB", 0))
    matrices = weights.reshape(-1, *weights.shape[-2:])
    # The units are the columns of a right operand, and the rows of a left one.
    blocks = matrices if left != transposed else matrices.swapaxes(1, 2)
    return LinearMap(blocks, factor, -2 if left else -1, blocks.shape[1], weights.shape)


def _contraction(
    operator: LinearOperator, weights: NDArray[Any], settings: Mapping[str, Any]
) -> LinearMap:
    """Read an Einsum: an index of its weights is one of the batch, the sum, or the units."""
    operands, _, result = settings["equation"].decode().replace(" ", "").partition("->")
    terms = operands.split(",")
    place = 0 if operator.weights == operator.node.input[0] else 1
    own, other = terms[place], terms[1 - place]
    if "." in own or len(set(own)) < len(own):
        raise ModelError(f"Einsum {operands}->{result} is not supported")
    kinds = ([], [], [])  # type: tuple[list[int], list[int], list[int]]
    for axis, index in enumerate(own):
        kinds[0 if index in other and index in result else 1 if index in result else 2].append(axis)
    sizes = [int(np.prod([weights.shape[axis] for axis in axes])) for axes in kinds]
    blocks = weights.transpose([axis for axes in kinds for axis in axes]).reshape(sizes)
    if len(kinds[1]) != 1:
        # Constants that scale the result have several axes then, and are not folded.
        return LinearMap(blocks, 1.0, None, 1, weights.shape)
    axis = result.rindex(own[kinds[1][0]]) - len(result)
    return LinearMap(blocks, 1.0, axis, blocks.shape[1], weights.shape)


_READERS: Mapping[str, Callable[[LinearOperator, NDArray[Any], Mapping[str, Any]], LinearMap]] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "ConvTranspose": _transposed_convolution,
    "DeformConv": _convolution,
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
# Inputs with the scale and zero point of quantised weights; None where the scale comes later.
_QUANTISATION: Mapping[str, tuple[int | None, int]] = {
    "ConvInteger": (None, 3),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulIntegerToFloat": (3, 5),
    "QGemm": (4, 5),
    "QLinearConv": (4, 5),
}


def _weights(operator: LinearOperator, constants: Constants) -> NDArray[Any]:
    """Read the weights as numbers; codes of a quantised operator are dequantised."""
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
    # One number per unit: along the first axis of convolutions, along the units of products.
    axis = 0 if "Conv" in node.op_type else weights.ndim - (2 if left else 1)
    if node.op_type == "QGemm" and attributes(node).get("transB", 0):
        axis = 0
    scale, zero = (_parameter(node, place, constants, weights, axis) for place in places)
    values = weights.astype(np.float32)
    if zero is not None:
        values -= zero
    if scale is not None:
        values *= scale
    return values


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
    # The runtime broadcasts it to stacks of matrices.
    if np.broadcast_shapes(values.shape, weights.shape) == weights.shape:
        return values
    raise ModelError(f"the scale or zero point {node.input[place]!r} does not fit its weights")
