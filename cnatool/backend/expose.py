"""Which tensors of a graph can be exposed, and the promotion of tensors to outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from cnatool.store.records import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.backend.graph import Graph

__all__ = ["exposable", "promoted"]


def exposable(graph: Graph) -> tuple[list[str], list[SkippedTensor]]:
    """Sort every tensor of a graph into those that can be exposed and those that are left out.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    names : list of str
        Tensors that depend on the values of an input, in execution order.
    skipped : list of SkippedTensor
        The others, each with its reason.
    """
    names: list[str] = []
    skipped: list[SkippedTensor] = []
    for node in graph.nodes:
        for name in node.output:
            if not name:
                continue
            if name in graph.dynamic:
                names.append(name)
            elif name in graph.shape_arithmetic:
                skipped.append(
                    SkippedTensor(name, node.op_type, "depends on an input's shape alone")
                )
            else:
                skipped.append(SkippedTensor(name, node.op_type, "constant"))
        for inner in _inner_nodes(node):
            reason = f"inside {node.op_type}: cannot be an output of the graph"
            skipped.extend(
                SkippedTensor(name, inner.op_type, reason) for name in inner.output if name
            )
    return names, skipped


def promoted(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Copy a model with more outputs.

    Outputs go in by name alone: the runtime infers type and shape, and a wrong one could not load.

    Parameters
    ----------
    model : onnx.ModelProto
    names : sequence of str
        Tensors to promote; those that are outputs already are left as they are.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in there
    )
    return copy


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in graphs:
            for inner in graph.node:
                yield inner
                yield from _inner_nodes(inner)
