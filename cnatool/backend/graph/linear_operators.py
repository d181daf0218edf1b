"""Which nodes are linear operators: a tensor that depends on the input, times constant weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import numpy_helper

from cnatool.backend.graph.nodes import input_name, operator_set

if TYPE_CHECKING:
    from cnatool.backend.graph.graph import Graph

# Inputs of each operator: data, weights, bias.
_INPUTS: dict[str, tuple[int, int, int | None]] = {
    "CausalConvWithState": (0, 1, 2),
    "Conv": (0, 1, 2),
    "ConvInteger": (0, 1, None),
    "ConvTranspose": (0, 1, 2),
    # Where it samples its input depends on the offsets; the kernel is constant.
    "DeformConv": (0, 1, 3),
    "DynamicQuantizeMatMul": (0, 1, 4),
    "FusedConv": (0, 1, 2),
    "FusedGemm": (0, 1, 2),
    "FusedMatMul": (0, 1, None),
    "FusedMatMulActivation": (0, 1, None),
    "Gemm": (0, 1, 2),
    "GemmFastGelu": (0, 1, 2),
    "MatMul": (0, 1, None),
    "MatMulBnb4": (0, 1, None),
    "MatMulInteger": (0, 1, None),
    "MatMulIntegerToFloat": (0, 1, 6),
    "MatMulNBits": (0, 1, 5),
    "NhwcConv": (0, 1, 2),
    "NhwcFusedConv": (0, 1, 2),
    "QGemm": (0, 3, 6),
    "QLinearConv": (0, 3, 8),
    "QLinearMatMul": (0, 3, None),
    "TransposeMatMul": (0, 1, None),
}
# Operators whose weights may be the left operand as well as the right one.
_PRODUCTS = operator_set(
    "FusedGemm FusedMatMul FusedMatMulActivation Gemm MatMul MatMulInteger QLinearMatMul "
    "TransposeMatMul"
)
# The input that ONNX Runtime adds to a convolution's result before the activation.
_SUMMAND = {"Conv": 3, "FusedConv": 3, "NhwcFusedConv": 3}
# The input with the zero point of the result; without it the result is values, not codes.
_RESULT_ZERO_POINT = {"QGemm": 8, "QLinearConv": 7, "QLinearMatMul": 7}
_INTEGER = frozenset({"ConvInteger", "MatMulInteger"})
# Operators after a linear one into which the runtime may move its bias, and their bias input.
_LATE_BIAS = {"BiasGelu": 1, "FastGelu": 1, "SkipLayerNormalization": 4}
# By type of the zero point; a quantisation to floats has no lowest code.
_LOWEST_CODE: dict[int, int] = {
    onnx.TensorProto.INT4: -8,
    onnx.TensorProto.INT8: -128,
    onnx.TensorProto.INT16: -32768,
    onnx.TensorProto.UINT4: 0,
    onnx.TensorProto.UINT8: 0,
    onnx.TensorProto.UINT16: 0,
}
# Types of shapes, axes and masks.
_OF_SHAPES = (onnx.TensorProto.BOOL, onnx.TensorProto.INT32, onnx.TensorProto.INT64)


@dataclass(frozen=True, slots=True)
class LinearOperator:
    """A node that is a linear operator.

    Attributes
    ----------
    node : NodeProto
    data, weights : str
        The operand that depends on the input, and the one that does not.
    bias : str
        The bias that it adds itself; empty where there is none.
    summand : str or None
        A tensor that is added to its result within the operator.
    nonlinearity : str or None
        The activation that is fused into it: its result is not a pre-activation.
    codes : bool
        Its result is integers that stand for values.
    """

    node: onnx.NodeProto
    data: str
    weights: str
    bias: str
    summand: str | None
    nonlinearity: str | None
    codes: bool

    @property
    def biased(self) -> bool:
        """Whether it adds a bias itself."""
        return bool(self.bias)

    @property
    def result(self) -> str:
        """The tensor that it computes."""
        name: str = self.node.output[0]
        return name

    def label(self, readers: list[onnx.NodeProto]) -> str:
        """Describe the operator, what is fused into it and into the ``readers`` of its result."""
        parts = [self.node.op_type]
        if self.summand is not None:
            parts.append("Add")
        if self.nonlinearity is not None:
            parts.append(self.nonlinearity)
        text = "+".join(parts)
        late = readers[0] if len(readers) == 1 and not self.biased else None
        if late is not None and late.op_type in _LATE_BIAS:
            bias = _LATE_BIAS[late.op_type]
            if bias < len(late.input) and late.input[bias]:
                text += f", bias in {late.op_type}"
        return text


def linear_operator(graph: Graph, node: onnx.NodeProto) -> LinearOperator | None:
    """Read a node as a linear operator; None if it is not one."""
    operands = _operands(graph, node)
    if operands is None:
        return None
    bias = _INPUTS[node.op_type][2] if node.op_type in _INPUTS else None
    summand = _SUMMAND.get(node.op_type)
    zero_point = _RESULT_ZERO_POINT.get(node.op_type)
    quantised = zero_point is not None and bool(input_name(node, zero_point))
    nonlinearity = _fused_nonlinearity(node)
    if quantised and zero_point is not None and clips_at_zero(graph, node, zero_point):
        nonlinearity = "Relu"
    return LinearOperator(
        node=node,
        data=operands[0],
        weights=operands[1],
        bias="" if bias is None else input_name(node, bias),
        summand=None if summand is None else input_name(node, summand) or None,
        nonlinearity=nonlinearity,
        codes=quantised or node.op_type in _INTEGER,
    )


def _fused_nonlinearity(node: onnx.NodeProto) -> str | None:
    """Return the activation that is fused into an operator."""
    if node.op_type == "GemmFastGelu":
        return "FastGelu"
    names = [attribute.s.decode() for attribute in node.attribute if attribute.name == "activation"]
    return names[0] if names and names[0] not in ("", "none") else None


def constant_shape(graph: Graph, name: str) -> tuple[int, ...] | None:
    """Return the shape of an initializer or Constant; None for a tensor that nodes compute."""
    tensor = graph.constants.get(name)
    return None if tensor is None else tuple(tensor.dims)


def clips_at_zero(graph: Graph, node: onnx.NodeProto, zero_point: int) -> bool:
    """Whether the quantisation of a node's result has no code for a negative value.

    Quantisers leave out a Relu before such a quantisation, which has the same effect.
    ``zero_point`` is the number of the input with the zero point.
    """
    name = input_name(node, zero_point)
    if not name:
        kinds = [
            attribute.i
            for attribute in node.attribute
            if attribute.name == "output_dtype" and attribute.i
        ]
        return not kinds or _LOWEST_CODE.get(kinds[0]) == 0
    code = graph.constants.get(name)
    if code is None or code.data_location == onnx.TensorProto.EXTERNAL:
        return False
    lowest = _LOWEST_CODE.get(code.data_type)
    return lowest is not None and bool((numpy_helper.to_array(code) == lowest).all())


def _operands(graph: Graph, node: onnx.NodeProto) -> tuple[str, str] | None:
    """Return the names of data and weights; None if the node is not a linear operator."""
    if node.op_type == "Einsum":
        if len(node.input) != 2 or not _contracts(node):
            return None
        data, weights = 0, 1
    elif node.op_type in _INPUTS:
        data, weights, _ = _INPUTS[node.op_type]
    else:
        return None
    pairs = [(data, weights)]
    if node.op_type in _PRODUCTS or node.op_type == "Einsum":
        pairs.append((weights, data))
    for left, right in pairs:
        names = input_name(node, left), input_name(node, right)
        if names[0] in graph.dynamic and names[1] and names[1] not in graph.dynamic:
            return names if _holds_weights(graph, names[1]) else None
    return None


def _holds_weights(graph: Graph, constant: str) -> bool:
    """Whether a constant is more than what an input's shape alone makes, such as ones of a mask."""
    if constant not in graph.shape_arithmetic:
        return True
    waiting, seen = [constant], {constant}
    while waiting:
        name = waiting.pop()
        stored = graph.constants.get(name)
        if stored is not None and stored.data_type not in _OF_SHAPES and math.prod(stored.dims) > 1:
            return True
        node = graph.producer.get(name)
        new = set() if node is None else set(node.input) - seen
        seen |= new
        waiting.extend(new)
    return False


def _contracts(node: onnx.NodeProto) -> bool:
    """Whether an Einsum of two tensors sums over an index that both have."""
    equation = next(
        (attribute.s.decode() for attribute in node.attribute if attribute.name == "equation"), ""
    ).replace(" ", "")
    operands, _, result = equation.partition("->")
    left, _, right = operands.partition(",")
    return bool((set(left) & set(right) - {"."}) - set(result)) and "->" in equation
