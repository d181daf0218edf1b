"""Sums of a linear operator's output, taken from its input: what sums need not be exposed for.

The sum over the elements of ``W x + b`` is ``v · x + c`` with ``v`` the column sums of ``W`` and
``c`` the sum of ``b``. Taking it from ``x`` leaves the runtime free to fuse the operator with what
follows, and reads less where the input is smaller than the output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.backend.graph import Graph

__all__ = ["LinearSum", "LinearSums"]

# A flat input this much longer than the output still costs less than operators left unfused.
_LONGER = 4
_SHORTEST = 33


@dataclass(frozen=True, slots=True)
class LinearSum:
    """The sum of a tensor's elements as ``weights · source + constant``.

    Attributes
    ----------
    source : str
        A tensor that comes before.
    weights : ndarray, shape (K,)
        One weight for each of its elements, float64.
    constant : float
        What is added.
    """

    source: str
    weights: NDArray[np.float64]
    constant: float


class LinearSums:
    """Finds the tensors of a graph whose sums are cheaper taken from what comes before them.

    Parameters
    ----------
    graph : Graph
    inputs : mapping of str to tuple of int
        Shape of one sample of the graph's inputs.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, tuple[int, ...]]) -> None:
        self._graph = graph
        self._inputs = inputs
        self._weights = {tensor.name: tensor for tensor in graph.model.graph.initializer}

    def of(self, tensor: str, shape: tuple[int, ...]) -> LinearSum | None:
        """Give the sum of a tensor, or None where it is better taken from the tensor itself.

        Parameters
        ----------
        tensor : str
            A float32 tensor with the sample axis first.
        shape : tuple of int
            Its shape for one sample.
        """
        node = self._graph.producer.get(tensor)
        if node is None or math.prod(shape) < _SHORTEST:
            return None
        if node.op_type == "Gemm" and len(shape) == 1:
            return self._gemm(node, shape[0])
        if node.op_type == "MatMul" and len(shape) == 1:
            return self._matmul(node, shape[0])
        if node.op_type == "Add":
            return self._add(node, shape)
        if node.op_type == "Conv" and node.input[0] in self._inputs:
            return self._conv(node, shape)
        return None

    def _gemm(self, node: onnx.NodeProto, size: int) -> LinearSum | None:
        given = _attributes(node)
        weights = self._constant(node.input[1])
        if weights is None or weights.ndim != 2 or given.get("transA", 0):
            return None
        axis = 0 if given.get("transB", 0) else 1
        if weights.shape[axis] != size:
            return None
        total = weights.sum(axis=axis, dtype=np.float64) * given.get("alpha", 1.0)
        constant = 0.0
        if len(node.input) > 2 and node.input[2]:
            bias = self._constant(node.input[2])
            if bias is None or not _broadcasts(bias, (size,)):
                return None
            constant = _total(bias) * (size // bias.size) * given.get("beta", 1.0)
        return self._if_short(LinearSum(node.input[0], total, constant), size)

    def _matmul(self, node: onnx.NodeProto, size: int) -> LinearSum | None:
        weights = self._constant(node.input[1])
        if weights is None or weights.ndim != 2 or weights.shape[1] != size:
            return None
        total = weights.sum(axis=1, dtype=np.float64)
        return self._if_short(LinearSum(node.input[0], total, 0.0), size)

    def _add(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> LinearSum | None:
        for summand, other in (node.input, reversed(node.input)):
            bias = self._constant(other)
            inner = None if bias is None else self.of(summand, shape)
            # The summand was found to have this shape itself: nothing is repeated by the Add.
            if bias is None or inner is None or not _broadcasts(bias, shape):
                continue
            added = _total(bias) * (math.prod(shape) // bias.size)
            return LinearSum(inner.source, inner.weights, inner.constant + added)
        return None

    def _conv(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> LinearSum | None:
        source = self._inputs[node.input[0]]
        kernel = self._constant(node.input[1])
        if kernel is None or kernel.ndim != len(shape) + 1 or len(source) != len(shape):
            return None
        if math.prod(source) > math.prod(shape) or kernel.shape[0] != shape[0]:
            return None
        given = _attributes(node)
        axes = len(shape) - 1
        strides = given.get("strides") or [1] * axes
        dilations = given.get("dilations") or [1] * axes
        group = int(given.get("group", 1))
        # (channels out, channels in / groups, …) to (channels in, …), summed over channels out.
        total = kernel.reshape(group, -1, *kernel.shape[1:]).sum(axis=1, dtype=np.float64)
        total = total.reshape(-1, *kernel.shape[2:])
        for axis in range(axes):
            length, count = source[axis + 1], shape[axis + 1]
            step, dilation = int(strides[axis]), int(dilations[axis])
            reach = (count - 1) * step + (kernel.shape[axis + 2] - 1) * dilation + 1
            before, after = _padding(given, axis, axes, max(0, reach - length))
            if (length + before + after - (reach - (count - 1) * step)) // step + 1 != count:
                return None
            meets = np.zeros((kernel.shape[axis + 2], length))
            for offset in range(kernel.shape[axis + 2]):
                places = np.arange(count) * step + offset * dilation - before
                meets[offset, places[(places >= 0) & (places < length)]] = 1
            total = np.moveaxis(np.tensordot(total, meets, axes=(axis + 1, 0)), -1, axis + 1)
        constant = 0.0
        if len(node.input) > 2 and node.input[2]:
            bias = self._constant(node.input[2])
            if bias is None:
                return None
            constant = _total(bias) * math.prod(shape[1:])
        return LinearSum(node.input[0], total.reshape(-1), constant)

    def _if_short(self, found: LinearSum, size: int) -> LinearSum | None:
        return found if len(found.weights) <= _LONGER * size else None

    def _constant(self, name: str) -> NDArray[np.float32] | None:
        tensor = self._weights.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        folder = str(self._graph.path.parent.resolve())
        # Summed in float64 without a copy in float64: weights may be gigabytes.
        return numpy_helper.to_array(tensor, folder)


def _total(values: NDArray[np.float32]) -> float:
    return float(values.sum(dtype=np.float64))


def _broadcasts(bias: NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    """Say whether a bias is added to a sample of this shape without making it larger."""
    try:
        return np.broadcast_shapes(bias.shape, (1, *shape)) == (1, *shape)
    except ValueError:
        return False


def _padding(given: Mapping[str, Any], axis: int, axes: int, missing: int) -> tuple[int, int]:
    """Give the zeros before the first element of an axis and after the last."""
    automatic = given.get("auto_pad", b"NOTSET")
    if automatic == b"SAME_UPPER":
        return missing // 2, missing - missing // 2
    if automatic == b"SAME_LOWER":
        return missing - missing // 2, missing // 2
    pads = given.get("pads") or [0] * (2 * axes)
    return (0, 0) if automatic == b"VALID" else (int(pads[axis]), int(pads[axes + axis]))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {given.name: onnx.helper.get_attribute_value(given) for given in node.attribute}
