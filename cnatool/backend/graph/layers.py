"""Which tensors are layers: the rules ``preactivation`` and ``linear``, found in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from cnatool.backend.graph.blocks import find_blocks
from cnatool.backend.graph.branches import find_shortcut_layers
from cnatool.backend.graph.flat_nodes import SUBGRAPH_INPUT
from cnatool.backend.graph.linear_operators import clips_at_zero, constant_shape, linear_operator
from cnatool.backend.graph.nodes import first_output, operator_set
from cnatool.backend.graph.preactivation_walk import passes, readers, walk
from cnatool.backend.graph.residual import find_residual_sums, list_stream
from cnatool.layers.output_paths import MEAN_POOLING, OUTPUT_FUNCTIONS, RECTIFIERS, OutputPath
from cnatool.records.store import LayerRecord, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.linear_operators import LinearOperator

_NONLINEARITIES = operator_set(
    "BiasGelu Celu Clip Elu Erf FastGelu Gelu HardSigmoid HardSwish LeakyRelu LogSoftmax Mish "
    "PRelu QLinearLeakyRelu QLinearSigmoid QLinearSoftmax QuickGelu Relu Selu Sigmoid Softmax "
    "Softplus Softsign Swish Tanh ThresholdedRelu"
)


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The layers of a graph."""

    # Its linear operators in execution order.
    layers: tuple[LayerRecord, ...]
    # Tensors that stand for one of them, under either rule.
    layer_tensors: frozenset[str]
    # Tensors of the last layer, from the linear operator up to the model's output.
    output_tensors: frozenset[str]
    # Tensors of the residual stream, in execution order.
    residual: tuple[str, ...] = ()

    def role(self, name: str, operator: str, *, is_output: bool) -> Role:
        """Classify a tensor: part of the last layer, a hidden layer, an activation, or other."""
        if name in self.output_tensors:
            return "output"
        if name in self.layer_tensors:
            return "layer"
        if is_output:
            return "output"
        return "activation" if operator in _NONLINEARITIES else "other"


def find_layers(graph: Graph) -> LayerTable:
    """Find the linear operators of a graph and the tensors that stand for them.

    A linear operator is a Conv, ConvTranspose, Gemm, MatMul or contracting Einsum, or a quantised
    or fused form of one, that multiplies a tensor which depends on the input by one which does
    not. The walk goes forward from its result while a single node reads it that adds or subtracts
    a constant, scales by one, normalises, casts, quantises, or only changes the shape; a
    normalisation may be written out in several nodes.

    An activation that is fused into an operator cannot be separated again. The record's
    ``operator`` names it, as in ``FusedConv+Relu``: both tensors hold values after it.
    """
    nodes = _Nodes(graph)
    depth = nodes.path_lengths(value.name for value in graph.inputs)
    # A result that is also a model output is an exposed hidden layer, not the last one, where
    # another linear operator follows.
    leads_on = nodes.ancestors(operator.data for operator in nodes.linear.values())
    layers = []
    output_tensors: set[str] = set()
    walks = {operator.result: walk(graph, operator) for operator in nodes.linear.values()}
    bypassing = find_shortcut_layers(
        graph, nodes.reads, nodes.linear, {result: path.end for result, path in walks.items()}
    )
    sums = find_residual_sums(graph, nodes.reads, nodes.linear, bypassing)
    blocks = find_blocks(graph, nodes.linear, sums)
    for number, operator in enumerate(nodes.linear.values(), start=1):
        path = walks[operator.result]
        tail = set() if operator.result in leads_on else _tail(graph, operator)
        output_tensors |= tail
        layers.append(
            LayerRecord(
                number=number,
                operator=operator.label(readers(graph, path.end)),
                linear=path.linear,
                preactivation=path.preactivation,
                output=bool(tail),
                shortcut=operator.result in bypassing,
                path=depth[operator.result],
                leads_to=tuple(name for name in graph.output_names if name in tail),
                per_sample=operator.result not in graph.conditional,
                block=blocks.get(operator.result, msgspec.UNSET),
            )
        )
    layer_tensors = {name for layer in layers for name in (layer.linear, layer.preactivation)}
    return LayerTable(
        tuple(layers),
        frozenset(layer_tensors),
        frozenset(output_tensors),
        list_stream(graph, sums),
    )


