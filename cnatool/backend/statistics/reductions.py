"""Nodes that reduce a tensor to a few numbers for each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto

from cnatool.backend.graph.appended_nodes import AppendedNodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.statistics.channel_sums import ChannelSum
    from cnatool.records.choices import Statistic
    from cnatool.records.store import Merged

# float32 sums of more numbers, one after another, drift: by 3e-5 for equal numbers on a plane of
# 112 by 112. Rows first, then their sums, and those in float64 where the plane is large, keep the
# error below 5e-6 for the widest plane, and below 1e-6 for most.
LONGEST_SUM = 1024
LARGEST_PLANE = 1 << 15
_WIDEST_PLANE = 512
# What is done to each element before the sum.
_ELEMENTWISE: Final[Mapping[Statistic, str]] = {
    "abs_sum": "Abs",
    "positive_sum": "Relu",
    "square_sum": "Mul",
    "nonzero_count": "Cast",
}
EXTREMES: Final[Mapping[Statistic, str]] = {"min": "ReduceMin", "max": "ReduceMax"}
# Squares leave the range of float32 long before the values do.
ALWAYS_EXACT: Final = frozenset({*EXTREMES, "square_sum"})


@dataclass(frozen=True, slots=True)
class MeasuredTensor:
    """A tensor whose statistics are computed in the graph; attributes as in a TensorRecord.

    ``exact`` asks for float64 throughout.
    """

    name: str
    shape: tuple[int, ...]
    batch_axis: int | None
    merged: Merged | None
    exact: bool
    # What its sum is computed from, where that is not the tensor itself.
    sum: ChannelSum | None = None
    is_open: bool = False  # the shape is not the same in all runs
    # Axes along which padding lies that does not count.
    positions: tuple[int, ...] = ()

    @property
    def in_parts(self) -> bool:
        """Whether sums in float32 parts are good enough for it, and faster."""
        # Most numbers in one float32 sum, by the number of axes.
        longest = {1: LONGEST_SUM, 3: _WIDEST_PLANE}.get(len(self.shape), math.inf)
        return not self.exact and bool(self.shape) and self.shape[-1] <= longest


@dataclass(slots=True)
class ReductionNodes(AppendedNodes):
    """Nodes that reduce tensors."""

    fed: str = ""  # an input with samples first
    # Which elements are real, by rank, sample axis, and axes of positions.
    masks: dict[tuple[int, ...], str] = field(default_factory=dict)
    _count: str = ""

    def reduce(self, tensor: MeasuredTensor, statistic: Statistic) -> str:
        """Add a statistic of a tensor in float64, (n, 1)."""
        if tensor.batch_axis is None:
            # However many axes it has: of a branch that the first samples did not take, nothing
            # but the name is known.
            name, axes = self.reshape(tensor.name, [-1]), [0]
        elif tensor.is_open and tensor.merged == "NT" and tensor.batch_axis == 0:
            shape = self.add("Concat", [self.count_samples(), self.integers([-1])], axis=0)
            name, axes = self.add("Reshape", [tensor.name, shape]), [1]
        else:
            name = self.split_samples(tensor)
            sample_axis = tensor.batch_axis + (tensor.merged == "TN")
            axes = [axis for axis in range(len(tensor.shape) + 1) if axis != sample_axis]
        name = self.add("Cast", [name], to=TensorProto.DOUBLE)
        if statistic not in EXTREMES:
            name = self.apply_elementwise(name, statistic, TensorProto.DOUBLE)
        return self.columns(self.reduce_statistic(statistic, name, axes) if axes else name, 1)

    def reduce_statistic(self, statistic: Statistic, name: str, axes: Sequence[int]) -> str:
        """Add the sum of a float64 tensor along axes, or its extreme, as `reduce_extreme`."""
        operator = EXTREMES.get(statistic)
        if operator is None:
            return self.reduce_axes("ReduceSum", name, axes)
        return self.reduce_extreme(operator, name, axes, TensorProto.DOUBLE)

    def reduce_extreme(self, operator: str, name: str, axes: Sequence[int], kind: int) -> str:
        """Add the extreme of a tensor of a floating type along axes, which is NaN if a value is.

        The runtime's extremes may pass over NaN.
        """
        extreme = self.reduce_axes(operator, name, axes)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        # IsNaN and Where came with opset 9. 1 of values that are numbers, 0 of NaN:
        bounds = [self.constant(f"bound {at} {dtype}", np.array([at], dtype)) for at in (1.0, 0.0)]
        parts = [self.add("Less", [name, bounds[0]]), self.add("Greater", [name, bounds[1]])]
        ordered = self.add("Cast", [self.add("Or", parts)], to=TensorProto.FLOAT)
        # The product of no values is 1.
        ordered = self.reduce_axes("ReduceProd", ordered, axes)
        ordered = self.add("Cast", [ordered], to=kind)
        zero = self.add("Sub", [ordered, ordered])
        return self.add("Add", [extreme, self.add("Div", [zero, ordered])])

    def count_samples(self) -> str:
        """Add the number of samples in the batch, (1,) int64."""
        if not self._count:
            shape = self.add("Shape", [self.fed])
            self._count = self.add("Gather", [shape, self.integers([0])])
        return self._count

    def sum_rows(self, name: str, shape: tuple[int, ...]) -> tuple[str, NDArray[np.float64]]:
        """Add sums along the last axis, (n, rows), and return the weight of each, (rows, 1).

        A sample with one axis is one row.
        """
        count = math.prod(shape[:-1])
        rows = self.reduce_axes("ReduceSum", name, [len(shape)])
        return self.columns(rows, count), np.ones((count, 1))

    def weigh_elements(self, name: str, weights: NDArray[np.float64]) -> str:
        """Add sums of each sample's elements, (n, sums), with the weights (elements, sums)."""
        # Sums with a weight beyond float32 are not finite, and recomputed like others.
        with np.errstate(over="ignore"):
            narrow = weights.astype(np.float32)
        matrix = self.constant(f"weights of {name}", narrow)
        return self.add("MatMul", [self.columns(name, len(weights)), matrix])

    def average_planes(self, name: str, shape: tuple[int, ...]) -> tuple[str, NDArray[np.float64]]:
        """Add the mean of each channel, or of each of its rows where the plane is large.

        The first result is (n, C, 1, 1), or (n, C, rows, 1). The second is how many elements each
        number is the mean of. The runtime keeps results of convolutions in a blocked layout of its
        own. It pools in that layout; for a sum it would first write the whole tensor anew.
        """
        channels, height, width = shape
        if height * width > LONGEST_SUM:
            row = (1, width)
            name = self.add("AveragePool", [name], kernel_shape=row, strides=row)
        if height * width > LARGEST_PLANE:
            count, size = channels * height, width
        else:
            name = self.add("GlobalAveragePool", [name])
            count, size = channels, height * width
        return name, np.full(count, float(size))

    def count_elements(self, tensors: Sequence[str], output: str) -> str:
        """Add the numbers of elements in the batch, (tensors,) int64."""
        shape = self.constant("one number", np.array([1]))
        sizes = [self.add("Reshape", [self.add("Size", [name]), shape]) for name in tensors]
        return self.add("Concat", sizes, output, axis=0)

    def apply_elementwise(self, name: str, statistic: Statistic, dtype: int) -> str:
        """Add what is done to each element of a floating tensor before the sum."""
        operator = _ELEMENTWISE.get(statistic)
        if operator is None:
            return name
        if operator == "Cast":
            return self.add("Cast", [self.add("Cast", [name], to=TensorProto.BOOL)], to=dtype)
        return self.add(operator, [name] * (2 if operator == "Mul" else 1))

    def split_samples(self, tensor: MeasuredTensor) -> str:
        """Return the tensor with its sample axis apart from the one that it is merged with."""
        if tensor.merged is None or tensor.batch_axis is None:
            return tensor.name
        axis = tensor.batch_axis + (tensor.merged == "TN")
        return self.reshape(tensor.name, [*tensor.shape[:axis], -1, *tensor.shape[axis:]])

    def columns(self, name: str, width: int) -> str:
        """Add the same numbers as (n, width)."""
        return self.reshape(name, [-1, width])


def measure_tensor(nodes: ReductionNodes, tensor: MeasuredTensor, statistic: Statistic) -> str:
    """Add a statistic in float64, (n, 1), from float32 sums where these are exact enough."""
    shape = tensor.shape
    last = len(shape) - (tensor.batch_axis is None)
    is_plain = tensor.in_parts and tensor.merged is None and tensor.batch_axis != last
    if statistic in ALWAYS_EXACT or not is_plain:
        return nodes.reduce(tensor, statistic)
    name = nodes.apply_elementwise(tensor.name, statistic, TensorProto.FLOAT)
    if len(shape) == 3 and tensor.batch_axis == 0 and statistic != "nonzero_count":
        name, sizes = nodes.average_planes(name, shape)
        means = replace(tensor, name=name, shape=(len(sizes), 1, 1))
        size = nodes.constant(f"{sizes[0]:.0f} elements", sizes[:1])
        return nodes.add("Mul", [nodes.reduce(means, "sum"), size])
    if shape[-1] > LONGEST_SUM:
        return nodes.reduce(tensor, statistic)
    rows = nodes.reduce_axes("ReduceSum", name, [last])
    return nodes.reduce(replace(tensor, name=rows, shape=shape[:-1]), "sum")
