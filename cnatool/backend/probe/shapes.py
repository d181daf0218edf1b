"""A probe that reads shapes instead of values where these are enough, to inspect a model.

All tensors of three samples may take gigabytes; of their shapes the runtime keeps only a few
numbers, and it reuses the memory of the tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from cnatool.backend.graph.control_flow import hand_out
from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.graph.outputs import array_dtype, element_type, list_exposable
from cnatool.backend.probe.axis_search import find_only_axis, find_scaled_axis
from cnatool.backend.probe.probe import Probe, probe, read_types
from cnatool.backend.probe.probed_tensor import ProbedTensor
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions


def probe_shapes(graph: Graph, samples: Samples, *, bound: int | None, run: RunOptions) -> Probe:
    """Probe a model for its tensors' types, shapes and sample axes alone.

    Values are read where shapes are not enough: of a model bound to several samples, of merged
    axes, and where a shape depends on the data. ``values`` holds those; other tensors count as
    independent.

    Parameters and errors are those of `probe`.
    """
    if bound is not None and bound > 1:
        return probe(graph, samples, bound=bound, run=run)
    types, *_ = read_types(graph, list_exposable(graph)[0], run)
    # Shapes in loops may change from one iteration to the next, and branches need not be taken.
    names = [n for n in types if not graph.loops(n) and n not in graph.conditional]
    read_shapes = _shape_runs(graph, names, run)
    if bound == 1:
        runs = [read_shapes(samples, slice(i, i + 1)) for i in range(len(samples))]
    else:
        runs = [read_shapes(samples, slice(count)) for count in (len(samples), len(samples) - 1)]
    known: dict[str, ProbedTensor] = {}
    for name in names:
        kind = types[name]
        if name in graph.data_shaped:
            continue
        seen = [shapes[name] for shapes in runs]
        if bound == 1:
            axis = find_only_axis(seen)
        else:
            axis = find_scaled_axis(seen[0], seen[1], len(samples))
        if not isinstance(axis, SampleAxis) or axis.factor > 1:
            continue
        rows = [[size for i, size in enumerate(shape) if i != axis.axis] for shape in seen]
        varying = [i for i, sizes in enumerate(zip(*rows, strict=True)) if len(set(sizes)) > 1]
        known[name] = ProbedTensor(
            name=name,
            operator=graph.operator(name),
            onnx_type=element_type(kind),
            dtype=array_dtype(kind),
            shape=tuple(rows[0]),
            batch_axis=axis.axis,
            varies=bool(varying),
            varying_axis=varying[0] if len(varying) == 1 else None,
        )
    rest = probe(graph, samples, bound=bound, run=run, known=known)
    order = {name: place for place, name in enumerate(types)}
    tensors = sorted([*known.values(), *rest.tensors], key=lambda tensor: order[tensor.name])
    return Probe(tensors, rest.skipped, rest.samples, rest.values, rest.run, rest.counted)


def _shape_runs(
    graph: Graph, names: Sequence[str], run: RunOptions
) -> Callable[[Samples, slice], Mapping[str, tuple[int, ...]]]:
    """Make the function that runs a model on some samples and returns its tensors' shapes."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    # The runtime would believe shapes that are declared here.
    del model.graph.value_info[:]
    del model.graph.output[:]
    hand_out(model, (graph.inner[name] for name in names if name in graph.inner))
    outputs = [f"{PREFIX}shape {name}" for name in names]
    model.graph.node.extend(
        helper.make_node("Shape", [name], [output], name=output)
        for name, output in zip(names, outputs, strict=True)
    )
    model.graph.output.extend(onnx.ValueInfoProto(name=output) for output in outputs)
    session = Session(model, graph, run, frugal=True) if names else None

    def read_shapes(samples: Samples, rows: slice) -> dict[str, tuple[int, ...]]:
        if session is None:
            return {}
        shapes: list[NDArray[np.int64]] = session.run(outputs, samples.feeds(rows))
        return {name: tuple(map(int, shape)) for name, shape in zip(names, shapes, strict=True)}

    return read_shapes
