"""Which tensors are layers: the rules ``preactivation`` and ``linear``, found in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool.backend.linear_operators import linear_operator
from cnatool.backend.walk import QUANTIZATION, SHAPE_CHANGES, passes, readers, walk
from cnatool.store.records import LayerRecord, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from cnatool.backend.graph import Graph
    from cnatool.backend.linear_operators import LinearOperator

__all__ = ["LayerTable", "find_layers"]

# What a model may put behind its last layer without giving it another meaning.
_OUTPUT_FUNCTIONS = frozenset(
    {"ArgMax", "LogSoftmax", "QLinearSigmoid", "QLinearSoftmax", "Sigmoid", "Softmax", "ZipMap"}
)
_SUMS = frozenset({"Add", "QLinearAdd", "Sum"})
_POOLING = frozenset({"AveragePool", "MaxPool"})
_NONLINEARITIES = frozenset(
    {
        "BiasGelu",
        "Celu",
        "Clip",
        "Elu",
        "Erf",
        "FastGelu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "LogSoftmax",
        "Mish",
        "PRelu",
        "QLinearLeakyRelu",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QuickGelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Softsign",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    }
)


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The layers of a graph.

    Attributes
    ----------
    layers : tuple of LayerRecord
        Its linear operators in execution order.
    output_tensors : frozenset of str
        Tensors of the last layer, from the linear operator up to the model's output.
    """

    layers: tuple[LayerRecord, ...]
    output_tensors: frozenset[str]

    def role(self, name: str, operator: str, *, is_output: bool) -> Role:
        """Say what a tensor is: part of the last layer, a hidden layer, an activation, or other."""
        if name in self.output_tensors:
            return "output"
        if any(name in (layer.linear, layer.preactivation) for layer in self.layers):
            return "layer"
        if is_output:
            return "output"
        return "activation" if operator in _NONLINEARITIES else "other"


def find_layers(graph: Graph) -> LayerTable:
    """Find the linear operators of a graph and the tensors that stand for them.

    A linear operator is a Conv, ConvTranspose, Gemm, MatMul or contracting Einsum, or a quantised
    or fused form of one, that multiplies a tensor which depends on the input by one which does
    not. From its result the walk goes forward while one node alone reads it and that adds or
    subtracts a constant, scales by one, normalises, casts, quantises, or changes the shape alone;
    a normalisation may be written out in several nodes.

    An activation that is fused into an operator cannot be taken out again. The record's
    ``operator`` then says so, as ``FusedConv+Relu``: both tensors hold what comes after it.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    LayerTable
    """
    nodes = _Nodes(graph)
    depth = nodes.path_lengths(value.name for value in graph.inputs)
    # Where a linear operator lies further down, a result that is also a model output is a hidden
    # layer that somebody exposed, not the last one.
    leads_on = nodes.ancestors(operator.data for operator in nodes.linear.values())
    layers = []
    output_tensors: set[str] = set()
    for number, operator in enumerate(nodes.linear.values(), start=1):
        found = walk(graph, operator)
        tail = set() if operator.result in leads_on else _tail(graph, operator.result)
        output_tensors |= tail
        layers.append(
            LayerRecord(
                number=number,
                operator=operator.label(readers(graph, found.end)),
                linear=found.linear,
                preactivation=found.preactivation,
                output=bool(tail),
                shortcut=_is_shortcut(nodes, operator, found.end),
                path=depth[operator.result],
                leads_to=tuple(name for name in graph.output_names if name in tail),
            )
        )
    return LayerTable(tuple(layers), frozenset(output_tensors))


class _Nodes:
    """The nodes of a graph with all that they read, and the linear operators among them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.linear: dict[str, LinearOperator] = {}
        self._reads: list[tuple[onnx.NodeProto, list[str]]] = []
        self._places: dict[str, int] = {}
        reads: dict[str, list[str]] = {}
        # What a node's subgraphs take from outside is read as well.
        for name, consumers in graph.consumers.items():
            for node in consumers:
                reads.setdefault(_key(node), []).append(name)
        for node in graph.nodes:
            self._reads.append((node, reads.get(_key(node), [])))
            self._places.update(dict.fromkeys(node.output, len(self._reads)))
            operator = linear_operator(graph, node)
            if operator is not None:
                self.linear[operator.result] = operator

    def path_lengths(
        self, start: Iterable[str], until: Iterable[str] | None = None
    ) -> dict[str, int]:
        """Count linear operators on the longest path from ``start`` to each tensor behind it.

        With ``until``, only the tensors up to the last of those are looked at.
        """
        lengths = dict.fromkeys(start, 0)
        first = min((self._places.get(name, 0) for name in lengths), default=0)
        last = None if until is None else max(self._places.get(name, 0) for name in until)
        for node, reads in self._reads[first:last]:
            before = [lengths[name] for name in reads if name in lengths]
            if before:
                length = max(before) + (_key(node) in self.linear)
                lengths.update({name: length for name in node.output if name})
        return lengths

    def ancestors(self, tensors: Iterable[str]) -> set[str]:
        """Give ``tensors`` and every tensor on which they depend."""
        found = set(tensors)
        for node, reads in reversed(self._reads):
            if not found.isdisjoint(node.output):
                found.update(reads)
        return found


def _key(node: onnx.NodeProto) -> str:
    return next((name for name in node.output if name), "")


def _tail(graph: Graph, tensor: str) -> set[str]:
    """Give the tensors from a linear operator's result to a model output; empty if it reaches none.

    A model may give its logits and their softmax, so every reader is followed.
    """
    reached = {tensor: False}  # whether an output function has been passed
    for node in graph.nodes:
        name = next((name for name in node.input if name in reached), None)
        if name is None:
            continue
        function = node.op_type in _OUTPUT_FUNCTIONS
        follows = function or passes(graph, node, name)
        if reached[name]:
            # The probability of the other of two classes, and both side by side; and codes for
            # probabilities, none of which is negative.
            follows |= node.op_type in ("QuantizeLinear", "Sub")
            follows |= node.op_type == "Concat" and all(
                other in reached for other in node.input if other in graph.dynamic
            )
        if follows:
            reached[node.output[0]] = function or reached[name]
    return set(reached) if not reached.keys().isdisjoint(graph.output_names) else set()


def _fork(graph: Graph, tensor: str) -> str:
    """Go back from a layer's input through pooling and the like, to where its path began."""
    passed = SHAPE_CHANGES | QUANTIZATION | _POOLING
    while (node := graph.producer.get(tensor)) is not None and node.op_type in passed:
        tensor = node.input[0]
    return tensor


def _is_shortcut(nodes: _Nodes, operator: LinearOperator, end: str) -> bool:
    """Say whether a layer is added to a longer path that started from the layer's own input."""
    if operator.summand is not None:
        others = {operator.summand: 0}
    elif operator.nonlinearity is not None:
        return False
    else:
        others = {}
        for node in readers(nodes.graph, end):
            fused = nodes.linear.get(_key(node))
            if fused is not None and fused.summand == end:
                # added within the operator that ends the other path
                others[fused.data] = 1
            elif node.op_type in _SUMS:
                others.update({name: 0 for name in node.input if name != end})
    if others.keys().isdisjoint(nodes.graph.dynamic):
        return False
    lengths = nodes.path_lengths([_fork(nodes.graph, operator.data)], until=others)
    return any(lengths.get(name, 0) + more >= 2 for name, more in others.items())
