"""An ONNX model as a graph of named tensors, and which of them depend on the input's values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
import onnx.inliner
from onnx import numpy_helper

from cnatool._util.local_paths import check_local
from cnatool.backend.graph.flat_nodes import flatten
from cnatool.backend.graph.inline_weights import lies_apart
from cnatool.backend.graph.input_dependence import InputDependence
from cnatool.backend.graph.model_file import list_external_files, read_model
from cnatool.backend.graph.model_formats import folder_text, refuse_store
from cnatool.backend.graph.nodes import (
    captured_names,
    constant_value,
    overwrites_weights,
    subgraphs,
)
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.backend.graph.control_flow import Body, InnerTensor
    from cnatool.backend.graph.model_file import ModelFile

# Version of the default operators where a model declares none: one that every runtime knows.
_OPSET = 17


@dataclass(frozen=True, slots=True)
class Graph:
    """The main graph of a model, and what lies inside its nodes."""

    path: Path  # the model's file
    files: tuple[ModelFile, ...]  # that file and the files of external weights
    model: onnx.ModelProto  # the model, external weights and `weights` not in it
    # What a caller must feed: graph inputs without an initializer
    inputs: tuple[onnx.ValueInfoProto, ...]
    same: frozenset[str] = frozenset()  # inputs that have the same values in every run
    # Large initializers of the file, by name
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    # In execution order, with those of subgraphs, as `flatten` makes them
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    # Tensors that nodes in subgraphs compute, by name
    inner: Mapping[str, InnerTensor] = field(default_factory=dict)
    # The results of nodes with subgraphs, and the subgraph that decides about their shape
    results: Mapping[str, Body] = field(default_factory=dict)
    # Initializers and the values of Constant nodes, unread, by name
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    # The node that computes each tensor
    producer: dict[str, onnx.NodeProto] = field(default_factory=dict)
    # The nodes that read each tensor, one entry per use
    consumers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    dynamic: frozenset[str] = frozenset()  # tensors whose values depend on the values of an input
    # Tensors that depend on an input's shape or on the iteration of a loop alone
    shape_arithmetic: frozenset[str] = frozenset()
    # Tensors whose shape may depend on the values of an input
    data_shaped: frozenset[str] = frozenset()
    # Tensors in and behind branches and loops about which the values of an input decide, and
    # branches about which its shape does
    decided: frozenset[str] = frozenset()
    # Tensors in branches whose condition depends on an input, or on its shape
    conditional: frozenset[str] = frozenset()
    # Those, and tensors in loops that values decide about, with the places of such subgraphs among
    # those around it
    controlled: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    # Tensors whose shape or presence may differ from one iteration of a loop to the next, as values
    # that the loop computes decide
    unstackable: frozenset[str] = frozenset()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(output.name for output in self.model.graph.output)

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 1)

    def lies_inside(self, tensor: str) -> bool:
        """Whether a subgraph computes a tensor or has it as a constant."""
        constant = None if tensor in self.producer else self.constants.get(tensor)
        return tensor in self.inner or (constant is not None and constant.name != tensor)

    def bodies(self, tensor: str) -> tuple[Body, ...]:
        """Return the subgraphs around what computes a tensor, the outermost first."""
        return self.inner[tensor].bodies if tensor in self.inner else ()

    def loops(self, tensor: str) -> int:
        """How many Loops and Scans surround what computes a tensor."""
        return self.inner[tensor].loops if tensor in self.inner else 0

    def operator(self, tensor: str) -> str:
        """Type of the operator that computes a tensor; ``Input`` for a graph input."""
        node = self.producer.get(tensor)
        return "Input" if node is None else node.op_type


def load_graph(path: Path) -> Graph:
    """Read a model file and analyse its main graph."""
    if not path.exists():
        check_local(path)
        raise ModelError(f"{path}: no such model file.")
    refuse_store(path)
    if path.is_dir():
        raise ModelError(folder_text(path))
    model, weights, file = read_model(path)
    _import_domains(model)
    if model.functions:
        # Nodes inside a local function cannot be graph outputs.
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:  # its C++ raises several classes
            text = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{path}: the model's local functions cannot be inlined: {text}"
            ) from error
    nodes = list(_every_node(model.graph))
    for node in nodes:
        if not any(node.output):
            raise ModelError(
                f"{path}: operator {node.op_type!r} has no output: the model is damaged. Export it "
                "anew."
            )
    if not _sort_nodes(model.graph):
        raise ModelError(f"{path}: the graph has a cycle, so nothing can run it. Export it anew.")
    _put_back_overwritten(model.graph, nodes, weights)
    files = (file, *list_external_files(path, model))
    return analyse_graph(path, files, model, weights)


def _every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _every_node(inner)


def _put_back_overwritten(
    graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], weights: dict[str, NDArray[Any]]
) -> None:
    """Put weights that a node overwrites back into the model, of which each session has a copy."""
    written = {name for node in nodes if overwrites_weights(node) for name in node.input}
    for tensor in graph.initializer:
        if lies_apart(tensor) and tensor.name in written:
            tensor.CopyFrom(numpy_helper.from_array(weights.pop(tensor.name), tensor.name))


def _import_domains(model: onnx.ModelProto) -> None:
    """Import the default operators, which appended nodes need, and every domain that is used."""
    imported = {"" if opset.domain == "ai.onnx" else opset.domain for opset in model.opset_import}
    if "" not in imported:
        model.opset_import.append(onnx.helper.make_opsetid("", _OPSET))
    used = {node.domain for node in _every_node(model.graph) if node.domain != "ai.onnx"}
    for domain in sorted(used - imported - {""}):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))


def _sort_nodes(graph: onnx.GraphProto) -> bool:
    """Sort nodes into execution order, which ONNX demands and the runtime does not.

    Return False for a graph with a cycle, or with one in a subgraph.
    """
    inner_graphs = (inner for node in graph.node for inner in subgraphs(node))
    if not all(map(_sort_nodes, inner_graphs)):
        return False
    nodes = list(graph.node)
    made = {name for node in nodes for name in node.output if name}
    reads = [made.intersection((*node.input, *captured_names(node))) for node in nodes]
    waiting = list(range(len(nodes)))
    ready: set[str] = set()
    order: list[int] = []
    while waiting:
        later = []
        for number in waiting:
            if reads[number] <= ready:
                order.append(number)
                ready.update(nodes[number].output)
            else:
                later.append(number)
        if len(later) == len(waiting):
            return False
        waiting = later
    if order != sorted(order):
        copies = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(copies)
    return True


def analyse_graph(
    path: Path,
    files: tuple[ModelFile, ...],
    model: onnx.ModelProto,
    weights: Mapping[str, NDArray[Any]],
    same: Collection[str] = (),
) -> Graph:
    """Analyse the main graph of a model that is already in memory.

    ``same`` are inputs that have the same values in every run.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    initializers.update(tensor.values.name for tensor in model.graph.sparse_initializer)
    inputs = tuple(value for value in model.graph.input if value.name not in initializers)
    flat = flatten(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer} | flat.constants
    producer: dict[str, onnx.NodeProto] = {}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in flat.nodes:
        for name in filter(None, node.input):
            consumers.setdefault(name, []).append(node)
        producer.update(dict.fromkeys(filter(None, node.output), node))
        if node.op_type == "Constant" and (value := constant_value(node)) is not None:
            constants.setdefault(node.output[0], value)
    dependence = InputDependence(flat, (value.name for value in inputs), same)
    return Graph(
        path=path,
        files=files,
        model=model,
        inputs=inputs,
        same=frozenset(same),
        weights=weights,
        nodes=flat.nodes,
        inner=flat.inner,
        results=flat.results,
        constants=constants,
        producer=producer,
        consumers=consumers,
        dynamic=frozenset(dependence.dynamic),
        shape_arithmetic=frozenset(dependence.shape_arithmetic),
        data_shaped=frozenset(dependence.data_shaped),
        decided=frozenset(dependence.decided),
        controlled=dependence.find_controlled(),
        unstackable=frozenset(dependence.find_unstackable()),
        conditional=frozenset(dependence.find_conditional()),
    )


def set_same(graph: Graph, inputs: Iterable[str]) -> Graph:
    """Mark inputs that have the same values in every run, which matters to branches and loops."""
    same = graph.same.union(inputs)
    if same == graph.same or not graph.results:
        return graph
    return analyse_graph(graph.path, graph.files, graph.model, graph.weights, same)
