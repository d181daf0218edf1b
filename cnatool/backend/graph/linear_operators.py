"""Which nodes are linear operators: something that depends on the input, times constant weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from cnatool.backend.graph.graph import Graph

# Inputs of each operator: data, weights, bias.
_INPUTS: dict[str, tuple[int, int, int | None]] = {
    "Conv": (0, 1, 2),
    "ConvInteger": (0, 1, None),
    "ConvTranspose": (0, 1, 2),
    "DynamicQuantizeMatMul": (0, 1, 4),
    "FusedConv": (0, 1, 2),
    "FusedGemm": (0, 1, 2),
    "FusedMatMul": (0, 1, None),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1, None),
    "MatMulBnb4": (0, 1, None),
    "MatMulInteger": (0, 1, None),
    "MatMulIntegerToFloat": (0, 1, 6),
    "MatMulNBits": (0, 1, 5),
    "NhwcFusedConv": (0, 1, 2),
    "QGemm": (0, 3, 6),
    "QLinearConv": (0, 3, 8),
    "QLinearMatMul": (0, 3, None),
}
# Where the weights may stand left as well as right.
_PRODUCTS = frozenset(
    {"FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"}
)
# What ONNX Runtime adds to a convolution's result before the activation.
_SUMMAND = {"Conv": 3, "FusedConv": 3, "NhwcFusedConv": 3}
# Zero point of the result; an operator without it gives values.
_RESULT_ZERO_POINT = {"QGemm": 8, "QLinearConv": 7, "QLinearMatMul": 7}
_INTEGER = frozenset({"ConvInteger", "MatMulInteger"})
# What the runtime may put into the operator after a linear one: that operator and its bias input.
_LATE_BIAS = {"BiasGelu": 1, "FastGelu": 1, "SkipLayerNormalization": 4}
# By type of the zero point; quantisation to floats has no such code.
_LOWEST_CODE: dict[int, int] = {
    onnx.TensorProto.INT4: -8,
    onnx.TensorProto.INT8: -128,
    onnx.TensorProto.INT16: -32768,
    onnx.TensorProto.UINT4: 0,
    onnx.TensorProto.UINT8: 0,
    onnx.TensorProto.UINT16: 0,
}


@dataclass(frozen=True, slots=True)
class LinearOperator:
    """A node that is a linear operator.

    Attributes
    ----------
    node : NodeProto
    data, weights : str
        The operand that depends on the input, and the one that does not.
    bias : str
        The bias that it adds by itself; empty where there is none.
    summand : str or None
        A tensor that is added to its result within the operator.
    nonlinearity : str or None
        The activation that is fused into it: its result is no pre-activation.
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
        """Whether it adds a bias by itself."""
        return bool(self.bias)

    @property
    def result(self) -> str:
        """The tensor that it makes."""
        name: str = self.node.output[0]
        return name

    def label(self, readers: list[onnx.NodeProto]) -> str:
        """Name the operator, with what is fused into it and into the ``readers`` of its result."""
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
    quantised = zero_point is not None and bool(_input(node, zero_point))
    nonlinearity = next(
        (given.s.decode() for given in node.attribute if given.name == "activation"), None
    )
    if quantised and zero_point is not None and clips_at_zero(graph, node, zero_point):
        nonlinearity = "Relu"
    return LinearOperator(
        node=node,
        data=operands[0],
        weights=operands[1],
        bias="" if bias is None else _input(node, bias),
        summand=None if summand is None else _input(node, summand) or None,
        nonlinearity=nonlinearity or None,
        codes=quantised or node.op_type in _INTEGER,
    )


def constant_shape(graph: Graph, name: str) -> tuple[int, ...] | None:
    """Give the shape of an initializer or Constant; None for what nodes compute from such."""
    tensor = _constant(graph, name)
    return None if tensor is None else tuple(tensor.dims)


def clips_at_zero(graph: Graph, node: onnx.NodeProto, zero_point: int) -> bool:
    """Say whether the quantisation of a node's result has no code for a negative value.

    Quantisers leave out a Relu before such a quantisation, because it does the same.

    Parameters
    ----------
    graph : Graph
    node : NodeProto
        A QuantizeLinear, or an operator that quantises its result.
    zero_point : int
        Number of the input that is the zero point.
    """
    name = _input(node, zero_point)
    if not name:
        kinds = [given.i for given in node.attribute if given.name == "output_dtype" and given.i]
        return not kinds or _LOWEST_CODE.get(kinds[0]) == 0
    code = _constant(graph, name)
    if code is None or code.data_location == onnx.TensorProto.EXTERNAL:
        return False
    lowest = _LOWEST_CODE.get(code.data_type)
    return lowest is not None and bool((numpy_helper.to_array(code) == lowest).all())


def _operands(graph: Graph, node: onnx.NodeProto) -> tuple[str, str] | None:
    """Give the names of data and weights; None if they are not that."""
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
        names = _input(node, left), _input(node, right)
        if names[0] in graph.dynamic and names[1] and names[1] not in graph.dynamic:
            return names
    return None


def _constant(graph: Graph, name: str) -> onnx.TensorProto | None:
    """Find an initializer or the value of a Constant."""
    found = [tensor for tensor in graph.model.graph.initializer if tensor.name == name]
    node = graph.producer.get(name)
    if node is not None and node.op_type == "Constant":
        found += filter(None, [constant_value(node)])
    return found[0] if found else None


def constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Give the value of a Constant, in whichever attribute it is; None for a sparse one or text."""
    for given in node.attribute:
        if given.name == "value":
            tensor: onnx.TensorProto = given.t
            return tensor
        if given.name in ("value_float", "value_floats"):
            floats = np.float32(given.f) if given.name == "value_float" else given.floats
            return numpy_helper.from_array(np.asarray(floats, np.float32))
        if given.name in ("value_int", "value_ints"):
            integers = given.i if given.name == "value_int" else given.ints
            return numpy_helper.from_array(np.asarray(integers, np.int64))
    return None


def _contracts(node: onnx.NodeProto) -> bool:
    """Say whether an Einsum of two tensors sums over an index that both have."""
    equation = next(
        (given.s.decode() for given in node.attribute if given.name == "equation"), ""
    ).replace(" ", "")
    operands, _, result = equation.partition("->")
    left, _, right = operands.partition(",")
    return bool((set(left) & set(right) - {"."}) - set(result)) and "->" in equation


def _input(node: onnx.NodeProto, number: int) -> str:
    """Give the name of an input; empty where the node does not have it."""
    name: str = node.input[number] if number < len(node.input) else ""
    return name
