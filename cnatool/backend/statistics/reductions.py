"""Nodes that reduce a tensor to a few numbers of each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cnatool.backend.graph.kernel_taps import attributes
from cnatool.backend.graph.outputs import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.statistics.sum_terms import LinearSum
    from cnatool.records.choices import Statistic
    from cnatool.records.store import Merged

# Partial sums of a flat layer: few enough to be cheap, many enough for their errors to average out.
_BLOCKS = 16
# Sums of more float32 numbers one after another drift: 3e-5 for equal numbers on a plane
# of 112 by 112. Rows first, then their sums, and the latter in float64 where the plane is large,
# keeps it below 5e-6 for the widest plane, and below 1e-6 for most.
_LONGEST_SUM = 1024
_LARGEST_PLANE = 1 << 15
_WIDEST_PLANE = 512
# What is done to each element before the sum.
_ELEMENTWISE: Final[Mapping[Statistic, str]] = {
    "abs_sum": "Abs",
    "positive_sum": "Relu",
    "square_sum": "Mul",
    "nonzero_count": "Cast",
}
_EXTREMES: Final[Mapping[Statistic, str]] = {"min": "ReduceMin", "max": "ReduceMax"}
# Squares leave float32's range long before the values do.
ALWAYS_EXACT: Final = frozenset({*_EXTREMES, "square_sum"})


@dataclass(frozen=True, slots=True)
class MeasuredTensor:
    """What `append_statistics` must know of a tensor.

    Attributes
    ----------
    name : str
        Its name.
    dtype : numpy.dtype
        Its element type.
    shape : tuple of int
        Its shape for one sample, the sample axis left out.
    batch_axis : int or None
        Where the sample axis is; None for a tensor that is one sample, and has none.
    merged : {"NT", "TN"} or None
        Whether it is merged with another, and which of the two is the outer one.
    exact : bool
        It must be summed in float64 throughout.
    sum : LinearSum or None
        What its sum is taken from, where that is not the tensor itself.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batch_axis: int | None
    exact: bool
    merged: Merged | None = None
    sum: LinearSum | None = None

    @property
    def in_parts(self) -> bool:
        """Whether it is of the kind that can be summed in parts, and need not be summed exactly."""
        plain = self.dtype == np.float32 and self.batch_axis == 0 and self.merged is None
        wide = len(self.shape) == 3 and self.shape[-1] > _WIDEST_PLANE
        return plain and not self.exact and not wide and math.prod(self.shape) > 0 < len(self.shape)


