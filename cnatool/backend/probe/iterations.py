"""Tensors in loops whose shape changes from one iteration to the next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cnatool.backend.graph.control_flow import find_body, hand_out
from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.control_flow import InnerTensor
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions

# No tensor of a network has more axes.
_MOST_AXES = 12
_PLACES = f"{PREFIX}places of axes"
_FILL = f"{PREFIX}no axes"
# Lengths in the place of axes that a tensor does not have.
_NO_AXIS = -1


def find_unstackable(
    graph: Graph,
    names: Iterable[str],
    samples: Samples,
    groups: Sequence[NDArray[np.intp]],
    run: RunOptions,
) -> set[str]:
    """Find the tensors in loops whose iterations differ in shape, in runs of some samples.

    The runtime stacks the iterations of equal shape only. What it can stack are the shapes, filled
    up to one length.
    """
    tensors = [graph.inner[name] for name in names if graph.loops(name)]
    if not tensors:
        return set()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.arange(_MOST_AXES), _PLACES),
            numpy_helper.from_array(np.full(_MOST_AXES, _NO_AXIS), _FILL),
        ]
    )
    shapes = [_add_shape(model, tensor) for tensor in tensors]
    hand_out(model, shapes)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=shape.name) for shape in shapes)
    session = Session(model, graph, run, frugal=True)
    unstackable: set[str] = set()
    for rows in groups:
        results = session.run([shape.name for shape in shapes], samples.feeds(rows))
        for tensor, lengths in zip(tensors, results, strict=True):
            iterations = lengths.reshape(-1, _MOST_AXES)
            if (iterations[1:] != iterations[:-1]).any():
                unstackable.add(tensor.name)
    return unstackable


def _add_shape(model: onnx.ModelProto, tensor: InnerTensor) -> InnerTensor:
    """Add the lengths of a tensor's axes to its subgraph."""
    name = f"{PREFIX}shape {tensor.name}"
    body = find_body(model, tensor.bodies)
    lengths, filled = f"{name} lengths", f"{name} filled"
    body.node.extend(
        [
            helper.make_node("Shape", [tensor.own], [lengths], name=lengths),
            helper.make_node("Concat", [lengths, _FILL], [filled], name=filled, axis=0),
            helper.make_node("Gather", [filled, _PLACES], [name], name=name),
        ]
    )
    return replace(tensor, name=name, own=name, kind="tensor(int64)", rank=1, absent=_FILL)
