"""Types of the tensors in a model's subgraphs, inferred without running it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import onnx

from cnatool.backend.graph.loop_shapes import infer_shapes
from cnatool.backend.graph.nodes import first_output
from cnatool.records.skipped import not_numeric_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

# The nodes on the way to a subgraph, by their first results, each with the attribute that holds it.
Way = tuple[tuple[str, str], ...]


class TensorType(NamedTuple):
    """What is known of a tensor before a model is run."""

    kind: str  # ``tensor(…)``, as ONNX Runtime writes types; empty where it is not known
    # The length of each axis, None where it is open; None where the number of axes is not known
    dims: tuple[int | None, ...] | None

    @property
    def rank(self) -> int | None:
        """The number of its axes; None where it is not known."""
        return None if self.dims is None else len(self.dims)

    @property
    def is_fixed(self) -> bool:
        """Whether the length of each axis is known."""
        return self.dims is not None and None not in self.dims


UNKNOWN_TYPE = TensorType("", None)


def find_element_types(model: onnx.ModelProto) -> dict[Way, dict[str, TensorType]]:
    """Infer the types of the tensors in each subgraph of a model, by name.

    Those behind operators that ONNX does not know are left out, unless the model declares them.
    """
    with suppress(Exception):  # of several classes; the types that are declared remain
        model = infer_shapes(model)
    return dict(_types_inside(model.graph, ()))


def _types_inside(graph: onnx.GraphProto, way: Way) -> Iterator[tuple[Way, dict[str, TensorType]]]:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                to = (*way, (first_output(node), attribute.name))
                values = (*inner.value_info, *inner.output)
                yield to, {value.name: _read_type(value.type) for value in values}
                yield from _types_inside(inner, to)


def _read_type(kind: onnx.TypeProto) -> TensorType:
    if not (kind.HasField("tensor_type") and kind.tensor_type.HasField("shape")):
        return TensorType(_text(kind), None)
    dims = kind.tensor_type.shape.dim
    known = (dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    return TensorType(_text(kind), tuple(known))


def _text(kind: onnx.TypeProto) -> str:
    """Write a type as ONNX Runtime does, what it holds left open unless it is a tensor."""
    which = kind.WhichOneof("value")
    if which == "tensor_type" and kind.tensor_type.elem_type:
        return f"tensor({onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()})"
    if which in (None, "tensor_type"):
        return ""
    return "seq(…)" if which == "sequence_type" else f"{which.removesuffix('_type')}(…)"


def find_unreadable(kind: str) -> str:
    """Describe why values of a type cannot be stored as an array; empty where they can."""
    for start, word in (
        ("seq", "a sequence"),
        ("map", "a map"),
        ("optional", "optional"),
        ("sparse", "a sparse tensor"),
        ("tensor(string", "strings"),
        ("tensor(complex", "complex numbers"),
    ):
        if kind.startswith(start):
            return not_numeric_reason(word)
    return ""
