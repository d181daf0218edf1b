"""The values of a model's constants, read one at a time: no copy of the whole model is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from cnatool._util.local_paths import real_path
from cnatool.backend.graph.evaluate import evaluate_node
from cnatool.backend.graph.inline_weights import lies_apart
from cnatool.backend.graph.nodes import attributes, captured_names, first_output
from cnatool.backend.session import RunOptions, Session
from cnatool.backend.tensor_sizes import check_constants
from cnatool.errors import CnatoolError, ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

# Operators that return the same numbers in another shape or order,
_ARRANGED = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# or in another type.
_SAME_VALUES = _ARRANGED | {"Cast", "DequantizeLinear", "QuantizeLinear"}
_FLOATING = frozenset(
    {
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.FLOAT8E4M3FN,
        onnx.TensorProto.FLOAT8E5M2,
    }
)
_BYTES = int(onnx.TensorProto.UINT8)


class Constants:
    """The constants of a graph: initializers, and what nodes compute from them alone.

    ``custom_ops`` are libraries of custom operators that they may need.
    """

    def __init__(self, graph: Graph, custom_ops: tuple[Path, ...] = ()) -> None:
        self.graph = graph
        self._run = RunOptions(custom_ops=custom_ops, optimization="ORT_DISABLE_ALL")

    def has(self, name: str) -> bool:
        """Whether a tensor is the same for every input."""
        known = self.graph
        return bool(name) and name not in known.dynamic and name not in known.shape_arithmetic

    def value(self, name: str) -> NDArray[Any]:
        """Return the value of a constant; a ModelError says why it cannot be read."""
        if not self.has(name):
            raise ModelError(f"{name!r} depends on the input")
        tensor = self._tensor(name)
        try:
            return self._compute_view(name) if tensor is None else self._array(tensor)
        except CnatoolError:
            raise
        except Exception as error:  # whatever a damaged tensor makes the libraries raise
            raise ModelError(f"constant {name!r} cannot be read: {error}") from error

    def source(self, name: str) -> str:
        """Return the constant that another one is a reshaped, cast or quantised copy of."""
        while (node := self.graph.producer.get(name)) is not None:
            if node.op_type not in _SAME_VALUES or not self.has(name):
                break
            name = node.input[0]
        return name

    def size(self, name: str) -> int | None:
        """Count the numbers of a constant's `source`, unread; None where it is computed."""
        tensor = self._tensor(self.source(name))
        return None if tensor is None else math.prod(tensor.dims)

    def is_floating(self, name: str) -> bool:
        """Whether a constant holds floats, or codes that are dequantised."""
        through = name
        while (node := self.graph.producer.get(through)) is not None:
            if node.op_type == "DequantizeLinear":
                return True
            if node.op_type not in _SAME_VALUES:
                break
            through = node.input[0]
        tensor = self._tensor(through)
        return tensor is not None and tensor.data_type in _FLOATING

    def weights(self, name: str) -> str:
        """Return the constant that another one is a reshaped or cast copy of.

        For dequantised or computed weights that is the result.
        """
        while (node := self.graph.producer.get(name)) is not None:
            if node.op_type not in _ARRANGED | {"Cast"} or not self.has(name):
                break
            name = node.input[0]
        return name

    def element_type(self, name: str) -> int:
        """Return ONNX's number of a constant's element type; FLOAT where it is unknown."""
        tensor = self._tensor(name)
        node = self.graph.producer.get(name)
        if tensor is not None:
            return int(tensor.data_type)
        if node is None:
            return int(onnx.TensorProto.FLOAT)
        settings = attributes(node)
        if node.op_type == "Cast":
            return int(settings["to"])
        if node.op_type == "QuantizeLinear":
            return self.element_type(node.input[2]) if len(node.input) > 2 else _BYTES
        # Dequantised values have the type of their scale; shapes and such do not matter.
        reads = node.input[1:2] if node.op_type == "DequantizeLinear" else node.input
        kinds = [self.element_type(source) for source in reads if source]
        return next((kind for kind in kinds if kind in _FLOATING), int(onnx.TensorProto.FLOAT))

    def _tensor(self, name: str) -> onnx.TensorProto | None:
        node = self.graph.producer.get(name)
        if node is not None and node.op_type == "Identity" and self.has(name):
            return self._tensor(node.input[0])
        return self.graph.constants.get(name)

    def _array(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        if lies_apart(tensor):
            return self.graph.weights[tensor.name]
        place = {entry.key: entry.value for entry in tensor.external_data}
        # `load_graph` has checked where the file is.
        path = real_path(self.graph.path.parent) / place["location"]
        offset = int(place.get("offset", 0))
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        shape = tuple(tensor.dims)
        room = path.stat().st_size - offset
        if offset < 0 or min(shape, default=0) < 0 or not math.prod(shape):
            raise ModelError(f"constant {tensor.name!r} has an impossible offset or shape")
        if dtype.isbuiltin == 1 and dtype.kind in "fiub":
            if room < math.prod(shape) * dtype.itemsize:
                raise ModelError(f"constant {tensor.name!r} is longer than {path.name}")
            return np.asarray(np.memmap(path, dtype.newbyteorder("<"), "r", offset, shape))
        with path.open("rb") as file:
            file.seek(offset)
            octets = file.read(int(place.get("length", room)))
        inline = onnx.TensorProto(dims=shape, data_type=tensor.data_type, raw_data=octets)
        return numpy_helper.to_array(inline)

    def _compute_view(self, name: str) -> NDArray[Any]:
        node = self.graph.producer.get(name)
        if node is None or node.op_type not in _ARRANGED:
            return self._compute(name)
        # No copy is made of a view.
        values = {source: self.value(source) for source in node.input if source}
        return evaluate_node(node, values, self.graph)[name]

    def _type_of(self, name: str) -> int:
        """Return the declared element type of a tensor; FLOAT where none is declared."""
        graph = self.graph.model.graph
        declared = (
            value.type.tensor_type.elem_type
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.name == name
        )
        return next((kind for kind in declared if kind), int(onnx.TensorProto.FLOAT))

    def _inner_initializers(self, names: Collection[str]) -> Iterator[onnx.TensorProto]:
        """Yield the initializers of subgraphs under their names outside."""
        for name in names:
            if self.graph.lies_inside(name) and name not in self.graph.producer:
                renamed = onnx.TensorProto()
                renamed.CopyFrom(self.graph.constants[name])
                renamed.name = name
                yield renamed

    def _compute(self, name: str) -> NDArray[Any]:
        """Compute a constant with the runtime, without the rest of the graph."""
        whole = self.graph.model
        needed = {name}
        nodes: list[onnx.NodeProto] = []
        # Nodes with subgraphs as they are, and not what stands for them.
        main = {result: node for node in whole.graph.node for result in node.output}
        taken: set[str] = set()
        for flat in reversed(self.graph.nodes):
            node = main.get(first_output(flat), flat)
            if needed.intersection(node.output) and first_output(node) not in taken:
                taken.add(first_output(node))
                if node.op_type == "CastLike" and not self.has(node.input[1]):
                    # It takes only the type of its second input, on which no constant depends.
                    kind = self._type_of(node.input[1])
                    node = onnx.helper.make_node("Cast", node.input[:1], node.output, to=kind)
                captured = tuple(captured_names(node))
                if not all(map(self.has, captured)):
                    raise ModelError(f"{node.op_type}, which computes it, depends on the input")
                needed.update((*node.input, *captured))
                nodes.insert(0, node)
        initializers = [t for t in whole.graph.initializer if t.name in needed]
        initializers += self._inner_initializers(needed)
        double = any(t.data_type == onnx.TensorProto.DOUBLE for t in initializers)
        kind = onnx.TensorProto.DOUBLE if double else onnx.TensorProto.FLOAT
        result = "cnatool_constant"
        nodes.append(onnx.helper.make_node("Cast", [name], [result], to=kind))
        graph = onnx.helper.make_graph(
            nodes,
            "constant",
            [],
            [onnx.helper.make_tensor_value_info(result, kind, None)],
            initializers,
            sparse_initializer=[
                s for s in whole.graph.sparse_initializer if s.values.name in needed
            ],
        )
        model = onnx.helper.make_model(
            graph, opset_imports=whole.opset_import, ir_version=whole.ir_version
        )
        check_constants(self.graph, model)
        value: NDArray[Any] = Session(model, self.graph, self._run).run([result], {})[0]
        return value
