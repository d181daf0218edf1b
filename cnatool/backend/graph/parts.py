"""A graph cut into parts that run one after another, each with a session of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import helper

from cnatool.backend.graph.nodes import captured_names
from cnatool.backend.graph.outputs import array_dtype

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cnatool.backend.graph.graph import Graph


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive nodes of a graph, and those that compute the constants that they read."""

    nodes: tuple[onnx.NodeProto, ...]
    reads: frozenset[str]  # constants, model inputs, and results of earlier parts
    results: tuple[str, ...]  # of the nodes that depend on an input

    def model(
        self, graph: Graph, types: Mapping[str, str], outputs: Iterable[str]
    ) -> onnx.ModelProto:
        """Make the part a model; ``types`` are those of what earlier parts computed."""
        whole = graph.model.graph
        declared = {value.name for value in whole.input}
        model = onnx.ModelProto(ir_version=graph.model.ir_version)
        model.opset_import.extend(graph.model.opset_import)
        part = model.graph
        part.name = "part"
        part.input.extend(value for value in whole.input if value.name in self.reads)
        part.input.extend(
            helper.make_tensor_value_info(name, element_number(types[name]), None)
            for name in sorted(self.reads & types.keys() - declared)
        )
        part.initializer.extend(t for t in whole.initializer if t.name in self.reads)
        part.sparse_initializer.extend(
            t for t in whole.sparse_initializer if t.values.name in self.reads
        )
        part.node.extend(self.nodes)
        part.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return model


def cut_graph(graph: Graph, sizes: Mapping[str, int], most: int) -> list[Part]:
    """Cut a graph into parts whose results take up to ``most`` bytes, by the ``sizes`` known."""
    groups: list[list[onnx.NodeProto]] = [[]]
    constant: list[onnx.NodeProto] = []
    taken = 0
    for node in graph.model.graph.node:
        if not _depends(node, graph):
            constant.append(node)
            continue
        size = sum(sizes.get(name, 0) for name in node.output)
        if groups[-1] and taken + size > most:
            groups.append([])
            taken = 0
        groups[-1].append(node)
        taken += size
    return [_make_part(group, constant) for group in groups if group]


def _depends(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether a node depends on an input, or on its shape alone."""
    return any(name in graph.dynamic or name in graph.shape_arithmetic for name in node.output)


def _make_part(nodes: Sequence[onnx.NodeProto], constant: Sequence[onnx.NodeProto]) -> Part:
    reads = {name for node in nodes for name in _reads(node)}
    needed = []
    for node in reversed(constant):
        if not reads.isdisjoint(node.output):
            needed.append(node)
            reads.update(_reads(node))
    whole = (*reversed(needed), *nodes)
    made = {name for node in whole for name in node.output}
    results = tuple(name for node in nodes for name in node.output if name)
    return Part(whole, frozenset(reads - made), results)


def _reads(node: onnx.NodeProto) -> Collection[str]:
    return {name for name in (*node.input, *captured_names(node)) if name}


def element_number(kind: str) -> int:
    """Return ONNX's number of the element type of a ``tensor(…)`` that NumPy holds."""
    return int(helper.np_dtype_to_tensor_dtype(array_dtype(kind)))
