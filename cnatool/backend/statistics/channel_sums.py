"""Sums of tensors (C, H, W) as weighted sums of the tensors that they are computed from.

A sum need not read the tensor itself: through a normalisation, a concatenation, an addition or a
1×1 convolution it is linear in the channel sums of the inputs; of any convolution of the model's
own input, it is linear in the elements of that. The runtime is then free to fuse the operators of
the chain, as it does in plain inference, and less is read. `benchmarks/statistics_speed.py`
measures what that saves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.products import multiply
from cnatool.backend.graph.constants import Constants
from cnatool.backend.graph.nodes import attributes, input_name, operator_set
from cnatool.backend.statistics.convolution_window import read_window, sum_kernel
from cnatool.errors import CnatoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

# What the runtime fuses with the linear operator before: the value between them never exists.
_FUSED = operator_set(
    "Add BatchNormalization Clip Div Elu HardSigmoid LeakyRelu Mul Relu Sigmoid Sub Sum Tanh"
)
# Their sums need nothing that is not read anyway.
_FREE = frozenset({"BatchNormalization", "Concat", "Dropout", "Identity"})
# They keep the elements of each sample together.
_REARRANGING = operator_set("Flatten Identity Reshape Squeeze Transpose Unsqueeze")
# Further back it would cost more than it saves: each tensor of a chain goes back anew.
_LONGEST_CHAIN = 100
_EPSILON = 1e-5
# Elements of the largest constant that is cached: the chains of many tensors pass through it.
_SMALL = 1 << 14
# Of an input whose elements have a weight each: it is repacked by the runtime, 16 times as large.
_MOST_ELEMENTS = 4096
# Least difference of the elements of an input, relative to the largest of them, for which the
# rounding of a convolution is far below 1e-5 of its result even where the mean is filtered out.
_LEAST_RANGE = 2.0**-9


@dataclass(frozen=True, slots=True)
class ChannelSum:
    """A sum: ``constant`` plus weighted sums over tensors.

    ``terms`` hold a weight for each channel of a tensor, (C,), and ``elements`` one for each of its
    elements, (C, H, W).
    """

    terms: dict[str, NDArray[np.float64]]
    constant: float = 0.0
    elements: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __add__(self, other: ChannelSum) -> ChannelSum:
        return ChannelSum(
            _add_weights(self.terms, other.terms),
            self.constant + other.constant,
            _add_weights(self.elements, other.elements),
        )


class ChannelSums:
    """Finds what the sum of a tensor is cheapest computed from.

    ``shapes`` are those of one sample of the float32 tensors with the sample axis first.
    """

    def __init__(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._graph = graph
        self._constants = Constants(graph)
        self._small: dict[str, NDArray[np.float32] | None] = {}
        self._shapes = {name: shape for name, shape in shapes.items() if len(shape) == 3}
        self._outputs = frozenset(graph.output_names)
        # Nothing is known of further results, such as the mask of a Dropout.
        self._producer = {n: node for n, node in graph.producer.items() if n == node.output[0]}
        self._depth = 0
        self._rules: dict[
            str, Callable[[onnx.NodeProto, NDArray[np.float64]], ChannelSum | None]
        ] = {
            "Add": self._sum_of_add,
            "BatchNormalization": self._sum_of_normalization,
            "Concat": self._sum_of_concatenation,
            "Conv": self._sum_of_convolution,
            "Div": self._sum_of_product,
            "Dropout": self._sum_of_copy,
            "Identity": self._sum_of_copy,
            "Mul": self._sum_of_product,
            "Sub": self._sum_of_add,
            "Sum": self._sum_of_add,
        }

    def find(self, tensor: str) -> ChannelSum | None:
        """Return the sum of a tensor, (C, H, W), over its elements."""
        ones = np.ones(self._shapes[tensor][0])
        return self._look_back(tensor, ones) or ChannelSum({tensor: ones})

    def _weighted(self, tensor: str, weights: NDArray[np.float64]) -> ChannelSum:
        return self._look_back(tensor, weights) or ChannelSum({tensor: weights})

    def _look_back(self, tensor: str, weights: NDArray[np.float64]) -> ChannelSum | None:
        """Follow a weighted sum to the inputs of the tensor's node; None without a gain."""
        node = self._producer.get(tensor)
        if node is None or self._depth > _LONGEST_CHAIN or node.op_type not in self._rules:
            return None
        if node.op_type not in _FREE and not self._is_fused(tensor):
            return None
        self._depth += 1
        total = self._rules[node.op_type](node, weights)
        self._depth -= 1
        return total

    def _is_fused(self, tensor: str) -> bool:
        """Whether the runtime fuses the node of a tensor with the one node that reads it."""
        readers = self._graph.consumers.get(tensor, [])
        return tensor not in self._outputs and len(readers) == 1 and readers[0].op_type in _FUSED

    def _sum_of_copy(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> ChannelSum | None:
        if len(node.input) > 2 or node.input[0] not in self._shapes:
            return None
        return self._weighted(node.input[0], weights)

    def _sum_of_normalization(
        self, node: onnx.NodeProto, weights: NDArray[np.float64]
    ) -> ChannelSum | None:
        settings = attributes(node)
        source = self._shapes.get(node.input[0])
        if source is None or settings.get("training_mode") or not settings.get("spatial", 1):
            return None
        if any(node.output[1:]):
            # Before opset 14 such a node normalises by the statistics of the batch.
            return None
        constants = [self._constant(name) for name in node.input[1:5]]
        arrays = [value.astype(np.float64) for value in constants if value is not None]
        if len(arrays) != 4 or any(value.shape != weights.shape for value in arrays):
            return None
        scale, bias, mean, variance = arrays
        factor = scale / np.sqrt(variance + settings.get("epsilon", _EPSILON))
        constant = float(multiply(weights, bias - mean * factor)) * math.prod(source[1:])
        return self._weighted(node.input[0], weights * factor) + ChannelSum({}, constant)

    def _sum_of_concatenation(
        self, node: onnx.NodeProto, weights: NDArray[np.float64]
    ) -> ChannelSum | None:
        shapes = [self._shapes.get(name) for name in node.input]
        counts = [shape[0] for shape in shapes if shape is not None]
        if attributes(node).get("axis") not in (1, -3) or None in shapes:
            return None
        if sum(counts) != len(weights):
            return None
        total = ChannelSum({})
        for name, part in zip(node.input, np.split(weights, np.cumsum(counts)[:-1]), strict=True):
            total += self._weighted(name, part)
        return total

    def _sum_of_add(self, node: onnx.NodeProto, weights: NDArray[np.float64]) -> ChannelSum | None:
        shape = self._shapes.get(node.output[0])
        if shape is None:
            return None
        total = ChannelSum({})
        for place, name in enumerate(node.input):
            signed = -weights if node.op_type == "Sub" and place else weights
            constant = self._constant(name)
            if constant is not None and _broadcasts(constant, shape):
                total += ChannelSum({}, float(multiply(signed, _sum_channels(constant, shape))))
            elif self._shapes.get(name) == shape:
                total += self._weighted(name, signed)
            else:
                return None
        return total

    def _sum_of_product(
        self, node: onnx.NodeProto, weights: NDArray[np.float64]
    ) -> ChannelSum | None:
        shape = self._shapes.get(node.output[0])
        pairs = [tuple(node.input), tuple(node.input)[::-1]]
        for name, other in pairs[:1] if node.op_type == "Div" else pairs:
            factor = self._constant(other)
            if factor is None or shape is None or self._shapes.get(name) != shape:
                continue
            channels = (1, len(weights), 1, 1)
            if not _broadcasts(factor, channels[1:]):
                return None
            factors = np.broadcast_to(factor, channels).reshape(-1).astype(np.float64)
            if node.op_type == "Div" and not factors.all():
                return None
            return self._weighted(
                name, weights / factors if node.op_type == "Div" else weights * factors
            )
        return None

    def _sum_of_convolution(
        self, node: onnx.NodeProto, weights: NDArray[np.float64]
    ) -> ChannelSum | None:
        """Return the sum of a 1×1 convolution, or of any convolution of the model's input."""
        tensor = node.input[0]
        source, made = self._shapes.get(tensor), self._shapes.get(node.output[0])
        kernel = self._constant(node.input[1])
        if source is None or made is None or kernel is None or kernel.ndim != 4:
            return None
        window = read_window(node, kernel.shape, source, made)
        reads_input = tensor not in self._graph.producer and math.prod(source) <= _MOST_ELEMENTS
        if len(kernel) != len(weights) or not (window.meets_each_once or reads_input):
            return None
        constant = 0.0
        if name := input_name(node, 2):
            bias = self._constant(name)
            if bias is None:
                return None
            constant = float(multiply(weights, bias.astype(np.float64))) * math.prod(made[1:])
        summed = sum_kernel(kernel, weights, window.group)
        if window.meets_each_once:
            return ChannelSum({tensor: summed[:, 0, 0]}, constant)
        return ChannelSum({}, constant, {tensor: window.spread_taps(summed)})

    def _constant(self, name: str) -> NDArray[np.float32] | None:
        """Read a float32 constant that no node computes, perhaps in another shape."""
        if name in self._small:
            return self._small[name]
        value = self._read_constant(name)
        if value is None or value.size <= _SMALL:
            self._small[name] = value
        return value

    def _read_constant(self, name: str) -> NDArray[np.float32] | None:
        constants = self._constants
        if not constants.has(name) or constants.weights(name) not in self._graph.constants:
            return None
        try:
            value = constants.value(name)
        except CnatoolError:  # its file does not hold it
            return None
        return value if value.dtype == np.float32 else None


def any_nearly_constant(inputs: NDArray[Any]) -> bool:
    """Whether the elements of any sample of an input, (n, …), hardly differ.

    A convolution that filters out their mean leaves its own rounding errors, and the sum of its
    values is theirs: it cannot be computed from the input.
    """
    flat = inputs.reshape(len(inputs), -1)
    largest, least = flat.max(axis=1), flat.min(axis=1)
    magnitude = np.maximum(np.abs(largest), np.abs(least))
    return bool(np.any(largest - least < _LEAST_RANGE * magnitude))


def find_rearranged(graph: Graph, tensor: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Find the first tensor whose samples have the elements of this one's, in any arrangement.

    ``shapes`` are those of one sample, of tensors with the sample axis first.
    """
    while (node := graph.producer.get(tensor)) is not None and node.op_type in _REARRANGING:
        source = node.input[0]
        if source not in shapes or math.prod(shapes[source]) != math.prod(shapes[tensor]):
            break
        if node.op_type == "Transpose" and (attributes(node).get("perm") or [1])[0] != 0:
            break
        tensor = source
    return tensor


def _add_weights(
    first: dict[str, NDArray[np.float64]], second: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    both = {name: first[name] + second[name] for name in first if name in second}
    return {**first, **second, **both}


def _sum_channels(value: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Sum each channel, (C,), of a constant that is broadcast to a sample of this shape."""
    own = value.reshape((1,) * (4 - value.ndim) + value.shape)[0]
    times = math.prod(
        size for size, given in zip(shape[1:], own.shape[1:], strict=True) if given == 1
    )
    return np.broadcast_to(own.sum(axis=(1, 2), dtype=np.float64) * times, shape[:1])


def _broadcasts(value: NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    """Whether a constant broadcasts to a sample of this shape without making it larger."""
    try:
        return np.broadcast_shapes(value.shape, (1, *shape)) == (1, *shape)
    except ValueError:
        return False
