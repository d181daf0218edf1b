"""Nodes that reduce tensors to what is kept of them: of their positions, or by a projection.

Padding is left out before anything is reduced: it is replaced where a mean or maximum runs over it,
and the places of single positions are found outside the graph, where it is known which are real.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto

from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.graph.outputs import element_type, needs_cast
from cnatool.backend.statistics.real_positions import REAL
from cnatool.backend.statistics.reduced_tensors import ProjectedAxes
from cnatool.backend.statistics.reductions import LARGEST_PLANE, MeasuredTensor, ReductionNodes
from cnatool.metrics.projection import DenseProjection, draw_offsets, spread_positions
from cnatool.records.layout import ragged_axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.backend.statistics.reduced_tensors import ReducedTensor
    from cnatool.metrics.projection import SparseProjection
    from cnatool.records.reductions import Reduction

# Sums over more positions are float64.
_LONGEST_SUM: Final = 1024
# ONNX's types that computing knows on every processor; others are cast to float32.
_COMPUTED: Final = frozenset({"float", "double"})


def append_reduced(
    model: onnx.ModelProto,
    reduced: Sequence[ReducedTensor],
    types: Mapping[str, str],
    opset: int,
    fed: str,
) -> None:
    """Make a model return reduced tensors, under the names of their `output`.

    ``types`` are the ONNX element types of the sources by name, and ``fed`` is an input with
    samples first. `REAL` is an input already where a reduced tensor `masks`.
    """
    nodes = ReductionNodes(opset, prefix=f"{PREFIX}reduction ", fed=fed)
    declared = {value.name for value in model.graph.input}
    for each in reduced:
        if each.finds_places and each.places not in declared:
            declared.add(each.places)
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(each.places, TensorProto.INT64, [None, None])
            )
        _Nodes(nodes, each, element_type(types.get(each.source.name, ""))).append()
    there = {tensor.name for tensor in model.graph.initializer}
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(t for name, t in nodes.constants.items() if name not in there)
    model.graph.output.extend(onnx.ValueInfoProto(name=each.output) for each in reduced)


class _Nodes:
    """The nodes of one reduced tensor."""

    def __init__(self, nodes: ReductionNodes, reduced: ReducedTensor, kind: str) -> None:
        self._nodes = nodes
        self._reduced = reduced
        self._source = reduced.source
        self._kind = kind
        self._target = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(reduced.tensor.dtype))

    def append(self) -> None:
        form, name = self._reduced.reduction, self._put_samples_first(self._readable())
        if form.positions in ("mean", "max"):
            name = self._reduce_positions(name, form.positions)
        elif form.positions is not None:
            name = self._keep_positions(name, form)
        if form.projected is not None or form.positions is None:
            # With a fixed shape: everything that is left of a sample.
            elements = math.prod(self._kept_shape())
            name = self._cast(self._nodes.columns(name, elements), self._target)
        if self._reduced.matrix is not None:
            name = self._project(name, self._reduced.matrix)
        name = self._cast(name, self._target)
        self._nodes.add("Identity", [name], self._reduced.output)

    def _kept_shape(self) -> tuple[int, ...]:
        """Return the shape of a sample after positions were reduced."""
        form, source = self._reduced.reduction, self._source
        if form.positions is None:
            return source.shape
        units = source.shape[self._reduced.unit_axis or 0]
        return (form.place, units) if form.positions == "sample" else (units,)

    def _readable(self) -> str:
        """Add the source in a type that NumPy has arrays of."""
        if not needs_cast(self._kind):
            return self._source.name
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self._source.dtype))
        return self._cast(self._source.name, kind)

    def _put_samples_first(self, name: str) -> str:
        """Add the source as (n, …)."""
        source, nodes = self._source, self._nodes
        if source.batch_axis is None:
            return nodes.unsqueeze(name, 0)
        open_ = source.varies and not source.positions
        if source.merged == "NT" and source.batch_axis == 0 and open_:
            rest = [-1, *source.shape[1:]]
            shape = nodes.add("Concat", [nodes.count_samples(), nodes.integers(rest)], axis=0)
            return nodes.add("Reshape", [name, shape])
        measured = MeasuredTensor(name, source.shape, source.batch_axis, source.merged, exact=True)
        name = nodes.split_samples(measured)
        axis = source.batch_axis + (source.merged == "TN")
        if axis:
            others = [k for k in range(len(source.shape) + 1) if k != axis]
            name = nodes.add("Transpose", [name], perm=[axis, *others])
        return name

    @property
    def _position_axes(self) -> list[int]:
        """Axes of the source's positions, of (n, …)."""
        units = self._reduced.unit_axis
        return [k + 1 for k in range(len(self._source.shape)) if k != units]

    def _reduce_positions(self, name: str, operator: str) -> str:
        """Add the mean or the maximum over positions, (n, units)."""
        nodes, axes = self._nodes, self._position_axes
        name = self._cast_to_compute(name, operator)
        real = self._find_real() if self._reduced.masks else None
        if operator == "max":
            if real is not None:
                name = nodes.add("Where", [real, name, self._like(-math.inf)])
            if self._is_integer:
                return nodes.reduce_axes("ReduceMax", name, axes)
            return nodes.reduce_extreme("ReduceMax", name, axes, self._computed)
        if real is None and self._has_planes:
            averages, _ = nodes.average_planes(name, self._source.shape)
            return nodes.columns(averages, self._source.shape[0])
        if real is None:
            # Along each axis of its own: float32 sums of few numbers stay exact.
            for axis in sorted(axes, reverse=True):
                name = nodes.reduce_axes("ReduceMean", name, [axis])
            return name
        name = nodes.add("Where", [real, name, self._like(0.0)])
        name = nodes.reduce_axes("ReduceSum", name, axes)
        return nodes.add("Div", [name, self._count_positions()])

    def _cast_to_compute(self, name: str, operator: str) -> str:
        """Add the source in a type that its mean or maximum can be computed in."""
        if operator == "max" and self._is_integer:
            return self._cast(name, TensorProto.INT64)
        sizes = [self._source.shape[k - 1] for k in self._position_axes]
        open_ = self._source.varies and not self._source.positions
        long = max(sizes, default=1) > _LONGEST_SUM or open_
        if operator == "mean" and (self._is_integer or self._kind == "double" or long):
            self._computed = TensorProto.DOUBLE
        elif self._kind in _COMPUTED:
            self._computed = TensorProto.DOUBLE if self._kind == "double" else TensorProto.FLOAT
        else:
            self._computed = TensorProto.FLOAT
        return self._cast(name, self._computed)

    @property
    def _has_planes(self) -> bool:
        """Whether the mean over positions is that of each channel's plane, in float32."""
        shape = self._source.shape
        return (
            self._computed == TensorProto.FLOAT
            and len(shape) == 3
            and self._reduced.unit_axis == 0
            and shape[1] * shape[2] <= LARGEST_PLANE
        )

    @property
    def _is_integer(self) -> bool:
        return np.dtype(self._source.dtype).kind in "iub"

    def _like(self, value: float) -> str:
        """Add a number of the type that is computed in."""
        if self._reduced.reduction.positions == "max" and self._is_integer:
            least = np.array([np.iinfo(np.int64).min])
            return self._nodes.constant("least integer", least)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self._computed)
        return self._nodes.constant(f"{value} of {dtype}", np.array([value], dtype))

    def _find_real(self) -> str:
        """Add which elements of (n, …) are real, to be broadcast."""
        rank, parts = len(self._source.shape) + 1, []
        for axis in self._source.positions or ():
            shape = [1] * rank
            shape[0], shape[axis + 1] = -1, self._source.shape[axis]
            parts.append(self._nodes.reshape(REAL, shape))
        whole = parts[0]
        for part in parts[1:]:
            whole = self._nodes.add("And", [whole, part])
        return whole

    def _count_positions(self) -> str:
        """Add how many positions of each sample are real, (n, 1), of the computed type."""
        nodes, source = self._nodes, self._source
        real = nodes.add("Cast", [REAL], to=self._computed)
        count = nodes.reduce_axes("ReduceSum", real, [1], keep=True)
        padded = source.positions or ()
        name = count
        for _ in padded[1:]:
            name = nodes.add("Mul", [name, count])
        others = [k - 1 for k in self._position_axes if k - 1 not in padded]
        factor = math.prod(source.shape[k] for k in others)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self._computed)
        size = nodes.constant(f"{factor} positions of {dtype}", np.array([factor], dtype))
        return nodes.add("Mul", [name, size])

    def _keep_positions(self, name: str, form: Reduction) -> str:
        """Add single positions, (n, units), or some of them, (n, K, units)."""
        nodes, source = self._nodes, self._source
        units = (self._reduced.unit_axis or 0) + 1
        rank, axes = len(source.shape) + 1, self._position_axes
        if self._reduced.finds_places or (ragged_axis(source) is not None):
            # One axis of positions; samples, positions, units.
            if units == 1:
                name = nodes.add("Transpose", [name], perm=[0, 2, 1])
            if self._reduced.finds_places:
                name = self._gather_places(name)
            else:
                places = self._open_places(name, form)
                name = nodes.add("Gather", [name, places], axis=1)
            return (
                name if form.positions == "sample" else nodes.columns(name, source.shape[units - 1])
            )
        count = math.prod(source.shape[k - 1] for k in axes)
        size = source.shape[units - 1]
        if form.positions == "sample":
            chosen = spread_positions(count, form.place, self._reduced.seed)
        else:
            known = {"cls": 0, "last": count - 1}
            chosen = np.array([known.get(form.positions or "", form.place)])
        indices = nodes.integers([int(place) for place in chosen])
        if units == 1:
            # Channels first: only what is kept is transposed.
            name = nodes.reshape(name, [-1, size, count])
            name = nodes.add("Gather", [name, indices], axis=2)
            name = nodes.add("Transpose", [name], perm=[0, 2, 1])
        else:
            if units != rank - 1:
                name = nodes.add("Transpose", [name], perm=[0, *axes, units])
            name = nodes.reshape(name, [-1, count, size])
            name = nodes.add("Gather", [name, indices], axis=1)
        return name if form.positions == "sample" else nodes.columns(name, size)

    def _gather_places(self, name: str) -> str:
        """Add the positions at the places that were found for each sample, (n, K, units)."""
        nodes = self._nodes
        places = nodes.unsqueeze(self._reduced.places, 2)
        # As wide as the units, since each is looked up.
        width = self._source.shape[self._reduced.unit_axis or 0]
        ones = nodes.constant(f"ones {width}", np.ones((1, 1, width), np.int64))
        return nodes.add("GatherElements", [name, nodes.add("Mul", [places, ones])], axis=1)

    def _open_places(self, name: str, form: Reduction) -> str:
        """Add the places of positions in a run whose samples are all of one length."""
        nodes = self._nodes
        shape = nodes.add("Shape", [name])
        length = nodes.add("Gather", [shape, nodes.integers([1])])
        if form.positions != "sample":
            if form.positions == "last":
                return nodes.add("Sub", [length, nodes.integers([1])])
            return nodes.integers([0])
        count = nodes.add("Min", [length, nodes.integers([form.place])])
        # One in each of equally long stretches, as `spread_positions` chooses.
        whole = nodes.integers(list(range(form.place + 1)))
        zero, one = nodes.integers([0]), nodes.integers([1])
        ends = nodes.add("Slice", [whole, zero, nodes.add("Add", [count, one])])
        edges = nodes.add("Div", [nodes.add("Mul", [ends, length]), count])
        first = nodes.add("Slice", [edges, zero, count])
        behind = nodes.add("Slice", [edges, one, nodes.add("Add", [count, one])])
        sizes = self._cast(nodes.add("Sub", [behind, first]), TensorProto.DOUBLE)
        offsets = draw_offsets(form.place, self._reduced.seed)
        drawn = nodes.constant(f"offsets {form.place} {self._reduced.seed}", offsets)
        drawn = nodes.add("Slice", [drawn, zero, count])
        within = nodes.add("Floor", [nodes.add("Mul", [drawn, sizes])])
        return nodes.add("Add", [first, self._cast(within, TensorProto.INT64)])

    def _project(
        self, name: str, matrix: DenseProjection | SparseProjection | ProjectedAxes
    ) -> str:
        """Add the projection of (n, D) to (n, K)."""
        nodes, dtype = self._nodes, np.dtype(self._reduced.tensor.dtype)
        key = self._reduced.tensor.name
        if isinstance(matrix, ProjectedAxes):
            mean = nodes.constant(f"mean of {key}", matrix.mean.astype(dtype))
            axes = np.ascontiguousarray(matrix.components.T.astype(dtype))
            name = nodes.add("Sub", [name, mean])
            return nodes.add("MatMul", [name, nodes.constant(f"components of {key}", axes)])
        key = f"{matrix.sha256} {dtype}"
        if isinstance(matrix, DenseProjection):
            projection = nodes.constant(f"projection {key}", matrix.matrix.astype(dtype))
            return nodes.add("MatMul", [name, projection])
        if matrix.filling:
            first = nodes.add("Gather", [name, nodes.integers(list(range(matrix.filling)))], axis=1)
            name = nodes.add("Concat", [name, first], axis=1)
        blocks = nodes.reshape(name, [-1, -(-matrix.elements // matrix.length), matrix.length])
        sums = []
        groups = zip(matrix.places, matrix.signs, matrix.widths, strict=True)
        for number, (places, signs, width) in enumerate(groups):
            indices = nodes.constant(f"places {number} {key}", places)
            factors = nodes.constant(f"signs {number} {key}", signs.astype(dtype))
            part = nodes.columns(nodes.add("Gather", [blocks, indices], axis=1), len(signs))
            part = nodes.add("Mul", [part, factors])
            part = nodes.reshape(part, [-1, len(signs) // width, width])
            sums.append(nodes.reduce_axes("ReduceSum", part, [1]))
        whole = nodes.add("Concat", sums, axis=1)
        scale = nodes.constant(f"scale {key}", np.array([matrix.scale], dtype))
        return nodes.add("Mul", [whole, scale])

    def _cast(self, name: str, kind: int) -> str:
        return self._nodes.add("Cast", [name], to=kind)
