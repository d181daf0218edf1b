"""Per-sample statistics of tensors, computed inside the graph so that few numbers leave it.

Exact statistics are a Cast to float64 and a reduction. A float32 tensor is mostly summed in parts
instead: in float32 along a row or over a plane inside the graph, in float64 outside, so that
rounding averages out (1e-6 of the absolute sum). `benchmarks/statistics_speed.py` compares what
either takes with inference alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cnatool._util.products import multiply
from cnatool.backend.graph.nodes import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.statistics.channel_sums import ChannelSum
    from cnatool.records.choices import Statistic
    from cnatool.records.store import Merged

_EXACT = f"{PREFIX}exact"
_PARTIAL = f"{PREFIX}partial"
_COUNTS = f"{PREFIX}counts"
# float32 sums of more numbers, one after another, drift: by 3e-5 for equal numbers on a plane of
# 112 by 112. Rows first, then their sums, and those in float64 where the plane is large, keep the
# error below 5e-6 for the widest plane, and below 1e-6 for most.
_LONGEST_SUM = 1024
_LARGEST_PLANE = 1 << 15
_WIDEST_PLANE = 512
# Channels in a block of that layout: 8 or 16.
_BLOCK = 16
# What is done to each element before the sum.
_ELEMENTWISE: Final[Mapping[Statistic, str]] = {
    "abs_sum": "Abs",
    "positive_sum": "Relu",
    "square_sum": "Mul",
    "nonzero_count": "Cast",
}
_EXTREMES: Final[Mapping[Statistic, str]] = {"min": "ReduceMin", "max": "ReduceMax"}
# Squares leave the range of float32 long before the values do.
_ALWAYS_EXACT: Final = frozenset({*_EXTREMES, "square_sum"})


@dataclass(frozen=True, slots=True)
class MeasuredTensor:
    """A tensor whose statistics are computed in the graph; attributes as of a TensorRecord.

    ``exact`` asks for float64 throughout.
    """

    name: str
    shape: tuple[int, ...]
    batch_axis: int | None
    merged: Merged | None
    exact: bool
    # What its sum is computed from, where that is not the tensor itself.
    sum: ChannelSum | None = None

    @property
    def in_parts(self) -> bool:
        """Whether sums in float32 parts are good enough for it, and faster."""
        # Most numbers in one float32 sum, by the number of axes.
        longest = {1: _LONGEST_SUM, 3: _WIDEST_PLANE}.get(len(self.shape), math.inf)
        return not self.exact and bool(self.shape) and self.shape[-1] <= longest


@dataclass(frozen=True, slots=True)
class _PartialSums:
    """Numbers in the output of partial sums, from ``start`` on, and what they add to columns."""

    start: int
    columns: list[int]
    weights: NDArray[np.float64]  # (numbers, columns)


@dataclass(frozen=True, slots=True)
class Measures:
    """How to read statistics from what a model returns."""

    statistics: tuple[Statistic, ...]
    # The outputs to fetch, with the columns that each has.
    widths: dict[str, int]
    # The output with the sizes of the tensors whose shape varies; None where there are none.
    counted: str | None
    _exact: list[int]
    # One for each statistic and tensor: what is added to every sample.
    _constants: NDArray[np.float64]
    _partial: list[_PartialSums]

    def in_range(self, values: Sequence[NDArray[Any]]) -> bool:
        """Whether all partial sums are finite and far below the largest float32; as of `read`."""
        outputs = dict(zip(self.widths, values, strict=True))
        if _PARTIAL not in outputs:
            return True
        # The square of a number beyond 1e19 is infinite. An operator overflows on inputs that are
        # hardly smaller than its results: where its own result is not read, its inputs tell.
        numbers = outputs[_PARTIAL].reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):
            return bool(np.isfinite(np.dot(numbers, numbers)))

    def read(self, values: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Return each statistic, (n, T), from a run's values of the outputs in ``widths``."""
        outputs = dict(zip(self.widths, values, strict=True))
        columns = np.tile(self._constants, (len(values[0]), 1))
        if self._exact:
            columns[:, self._exact] = outputs[_EXACT]
        # A value that is not finite is a result like any other, and no reason for a warning.
        with np.errstate(invalid="ignore"):
            for part in self._partial:
                numbers = outputs[_PARTIAL][:, part.start : part.start + len(part.weights)]
                columns[:, part.columns] += multiply(numbers.astype(np.float64), part.weights)
        by_statistic = np.split(columns, len(self.statistics), axis=1)
        return dict(zip(self.statistics, by_statistic, strict=True))


