"""Statistics of tensors inside If, Loop and Scan, added up where the tensors are computed.

Each body returns further numbers, a row for each sample: statistics of its own tensors, and of
those in the bodies inside it. A Loop or Scan adds up the rows of its iterations in a further
state, so that nothing is stacked, however often it runs. An If returns for the branch that it does
not take what an empty tensor has: zeros, and infinities as extremes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from cnatool.backend.graph.nodes import PREFIX, attributes, first_output
from cnatool.backend.graph.outputs import needs_cast
from cnatool.backend.statistics.loop_results import add_stacked, add_state, name_results
from cnatool.backend.statistics.reductions import (
    MeasuredTensor,
    ReductionNodes,
    measure_tensor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnatool.backend.graph.control_flow import Body, InnerTensor
    from cnatool.records.choices import Statistic
    from cnatool.records.store import Merged, TensorRecord

# The operator that makes one of two rows, of statistics that are not added.
_EXTREMES: Final[Mapping[Statistic, str]] = {"min": "Min", "max": "Max"}
# What an empty tensor has.
_EMPTY: Final[Mapping[str, float]] = {"Add": 0.0, "Min": math.inf, "Max": -math.inf}
_REDUCE: Final[Mapping[str, str]] = {"Add": "ReduceSum", "Min": "ReduceMin", "Max": "ReduceMax"}


@dataclass(frozen=True, slots=True)
class SampledLoop:
    """A loop whose iterations are samples."""

    level: int  # its place among the bodies around a tensor
    merged: Merged | None = None  # whether a sample has several iterations, and which are outer
    factor: int = 1  # how many


@dataclass(frozen=True, slots=True)
class InnerMeasure:
    """A tensor whose statistics are computed in its body."""

    tensor: MeasuredTensor  # as it is in one iteration
    bodies: tuple[Body, ...]
    samples: SampledLoop | None  # None for samples along an axis of the tensor
    is_cast: bool  # NumPy has no arrays of its type
    is_counted: bool  # the number of its elements is wanted


class Row(NamedTuple):
    """Numbers of each sample in a graph, (n, columns) float64."""

    name: str
    columns: list[int]


def measure_inner(tensor: TensorRecord, inner: InnerTensor, *, exact: bool) -> InnerMeasure:
    """Describe how a tensor is measured in its body, from its record, with axes of iterations."""
    samples, merged = None, tensor.merged
    loops, axis = inner.loops, tensor.batch_axis
    if axis is not None and axis < loops:
        levels = [level for level, body in enumerate(inner.bodies) if body.repeats]
        factor = tensor.shape[axis] if merged else 1
        samples = SampledLoop(levels[axis], merged, factor)
        loops -= merged is None
        axis = merged = None
    elif axis is not None:
        axis -= loops
    kind = tensor.onnx_type or ""
    in_parts = tensor.dtype == "float32" and kind in ("", "float") and not tensor.varies
    return InnerMeasure(
        MeasuredTensor(
            name=inner.own,
            shape=tensor.shape[loops:],
            batch_axis=axis,
            merged=merged,
            exact=exact or not in_parts,
        ),
        inner.bodies,
        samples,
        is_cast=needs_cast(kind),
        is_counted=tensor.varies,
    )


def append_inner_statistics(
    nodes: ReductionNodes,
    graph: onnx.GraphProto,
    tensors: Mapping[int, InnerMeasure],
    statistics: Sequence[Statistic],
    stride: int,
    fed: str,
) -> list[Row]:
    """Make the bodies of a graph return statistics of their tensors, as rows of the graph.

    Column ``s * stride + t`` is statistic s of tensor t, and with s = ``len(statistics)`` the
    number of its elements, where that is wanted. Appended to the graph itself are ``nodes``.
    ``fed`` is an input with samples first.
    """
    root = _MeasuredBody(graph)
    for number, tensor in tensors.items():
        root.add(number, tensor)
    empty = _EmptyRows(nodes, fed)
    scopes = (f"{PREFIX}inner {number}." for number in count())
    return [
        row
        for operator in _EMPTY
        for samples in dict.fromkeys(tensor.samples for tensor in tensors.values())
        for row in _Gathering(empty, scopes, operator, samples, statistics, stride).gather(
            root, 0, nodes
        )
    ]


@dataclass(slots=True)
class _MeasuredBody:
    """A graph, with the tensors to measure in it and in the bodies inside it."""

    graph: onnx.GraphProto
    tensors: list[tuple[int, InnerMeasure]] = field(default_factory=list)
    # By the first result of a node, and the attribute that holds the body
    inside: dict[str, dict[str, _MeasuredBody]] = field(default_factory=dict)

    def add(self, number: int, tensor: InnerMeasure) -> None:
        """Add a tensor to the body that it is in."""
        inner = self
        for body in tensor.bodies:
            bodies = inner.inside.setdefault(body.node, {})
            if body.attribute not in bodies:
                graph: onnx.GraphProto = attributes(inner.node(body.node))[body.attribute]
                bodies[body.attribute] = _MeasuredBody(graph)
            inner = bodies[body.attribute]
        inner.tensors.append((number, tensor))

    def node(self, result: str) -> onnx.NodeProto:
        """Return the node with this first result."""
        nodes: list[onnx.NodeProto] = list(self.graph.node)
        return next(node for node in nodes if first_output(node) == result)


class _EmptyRows:
    """The rows of empty tensors: tensors of the main graph, which all bodies can read."""

    def __init__(self, nodes: ReductionNodes, fed: str) -> None:
        self._nodes, self._fed = nodes, fed
        self._names: dict[tuple[str, int], str] = {}
        self._samples = ""

    @property
    def constants(self) -> dict[str, TensorProto]:
        """Constants of the main graph."""
        return self._nodes.constants

    def samples(self) -> str:
        """Return the tensor that holds the number of samples, (1,) int64."""
        if not self._samples:
            first = self._nodes.constant("first", np.array([0]))
            shape = self._nodes.add("Shape", [self._fed])
            self._samples = self._nodes.add("Gather", [shape, first])
        return self._samples

    def find(self, operator: str, width: int, *, one: bool) -> str:
        """Return the rows, (n, width), of all samples or of one."""
        row = self._nodes.constant(
            f"{width} empty for {operator}", np.full((1, width), _EMPTY[operator])
        )
        if one:
            return row
        if (operator, width) not in self._names:
            column = self._nodes.constant("one", np.array([1]))
            shape = self._nodes.add("Concat", [self.samples(), column], axis=0)
            self._names[operator, width] = self._nodes.add("Expand", [row, shape])
        return self._names[operator, width]


@dataclass(frozen=True, slots=True)
class _Gathering:
    """What gathers the statistics that one operator combines, of samples that lie alike."""

    empty: _EmptyRows
    scopes: Iterator[str]
    operator: str
    samples: SampledLoop | None
    statistics: Sequence[Statistic]
    stride: int

    def gather(self, body: _MeasuredBody, level: int, nodes: ReductionNodes) -> list[Row]:
        """Gather the statistics of a body that so many surround, and of those inside it."""
        rows = [
            row
            for number, tensor in body.tensors
            if tensor.samples == self.samples
            for row in self._measure(number, tensor, level, nodes)
        ]
        for result, bodies in body.inside.items():
            node = body.node(result)
            for attribute, inner in bodies.items():
                own = ReductionNodes(nodes.opset, next(self.scopes), constants=nodes.constants)
                parts = self.gather(inner, level + 1, own)
                if not parts:
                    continue
                columns = [column for part in parts for column in part.columns]
                row = Row(own.add("Concat", [part.name for part in parts], axis=1), columns)
                inner.graph.node.extend(own.nodes)
                if node.op_type == "If":
                    rows.append(self._return_from_branch(node, attribute, row, level))
                else:
                    rows.append(self._return_from_loop(node, inner.graph, row, level, nodes))
        return rows

    def _measure(
        self, number: int, inner: InnerMeasure, level: int, nodes: ReductionNodes
    ) -> Iterator[Row]:
        tensor = inner.tensor
        if inner.is_cast:
            tensor = replace(tensor, name=nodes.add("Cast", [tensor.name], to=TensorProto.FLOAT))
        for place, statistic in enumerate(self.statistics):
            if _EXTREMES.get(statistic, "Add") == self.operator:
                column = place * self.stride + number
                yield Row(measure_tensor(nodes, tensor, statistic), [column])
        if inner.is_counted and self.operator == "Add":
            column = len(self.statistics) * self.stride + number
            yield Row(self._count_elements(tensor, level, nodes), [column])

    def _count_elements(self, tensor: MeasuredTensor, level: int, nodes: ReductionNodes) -> str:
        """Add the number of a tensor's elements by sample, (n, 1)."""
        size = nodes.add("Size", [tensor.name])
        if not self._is_one(level):
            size = nodes.add("Div", [size, self.empty.samples()])
        size = nodes.add("Cast", [size], to=TensorProto.DOUBLE)
        return nodes.add("Add", [self._empty(1, level), size])

    def _is_one(self, level: int) -> bool:
        """Whether a body that so many surround sees one sample at a time."""
        return self.samples is not None and level > self.samples.level

    def _empty(self, width: int, level: int) -> str:
        return self.empty.find(self.operator, width, one=self._is_one(level))

    def _return_from_branch(
        self, node: onnx.NodeProto, attribute: str, row: Row, level: int
    ) -> Row:
        """Return a row from a branch of an If, and that of empty tensors from the other."""
        width, result = len(row.columns), f"{next(self.scopes)}branch"
        name_results(node, node.attribute[0].g, result)
        for branch in node.attribute:
            name = row.name
            if branch.name != attribute:
                name = f"{result} not taken"
                empty = self._empty(width, level)
                branch.g.node.append(helper.make_node("Identity", [empty], [name], name=name))
            branch.g.output.append(_declare(name, width))
        node.output.append(result)
        return Row(result, row.columns)

    def _return_from_loop(
        self,
        node: onnx.NodeProto,
        body: onnx.GraphProto,
        row: Row,
        level: int,
        nodes: ReductionNodes,
    ) -> Row:
        """Return the rows of all iterations of a Loop or Scan: combined, or by sample."""
        width, result = len(row.columns), f"{next(self.scopes)}loop"
        if self.samples is not None and self.samples.level == level:
            add_stacked(node, body, _declare(row.name, width), result)
            return Row(self._split_samples(result, width, self.samples, nodes), row.columns)
        before, after = f"{result} before", f"{result} after"
        combine = helper.make_node(self.operator, [before, row.name], [after], name=after)
        body.node.append(combine)
        values = _declare(before, width), _declare(after, width)
        add_state(node, body, self._empty(width, level), values, result)
        return Row(result, row.columns)

    def _split_samples(
        self, name: str, width: int, samples: SampledLoop, nodes: ReductionNodes
    ) -> str:
        """Add the rows of samples, from those of iterations, (iterations, 1, width)."""
        if samples.factor == 1:
            return nodes.columns(name, width)
        outer = samples.merged == "NT"
        shape = [-1, samples.factor, width] if outer else [samples.factor, -1, width]
        split = nodes.reshape(name, shape)
        return nodes.reduce_axes(_REDUCE[self.operator], split, [1 if outer else 0])


def _declare(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, width])