class _Nodes:
    """The nodes of a graph with all that they read, and the linear operators among them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.linear: dict[str, LinearOperator] = {}
        self.reads: list[tuple[onnx.NodeProto, list[str]]] = []
        made: set[str] = set()
        for node in graph.nodes:
            names = list(filter(None, node.input))
            if graph.results:
                # What a loop hands to its next iteration is computed behind this node.
                names = [name for name in names if name in made or name not in graph.producer]
                made.update(node.output)
            self.reads.append((node, names))
            operator = linear_operator(graph, node)
            if operator is not None:
                self.linear[operator.result] = operator

    def path_lengths(self, start: Iterable[str]) -> dict[str, int]:
        """Count linear operators on the longest path from ``start`` to each tensor behind it."""
        lengths = dict.fromkeys(start, 0)
        for node, reads in self.reads:
            before = [lengths[name] for name in reads if name in lengths]
            if node.op_type == SUBGRAPH_INPUT:
                before.append(0)  # a state that is constant at first
            if before:
                length = max(before) + (first_output(node) in self.linear)
                lengths.update({name: length for name in node.output if name})
        return lengths

    def ancestors(self, tensors: Iterable[str]) -> set[str]:
        """Collect ``tensors`` and every tensor on which they depend."""
        ancestors = set(tensors)
        for node, reads in reversed(self.reads):
            if not ancestors.isdisjoint(node.output):
                ancestors.update(reads)
        return ancestors


def _tail(graph: Graph, operator: LinearOperator) -> set[str]:
    """Return the tensors from a linear operator's result to a model output, if it reaches one.

    A model may return its logits and their softmax, so every reader is followed.
    """
    reached = {operator.result: OutputPath()}
    for node in graph.nodes:
        name = next((name for name in node.input if name in reached), None)
        if name is not None:
            path = _behind(graph, node, name, reached)
            if path is not None:
                reached[node.output[0]] = path
    pointwise = _is_pointwise(graph, operator)
    ends = [
        reached[name]
        for name in graph.output_names
        if name in reached and reached[name].leads_on(pointwise=pointwise)
    ]
    if not ends:
        return set()
    rectified = any(path.rectified for path in ends)
    return {name for name, path in reached.items() if rectified or not path.rectified}


def _behind(
    graph: Graph, node: onnx.NodeProto, tensor: str, reached: Mapping[str, OutputPath]
) -> OutputPath | None:
    """Return the path behind a node that reads a tensor on it; None where the path ends."""
    path = reached[tensor]
    if node.output[0] in graph.results:
        # What the branches return, or what a loop does: not its initial state.
        returned = node.input[:2] if node.op_type == "If" else node.input[:1]
        return path if tensor in returned else None
    if node.op_type in OUTPUT_FUNCTIONS:
        return path.through_function()
    first = bool(node.input and node.input[0] == tensor)
    if first and node.op_type in MEAN_POOLING:
        return path.through_mean()
    clips = node.op_type == "QuantizeLinear" and clips_at_zero(graph, node, 2)
    if first and (node.op_type in RECTIFIERS or (clips and not path.function)):
        return path if path.rectified else path.through_rectifier()
    if passes(graph, node, tensor):
        return path
    if not path.function:
        return None
    # The probability of the other of two classes, both side by side, and codes of probabilities,
    # none of which is negative.
    if node.op_type in ("QuantizeLinear", "Sub"):
        return path
    parts = [other for other in node.input if other in graph.dynamic]
    return path if node.op_type == "Concat" and all(p in reached for p in parts) else None


def _is_pointwise(graph: Graph, operator: LinearOperator) -> bool:
    """Whether a linear operator is a 1×1 convolution."""
    if "Conv" not in operator.node.op_type:
        return False
    kernel = next((list(a.ints) for a in operator.node.attribute if a.name == "kernel_shape"), None)
    if kernel is None:
        shape = constant_shape(graph, operator.weights)
        kernel = None if shape is None else list(shape[2:])
    return kernel is not None and set(kernel) == {1}
