"""Activations that are written out in several nodes, such as a GELU by its error function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.evaluate import evaluate_node
from cnatool.backend.graph.nodes import operator_set
from cnatool.backend.graph.preactivation_walk import readers
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.constants import Constants
    from cnatool.backend.graph.graph import Graph

_ELEMENTWISE = operator_set(
    "Abs Add And Cast CastLike Celu Clip Div Elu Equal Erf Exp Expand Gelu Greater "
    "GreaterOrEqual HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log Max Min "
    "Mish Mul Neg Not Or PRelu Pow Reciprocal Relu Selu Sigmoid Sign Softplus Softsign Sqrt "
    "Sub Sum Tanh ThresholdedRelu Where"
)
# More than any activation has.
_MOST_NODES = 32
_FAR = 30.0  # where every activation is at its limit, and no exponential overflows float32
_POINTS = np.array([-_FAR, -_FAR / 2, -2, -1, 0, 1, 2, _FAR / 2, _FAR], np.float32)
_NEAR = 1e-3


def find_activation(graph: Graph, constants: Constants, node: onnx.NodeProto) -> set[str]:
    """Find the nodes of the activation of which a scale by one number is a part.

    They apply one function to each element of one tensor, and that function is no scale: it is not
    affine, and it goes to x, or to 1, as x grows. With another scale it would be another function,
    which no weights could undo.
    """
    function = _Function(graph, constants)
    scaled = node.output[0]
    for end in (scaled, *_behind(graph, scaled)):
        if not function.reaches_back(end):
            continue
        if scaled in function.nodes and function.is_closed(end) and function.is_activation(end):
            return set(function.nodes)
    return set()


def _behind(graph: Graph, tensor: str) -> list[str]:
    """List tensors that are computed from another element by element, nearest first."""
    reached = [tensor]
    for name in reached:
        nodes = readers(graph, name)
        new = [node.output[0] for node in nodes if node.op_type in _ELEMENTWISE]
        reached += [result for result in dict.fromkeys(new) if result not in reached]
        if len(reached) > _MOST_NODES:
            break
    return reached[1:]


class _Function:
    """A tensor as a function of each element of one other tensor."""

    def __init__(self, graph: Graph, constants: Constants) -> None:
        self._graph = graph
        self._constants = constants
        self.nodes: dict[str, onnx.NodeProto] = {}
        self._source = ""

    def reaches_back(self, tensor: str) -> bool:
        """Collect the nodes between a tensor and the one from which it is computed."""
        self.nodes = {}
        sources: set[str] = set()
        waiting = [tensor]
        while waiting and len(self.nodes) <= _MOST_NODES:
            name = waiting.pop()
            node = self._graph.producer.get(name)
            if node is None or not self._is_elementwise(node):
                sources.add(name)
            elif name not in self.nodes:
                self.nodes[name] = node
                waiting.extend(self._data(node))
        self._source = next(iter(sources), "")
        return len(sources) == 1 and not waiting and self._source != tensor

    def is_closed(self, tensor: str) -> bool:
        """Whether only nodes of the function read the tensors between its two ends."""
        inside = self.nodes.keys() - {tensor}
        return inside.isdisjoint(self._graph.output_names) and all(
            reader.output[0] in self.nodes
            for name in inside
            for reader in readers(self._graph, name)
        )

    def is_activation(self, tensor: str) -> bool:
        """Whether the function is neither affine nor a scale of an activation."""
        try:
            y = self._values(tensor)
        except (ModelError, ArithmeticError, TypeError, ValueError):
            return False
        if y.shape != _POINTS.shape or not np.isfinite(y).all():
            return False
        slopes = np.diff(y) / np.diff(_POINTS)
        if np.ptp(slopes) <= _NEAR:
            return False
        bounded = abs(y[-1] - y[-2]) <= _NEAR and abs(y[0] - y[1]) <= _NEAR
        if bounded:
            return bool(
                abs(abs(y[-1]) - 1) <= _NEAR and min(abs(y[0]), abs(abs(y[0]) - 1)) <= _NEAR
            )
        return bool(abs(y[-1] / _FAR - 1) <= _NEAR)

    def _values(self, tensor: str) -> NDArray[np.float64]:
        arrays: dict[str, NDArray[Any]] = {self._source: _POINTS}
        with np.errstate(all="ignore"):
            for node in self._graph.nodes:
                if node.output[0] not in self.nodes:
                    continue
                if node.op_type in ("Cast", "CastLike", "Expand", "Identity"):
                    arrays[node.output[0]] = arrays[node.input[0]]
                    continue
                inputs = {
                    name: arrays[name] if name in arrays else self._number(name)
                    for name in node.input
                    if name
                }
                arrays.update(evaluate_node(node, inputs, self._graph))
        return np.asarray(arrays[tensor], np.float64)

    def _number(self, name: str) -> NDArray[Any]:
        value = self._constants.value(name).reshape(())
        floats = value.dtype.kind == "f" or value.dtype.itemsize == 2  # bfloat16 is no NumPy type
        return value.astype(np.float32) if floats else value

    def _data(self, node: onnx.NodeProto) -> Iterable[str]:
        return [name for name in node.input if name in self._graph.dynamic]

    def _is_elementwise(self, node: onnx.NodeProto) -> bool:
        """Whether a node treats all elements alike, with constants of one number."""
        if node.op_type not in _ELEMENTWISE:
            return False
        if node.op_type in ("Cast", "CastLike", "Expand", "Identity"):
            return node.input[0] in self._graph.dynamic
        others = [name for name in node.input if name and name not in self._graph.dynamic]
        return all(
            self._constants.has(name) and self._constants.value(name).size == 1 for name in others
        )
