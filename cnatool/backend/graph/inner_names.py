"""Names that tell where in a model's subgraphs a tensor or a node lies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cnatool.backend.graph.nodes import subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx


def label_nodes(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Return a label for each node of a graph.

    That is its name, or its first output where it has no name or shares it with another node.
    """
    names = Counter(node.name for node in nodes)
    return [
        node.name
        if node.name and names[node.name] == 1
        else next((name for name in node.output if name), "")
        for node in nodes
    ]


def inner_name(label: str, attribute: str, name: str) -> str:
    """Return the name, outside a node, of what is called ``name`` in one of its subgraphs."""
    return f"{label}/{attribute}/{name}"


def tensor_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of all tensors of a graph, and of its subgraphs."""
    yield from own_names(graph)
    for node in graph.node:
        for inner in subgraphs(node):
            yield from tensor_names(inner)


def own_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of a graph's inputs, initializers and results."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output if name)
