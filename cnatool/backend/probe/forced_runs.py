"""Shapes that tensors have in runs that are forced to take a branch, or to repeat a loop.

Samples to come may decide otherwise than those of a probe, however much these are alike.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from cnatool.backend.graph.nodes import PREFIX, first_output, subgraphs
from cnatool.backend.graph.outputs import add_outputs
from cnatool.backend.session import Session
from cnatool.errors import BackendError, ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.control_flow import Body, InnerTensor
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions

# The branch that each If takes, by its way: the nodes around it with their subgraphs, and itself.
_Forced = dict[tuple[str, ...], str]


def read_branch_shapes(
    graph: Graph, names: Sequence[str], samples: Samples, run: RunOptions
) -> list[dict[str, tuple[int, ...]]]:
    """Read the shapes of tensors in branches, in runs of single samples that have to take these.

    Tensors of branches that fail on such samples are left out.
    """
    shapes = []
    while names:
        forced: _Forced = {}
        together = [name for name in names if _force(forced, graph.inner[name])]
        # A branch need not bear a sample that does not choose it.
        with suppress(BackendError, ModelError):
            shapes += _read_shapes(graph, together, forced, samples, run)
        names = [name for name in names if name not in together]
    return shapes


def _force(forced: _Forced, tensor: InnerTensor) -> bool:
    """Force the branches around a tensor; False if one of its Ifs has to take the other."""
    ways = dict(_list_ways(tensor.bodies))
    if any(forced.get(way, branch) != branch for way, branch in ways.items()):
        return False
    forced.update(ways)
    return True


def _list_ways(bodies: Sequence[Body]) -> Iterator[tuple[tuple[str, ...], str]]:
    """List the Ifs around a tensor, and the branches that it lies in."""
    way: tuple[str, ...] = ()
    for body in bodies:
        if body.operator == "If":
            yield (*way, body.node), body.attribute
        way = (*way, body.node, body.attribute)


def _read_shapes(
    graph: Graph, names: Sequence[str], forced: _Forced, samples: Samples, run: RunOptions
) -> list[dict[str, tuple[int, ...]]]:
    model = add_outputs(graph.model, names, graph.inner)
    conditions = {"then_branch": f"{PREFIX}taken", "else_branch": f"{PREFIX}not taken"}
    # Inputs: the runtime inlines branches that constants choose, and may crash over nested ones.
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.BOOL, ()) for name in conditions.values()
    )
    chosen = {name: np.array(way == "then_branch") for way, name in conditions.items()}
    _set_conditions(model.graph, {way: conditions[forced[way]] for way in forced})
    session = Session(model, graph, run)
    runs = (session.run(names, samples.feeds(np.array([i])) | chosen) for i in range(len(samples)))
    return [dict(zip(names, map(np.shape, values), strict=True)) for values in runs]


def read_loop_shapes(
    graph: Graph,
    names: Iterable[str],
    rows: Sequence[NDArray[np.intp]],
    samples: Samples,
    run: RunOptions,
) -> list[dict[str, tuple[int, ...]]]:
    """Read the shapes that tensors have if loops run once, and twice, whose number data decide.

    Each group of ``rows`` has a run of its own. Tensors inside such loops are left out, and all if
    the loops fail on such numbers.
    """
    loops = set(_find_decided_loops(graph))
    names = [name for name in names if name in graph.data_shaped and name not in graph.controlled]
    if not loops or not names:
        return []
    model = add_outputs(graph.model, names, graph.inner)
    count = f"{PREFIX}iterations"
    model.graph.input.append(helper.make_tensor_value_info(count, TensorProto.INT64, ()))
    _set_counts(model.graph, loops, count)
    shapes = []
    with suppress(BackendError, ModelError):
        session = Session(model, graph, run)
        for times in (1, 2):
            for group in rows:
                fed = samples.feeds(group) | {count: np.array(times, np.int64)}
                values = session.run(names, fed)
                shapes.append(dict(zip(names, map(np.shape, values), strict=True)))
    return shapes


def _find_decided_loops(graph: Graph) -> Iterator[tuple[str, ...]]:
    """Find the Loops whose number of iterations depends on data, each by its way."""
    for name, body in graph.results.items():
        if body.operator == "Loop" and not graph.dynamic.isdisjoint(body.controls):
            way: tuple[str, ...] = ()
            for around in graph.bodies(name):
                way = (*way, around.node, around.attribute)
            yield (*way, body.node)


def _set_counts(graph: onnx.GraphProto, loops: Collection[tuple[str, ...]], count: str) -> None:
    """Let Loops run as often as an input says, those in subgraphs too."""
    for place, node in list(_list_places(graph)):
        if place in loops:
            (body,) = subgraphs(node)
            # Another name than in a Loop around it.
            go_on = f"{PREFIX}go on {len(place)}"
            node.input[:2] = [count, ""]
            body.node.append(helper.make_node("Identity", [body.input[1].name], [go_on]))
            body.output[0].name = go_on


def _set_conditions(graph: onnx.GraphProto, conditions: Mapping[tuple[str, ...], str]) -> None:
    """Set the conditions of Ifs, those in subgraphs too."""
    for place, node in _list_places(graph):
        if place in conditions:
            node.input[0] = conditions[place]


def _list_places(
    graph: onnx.GraphProto, way: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], onnx.NodeProto]]:
    """List the nodes of a graph and of its subgraphs, each with its way."""
    for node in graph.node:
        place = (*way, first_output(node))
        yield place, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _list_places(attribute.g, (*place, attribute.name))
