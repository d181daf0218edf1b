"""The walk from a linear operator's result to what enters the nonlinearity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from cnatool.backend.graph.linear_operators import clips_at_zero, constant_shape
from cnatool.backend.graph.nodes import operator_set

if TYPE_CHECKING:
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.linear_operators import LinearOperator

SHAPE_CHANGES = operator_set(
    "Cast CastLike DepthToSpace Dropout Flatten Identity ReorderInput ReorderOutput Reshape "
    "SpaceToDepth Squeeze Transpose Unsqueeze"
)
QUANTIZATION = frozenset({"DequantizeLinear", "QuantizeLinear"})
_ADDITIONS = frozenset({"Add", "QLinearAdd", "Sub"})
NORMALIZATIONS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "MeanVarianceNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
    }
)
# Operators of a normalisation by the sample's own mean and deviation that is written out.
MEANS = frozenset({"GlobalAveragePool", "ReduceMean"})
_QUOTIENTS = frozenset({"Div", "Reciprocal"})
MOMENTS = (
    MEANS
    | _QUOTIENTS
    | operator_set(
        "Add Cast CastLike Expand Identity Mul Neg Pow Reshape Sqrt Squeeze Sub Transpose Unsqueeze"
    )
)
_PRODUCTS = frozenset({"Einsum", "FusedMatMul", "MatMul"})
# Of single numbers, or of parts of a shape, they make a single number.
_ELEMENTWISE = operator_set("Add Div Mul Neg Pow Reciprocal Sqrt Sub")
_FIRST_DECIDES = operator_set("Cast CastLike Gather Identity Slice Squeeze Unsqueeze")
# More nodes than any such normalisation has.
_MOST_MOMENT_NODES = 24
FLOATS = frozenset(
    {
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
    }
)


@dataclass(frozen=True, slots=True)
class Walk:
    """Where the walk from a linear operator leads."""

    # The operator's result with its bias, as values.
    linear: str
    # What enters the nonlinearity or the residual addition, in the shape in which it was computed:
    # changes of shape at the end of the walk leave its sum unchanged, but may merge the sample axis
    # with another or move the channels.
    preactivation: str
    # The tensor at which the walk stops, after those changes.
    end: str


def walk(graph: Graph, operator: LinearOperator) -> Walk:
    """Follow the result of a linear operator through shifts, scales, normalisations and shapes."""
    tensor = linear = preactivation = operator.result
    biased, codes = operator.biased, operator.codes
    # Samples may be merged with another axis while the operator runs; the reshapes before and after
    # it belong together, and only after the second one does the tensor have a sample axis.
    source = graph.producer.get(operator.data)
    merged = source is not None and source.op_type == "Reshape"
    reshaped = False  # into another shape than it was computed in
    own = True  # nothing has changed the values since the operator and its bias
    while (following := _next(graph, tensor)) is not None:
        step, after = following
        if operator.nonlinearity is not None and not (codes or step == "ReorderOutput"):
            break
        if step in _ADDITIONS and _addend_shape(graph, after) == ():
            # one number for all units, such as that of a hard sigmoid
            break
        scaled = reshaped and not codes and step in ("Div", "Mul")
        if scaled and _is_by_one_number(graph, after) and (own or _enters_product(graph, after)):
            # the temperature of an attention, after its heads were split off
            break
        tensor = after
        restored = merged and step == "Reshape"
        merged = merged and not restored
        reshaped = reshaped or (step == "Reshape" and not restored)
        if step in SHAPE_CHANGES and not restored and step != "ReorderOutput":
            continue
        values = not codes or step in ("DequantizeLinear", "Mul")
        bias = not biased and step in _ADDITIONS and _is_bias(graph, operator, after)
        kept = restored or bias or step == "ReorderOutput" or (codes and values)
        if own and kept:
            linear = tensor
        own = own and (kept or step in QUANTIZATION)
        biased, codes = biased or bias, not values
        preactivation = tensor
    return Walk(linear, preactivation, tensor)


def readers(graph: Graph, tensor: str) -> list[onnx.NodeProto]:
    """List the nodes that read a tensor's values, one entry per use."""
    return [
        node
        for node in graph.consumers.get(tensor, [])
        if node.op_type not in ("Shape", "Size")
        and (node.op_type != "CastLike" or node.input[0] == tensor)
    ]


def passes(graph: Graph, node: onnx.NodeProto, tensor: str) -> bool:
    """Whether a node only shifts, scales, normalises or reshapes a tensor that it reads."""
    first = bool(node.input and node.input[0] == tensor)
    if node.op_type == "QuantizeLinear":
        # Only as half of a pair: its own results are codes, not values.
        pair = [reader.op_type for reader in readers(graph, node.output[0])]
        return first and pair == ["DequantizeLinear"] and not clips_at_zero(graph, node, 2)
    if node.op_type == "Cast":
        return any(attribute.name == "to" and attribute.i in FLOATS for attribute in node.attribute)
    if node.op_type in SHAPE_CHANGES | NORMALIZATIONS | {"DequantizeLinear"}:
        return first
    if node.op_type == "QLinearAdd":
        return any(name not in graph.dynamic for name in node.input[0:4:3])
    if node.op_type == "Add":
        return any(name not in graph.dynamic for name in node.input)
    if node.op_type == "Mul":
        return any(_is_scale(graph, name) for name in node.input if name != tensor)
    if node.op_type in ("Sub", "Div"):
        # constant − x and constant / x are no bias and no scale
        return first and len(node.input) > 1 and node.input[1] not in graph.dynamic
    return False


