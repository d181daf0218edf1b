"""An ONNX model as a graph of named tensors, and which of them depend on the input's values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
import onnx.inliner
from onnx import numpy_helper

from cnatool._util.local_paths import check_local
from cnatool.backend.graph.inline_weights import lies_apart
from cnatool.backend.graph.model_file import list_external_files, read_model
from cnatool.backend.graph.model_formats import folder_text
from cnatool.backend.graph.nodes import (
    captured_names,
    constant_value,
    inner_nodes,
    operator_set,
    overwrites_weights,
)
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.backend.graph.model_file import ModelFile

# Version of the default operators where a model declares none: one that every runtime knows.
_OPSET = 17
# Nothing is known of the operators of other domains.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
# Their results depend on an input's shape, never on its values.
_SHAPE_OPERATORS = frozenset({"Shape", "Size"})
# The values of an input decide how many elements their results have.
_DATA_SHAPED = operator_set(
    "Compress If Loop NonMaxSuppression NonZero Scan SequenceAt StringSplit Unique"
)
# The same holds for these where the input at this place, the shape, depends on values.
_SHAPE_INPUT = {
    "AffineGrid": 1,
    "BlackmanWindow": 0,
    "CenterCropPad": 1,
    "Col2Im": 1,
    "ConstantOfShape": 0,
    "DFT": 1,
    "Expand": 1,
    "HammingWindow": 0,
    "HannWindow": 0,
    "MaxUnpool": 2,
    "OneHot": 1,
    "Pad": 1,
    "Range": 0,
    "Reshape": 1,
    "Resize": 2,
    "Slice": 1,
    "Split": 1,
    "Squeeze": 1,
    "Tile": 1,
    "TopK": 1,
    "Unsqueeze": 1,
    "Upsample": 1,
}


@dataclass(frozen=True, slots=True)
class Graph:
    """The main graph of a model."""

    path: Path  # the model's file
    files: tuple[ModelFile, ...]  # that file and the files of external weights
    model: onnx.ModelProto  # the model, external weights and `weights` not in it
    # What a caller must feed: graph inputs without an initializer
    inputs: tuple[onnx.ValueInfoProto, ...]
    # Large initializers of the file, by name
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    # Initializers and the values of Constant nodes, unread, by name
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    # The node that computes each tensor
    producer: dict[str, onnx.NodeProto] = field(default_factory=dict)
    # The nodes that read each tensor, one entry per use; a node with a subgraph also reads what the
    # subgraph takes from outside
    consumers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    dynamic: frozenset[str] = frozenset()  # tensors whose values depend on the values of an input
    shape_arithmetic: frozenset[str] = frozenset()  # tensors that depend on an input's shape alone
    # Tensors whose shape may depend on the values of an input
    data_shaped: frozenset[str] = frozenset()

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """Nodes in execution order."""
        return list(self.model.graph.node)

    def every_node(self) -> Iterator[onnx.NodeProto]:
        """Yield the nodes, and those of their subgraphs."""
        for node in self.nodes:
            yield node
            yield from inner_nodes(node)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(output.name for output in self.model.graph.output)

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 1)

    def operator(self, tensor: str) -> str:
        """Type of the operator that computes a tensor; ``Input`` for a graph input."""
        node = self.producer.get(tensor)
        return "Input" if node is None else node.op_type


def load_graph(path: Path) -> Graph:
    """Read a model file and analyse its main graph."""
    if not path.exists():
        check_local(path)
        raise ModelError(f"{path}: no such model file.")
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
    for node in model.graph.node:
        if not any(node.output):
            raise ModelError(
                f"{path}: operator {node.op_type!r} has no output: the model is damaged. Export it "
                "anew."
            )
    if not _sort_nodes(model.graph):
        raise ModelError(f"{path}: the graph has a cycle, so nothing can run it. Export it anew.")
    _put_back_overwritten(model.graph, weights)
    files = (file, *list_external_files(path, model))
    return analyse_graph(path, files, model, weights)


def _put_back_overwritten(graph: onnx.GraphProto, weights: dict[str, NDArray[Any]]) -> None:
    """Put weights that a node overwrites back into the model, of which each session has a copy."""
    nodes = (node for outer in graph.node for node in (outer, *inner_nodes(outer)))
    written = {name for node in nodes if overwrites_weights(node) for name in node.input}
    for tensor in graph.initializer:
        if lies_apart(tensor) and tensor.name in written:
            tensor.CopyFrom(numpy_helper.from_array(weights.pop(tensor.name), tensor.name))


def _import_domains(model: onnx.ModelProto) -> None:
    """Import the default operators, which appended nodes need, and every domain that is used."""
    imported = {"" if opset.domain == "ai.onnx" else opset.domain for opset in model.opset_import}
    if "" not in imported:
        model.opset_import.append(onnx.helper.make_opsetid("", _OPSET))
    used = {
        node.domain
        for outer in model.graph.node
        for node in (outer, *inner_nodes(outer))
        if node.domain != "ai.onnx"
    }
    for domain in sorted(used - imported - {""}):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))


def _sort_nodes(graph: onnx.GraphProto) -> bool:
    """Sort nodes into execution order, which ONNX demands and the runtime does not.

    Return False for a graph with a cycle.
    """
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
) -> Graph:
    """Analyse the main graph of a model that is already in memory."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    initializers.update(tensor.values.name for tensor in model.graph.sparse_initializer)
    inputs = tuple(value for value in model.graph.input if value.name not in initializers)
    producer: dict[str, onnx.NodeProto] = {}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    dynamic = {value.name for value in inputs}
    shape_arithmetic: set[str] = set()
    data_shaped: set[str] = set()
    # Arithmetic on shapes that hold such a number of elements.
    counts: set[str] = set()
    for node in model.graph.node:
        reads = [name for name in (*node.input, *captured_names(node)) if name]
        for name in reads:
            consumers.setdefault(name, []).append(node)
        writes = [name for name in node.output if name]
        producer.update(dict.fromkeys(writes, node))
        if node.op_type == "Constant" and (value := constant_value(node)) is not None:
            constants.setdefault(node.output[0], value)
        # It takes only the type of its second input.
        values = reads[:1] if node.op_type == "CastLike" else reads
        if any(name in dynamic for name in values) and node.op_type not in _SHAPE_OPERATORS:
            dynamic.update(writes)
        elif any(name in dynamic or name in shape_arithmetic for name in values):
            shape_arithmetic.update(writes)
        depends = bool(writes) and (writes[0] in dynamic or writes[0] in shape_arithmetic)
        if depends and _is_data_shaped(node, dynamic, counts, data_shaped):
            data_shaped.update(writes)
        if writes and writes[0] in shape_arithmetic and _counts(node, reads, counts, data_shaped):
            counts.update(writes)
    return Graph(
        path=path,
        files=files,
        model=model,
        inputs=inputs,
        weights=weights,
        constants=constants,
        producer=producer,
        consumers=consumers,
        dynamic=frozenset(dynamic),
        shape_arithmetic=frozenset(shape_arithmetic),
        data_shaped=frozenset(data_shaped),
    )


def _is_data_shaped(
    node: onnx.NodeProto, dynamic: set[str], counts: set[str], data_shaped: set[str]
) -> bool:
    if node.op_type in _SHAPE_OPERATORS:
        return False
    varying = node.domain not in KNOWN_DOMAINS or node.op_type in _DATA_SHAPED
    if varying and any(name in dynamic for name in (*node.input, *captured_names(node))):
        return True
    if any(name in data_shaped for name in node.input):
        return True
    place = _SHAPE_INPUT.get(node.op_type)
    return place is not None and any(
        name in dynamic or name in counts for name in node.input[place:]
    )


def _counts(
    node: onnx.NodeProto, reads: Sequence[str], counts: set[str], data_shaped: set[str]
) -> bool:
    if node.op_type in _SHAPE_OPERATORS:
        return any(name in data_shaped for name in reads)
    return any(name in counts for name in reads)