def append_statistics(
    model: onnx.ModelProto,
    tensors: Sequence[MeasuredTensor],
    statistics: Sequence[Statistic],
    shapes: Mapping[str, tuple[int, ...]],
    opset: int,
    counted: Sequence[str] = (),
) -> Measures:
    """Make a model return statistics of each tensor over one sample's elements.

    ``shapes`` are those of the tensors that channel sums name. Of the tensors in ``counted``,
    whose shape varies, the model returns the number of elements as well.
    """
    nodes = _Nodes(opset)
    exact: dict[int, str] = {}
    constants = np.zeros(len(statistics) * len(tensors))
    # By tensor (C, H, W): the weights of its channel sums in each column.
    planes: dict[str, dict[int, NDArray[np.float64]]] = {}
    # By tensor of any shape: the weights of its elements in each column.
    elements: dict[str, dict[int, NDArray[np.float64]]] = {}
    shapes = dict(shapes)
    parts = _Parts()
    for number, statistic in enumerate(statistics):
        for place, tensor in enumerate(tensors):
            column = number * len(tensors) + place
            if statistic in _ALWAYS_EXACT or not tensor.in_parts:
                exact[column] = nodes.reduce(tensor, statistic)
                continue
            if statistic == "sum" and tensor.sum is not None:
                constants[column] = tensor.sum.constant
                for name, weights in tensor.sum.terms.items():
                    planes.setdefault(name, {})[column] = weights
                for name, weights in tensor.sum.elements.items():
                    elements.setdefault(name, {})[column] = weights
                continue
            name = nodes.apply_elementwise(tensor.name, statistic, TensorProto.FLOAT)
            if len(tensor.shape) == 3 and statistic != "nonzero_count":
                shapes[name] = tensor.shape
                planes.setdefault(name, {})[column] = np.ones(tensor.shape[0])
            else:
                parts.add(*nodes.sum_rows(name, tensor.shape), [column])
    for name, by_column in elements.items():
        matrix = np.stack([weights.reshape(-1) for weights in by_column.values()], axis=-1)
        parts.add(nodes.weigh_elements(name, matrix), np.eye(len(by_column)), list(by_column))
    # Means in the runtime's blocked layout are joined there, and written anew together.
    joined = _Parts()
    for name, by_column in planes.items():
        channels, height, width = shapes[name]
        averages, scale = nodes.average_planes(name, shapes[name])
        stacked = np.stack(list(by_column.values()), axis=-1)
        weights = np.repeat(stacked * scale[0], len(scale) // len(stacked), axis=0)
        if channels % _BLOCK == 0 and height * width <= _LARGEST_PLANE:
            joined.add(averages, weights, list(by_column))
        else:
            parts.add(nodes.columns(averages, len(scale)), weights, list(by_column))
    if joined.names:
        whole = nodes.add("Concat", joined.names, axis=1)
        parts.join(nodes.columns(whole, joined.width), joined)
    widths = {}
    for output, results, size in (
        (_EXACT, list(exact.values()), len(exact)),
        (_PARTIAL, parts.names, parts.width),
    ):
        if results:
            widths[nodes.add("Concat", results, output, axis=1)] = size
    added = list(widths)
    if counted:
        added.append(nodes.count_elements(counted, _COUNTS))
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants.values())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    return Measures(
        statistics=tuple(statistics),
        widths=widths,
        counted=_COUNTS if counted else None,
        _exact=list(exact),
        _constants=constants,
        _partial=parts.sums,
    )


@dataclass(slots=True)
class _Parts:
    """Partial sums as they are lined up in one output."""

    names: list[str] = field(default_factory=list)
    sums: list[_PartialSums] = field(default_factory=list)
    width: int = 0

    def add(self, name: str, weights: NDArray[np.float64], columns: list[int]) -> None:
        self.names.append(name)
        self.sums.append(_PartialSums(self.width, columns, weights))
        self.width += len(weights)

    def join(self, name: str, others: _Parts) -> None:
        """Add the partial sums of ``others``, lined up under one name."""
        self.names.append(name)
        self.sums += [
            _PartialSums(self.width + part.start, part.columns, part.weights)
            for part in others.sums
        ]
        self.width += others.width


