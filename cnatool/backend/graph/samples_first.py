"""Moving the sample axis of inputs to the front, where the samples of data lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from cnatool.backend.graph.graph import analyse_graph
from cnatool.backend.graph.inner_names import UsedNames, rename_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnatool.backend.graph.graph import Graph


def put_samples_first(graph: Graph, axes: Mapping[str, int]) -> Graph:
    """Move the sample axis of inputs to the front, and back by a Transpose; ``axes`` are by input.

    What the nodes read has the shape that the model declares, and the name of the input with
    ``/as_in_model`` behind it.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    names = UsedNames(model.graph)
    renamed = {name: names.add_unused(f"{name}/as_in_model") for name in axes}
    for node in model.graph.node:
        rename_tensors(node, renamed)
    for value in model.graph.input:
        if value.name not in axes:
            continue
        dims = value.type.tensor_type.shape.dim
        order = sorted(range(len(dims)), key=lambda axis: axis != axes[value.name])
        moved = [
            onnx.TensorShapeProto.Dimension.FromString(dims[axis].SerializeToString())
            for axis in order
        ]
        del dims[:]
        dims.extend(moved)
        back = [order.index(axis) for axis in range(len(order))]
        node = helper.make_node("Transpose", [value.name], [renamed[value.name]], perm=back)
        model.graph.node.insert(0, node)
    return analyse_graph(graph.path, graph.files, model, graph.weights, graph.same)
