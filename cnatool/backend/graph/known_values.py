"""Shapes and values in a graph that are the same for every sample, however many there are.

Both are followed node by node from the inputs: shapes by ONNX's own rules, with an unknown length
wherever the number of samples, or the values of one, may enter; values through the operators that
exporters compute with shapes. What is not known for certain is unknown.
"""

from __future__ import annotations

import math
from collections import ChainMap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from cnatool.backend.graph.evaluate import evaluate_node
from cnatool.backend.graph.inner_names import own_names
from cnatool.backend.graph.nodes import attributes, constant_value, operator_set, subgraphs
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import ConstantInput

    Dims = tuple[int | None, ...]

# Larger arrays are no shapes.
_MOST = 1024
# Operators that put the elements of their first input elsewhere; Concat those of every input.
_MOVING = operator_set("Concat Flatten Gather Identity Reshape Slice Squeeze Transpose Unsqueeze")
# Operators that compute each element from those at its place.
_ELEMENTWISE = operator_set(
    "Abs Add And Cast Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Neg Not Or Sub "
    "Where Xor"
)
# Operators that need every element.
_WHOLE = operator_set("ConstantOfShape ReduceMax ReduceMin ReduceProd ReduceSum")
# The runtime may count windows differently from ONNX's rules.
_POOLS = operator_set("AveragePool LpPool MaxPool")


@dataclass(frozen=True, slots=True)
class PartialArray:
    """An array some elements of which are known."""

    value: NDArray[Any]  # 1 where it is not known
    known: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[Any] | None:
        """The values, if all are known."""
        return self.value if self.known.all() else None


