"""TensorFlow's operators in terms of the layer rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cnatool.recorders.layer_rule import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from cnatool.recorders.layer_rule import Kind

# They read the shape of a tensor, not its values.
UNREAD = frozenset({"Rank", "Shape", "ShapeN", "Size"})

# Positions of the possible data and weights, and the ONNX name.
_PRODUCTS: dict[str, tuple[int, int, str]] = {
    "BatchMatMul": (0, 1, "MatMul"),
    "BatchMatMulV2": (0, 1, "MatMul"),
    "BatchMatMulV3": (0, 1, "MatMul"),
    "Conv2D": (0, 1, "Conv"),
    "Conv2DBackpropInput": (2, 1, "ConvTranspose"),
    "Conv3D": (0, 1, "Conv"),
    "Conv3DBackpropInputV2": (2, 1, "ConvTranspose"),
    "DepthwiseConv2dNative": (0, 1, "Conv"),
    "Einsum": (0, 1, "Einsum"),
    "MatMul": (0, 1, "MatMul"),
}
_OPERATORS: dict[str, tuple[Kind, str]] = {
    **dict.fromkeys(("Gather", "GatherV2"), ("other", "Gather")),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), ("other", "Pad")),
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor"), ("other", "Resize")),
    **dict.fromkeys(("Slice", "StridedSlice"), ("other", "Slice")),
    **dict.fromkeys(("Split", "SplitV", "Unpack"), ("other", "Split")),
    "ArgMax": ("squash", "ArgMax"),
    "AvgPool": ("pool", "AveragePool"),
    "AvgPool3D": ("pool", "AveragePool"),
    "ExpandDims": ("shape", "Unsqueeze"),
    "FusedBatchNorm": ("norm", "BatchNormalization"),
    "FusedBatchNormV2": ("norm", "BatchNormalization"),
    "FusedBatchNormV3": ("norm", "BatchNormalization"),
    "Identity": ("shape", "Identity"),
    "LogSoftmax": ("squash", "LogSoftmax"),
    "MaxPool": ("pool", "MaxPool"),
    "MaxPool3D": ("pool", "MaxPool"),
    "Mean": ("other", "ReduceMean"),
    "Relu6": ("other", "Clip"),
    "Reshape": ("shape", "Reshape"),
    "Sigmoid": ("squash", "Sigmoid"),
    "Softmax": ("squash", "Softmax"),
    "Square": ("other", "Pow"),
    "SquaredDifference": ("other", "Pow"),
    "Squeeze": ("shape", "Squeeze"),
    "StopGradient": ("shape", "Identity"),
    "Transpose": ("shape", "Transpose"),
}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_ARITHMETIC = {
    "Add": "Add",
    "AddV2": "Add",
    "BiasAdd": "Add",
    "Div": "Div",
    "Mul": "Mul",
    "RealDiv": "Div",
    "Sub": "Sub",
}


def read_step(operation: Any, number: Callable[[Any], int | None], makes: int) -> Step:
    """Interpret an operation of a graph.

    ``number`` returns the value of a tensor, None if it does not depend on the input; ``makes`` is
    the value of the first result.
    """
    inputs = list(operation.inputs)
    reads = tuple(value for tensor in inputs if (value := number(tensor)) is not None)
    if operation.type in _PRODUCTS:
        left, right, operator = _PRODUCTS[operation.type]
        data = [number(inputs[place]) for place in (left, right) if place < len(inputs)]
        factors = [value for value in data if value is not None]
        if len(factors) == 1 and (data[0] is not None or operator in ("Einsum", "MatMul")):
            kernel = inputs[left if data[0] is None else right].shape[:-2]
            pointwise = "Conv" in operator and set(kernel.as_list()) == {1}
            return Step("linear", operator, (factors[0],), makes, pointwise=pointwise)
    if operation.type in _CALLS and "conv_xla" in operation.get_attr("f").name and len(reads) == 1:
        # Keras's grouped convolution on devices for which TensorFlow has none.
        return Step("linear", "Conv", reads, makes)
    if operation.type in _ARITHMETIC:
        operator = _ARITHMETIC[operation.type]
        constants = [tensor for tensor in inputs if number(tensor) is None]
        kind, alone = _arithmetic(operator, constants, first=number(inputs[0]) is not None)
        return Step(kind, operator, reads, makes, one_number=alone)
    if operation.type == "AddN":
        return Step("sum", "Sum", reads, makes)
    if operation.type == "Cast":
        floats = operation.outputs[0].dtype.is_floating
        return Step("shape" if floats else "other", "Cast", reads, makes)
    kind, operator = _OPERATORS.get(operation.type, ("other", operation.type))
    return Step(kind, operator, reads, makes)


def _arithmetic(operator: str, constants: list[Any], *, first: bool) -> tuple[Kind, bool]:
    if not constants:
        return ("sum" if operator == "Add" else "other"), False
    if operator in ("Sub", "Div") and not first:
        return "other", False
    shape = constants[0].shape
    if operator in ("Add", "Sub"):
        return "bias", shape.rank == 0
    return "scale", shape.is_fully_defined() and math.prod(shape.as_list()) == 1
