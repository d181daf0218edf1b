"""The branches that replaced Ifs, compared with those that the runtime takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from cnatool.backend.graph.nodes import captured_names
from cnatool.backend.session import Session
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.taken_branches import TakenBranch
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions


def check_branches(
    graph: Graph, branches: Sequence[TakenBranch], samples: Samples, run: RunOptions
) -> None:
    """Compute the conditions of replaced Ifs, and refuse a model of which one is not as inferred.

    They were inferred by rules of ONNX that the runtime need not share.
    """
    inferred = {
        branch.condition: branch
        for branch in branches
        if branch.condition in graph.dynamic or branch.condition in graph.shape_arithmetic
    }
    if not inferred:
        return
    session = Session(_cut_model(graph, inferred), graph, run)
    for branch, value in zip(
        inferred.values(), session.run(list(inferred), samples.feeds()), strict=True
    ):
        if bool(np.all(value)) != (branch.branch == "then_branch"):
            raise ModelError(
                f"{graph.path}: according to the shapes, If {branch.node!r} takes its "
                f"{branch.branch}, but ONNX Runtime takes the other one. Export the model without "
                "that If."
            )


def _cut_model(graph: Graph, names: Collection[str]) -> onnx.ModelProto:
    """Copy the part of a model that computes some tensors."""
    needed = set(names)
    nodes = []
    for node in reversed(graph.model.graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(node.input, captured_names(node))
            nodes.append(node)
    whole = graph.model.graph
    part = onnx.GraphProto(
        name="conditions",
        node=reversed(nodes),
        input=whole.input,
        output=[onnx.ValueInfoProto(name=name) for name in names],
        initializer=[tensor for tensor in whole.initializer if tensor.name in needed],
        sparse_initializer=[t for t in whole.sparse_initializer if t.values.name in needed],
    )
    return onnx.ModelProto(
        ir_version=graph.model.ir_version, opset_import=graph.model.opset_import, graph=part
    )
