"""Which tensors are layers: the rules ``preactivation`` and ``linear``, found in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool.store.records import LayerRecord, Role

if TYPE_CHECKING:
    import onnx

    from cnatool.backend.graph import Graph

__all__ = ["LayerTable", "find_layers"]

# The operand that must be constant, by operator: its weights.
_WEIGHT_INPUT = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "FusedConv": 1,
    "FusedGemm": 1,
    "Gemm": 1,
    "QGemm": 3,
    "QLinearConv": 3,
}
# Either operand may be the weights.
_MATMUL_INPUTS = {
    "FusedMatMul": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}
# Input that is the operator's own bias.
_BIAS_INPUT = {
    "Conv": 2,
    "ConvTranspose": 2,
    "FusedConv": 2,
    "FusedGemm": 2,
    "Gemm": 2,
    "QGemm": 6,
    "QLinearConv": 8,
}
_SHAPE_CHANGES = frozenset(
    {
        "Cast",
        "DepthToSpace",
        "Dropout",
        "Flatten",
        "Identity",
        "Reshape",
        "SpaceToDepth",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_QUANTIZATION = frozenset({"DequantizeLinear", "QuantizeLinear"})
_NORMALIZATIONS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
    }
)
# What a model may put behind its last layer without giving it another meaning.
_OUTPUT_FUNCTIONS = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})
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

    A linear operator is a Conv, ConvTranspose, Gemm or MatMul, or a quantised or fused form of
    one, that multiplies a tensor which depends on the input by one which does not. From its
    result the walk goes forward while there is one consumer and that adds or subtracts a
    constant, scales by one, normalises, casts, quantises, or changes the shape alone.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    LayerTable
    """
    nodes = [node for node in graph.nodes if _weight_input(graph, node) is not None]
    depth = _path_lengths(graph)
    # Where a linear operator lies further down, a result that is also a model output is a hidden
    # layer that somebody exposed, not the last one.
    leads_on = _ancestors_of(graph, nodes)
    layers = []
    output_tensors: set[str] = set()
    for number, node in enumerate(nodes, start=1):
        result = node.output[0]
        linear, preactivation = _walk(graph, node)
        tail = set() if result in leads_on else _tail(graph, result)
        output_tensors |= tail
        layers.append(
            LayerRecord(
                number=number,
                operator=node.op_type,
                linear=linear,
                preactivation=preactivation,
                output=bool(tail),
                shortcut=_is_shortcut(graph, node, preactivation),
                path=depth[result],
            )
        )
    return LayerTable(tuple(layers), frozenset(output_tensors))


def _weight_input(graph: Graph, node: onnx.NodeProto) -> int | None:
    """Give the number of the input that is the weights; None if the node is no linear operator."""
    if node.op_type in _WEIGHT_INPUT:
        weight = _WEIGHT_INPUT[node.op_type]
        candidates = [(weight, 0)]
    elif node.op_type in _MATMUL_INPUTS:
        left, right = _MATMUL_INPUTS[node.op_type]
        candidates = [(right, left), (left, right)]
    else:
        return None
    for weight, data in candidates:
        if weight < len(node.input) and node.input[weight] not in graph.dynamic:
            return weight if node.input[data] in graph.dynamic else None
    return None


def _data_input(graph: Graph, node: onnx.NodeProto) -> str:
    name: str = next(name for name in node.input if name in graph.dynamic)
    return name


def _walk(graph: Graph, node: onnx.NodeProto) -> tuple[str, str]:
    """Follow a linear operator's result; give the tensors ``(linear, preactivation)``."""
    tensor = linear = node.output[0]
    bias = _BIAS_INPUT.get(node.op_type)
    biased = bias is not None and bias < len(node.input) and bool(node.input[bias])
    only_shape = True
    while True:
        consumers = graph.consumers.get(tensor, [])
        if len(consumers) != 1:
            return linear, tensor
        step = consumers[0]
        if not _passes(graph, step, tensor):
            return linear, tensor
        tensor = step.output[0]
        if only_shape and not biased and step.op_type in ("Add", "Sub"):
            linear, biased = tensor, True
        only_shape = only_shape and step.op_type in _SHAPE_CHANGES | _QUANTIZATION


def _passes(graph: Graph, node: onnx.NodeProto, tensor: str) -> bool:
    if node.op_type == "QuantizeLinear":
        # Half of a pair only: what it gives by itself are codes, not values.
        readers = graph.consumers.get(node.output[0], [])
        pair = [reader.op_type for reader in readers] == ["DequantizeLinear"]
        return pair and bool(node.input[0] == tensor)
    if node.op_type in _SHAPE_CHANGES | _NORMALIZATIONS | {"DequantizeLinear"}:
        return bool(node.input[0] == tensor)
    if node.op_type in ("Add", "Mul"):
        return any(name not in graph.dynamic for name in node.input)
    if node.op_type in ("Sub", "Div"):
        # constant − x and constant / x are no bias and no scale
        return bool(node.input[0] == tensor) and node.input[1] not in graph.dynamic
    return False


def _tail(graph: Graph, tensor: str) -> set[str]:
    """Give the tensors from a linear operator's result to a model output; empty if it reaches none.

    A model may give its logits and their softmax, so every consumer is followed.
    """
    reached: set[str] = set()
    pending = [tensor]
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        pending.extend(
            node.output[0]
            for node in graph.consumers.get(name, [])
            if node.op_type in _OUTPUT_FUNCTIONS or _passes(graph, node, name)
        )
    return reached if reached.intersection(graph.output_names) else set()


def _path_lengths(graph: Graph, start: str | None = None) -> dict[str, int]:
    """Count linear operators on the longest path to each tensor, from the inputs or ``start``.

    With ``start``, only the tensors that depend on it are in the answer.
    """
    names = [value.name for value in graph.inputs] if start is None else [start]
    lengths = dict.fromkeys(names, 0)
    for node in graph.nodes:
        before = [lengths[name] for name in node.input if name in lengths]
        if before:
            length = max(before) + (_weight_input(graph, node) is not None)
            lengths.update({name: length for name in node.output if name})
    return lengths


def _ancestors_of(graph: Graph, nodes: list[onnx.NodeProto]) -> set[str]:
    """Give every tensor on which the data input of one of ``nodes`` depends."""
    ancestors: set[str] = set()
    pending = [_data_input(graph, node) for node in nodes]
    while pending:
        name = pending.pop()
        if name not in ancestors:
            ancestors.add(name)
            node = graph.producer.get(name)
            pending.extend(name for name in (node.input if node else ()) if name)
    return ancestors


def _fork(graph: Graph, tensor: str) -> str:
    """Go back from a layer's input through pooling and the like, to where its path began."""
    passed = _SHAPE_CHANGES | _QUANTIZATION | {"AveragePool", "MaxPool"}
    while (node := graph.producer.get(tensor)) is not None and node.op_type in passed:
        tensor = node.input[0]
    return tensor


def _is_shortcut(graph: Graph, node: onnx.NodeProto, preactivation: str) -> bool:
    """Say whether a layer is added to a longer path that started from the layer's own input."""
    for consumer in graph.consumers.get(preactivation, []):
        if consumer.op_type not in ("Add", "Sum"):
            continue
        others = [n for n in consumer.input if n != preactivation and n in graph.dynamic]
        if not others:
            continue
        lengths = _path_lengths(graph, _fork(graph, _data_input(graph, node)))
        if any(lengths.get(name, 0) >= 2 for name in others):
            return True
    return False
