"""Names that tell where in a model's subgraphs a tensor or a node lies."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from cnatool.backend.graph.nodes import subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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


class UsedNames:
    """The names in use in a graph: its own, those around it, and those in its subgraphs."""

    def __init__(self, graph: onnx.GraphProto, around: Iterable[str] = ()) -> None:
        self._visible = {*around, *own_names(graph)}
        self._used = {*around, *tensor_names(graph)}

    def inside(self, graph: onnx.GraphProto) -> UsedNames:
        """Return the names in use in a subgraph."""
        return UsedNames(graph, self._visible)

    def add_unused(self, name: str) -> str:
        """Return a name that is not in use, and keep it."""
        while name in self._used:
            name += "~"
        self._visible.add(name)
        self._used.add(name)
        return name


class Place(NamedTuple):
    """A graph in a model."""

    graph: onnx.GraphProto
    prefix: str  # of its names outside
    names: UsedNames


def walk_graphs(main: onnx.GraphProto) -> Iterator[Place]:
    """Yield the main graph of a model and all subgraphs, each behind the graph around it."""
    places = deque([Place(main, "", UsedNames(main))])
    while places:
        place = places.popleft()
        yield place
        for label, node in zip(label_nodes(place.graph.node), place.graph.node, strict=True):
            for attribute in node.attribute:
                prefix = inner_name(place.prefix + label, attribute.name, "")
                for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    places.append(Place(inner, prefix, place.names.inside(inner)))


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


def rename_tensors(node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
    """Rename the tensors that a node, and the graphs inside it, read and write."""
    for names in (node.input, node.output):
        for place, name in enumerate(names):
            if name in renamed:
                names[place] = renamed[name]
    for graph in subgraphs(node):
        own = set(own_names(graph))
        captured = {name: new for name, new in renamed.items() if name not in own}
        for inner in graph.node:
            rename_tensors(inner, captured)
        for value in graph.output:
            value.name = captured.get(value.name, value.name)