class KnownValues:
    """The shapes and values known so far, of one graph and of the graphs around it."""

    def __init__(self, graph: Graph, outer: KnownValues | None = None) -> None:
        self._graph = graph
        # By tensor; None hides what a tensor of that name in a graph around this one has.
        self._types: MutableMapping[str, onnx.TypeProto | None] = ChainMap(
            {}, *([outer._types] if outer else [])
        )
        self._values: MutableMapping[str, PartialArray | None] = ChainMap(
            {}, *([outer._values] if outer else [])
        )
        self._opsets = {
            "" if opset.domain == "ai.onnx" else opset.domain: opset.version
            for opset in graph.model.opset_import
        }

    @classmethod
    def of_inputs(
        cls,
        graph: Graph,
        constants: Iterable[ConstantInput],
        shapes: Mapping[str, Sequence[int | None]],
    ) -> KnownValues:
        """Return what is known of a graph's inputs and initializers.

        ``shapes`` are those of one sample. Fixed lengths that the model declares are known as well,
        since the runtime refuses others; but the first axis may be that of the samples.
        """
        known = cls(graph)
        fixed = {constant.name: constant for constant in constants}
        for declared in graph.inputs:
            tensor = declared.type.tensor_type
            constant = fixed.get(declared.name)
            dims: Dims | None = None
            if constant is not None:
                shape = constant.value.shape
                dims = tuple(None if i == constant.batch_axis else n for i, n in enumerate(shape))
                if constant.batch_axis is None and constant.value.size <= _MOST:
                    known._set_value(declared.name, constant.value)
            elif declared.name in shapes:
                dims = (None, *shapes[declared.name])
            elif tensor.HasField("shape"):
                sizes = [dim.dim_value for dim in tensor.shape.dim]
                dims = tuple(size if i and size > 0 else None for i, size in enumerate(sizes))
            if declared.type.HasField("tensor_type"):
                known._types[declared.name] = helper.make_tensor_type_proto(tensor.elem_type, dims)
        known.add_initializers(graph.model.graph)
        return known

    def inside(self, body: onnx.GraphProto) -> KnownValues:
        """Return what is known in a subgraph before its first node: nothing of its inputs."""
        known = KnownValues(self._graph, self)
        for name in own_names(body):
            known._types[name] = known._values[name] = None
        known.add_initializers(body)
        return known

    def add_initializers(self, graph: onnx.GraphProto) -> None:
        """Add the initializers of a graph."""
        for tensor in graph.initializer:
            self._set_tensor(tensor.name, tensor)

    def shape(self, name: str) -> Dims | None:
        """Return the shape of a tensor, None for lengths that are unknown; None without a rank."""
        kind = self._types.get(name)
        return None if kind is None else _dims(kind)

    def array(self, name: str) -> PartialArray | None:
        """Return what is known of a tensor's values; None where that is nothing."""
        return self._values.get(name)

    def truth(self, name: str) -> bool | None:
        """Return the one truth value of a tensor; None where it is unknown."""
        array = self.array(name)
        whole = None if array is None else array.whole
        if whole is None or whole.size != 1 or whole.dtype.kind != "b":
            return None
        return bool(whole.item())

    def add(self, node: onnx.NodeProto) -> None:
        """Follow a node, whose inputs were followed before."""
        types = self._infer_types(node)
        value = self._compute(node)
        for place, name in enumerate(node.output):
            if name:
                self._types[name] = types.get(name)
                self._values[name] = value if place == 0 else None
        tensor = constant_value(node) if node.op_type == "Constant" else None
        if tensor is not None:
            self._set_tensor(node.output[0], tensor)

    def _set_tensor(self, name: str, tensor: onnx.TensorProto) -> None:
        self._types[name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        self._values[name] = None
        outside = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not outside and math.prod(tensor.dims) <= _MOST:
            try:
                self._set_value(name, numpy_helper.to_array(tensor))
            except Exception:  # whatever a damaged tensor makes the library raise
                return

    def _set_value(self, name: str, value: NDArray[Any]) -> None:
        if value.dtype.kind in "biuf":
            self._values[name] = PartialArray(value, np.ones(value.shape, np.bool_))

    def _whole(self, name: str) -> NDArray[Any] | None:
        array = self.array(name)
        return None if array is None else array.whole

    # Shapes

    def _infer_types(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        """Infer the types of a node's results, with their shapes as far as they are known."""
        reads = dict.fromkeys(name for name in node.input if name)
        types = {n: kind for n in reads if (kind := self._types.get(n)) is not None}
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = self._opsets.get(domain)
        if len(types) < len(reads) or version is None or any(subgraphs(node)):
            return {}
        if node.op_type in _POOLS and attributes(node).get("ceil_mode"):
            return {}
        whole = {name: self._whole(name) for name in reads}
        data = {n: numpy_helper.from_array(v, n) for n, v in whole.items() if v is not None}
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
            inferred = infer_node_outputs(
                schema, node, types, data, opset_imports=list(self._graph.model.opset_import)
            )
        except Exception:  # an unknown operator, or whatever its rule raises
            return {}
        dims = self._computed_shape(node)
        if dims is not None and node.output[0] in inferred:
            element = inferred[node.output[0]].tensor_type.elem_type
            inferred[node.output[0]] = helper.make_tensor_type_proto(element, dims)
        return dict(inferred)

    def _computed_shape(self, node: onnx.NodeProto) -> Dims | None:
        """Return the shape that a node gives its result if some of its lengths are unknown."""
        place = {"ConstantOfShape": 0, "Reshape": 1}.get(node.op_type)
        if place is None or len(node.input) <= place:
            return None
        shape = self.array(node.input[place])
        if shape is None or shape.value.ndim != 1 or shape.whole is not None:
            return None
        # Of a Reshape, 0 keeps a length, and -1 is what remains.
        return tuple(
            int(length) if known and length > 0 else None
            for length, known in zip(shape.value, shape.known, strict=True)
        )

    # Values

    def _compute(self, node: onnx.NodeProto) -> PartialArray | None:
        """Compute the first result of a node, as far as it is known."""
        if node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in ("Shape", "Size"):
            return self._compute_shape(node)
        reads = [self.array(name) for name in node.input if name]
        arrays = [array for array in reads if array is not None]
        if len(arrays) != len(reads) or not arrays:
            return None
        whole = all(array.whole is not None for array in arrays)
        names = [name for name in node.input if name]
        values = {name: array.value for name, array in zip(names, arrays, strict=True)}
        if node.op_type in _WHOLE:
            first = values[names[0]]
            is_small = node.op_type != "ConstantOfShape" or 0 <= math.prod(first.tolist()) <= _MOST
            # The order in which floats are summed is the runtime's own.
            exact = whole and is_small and first.dtype.kind in "biu"
            return self._evaluate(node, values) if exact else None
        if node.op_type in _MOVING:
            return self._move(node, names, arrays)
        if node.op_type not in _ELEMENTWISE or not _is_defined(node, arrays):
            return None
        try:
            known = np.broadcast_arrays(*(array.known for array in arrays))
        except ValueError:  # the runtime says what is wrong
            return None
        if known[0].size > _MOST:
            return None
        result = self._evaluate(node, values)
        return None if result is None else _masked(result.value, np.logical_and.reduce(known))

    def _compute_shape(self, node: onnx.NodeProto) -> PartialArray | None:
        dims = self.shape(node.input[0])
        if dims is None:
            return None
        if node.op_type == "Size":
            lengths = [length for length in dims if length is not None]
            if len(lengths) < len(dims):
                return None
            return PartialArray(np.array(math.prod(lengths), np.int64), np.array(True))
        ends = attributes(node)
        dims = dims[slice(ends.get("start", 0), ends.get("end", len(dims)))]
        known = np.array([length is not None for length in dims], np.bool_)
        value = [1 if length is None else length for length in dims]
        return PartialArray(np.array(value, np.int64), known)

    def _move(
        self, node: onnx.NodeProto, names: Sequence[str], arrays: Sequence[PartialArray]
    ) -> PartialArray | None:
        """Compute a node that only moves elements, and where it moves the known ones."""
        moved = len(arrays) if node.op_type == "Concat" else 1
        if any(array.whole is None for array in arrays[moved:]):
            return None
        if sum(array.value.size for array in arrays) > _MOST:
            return None
        values = {name: array.value for name, array in zip(names, arrays, strict=True)}
        if all(array.whole is not None for array in arrays):
            return self._evaluate(node, values)
        marks = values | {
            name: array.known for name, array in zip(names[:moved], arrays, strict=False)
        }
        result = self._evaluate(node, values)
        known = self._evaluate(node, marks)
        if result is None or known is None:
            return None
        return _masked(result.value, known.value)

    def _evaluate(
        self, node: onnx.NodeProto, values: Mapping[str, NDArray[Any]]
    ) -> PartialArray | None:
        try:
            value = evaluate_node(node, values, self._graph)[node.output[0]]
        except ModelError:
            return None
        if value.size > _MOST or value.dtype.kind not in "biuf":
            return None
        return PartialArray(value, np.ones(value.shape, np.bool_))


def _masked(value: NDArray[Any], known: NDArray[Any]) -> PartialArray:
    return PartialArray(np.where(known, value, np.ones((), value.dtype)), known.astype(np.bool_))


def _is_defined(node: onnx.NodeProto, arrays: Sequence[PartialArray]) -> bool:
    """Whether every runtime computes the same: no division by 0, and no cast out of range."""
    if node.op_type == "Div":
        return bool((arrays[-1].value > 0).all() and (arrays[0].value >= 0).all())
    if node.op_type == "Cast":
        value = arrays[0].value
        fits = (value >= 0) & (value <= np.iinfo(np.int8).max)
        return value.dtype.kind != "f" or bool(fits.all())
    return True


def _dims(kind: onnx.TypeProto) -> Dims | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in dims
    )
