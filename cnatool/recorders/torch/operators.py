"""PyTorch's operators in terms of the layer rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from cnatool.recorders.layer_rule import Kind

# Positions of the data, the weights and the bias; either factor may be the data.
_PRODUCTS: dict[str, tuple[int, int, int | None]] = {
    "addmm": (1, 2, 0),
    "addmv": (1, 2, 0),
    "baddbmm": (1, 2, 0),
    "bmm": (0, 1, None),
    "linear": (0, 1, 2),
    "matmul": (0, 1, None),
    "mm": (0, 1, None),
    "mv": (0, 1, None),
}
_CONVOLUTIONS = {
    "conv1d": "Conv",
    "conv2d": "Conv",
    "conv3d": "Conv",
    "conv_transpose1d": "ConvTranspose",
    "conv_transpose2d": "ConvTranspose",
    "conv_transpose3d": "ConvTranspose",
    "convolution": "Conv",
}
_TRANSPOSED_ARGUMENT = 6
_OPERATORS: dict[str, tuple[Kind, str]] = {
    **dict.fromkeys(("alias", "clone", "contiguous", "detach", "dropout"), ("shape", "Identity")),
    **dict.fromkeys(
        ("_reshape_alias", "_unsafe_view", "reshape", "unflatten", "view"), ("shape", "Reshape")
    ),
    **dict.fromkeys(("numpy_T", "permute", "t", "transpose", "movedim"), ("shape", "Transpose")),
    "flatten": ("shape", "Flatten"),
    "squeeze": ("shape", "Squeeze"),
    "unsqueeze": ("shape", "Unsqueeze"),
    "pixel_shuffle": ("shape", "DepthToSpace"),
    "pixel_unshuffle": ("shape", "SpaceToDepth"),
    **dict.fromkeys(
        (
            "_batch_norm_with_update",
            "_native_batch_norm_legit",
            "_native_batch_norm_legit_no_training",
            "batch_norm",
            "cudnn_batch_norm",
            "native_batch_norm",
        ),
        ("norm", "BatchNormalization"),
    ),
    **dict.fromkeys(("group_norm", "native_group_norm"), ("norm", "GroupNormalization")),
    "instance_norm": ("norm", "InstanceNormalization"),
    **dict.fromkeys(("layer_norm", "native_layer_norm"), ("norm", "LayerNormalization")),
    **dict.fromkeys(("_fused_rms_norm", "rms_norm"), ("norm", "RMSNormalization")),
    **dict.fromkeys(("_softmax", "softmax"), ("squash", "Softmax")),
    **dict.fromkeys(("_log_softmax", "log_softmax"), ("squash", "LogSoftmax")),
    **dict.fromkeys(("sigmoid", "sigmoid_"), ("squash", "Sigmoid")),
    "argmax": ("squash", "ArgMax"),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), ("pool", "AveragePool")),
    **dict.fromkeys(
        ("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
        ("pool", "MaxPool"),
    ),
    **dict.fromkeys(
        (
            "_adaptive_avg_pool2d",
            "_adaptive_avg_pool3d",
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_avg_pool3d",
        ),
        ("pool", "AveragePool"),
    ),
    **dict.fromkeys(("index", "index_select", "select"), ("other", "Gather")),
    **dict.fromkeys(("narrow", "slice"), ("other", "Slice")),
    **dict.fromkeys(
        ("chunk", "split", "split_with_sizes", "tensor_split", "unbind"), ("other", "Split")
    ),
    **dict.fromkeys(
        (
            "upsample_bicubic2d",
            "upsample_bilinear2d",
            "upsample_linear1d",
            "upsample_nearest1d",
            "upsample_nearest2d",
            "upsample_nearest3d",
            "upsample_trilinear3d",
        ),
        ("other", "Resize"),
    ),
    "constant_pad_nd": ("other", "Pad"),
    "expand": ("other", "Expand"),
    "mean": ("other", "ReduceMean"),
    "neg": ("other", "Neg"),
    "pow": ("other", "Pow"),
    "reciprocal": ("other", "Reciprocal"),
    "rsqrt": ("other", "Rsqrt"),
    "sqrt": ("other", "Sqrt"),
    "std": ("other", "ReduceStd"),
    "var": ("other", "ReduceVar"),
    **dict.fromkeys(("relu", "relu_"), ("other", "Relu")),
    **dict.fromkeys(("gelu", "gelu_"), ("other", "Gelu")),
    **dict.fromkeys(("tanh", "tanh_"), ("other", "Tanh")),
    **dict.fromkeys(("elu", "elu_"), ("other", "Elu")),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), ("other", "LeakyRelu")),
    **dict.fromkeys(("hardswish", "hardswish_"), ("other", "HardSwish")),
    **dict.fromkeys(("hardtanh", "hardtanh_", "clamp", "clamp_"), ("other", "Clip")),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator call; fields as in `cnatool.recorders.layer_rule.Step`."""

    kind: Kind
    operator: str
    one_number: bool = False
    biased: bool = False
    pointwise: bool = False
    first: Any = None  # the only argument that matters, if there is one


def read_operation(
    name: str, args: tuple[Any, ...], result: Any, is_data: Callable[[Any], bool]
) -> Operation:
    """Interpret the call of an operator (without its overload).

    ``is_data`` tells whether an argument depends on the network's input.
    """
    if name in _PRODUCTS:
        left, right, bias = _PRODUCTS[name]
        factors = [args[left], args[right]]
        if sum(map(is_data, factors)) == 1:
            (data,) = filter(is_data, factors)
            biased = bias is not None and bias < len(args) and args[bias] is not None
            flat = biased and data.ndim == 2
            return Operation("linear", "Gemm" if flat else "MatMul", biased=biased, first=data)
    if name in _CONVOLUTIONS and is_data(args[0]) and not is_data(args[1]):
        transposed = name == "convolution" and args[_TRANSPOSED_ARGUMENT]
        operator = "ConvTranspose" if transposed else _CONVOLUTIONS[name]
        return Operation(
            "linear",
            operator,
            biased=args[2] is not None,
            pointwise=set(args[1].shape[2:]) == {1},
            first=args[0],
        )
    if name == "_to_copy":
        return Operation("shape" if result.is_floating_point() else "other", "Cast")
    if name.rstrip("_") in ("add", "sub", "mul", "div"):
        return _arithmetic(name.rstrip("_"), args, is_data)
    kind, operator = _OPERATORS.get(name, ("other", name.strip("_")))
    return Operation(kind, operator, first=args[0] if kind in ("norm", "shape", "pool") else None)


def _arithmetic(name: str, args: tuple[Any, ...], is_data: Callable[[Any], bool]) -> Operation:
    operator = name.capitalize()
    constants = [arg for arg in args[:2] if not is_data(arg)]
    if not constants:
        return Operation("sum" if name == "add" else "other", operator)
    if name in ("sub", "div") and not is_data(args[0]):
        return Operation("other", operator)
    (constant,) = constants
    is_tensor = isinstance(constant, torch.Tensor)
    if name in ("add", "sub"):
        return Operation("bias", operator, one_number=not is_tensor or constant.ndim == 0)
    return Operation("scale", operator, one_number=not is_tensor or constant.numel() == 1)
