"""Graphs that compute each sample by itself, as their operators show.

Runs on a few samples show that results of these samples do not depend on each other. Operators that
never look beyond a row of their inputs show it for all samples, and fewer runs are needed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnx import TensorProto, numpy_helper

from cnatool.backend.graph.nodes import (
    attributes,
    input_name,
    operator_set,
    overwrites_weights,
)
from cnatool.backend.graph.random_operators import draws_random
from cnatool.backend.probe.operator_shapes import BROADCAST, CONVOLVING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import onnx

    from cnatool.backend.graph.graph import Graph

# They compute each sample by itself, whatever their settings, where all inputs but the first are
# constants. (The offsets of a DeformConv have a row for each sample.)
_BY_SAMPLE = (CONVOLVING - {"DeformConv"}) | operator_set(
    "BatchNormalization Cast Clip Dropout GroupNormalization InstanceNormalization LRN"
)
# They compute along one axis, or have numbers for each place along it.
_ALONG_AXIS = operator_set(
    "ArgMax ArgMin DequantizeLinear Hardmax LayerNormalization LogSoftmax QuantizeLinear Softmax"
)


def separates_samples(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], inputs: Collection[str]
) -> bool:
    """Whether every tensor holds samples along its first axis, each computed from itself alone.

    Parameters
    ----------
    graph : Graph
    shapes : dict of str to tuple of int
        Shapes of tensors in a run of several samples, as far as they are known.
    inputs : collection of str
        The inputs that hold samples.

    Returns
    -------
    bool
        False also where the operators, or what is known of the shapes, do not show it.
    """
    rows = _Rows(graph, shapes, inputs)
    return all(rows.add(node) for node in graph.nodes)


class _Rows:
    """The tensors of which each row is computed from the same row of the inputs."""

    def __init__(
        self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], inputs: Collection[str]
    ) -> None:
        self._graph, self._shapes = graph, shapes
        self._names = set(inputs)

    def add(self, node: onnx.NodeProto) -> bool:
        """Add the result of a node; False where its rows may not be samples."""
        results = [name for name in node.output if name]
        if self._graph.dynamic.isdisjoint(results):
            return True
        # Further results, such as the places that a MaxPool takes, may count through the batch.
        if results != node.output[:1] or results[0] not in self._shapes:
            return False
        if node.domain not in ("", "ai.onnx"):
            return False
        # Both take numbers that are not a sample's own: random ones, or statistics of the batch.
        if draws_random(node, self._graph) or overwrites_weights(node):
            return False
        self._names.update(results)
        if node.op_type in BROADCAST:
            return self._meet(node.input, len(self._shapes[results[0]]))
        if node.op_type == "Concat":
            return self._names.issuperset(node.input) and self._avoids_rows(node, [])
        if node.op_type == "MatMul":
            return self._multiplies(*node.input)
        if node.input[0] not in self._names or not all(map(self._is_constant, node.input[1:])):
            return False
        return self._keeps(node)

    def _keeps(self, node: onnx.NodeProto) -> bool:
        """Whether a node keeps the rows of its first input, the others being constants."""
        operator, settings = node.op_type, attributes(node)
        if operator in _BY_SAMPLE:
            return True
        if operator in _ALONG_AXIS:
            axis = _default_axis(operator, self._graph.opset)
            rank = len(self._shapes[node.output[0]])
            return self._avoids_rows(node, [axis]) and self._meet(node.input[1:], rank)
        if operator == "Flatten":
            return bool(settings.get("axis", 1) == 1)
        if operator == "Transpose":
            return bool((settings.get("perm") or [1])[0] == 0)
        if operator == "Gemm":
            return not settings.get("transA") and self._meet(node.input[2:], 2)
        if operator == "Reshape":
            return self._reshapes(node)
        if operator in ("Squeeze", "Unsqueeze") or operator.startswith("Reduce"):
            axes = settings.get("axes") or self._integers(input_name(node, 1))
            return bool(axes) and self._avoids_rows(node, axes)
        return False

    def _meet(self, names: Iterable[str], rank: int) -> bool:
        """Whether rows meet the same rows where tensors are broadcast to so many axes."""
        for name in filter(None, names):
            shape = self._shape(name)
            if shape is None:
                return False
            if name in self._names:
                meets = len(shape) == rank
            else:
                meets = self._is_constant(name) and (len(shape) < rank or shape[0] == 1)
            if not meets:
                return False
        return True

    def _multiplies(self, left: str, right: str) -> bool:
        """Whether the rows of a matrix product are samples, or the matrices are."""
        first, second = self._shape(left), self._shape(right)
        if first is None or second is None:
            return False
        if left in self._names and self._is_constant(right) and len(second) <= 2 <= len(first):
            return True
        rank = max(len(first), len(second))
        return rank > 2 and self._meet((left, right), rank)

    def _reshapes(self, node: onnx.NodeProto) -> bool:
        """Whether a Reshape only arranges the elements of each sample anew, however many."""
        before, after = self._shape(node.input[0]), self._shapes[node.output[0]]
        to = self._integers(input_name(node, 1))
        if before is None or not to or to[0] not in (0, -1) or attributes(node).get("allowzero"):
            return False
        return before[0] == after[0] and math.prod(before) == math.prod(after)

    def _avoids_rows(self, node: onnx.NodeProto, axes: Sequence[int]) -> bool:
        """Whether none of the axes that a node works along, or else of ``axes``, is the first."""
        along = attributes(node).get("axis")
        of = node.output[0] if node.op_type == "Unsqueeze" else node.input[0]
        shape = self._shape(of)
        return shape is not None and all(
            axis % len(shape) for axis in (axes if along is None else [along])
        )

    def _is_constant(self, name: str) -> bool:
        return name not in self._graph.dynamic and name not in self._graph.shape_arithmetic

    def _shape(self, name: str) -> tuple[int, ...] | None:
        tensor = self._graph.constants.get(name)
        return self._shapes.get(name) if tensor is None else tuple(tensor.dims)

    def _integers(self, name: str) -> list[int]:
        """Return a constant vector of integers; empty where it is computed."""
        tensor = self._graph.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return []
        return [int(value) for value in numpy_helper.to_array(tensor).reshape(-1)]


def _default_axis(operator: str, opset: int) -> int:
    if operator.startswith("Arg"):
        return 0
    if operator in ("DequantizeLinear", "QuantizeLinear"):
        return 1
    return -1 if operator == "LayerNormalization" or opset >= 13 else 1