@dataclass(slots=True)
class _Nodes:
    """Nodes to be appended to a model, each added by a method that returns its result's name."""

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, operator: str, inputs: list[str], output: str | None = None, **kw: Any) -> str:
        output = output or f"{PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **kw))
        return output

    def reduce(self, tensor: MeasuredTensor, statistic: Statistic) -> str:
        """Add a statistic of a tensor in float64, (n, 1)."""
        name = self.add("Cast", [self._split_samples(tensor)], to=TensorProto.DOUBLE)
        if tensor.batch_axis is None:
            axes = list(range(len(tensor.shape)))
        else:
            sample_axis = tensor.batch_axis + (tensor.merged == "TN")
            axes = [axis for axis in range(len(tensor.shape) + 1) if axis != sample_axis]
        if statistic not in _EXTREMES:
            name = self.apply_elementwise(name, statistic, TensorProto.DOUBLE)
        operator = _EXTREMES.get(statistic, "ReduceSum")
        return self.columns(self._reduce(operator, name, axes) if axes else name, 1)

    def sum_rows(self, name: str, shape: tuple[int, ...]) -> tuple[str, NDArray[np.float64]]:
        """Add sums along the last axis, (n, rows), and return the weight of each, (rows, 1).

        A sample with one axis is one row.
        """
        count = math.prod(shape[:-1])
        rows = self._reduce("ReduceSum", name, [len(shape)])
        return self.columns(rows, count), np.ones((count, 1))

    def weigh_elements(self, name: str, weights: NDArray[np.float64]) -> str:
        """Add sums of each sample's elements, (n, sums), with the weights (elements, sums)."""
        # Sums with a weight beyond float32 are not finite, and recomputed like others.
        with np.errstate(over="ignore"):
            narrow = weights.astype(np.float32)
        matrix = self._constant(f"weights of {name}", narrow)
        return self.add("MatMul", [self.columns(name, len(weights)), matrix])

    def average_planes(self, name: str, shape: tuple[int, ...]) -> tuple[str, NDArray[np.float64]]:
        """Add the mean of each channel, or of each of its rows where the plane is large.

        The first result is (n, C, 1, 1), or (n, C, rows, 1). The second is how many elements each
        number is the mean of. The runtime keeps results of convolutions in a blocked layout of its
        own. It pools in that layout; for a sum it would first write the whole tensor anew.
        """
        channels, height, width = shape
        if height * width > _LONGEST_SUM:
            row = (1, width)
            name = self.add("AveragePool", [name], kernel_shape=row, strides=row)
        if height * width > _LARGEST_PLANE:
            count, size = channels * height, width
        else:
            name = self.add("GlobalAveragePool", [name])
            count, size = channels, height * width
        return name, np.full(count, float(size))

    def count_elements(self, tensors: Sequence[str], output: str) -> str:
        """Add the numbers of elements in the batch, (tensors,) int64."""
        shape = self._constant("one number", np.array([1]))
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

    def _split_samples(self, tensor: MeasuredTensor) -> str:
        """Return the tensor with its sample axis apart from the one that it is merged with."""
        if tensor.merged is None or tensor.batch_axis is None:
            return tensor.name
        axis = tensor.batch_axis + (tensor.merged == "TN")
        shape = np.insert(np.array(tensor.shape, np.int64), axis, -1)
        return self.add("Reshape", [tensor.name, self._integers(shape)])

    def columns(self, name: str, width: int) -> str:
        """Add the same numbers as (n, width)."""
        return self.add("Reshape", [name, self._integers(np.array([-1, width]))])

    def _reduce(self, operator: str, name: str, axes: list[int]) -> str:
        # Of sums the axes became an input with opset 13, of the others with 18.
        if self.opset < (13 if operator == "ReduceSum" else 18):
            return self.add(operator, [name], axes=axes, keepdims=0)
        return self.add(operator, [name, self._integers(np.array(axes))], keepdims=0)

    def _integers(self, value: NDArray[np.int64]) -> str:
        return self._constant(f"constant {value.tolist()}", value)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        name = PREFIX + name
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name