def _next(graph: Graph, tensor: str) -> tuple[str, str] | None:
    """Return the next operator and the tensor it leads to; None where the walk ends."""
    nodes = readers(graph, tensor)
    if any(graph.bodies(node.output[0]) != graph.bodies(tensor) for node in nodes):
        return None  # a branch or a loop may read it never, or again and again
    if len(nodes) == 1:
        node = nodes[0]
        return (node.op_type, node.output[0]) if passes(graph, node, tensor) else None
    normalized = find_normalized(graph, tensor) if nodes else None
    return None if normalized is None else ("LayerNormalization", normalized)


def _is_scale(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is constant, or the scale with which a tensor was quantised."""
    if tensor not in graph.dynamic:
        return True
    node = graph.producer.get(tensor)
    if node is None:
        return False
    if node.op_type == "DynamicQuantizeLinear":
        return bool(node.output[1] == tensor)
    return node.op_type == "Mul" and all(_is_scale(graph, name) for name in node.input)


def _is_by_one_number(graph: Graph, product: str) -> bool:
    """Whether a tensor is the product of another with one number."""
    constants = [name for name in graph.producer[product].input if name not in graph.dynamic]
    return any(_is_one_number(graph, name) for name in constants)


def _is_one_number(graph: Graph, constant: str) -> bool:
    """Whether a constant has a single element; computed ones are known for a few operators."""
    shape = constant_shape(graph, constant)
    if shape is not None:
        return math.prod(shape) == 1
    if constant in graph.shape_arithmetic:
        return True
    node = graph.producer.get(constant)
    if node is None:
        return False
    if node.op_type in _FIRST_DECIDES:
        return _is_one_number(graph, node.input[0])
    return node.op_type == "Shape" or (
        node.op_type in _ELEMENTWISE and all(_is_one_number(graph, name) for name in node.input)
    )


def _enters_product(graph: Graph, tensor: str) -> bool:
    """Whether a tensor, perhaps in another shape, is a factor of a product of two activations."""
    while len(nodes := readers(graph, tensor)) == 1 and nodes[0].op_type in SHAPE_CHANGES:
        tensor = nodes[0].output[0]
    return len(nodes) == 1 and (
        nodes[0].op_type in _PRODUCTS and all(name in graph.dynamic for name in nodes[0].input[:2])
    )


def _addend_shape(graph: Graph, total: str) -> tuple[int, ...] | None:
    """Return the shape of the constant operand of a sum; None where it is not known."""
    node = graph.producer[total]
    operands = (0, 3) if node.op_type == "QLinearAdd" else (0, 1)
    constants = [node.input[i] for i in operands if node.input[i] not in graph.dynamic]
    return constant_shape(graph, constants[0]) if constants else None


def _is_bias(graph: Graph, operator: LinearOperator, total: str) -> bool:
    """Whether the constant in a sum has one number per unit, unlike a position embedding."""
    shape = _addend_shape(graph, total)
    if shape is None or operator.node.op_type == "Einsum" or sum(n > 1 for n in shape) <= 1:
        return True
    weights = constant_shape(graph, operator.weights)
    if weights is None:
        return False
    # A product of several matrices has as many biases as these have columns.
    return math.prod(shape) == math.prod(weights[:-2]) * weights[-1]


def find_normalized(graph: Graph, tensor: str) -> str | None:
    """Find the result of a normalisation of a tensor that is written out in several nodes.

    Those nodes read nothing else that depends on the input, compute a mean and a square root,
    divide, and meet again in one tensor.
    """
    inside = dict.fromkeys([tensor])
    passed: dict[str, str] = {}
    while len(passed) < _MOST_MOMENT_NODES:
        waiting = {
            name: [node for node in readers(graph, name) if node.output[0] not in passed]
            for name in inside
        }
        still_read = {name for name, nodes in waiting.items() if nodes}
        still_read |= set(inside).intersection(graph.output_names) - {tensor}
        operators = set(passed.values())
        if (
            len(still_read) == 1
            and "Sqrt" in operators
            and operators & MEANS
            and operators & _QUOTIENTS
            and tensor not in still_read
        ):
            return still_read.pop()
        ready = next(
            (
                node
                for nodes in waiting.values()
                for node in nodes
                if node.op_type in MOMENTS
                and all(name in inside for name in node.input if name in graph.dynamic)
            ),
            None,
        )
        if ready is None:
            return None
        passed[ready.output[0]] = ready.op_type
        inside[ready.output[0]] = None
    return None
