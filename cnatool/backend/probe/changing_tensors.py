"""Tensors in loops whose iterations cannot be stacked: what their shapes and sums show of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cnatool.backend.graph.outputs import array_dtype, element_type
from cnatool.backend.probe.axis_search import find_scaled_axis
from cnatool.backend.probe.closeness import same_values
from cnatool.backend.probe.dependence import run_regrouped
from cnatool.backend.probe.iterations import read_iterated_shapes
from cnatool.backend.probe.probed_tensor import ProbedTensor
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.session import Session
from cnatool.backend.statistics.inner_statistics import append_inner_statistics, measure_inner
from cnatool.backend.statistics.reductions import ReductionNodes
from cnatool.records.skipped import (
    BACKWARDS,
    CHANGING_RANK,
    CHANGING_UNKNOWN,
    NOT_ALWAYS,
    NOT_ALWAYS_IN_BATCHES,
)
from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.control_flow import Body
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.probe.iterations import IteratedShape
    from cnatool.backend.session import RunOptions

_NO_AXIS = -1


@dataclass(slots=True)
class ChangingTensors:
    """Tensors that the runtime cannot stack, of which statistics can be stored, or nothing."""

    tensors: list[ProbedTensor] = field(default_factory=list)
    skipped: list[SkippedTensor] = field(default_factory=list)

    @property
    def names(self) -> frozenset[str]:
        """Names of all of them."""
        names = [tensor.name for tensor in self.tensors]
        return frozenset([*names, *(tensor.name for tensor in self.skipped)])


def probe_changing(
    graph: Graph,
    types: Mapping[str, str],
    samples: Samples,
    bound: int | None,
    run: RunOptions,
) -> ChangingTensors:
    """Probe the tensors whose shape, or number, changes from one iteration to the next.

    Those that a branch inside a loop computes count too, where the samples choose the branch: a run
    of other samples may be unable to stack their iterations, and would fail. ``types`` are those of
    the tensors that are asked for; ``bound`` is the number of samples that each run takes, None
    where it is free.
    """
    every = np.arange(len(samples))
    groups = [every] if bound else [every, every[:-1]]
    if bound == 1:
        groups = [every[i : i + 1] for i in every]
    seen = read_iterated_shapes(graph, types, samples, groups, run)
    changing = ChangingTensors()
    for name in types:
        shapes = [shapes[name] for shapes in seen if name in shapes]
        may_change = name in graph.conditional and _chooses_in_loop(graph.bodies(name))
        if may_change and not shapes and bound != 1:
            reason = NOT_ALWAYS if bound else NOT_ALWAYS_IN_BATCHES
            changing.skipped.append(SkippedTensor(name, graph.operator(name), reason))
            continue
        if not shapes or not (may_change or any(shape.changes for shape in shapes)):
            continue
        if bound is not None and bound > 1:
            axis: SampleAxis | str = CHANGING_UNKNOWN
        else:
            axis = _find_axis(shapes, len(samples), single=bound == 1)
        if isinstance(axis, SampleAxis) and graph.inner[name].runs_backwards(axis.axis):
            axis = BACKWARDS
        if isinstance(axis, str):
            changing.skipped.append(SkippedTensor(name, graph.operator(name), axis))
            continue
        lengths = shapes[0].shape
        changing.tensors.append(
            ProbedTensor(
                name=name,
                operator=graph.operator(name),
                onnx_type=element_type(types[name]),
                dtype=array_dtype(types[name]),
                shape=tuple(n for place, n in enumerate(lengths) if place != axis.axis),
                batch_axis=axis.axis,
                varies=True,
            )
        )
    if bound is None and changing.tensors:
        mixed = graph.decided | _find_mixed(graph, changing.tensors, samples, run)
        changing.tensors = [replace(t, independent=t.name not in mixed) for t in changing.tensors]
    return changing


def _chooses_in_loop(bodies: Sequence[Body]) -> bool:
    """Whether one of the bodies around a tensor is a branch inside a loop."""
    operators = [body.operator for body in itertools.dropwhile(lambda b: not b.repeats, bodies)]
    return "If" in operators


def find_grown_states(graph: Graph, changing: frozenset[str]) -> set[str]:
    """Find the results of loops that grow with each iteration, where data decide how many."""
    return {
        name
        for name, body in graph.results.items()
        if body.repeats
        and name in graph.data_shaped
        and not changing.isdisjoint(graph.producer[name].input)
    }


def _find_axis(shapes: Sequence[IteratedShape], count: int, *, single: bool) -> SampleAxis | str:
    """Find the sample axis in shapes with all samples and without the last, or of one each."""
    if any(_NO_AXIS in shape.least for shape in shapes) or len({len(s.most) for s in shapes}) > 1:
        return CHANGING_RANK
    if single:
        return SampleAxis(None)
    if len(shapes) < 2:
        return CHANGING_UNKNOWN
    axis = find_scaled_axis(shapes[0].shape, shapes[1].shape, count)
    if isinstance(axis, str):
        return axis
    loops = len(shapes[0].iterations)
    if axis.factor > 1 or axis.axis is None:
        return CHANGING_UNKNOWN
    place = axis.axis - loops
    if place >= 0 and any(shape.least[place] != shape.most[place] for shape in shapes):
        return CHANGING_UNKNOWN
    return axis


def _find_mixed(
    graph: Graph, tensors: Sequence[ProbedTensor], samples: Samples, run: RunOptions
) -> set[str]:
    """Find the tensors whose sums for a sample depend on the samples beside it."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = ReductionNodes(graph.opset)
    measures = {
        number: measure_inner(tensor, graph.inner[tensor.name], exact=True)
        for number, tensor in enumerate(tensors)
    }
    fed = next(iter(samples.values))
    rows = append_inner_statistics(nodes, model.graph, measures, ["sum"], len(tensors), fed)
    names = [row.name for row in rows]
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants.values())
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = Session(model, graph, run, frugal=True)

    def sum_up(group: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
        values = session.run(names, samples.feeds(group))
        return {
            tensors[column].name: value[:, place]
            for row, value in zip(rows, values, strict=True)
            for place, column in enumerate(row.columns)
            if column < len(tensors)
        }

    whole = sum_up(np.arange(len(samples)))
    mixed = set()
    for group in run_regrouped(len(samples), {}, sum_up):
        for name, sums in whole.items():
            if not same_values(sums[group.rows], group.values[name]):
                mixed.add(name)
    return mixed
