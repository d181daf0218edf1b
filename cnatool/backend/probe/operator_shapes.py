"""Operators by the shape of their results, and the axes that a reshape keeps together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.nodes import operator_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The results have the shape of the first input.
SAME = operator_set(
    "BatchNormalization Bernoulli Cast CastLike Celu Clip CumSum DequantizeLinear Dropout "
    "DynamicQuantizeLinear EyeLike Gelu GroupNormalization Hardmax Identity "
    "InstanceNormalization LRN LayerNormalization LogSoftmax LpNormalization "
    "MeanVarianceNormalization QuantizeLinear RMSNormalization RandomNormalLike "
    "RandomUniformLike ReverseSequence RotaryEmbedding Scatter ScatterElements ScatterND "
    "SimplifiedLayerNormalization Softmax Trilu"
)
# The second axis of the result is that of the channels.
CONVOLVING = operator_set(
    "AveragePool Conv ConvInteger ConvTranspose DeformConv GlobalAveragePool GlobalLpPool "
    "GlobalMaxPool LpPool MaxPool QLinearConv"
)
# One input, whose shape the result has.
UNARY = operator_set(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Cos Cosh Elu Erf Exp FastGelu Floor "
    "HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not QuickGelu Reciprocal Relu "
    "Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu"
)
# The result has the shape that the inputs broadcast to.
BROADCAST = UNARY | operator_set(
    "Add And BiasGelu BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater "
    "GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"
)
# One axis or all are reduced away; Reduce… are more of them.
REDUCING = frozenset({"ArgMax", "ArgMin"})


def pair_reshaped_axes(
    before: Sequence[int], after: Sequence[int]
) -> Iterable[tuple[list[int], list[int]]]:
    """Pair the axes of a reshaped tensor: runs of axes that hold the same elements."""
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        left = right = 1
        while True:
            if i < len(before) and (left <= right or j >= len(after)):
                left *= before[i]
                old.append(i)
                i += 1
            elif j < len(after):
                right *= after[j]
                new.append(j)
                j += 1
            if (left == right and old and new) or (i >= len(before) and j >= len(after)):
                break
        yield old, new
