"""Shapes of tensors in branches that no sample of a probe takes, in runs that have to take them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from cnatool.backend.graph.nodes import PREFIX, first_output
from cnatool.backend.graph.outputs import add_outputs
from cnatool.backend.session import Session
from cnatool.errors import BackendError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

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
    _set_conditions(model.graph, (), {way: conditions[forced[way]] for way in forced})
    session = Session(model, graph, run)
    runs = (session.run(names, samples.feeds(np.array([i])) | chosen) for i in range(len(samples)))
    return [dict(zip(names, map(np.shape, values), strict=True)) for values in runs]


def _set_conditions(
    graph: onnx.GraphProto, way: tuple[str, ...], conditions: Mapping[tuple[str, ...], str]
) -> None:
    """Set the conditions of Ifs, those in subgraphs too."""
    for node in graph.node:
        place = (*way, first_output(node))
        if place in conditions:
            node.input[0] = conditions[place]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _set_conditions(attribute.g, (*place, attribute.name), conditions)
