"""Sums of tensors as linear functions of a few others: what sums need not be exposed for.

The sum over the elements of ``W x + b`` is ``v · x + c``, with ``v`` the column sums of ``W`` and
``c`` the sum of ``b``. Taking it from ``x`` leaves the runtime free to fuse the operator with what
follows, and reads less. A normalisation, a concatenation or an addition is linear too, so the same
holds through a whole chain: the sums of Conv, BatchNormalization and Add before a ReLU all follow
from a few numbers a channel of the chain's input.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from cnatool._util.local_paths import real_path
from cnatool.backend.graph.kernel_taps import attributes, count_taps, sum_kernel
from cnatool.backend.statistics.sum_terms import FEW, Leaf, LinearSum, direct_sum, edge_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

# A flat input this much longer than the output still costs less than operators left unfused.
_LONGER = 4
# Above, a weight for each element of an input is more than the network's first layer has.
_MOST_WEIGHTS = 4096
# What the runtime fuses with the linear operator before: the value between them is never made.
_FUSED = frozenset(
    [
        "Add",
        "BatchNormalization",
        "Clip",
        "Div",
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Mul",
        "Relu",
        "Sigmoid",
        "Sub",
        "Sum",
        "Tanh",
    ]
)
# Taking their sums from their inputs costs nothing that is not read anyway.
_FREE = frozenset({"BatchNormalization", "Concat", "Dropout", "Identity"})
# Further back it would cost more than it saves: each tensor of a chain goes back anew.
_LONGEST_CHAIN = 100
# A convolution to fewer channels costs as much as one to so many.
_VECTOR_CHANNELS = 32


class LinearSums:
    """Says of each tensor of a graph what its sum is cheapest taken from.

    Parameters
    ----------
    graph : Graph
    shapes : mapping of str to tuple of int
        Shapes for one sample of the float32 tensors that have the sample axis first, the graph's
        inputs among them. Nothing else is read.
    """

    def __init__(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._graph = graph
        self._shapes = shapes
        self._inputs = {value.name for value in graph.inputs}
        self._outputs = frozenset(graph.output_names)
        # Of further results, as the mask of a Dropout, nothing is known.
        self._producer = {n: node for n, node in graph.producer.items() if n == node.output[0]}
        self._depth = 0
        self._weights = {tensor.name: tensor for tensor in graph.model.graph.initializer}
        self._through: dict[
            str, Callable[[onnx.NodeProto, NDArray[np.float64]], LinearSum | None]
        ] = {
            "Add": self._added,
            "BatchNormalization": self._normalised,
            "Concat": self._joined,
            "Conv": self._convolved,
            "Div": self._scaled,
            "Dropout": self._same,
            "Identity": self._same,
            "Mul": self._scaled,
            "Sub": self._added,
            "Sum": self._added,
        }

    def of(self, tensor: str) -> LinearSum:
        """Give the sum of a tensor's elements.

        Parameters
        ----------
        tensor : str
            One of those with a known shape.
        """
        shape = self._shapes[tensor]
        found = None
        if len(shape) == 1:
            found = self._flat(tensor, shape[0])
        elif len(shape) == 3:
            found = self._of_channels(tensor, np.ones(shape[0]), deep=False)
        elif tensor in self._producer:
            node = self._producer[tensor]
            if node.op_type == "Conv" and len(shape) > 1:
                found = self._convolved(node, np.ones(shape[0]))
            elif node.op_type == "Add":
                found = self._biased(node, shape, self._of_convolution)
        return found or direct_sum(tensor, shape)

    # Flat layers

    def _flat(self, tensor: str, size: int) -> LinearSum | None:
        node = self._producer.get(tensor)
        if node is None or size <= FEW:
            return None
        if node.op_type == "Gemm":
            return self._gemm(node, size)
        if node.op_type == "MatMul":
            return self._matmul(node, size)
        if node.op_type == "Add":
            return self._biased(node, (size,), lambda name: self._flat(name, size))
        return None

    def _gemm(self, node: onnx.NodeProto, size: int) -> LinearSum | None:
        given = attributes(node)
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
        return self._product(node.input[0], total, constant, size)

    def _matmul(self, node: onnx.NodeProto, size: int) -> LinearSum | None:
        weights = self._constant(node.input[1])
        if weights is None or weights.ndim != 2 or weights.shape[1] != size:
            return None
        return self._product(node.input[0], weights.sum(axis=1, dtype=np.float64), 0.0, size)

    def _product(
        self, source: str, weights: NDArray[np.float64], constant: float, size: int
    ) -> LinearSum | None:
        if len(weights) > _LONGER * size or self._shapes.get(source) != weights.shape:
            return None
        return LinearSum({Leaf(source, "product"): weights}, constant)

    def _biased(
        self,
        node: onnx.NodeProto,
        shape: tuple[int, ...],
        inner_sum: Callable[[str], LinearSum | None],
    ) -> LinearSum | None:
        """Give the sum of a linear operator's result to which an Add adds a constant."""
        for summand, other in (node.input, reversed(node.input)):
            bias = self._constant(other)
            # A summand of another shape would be repeated by the Add.
            if bias is None or self._shapes.get(summand) != shape or not _broadcasts(bias, shape):
                continue
            inner = inner_sum(summand)
            if inner is not None:
                added = _total(bias) * (math.prod(shape) // bias.size)
                return inner.plus(LinearSum({}, added))
        return None

    # Pictures: sums of a chain's channels, each with a weight of its own

    def _of_channels(
        self, tensor: str, weights: NDArray[np.float64], *, deep: bool = True
    ) -> LinearSum | None:
        """Give the weighted sum of a picture's channel sums.

        Parameters
        ----------
        tensor : str
        weights : ndarray, shape (C,)
        deep : bool
            Where nothing is gained by going back in the graph, give what is read of the tensor
            itself instead of None.
        """
        node = self._producer.get(tensor)
        found = None
        if self._depth > _LONGEST_CHAIN:
            pass
        elif node is not None and (node.op_type in _FREE or self._never_made(tensor)):
            through = self._through.get(node.op_type)
            self._depth += 1
            found = None if through is None else through(node, weights)
            self._depth -= 1
        elif node is not None and node.op_type == "Conv" and node.input[0] in self._inputs:
            found = self._convolved(node, weights)
        if found is None and deep:
            return LinearSum({Leaf(tensor, "planes"): weights})
        return found

    def _never_made(self, tensor: str) -> bool:
        """Say whether the runtime fuses what makes a tensor with the one node that reads it."""
        readers = self._graph.consumers.get(tensor, [])
        return tensor not in self._outputs and len(readers) == 1 and readers[0].op_type in _FUSED

    def _same(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> LinearSum | None:
        if len(node.input) > 2 or node.input[0] not in self._shapes:
            return None
        return self._of_channels(node.input[0], weights)

    def _normalised(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> LinearSum | None:
        given = attributes(node)
        source = self._shapes.get(node.input[0])
        constants = [self._constant(name) for name in node.input[1:5]]
        if source is None or given.get("training_mode") or not given.get("spatial", 1):
            return None
        if any(node.output[1:]):
            # Before opset 14 that is how a node says that it normalises by the batch.
            return None
        arrays = [one.astype(np.float64) for one in constants if one is not None]
        if len(arrays) != 4 or any(one.shape != weights.shape for one in arrays):
            return None
        scale, bias, mean, variance = arrays
        factor = scale / np.sqrt(variance + given.get("epsilon", 1e-5))
        added = float(weights @ (bias - mean * factor)) * math.prod(source[1:])
        return self._plus_constant(self._of_channels(node.input[0], weights * factor), added)

    def _joined(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> LinearSum | None:
        shapes = [self._shapes.get(name) for name in node.input]
        if attributes(node).get("axis") not in (1, -3) or any(s is None for s in shapes):
            return None
        total: LinearSum | None = LinearSum({})
        start = 0
        for name, shape in zip(node.input, shapes, strict=True):
            count = shape[0] if shape else 0
            part = self._of_channels(name, weights[start : start + count])
            total = None if total is None or part is None else total.plus(part)
            start += count
        return total if start == len(weights) else None

    def _added(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> LinearSum | None:
        shape = self._shapes.get(node.output[0])
        if shape is None:
            return None
        total: LinearSum | None = LinearSum({})
        for place, name in enumerate(node.input):
            sign = -1.0 if node.op_type == "Sub" and place else 1.0
            constant = self._constant(name)
            part: LinearSum | None = None
            if constant is not None and _broadcasts(constant, shape):
                whole = np.broadcast_to(constant, (1, *shape))[0]
                part = LinearSum({}, float(weights @ whole.sum(axis=(1, 2), dtype=np.float64)))
            elif self._shapes.get(name) == shape:
                part = self._of_channels(name, weights)
            if part is None or total is None:
                return None
            total = total.plus(part.times(sign))
        return total

    def _scaled(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> LinearSum | None:
        shape = self._shapes.get(node.output[0])
        pairs = [tuple(node.input), tuple(node.input)[::-1]]
        for name, other in pairs[:1] if node.op_type == "Div" else pairs:
            factor = self._constant(other)
            if factor is None or shape is None or self._shapes.get(name) != shape:
                continue
            if not _broadcasts(factor, (len(weights), 1, 1)):
                return None
            whole = np.broadcast_to(factor, (1, len(weights), 1, 1)).reshape(-1).astype(np.float64)
            if node.op_type == "Div" and not whole.all():
                return None
            return self._of_channels(
                name, weights / whole if node.op_type == "Div" else weights * whole
            )
        return None

    def _of_convolution(self, tensor: str) -> LinearSum | None:
        node = self._producer.get(tensor)
        if node is None or node.op_type != "Conv":
            return None
        return self._convolved(node, np.ones(self._shapes[tensor][0]))

    def _convolved(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> LinearSum | None:
        source, made = self._shapes.get(node.input[0]), self._shapes.get(node.output[0])
        kernel = self._constant(node.input[1])
        if source is None or made is None or kernel is None or kernel.shape[0] != len(weights):
            return None
        if not len(source) == len(made) == kernel.ndim - 1:
            return None
        counts = count_taps(node, kernel.shape[2:], source[1:], made[1:])
        if counts is None:
            return None
        constant = 0.0
        if len(node.input) > 2 and node.input[2]:
            bias = self._constant(node.input[2])
            if bias is None:
                return None
            constant = float(weights @ bias.astype(np.float64)) * math.prod(made[1:])
        group = int(attributes(node).get("group", 1))
        term = self._taps(node, sum_kernel(kernel, weights, group), counts, group)
        return None if term is None else LinearSum(dict([term]), constant)

    def _taps(
        self,
        node: onnx.NodeProto,
        kernel: NDArray[np.float64],
        counts: list[NDArray[np.float64]],
        group: int,
    ) -> tuple[Leaf, NDArray[np.float64]] | None:
        """Say what must be read of a convolution's input, and with which weights."""
        name = node.input[0]
        source, made = self._shapes[name], self._shapes[node.output[0]]
        small = math.prod(source) <= min(_MOST_WEIGHTS, math.prod(made))
        if name in self._inputs and small:
            weights = kernel
            for axis, meets in enumerate(counts):
                weights = np.moveaxis(np.tensordot(weights, meets, (axis + 1, 0)), -1, axis + 1)
            return Leaf(name, "product"), weights.reshape(-1)
        if len(counts) != 2:
            return None
        if all(meets.all() for meets in counts):
            return Leaf(name, "planes"), kernel.sum(axis=(1, 2))
        edges = edge_weights(kernel, *counts)
        if edges is not None:
            return Leaf(name, "edges"), edges
        if group > 1 or made[0] <= _VECTOR_CHANNELS:
            return None
        return Leaf(name, "windows", node.output[0]), kernel

    @staticmethod
    def _plus_constant(found: LinearSum | None, added: float) -> LinearSum | None:
        return None if found is None else found.plus(LinearSum({}, added))

    def _constant(self, name: str) -> NDArray[np.float32] | None:
        """Give a float32 constant, or None: an initializer or Constant, perhaps with new axes."""
        node = self._producer.get(name)
        if node is not None and node.op_type == "Identity":
            return self._constant(node.input[0])
        if node is not None and node.op_type == "Unsqueeze":
            return self._unsqueezed(node)
        tensor = self._weights.get(name)
        if node is not None and node.op_type == "Constant":
            tensor = next((given.t for given in node.attribute if given.name == "value"), None)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        try:
            return self._array(tensor)
        except (ValueError, OSError, onnx.checker.ValidationError):
            # Where its values are or how many there are is not what the file says.
            return None

    def _unsqueezed(self, node: onnx.NodeProto) -> NDArray[np.float32] | None:
        inner = self._constant(node.input[0])
        axes = attributes(node).get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in self._weights:
            axes = self._array(self._weights[node.input[1]]).tolist()
        return None if inner is None or axes is None else np.expand_dims(inner, tuple(axes))

    def _array(self, tensor: onnx.TensorProto) -> NDArray[np.float32]:
        # Summed in float64 without a copy in float64: weights may be gigabytes.
        return numpy_helper.to_array(tensor, str(real_path(self._graph.path.parent)))


def _total(values: NDArray[np.float32]) -> float:
    return float(values.sum(dtype=np.float64))


def _broadcasts(bias: NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    """Say whether a bias is added to a sample of this shape without making it larger."""
    try:
        return np.broadcast_shapes(bias.shape, (1, *shape)) == (1, *shape)
    except ValueError:
        return False
