"""A probe that reads shapes instead of values wherever they tell enough, for a look at a model.

Values of all tensors of three samples may take gigabytes; their shapes take nothing, and the
runtime gives the memory of one tensor to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from cnatool.backend.graph.outputs import PREFIX, array_dtype, element_type, list_exposable
from cnatool.backend.probe.axis_search import find_only_axis, find_scaled_axis
from cnatool.backend.probe.probe import (
    Probe,
    ProbedTensor,
    probe,
    read_types,
)
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

    Values are read where shapes do not tell: of a model bound to several samples, of merged axes,
    and where a shape depends on the data. ``values`` holds those, and tensors count as independent
    whose values were not read.

    Parameters and errors are those of `probe`.
    """
    if bound is not None and bound > 1:
        return probe(graph, samples, bound=bound, run=run)
    types, *_ = read_types(graph, list_exposable(graph)[0], run)
    shapes = _shape_runs(graph, list(types), run)
    if bound == 1:
        ran = [shapes(samples, slice(i, i + 1)) for i in range(len(samples))]
    else:
        ran = [shapes(samples, slice(count)) for count in (len(samples), len(samples) - 1)]
    known: dict[str, ProbedTensor] = {}
    for name, kind in types.items():
        seen = [one[name] for one in ran]
        if bound == 1:
            found = find_only_axis(seen)
        elif name in graph.data_shaped:
            continue
        else:
            found = find_scaled_axis(seen[0], seen[1], len(samples))
        if not isinstance(found, SampleAxis) or found.factor > 1:
            continue
        rows = [[size for axis, size in enumerate(shape) if axis != found.axis] for shape in seen]
        known[name] = ProbedTensor(
            name=name,
            operator=graph.operator(name),
            onnx_type=element_type(kind),
            dtype=array_dtype(kind),
            shape=tuple(rows[0]),
            batch_axis=found.axis,
            varies=any(row != rows[0] for row in rows),
        )
    rest = probe(graph, samples, bound=bound, run=run, known=known)
    order = {name: place for place, name in enumerate(types)}
    tensors = sorted([*known.values(), *rest.tensors], key=lambda tensor: order[tensor.name])
    return Probe(tensors, rest.skipped, rest.samples, rest.values, rest.run, rest.counted)


def _shape_runs(
    graph: Graph, names: Sequence[str], run: RunOptions
) -> Callable[[Samples, slice], Mapping[str, tuple[int, ...]]]:
    """Return what runs a model over some samples and gives the shapes of its tensors."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    # The runtime would believe shapes that are declared here.
    del model.graph.value_info[:]
    del model.graph.output[:]
    outputs = [f"{PREFIX}shape {name}" for name in names]
    model.graph.node.extend(
        helper.make_node("Shape", [name], [output], name=output)
        for name, output in zip(names, outputs, strict=True)
    )
    model.graph.output.extend(onnx.ValueInfoProto(name=output) for output in outputs)
    session = Session(model, graph.path, run, frugal=True) if names else None

    def shapes(samples: Samples, rows: slice) -> dict[str, tuple[int, ...]]:
        if session is None:
            return {}
        found: list[NDArray[np.int64]] = session.run(outputs, samples.feeds(rows))
        return {name: tuple(map(int, shape)) for name, shape in zip(names, found, strict=True)}

    return shapes
