"""An ONNX model as a graph of named tensors, and which of them depend on the input's values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, Message

from cnatool._util.local_paths import LFS_ADVICE, check_local, is_lfs_pointer, real_path
from cnatool.backend.graph.model_formats import check_is_onnx, folder_text
from cnatool.backend.graph.nodes import (
    captured_names,
    constant_value,
    inner_nodes,
    operator_set,
    subgraphs,
)
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

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
class ModelFile:
    """One file of a model, with its digest."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The main graph of a model."""

    path: Path  # the model's file
    files: tuple[ModelFile, ...]  # that file and the files of external weights
    model: onnx.ModelProto  # the model, external weights not loaded
    # What a caller must feed: graph inputs without an initializer
    inputs: tuple[onnx.ValueInfoProto, ...]
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
    content = path.read_bytes()
    model = _parse(path, content)
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
    files = [ModelFile(path, len(content), hashlib.sha256(content).hexdigest())]
    del content
    files.extend(_external_files(path, model))
    return analyse_graph(path, tuple(files), model)


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


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    check_is_onnx(path, content)
    model = onnx.ModelProto()
    # Some versions of protobuf refuse text that is not UTF-8 while parsing, others when it is read.
    try:
        model.ParseFromString(content)
        damaged = _has_bytes_for_text(model)
    except DecodeError as error:
        raise ModelError(
            f"{path} is not an ONNX model, or was cut short ({len(content)} bytes). Export it anew."
        ) from error
    except UnicodeDecodeError:
        damaged = True
    if damaged:
        raise ModelError(f"{path} holds a name that is not UTF-8: it is damaged. Export it anew.")
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError(f"{path} is not an ONNX model: it holds no graph.")
    if not model.graph.node:
        raise ModelError(f"{path}: the graph has no nodes, so there is nothing to run.")
    return model


def _has_bytes_for_text(message: Message) -> bool:
    """Whether a text field of a message is not UTF-8, for which protobuf returns bytes."""
    for kind, value in message.ListFields():
        if isinstance(value, Message):
            if _has_bytes_for_text(value):
                return True
        elif kind.type == kind.TYPE_MESSAGE:
            if any(_has_bytes_for_text(part) for part in value):
                return True
        elif kind.type == kind.TYPE_STRING:
            parts = [value] if isinstance(value, str | bytes) else value
            if any(isinstance(part, bytes) for part in parts):
                return True
    return False


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


def _external_files(path: Path, model: onnx.ModelProto) -> Iterator[ModelFile]:
    folder = real_path(path.parent)
    locations = {
        entry.value: tensor.name
        for tensor in _tensors(model.graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for location, name in sorted(locations.items()):
        try:
            file = real_path(folder / location.replace("\0", ""))
            exists = file.is_file()
        except OSError as error:
            raise ModelError(
                f"{path}: weight {name!r} should be in a file that cannot be: {error.strerror}."
            ) from error
        if "\0" in location or not file.is_relative_to(folder):
            raise ModelError(
                f"{path}: weight {name!r} lies outside the model's folder, at {location!r}. "
                "Move it beside the model and export anew."
            )
        if not exists:
            raise ModelError(
                f"{path}: weight {name!r} should be in {location!r} beside the model, and that "
                "file is not there."
            )
        if is_lfs_pointer(file):
            raise ModelError(
                f"{path}: {location!r} beside the model, which holds weight {name!r}, is a Git LFS "
                f"pointer. {LFS_ADVICE}."
            )
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield ModelFile(file, file.stat().st_size, digest)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every constant of a graph: initializers, attributes, and those of its subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        for inner in subgraphs(node):
            yield from _tensors(inner)


def analyse_graph(path: Path, files: tuple[ModelFile, ...], model: onnx.ModelProto) -> Graph:
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