@dataclass(slots=True)
class Reductions:
    """Collects nodes, each of which gives the name of its result.

    Attributes
    ----------
    opset : int
        The model's default opset version.
    nodes : list of NodeProto
        Those that were added.
    constants : dict of str to TensorProto
        What they need beside the model's own tensors, by name.
    """

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, operator: str, inputs: list[str], output: str | None = None, **kw: Any) -> str:
        """Add any node."""
        output = output or f"{PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **kw))
        return output

    def elementwise(self, name: str, statistic: Statistic, dtype: int) -> str:
        """Add what is done to each element of a floating tensor before the sum."""
        operator = _ELEMENTWISE.get(statistic)
        if operator is None:
            return name
        if operator == "Cast":
            return self.add("Cast", [self.add("Cast", [name], to=TensorProto.BOOL)], to=dtype)
        return self.add(operator, [name] * (2 if operator == "Mul" else 1))

    def exact(self, tensor: MeasuredTensor, statistic: Statistic) -> str:
        """Add a statistic of a tensor in float64, (n, 1)."""
        name = self.add("Cast", [self._apart(tensor)], to=TensorProto.DOUBLE)
        if tensor.batch_axis is None:
            axes = list(range(len(tensor.shape)))
        else:
            sample_axis = tensor.batch_axis + (tensor.merged == "TN")
            axes = [axis for axis in range(len(tensor.shape) + 1) if axis != sample_axis]
        if statistic in _EXTREMES:
            operator = _EXTREMES[statistic]
        else:
            operator = "ReduceSum"
            name = self.elementwise(name, statistic, TensorProto.DOUBLE)
        return self._columns(self._reduced(operator, name, axes) if axes else name, 1)

    def products(self, name: str, weights: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
        """Add weighted sums of a flat tensor, each in parts: (n, columns * parts).

        Parameters
        ----------
        name : str
        weights : ndarray, shape (K, columns)

        Returns
        -------
        name : str
        weights : ndarray, shape (columns * parts, columns)
            What sums the parts up.
        """
        size, columns = weights.shape
        mask = _block_mask(size)
        spread = (weights[:, :, None] * mask[:, None, :]).reshape(size, -1).astype(np.float32)
        flat = self._columns(name, size)
        product = self.add("MatMul", [flat, self._constant(f"weights {name}", spread)])
        return product, np.repeat(np.eye(columns), mask.shape[1], axis=0)

    def windows(
        self, name: str, weights: NDArray[np.float64], convolution: onnx.NodeProto
    ) -> tuple[str, NDArray[np.float64]]:
        """Add the sums of what one-channel convolutions give, (n, columns).

        Parameters
        ----------
        name : str
        weights : ndarray, shape (C, taps down, taps across, columns)
            Their kernels.
        convolution : NodeProto
            The Conv whose strides and padding they have.
        """
        columns = weights.shape[-1]
        kernel = np.moveaxis(weights, -1, 0).astype(np.float32)
        constant = self._constant(f"kernel {convolution.output[0]}", kernel)
        options = {k: v for k, v in attributes(convolution).items() if k != "group"}
        made = self.add("Conv", [name, constant], **options)
        # Its size is not known here: sums of rows, then of their sums.
        rows = self._reduced("ReduceSum", made, [3])
        return self._columns(self._reduced("ReduceSum", rows, [2]), columns), np.eye(columns)

    def planes(self, name: str, shape: tuple[int, ...]) -> tuple[str, int]:
        """Add the means of each channel of a picture, or of its rows if it is large.

        Returns
        -------
        name : str
        repeats : int
            Means of a channel: 1, or H.
        """
        channels, height, width = shape
        if height * width > _LONGEST_SUM:
            name = self._pooled(name, (1, width))
        if height * width > _LARGEST_PLANE:
            return self._columns(name, channels * height), height
        return self._columns(self.add("GlobalAveragePool", [name]), channels), 1

    def edges(self, name: str, shape: tuple[int, ...]) -> tuple[str, NDArray[np.float64]]:
        """Add the means of a picture's rows and columns, and its corners: (n, C (H + W + 4)).

        Returns
        -------
        name : str
        scale : ndarray
            How many elements each number is the mean of.
        """
        channels, height, width = shape
        sizes = [channels * height, channels * width, channels * 4]
        parts = [
            self._pooled(name, (1, width)),
            self._pooled(name, (height, 1)),
            self._pooled(name, (1, 1), (height - 1, width - 1)),
        ]
        columns = [self._columns(part, size) for part, size in zip(parts, sizes, strict=True)]
        scale = np.repeat(np.array([width, height, 1], np.float64), sizes)
        return self.add("Concat", columns, axis=1), scale

    def row_sums(self, name: str, shape: tuple[int, ...]) -> str:
        """Add the sums along the last axis, (n, product of the others)."""
        sums = self._reduced("ReduceSum", name, [len(shape)])
        return self._columns(sums, math.prod(shape[:-1]))

    def element_counts(self, tensors: Sequence[str], output: str) -> str:
        """Add the numbers of elements in the batch, (tensors,) int64."""
        shape = self._constant("one number", np.array([1]))
        sizes = [self.add("Reshape", [self.add("Size", [name]), shape]) for name in tensors]
        return self.add("Concat", sizes, output, axis=0)

    def _pooled(
        self, name: str, kernel: tuple[int, int], strides: tuple[int, int] | None = None
    ) -> str:
        return self.add("AveragePool", [name], kernel_shape=kernel, strides=strides or kernel)

    def _apart(self, tensor: MeasuredTensor) -> str:
        """Give the tensor with its sample axis apart from the one that it is merged with."""
        if tensor.merged is None or tensor.batch_axis is None:
            return tensor.name
        axis = tensor.batch_axis + (tensor.merged == "TN")
        shape = np.insert(np.array(tensor.shape, np.int64), axis, -1)
        return self.add("Reshape", [tensor.name, self._listed(shape)])

    def _columns(self, name: str, width: int) -> str:
        return self.add("Reshape", [name, self._listed(np.array([-1, width]))])

    def _reduced(self, operator: str, name: str, axes: list[int]) -> str:
        # Of sums the axes became an input with opset 13, of the others with 18.
        if self.opset < (13 if operator == "ReduceSum" else 18):
            return self.add(operator, [name], axes=axes, keepdims=0)
        return self.add(operator, [name, self._listed(np.array(axes))], keepdims=0)

    def _listed(self, value: NDArray[np.int64]) -> str:
        return self._constant(f"constant {value.tolist()}", value)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        name = PREFIX + name
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name


def _block_mask(size: int) -> NDArray[np.bool_]:
    """Say which of ``size`` numbers belongs to which block, (size, k)."""
    count = min(size, _BLOCKS)
    mask: NDArray[np.bool_] = np.arange(size)[:, None] * count // size == np.arange(count)
    return mask
