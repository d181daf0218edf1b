"""Shapes of tensors in subgraphs and behind Loops that ONNX's shape inference leaves open.

It does not see the values of constants outside a subgraph, such as the axes of an Unsqueeze. And it
leaves open what a Loop carries from one iteration to the next, since each may return another shape,
and with it everything that is computed from what the Loop returns.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import onnx
import onnx.shape_inference

from cnatool.backend.graph.nodes import constant_value, first_output, subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# One serves the Loops that read what those of the last one return, or are inside them.
_MOST_RUNS = 30
# Shapes, axes and the like.
_INTEGERS = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
_MOST_INTEGERS = 64

_Types = dict[str, onnx.TypeProto.Tensor]


class _Carried(NamedTuple):
    """A value that a Loop carries."""

    graph: onnx.GraphProto  # the one that the Loop is in
    result: str  # what the Loop returns; empty where it does not
    types: _Types  # of the tensors that the Loop may read
    initial: str
    at_start: onnx.TypeProto.Tensor  # of an iteration: an input of the body
    at_end: onnx.TypeProto.Tensor  # an output of the body

    @property
    def type(self) -> onnx.TypeProto.Tensor | None:
        """Its type before the first iteration, where later ones are open."""
        initial = self.types.get(self.initial)
        if initial is None or not initial.HasField("shape"):
            return None
        result = self.types.get(self.result)
        if self.at_start.HasField("shape"):
            closed = not self.result or (result is not None and result.HasField("shape"))
            return None if closed or _rank(self.at_start) != _rank(initial) else initial
        return initial


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer the shapes of a model's tensors; of what Loops carry, the number of axes.

    If no iteration changes the number of axes, it is that of the initial value. So that is assumed,
    and inferred what one iteration then returns.
    """
    complete = onnx.ModelProto()
    complete.CopyFrom(model)
    _copy_constants(complete.graph, {})
    plain = inferred = onnx.shape_inference.infer_shapes(complete)
    # By place among all that Loops carry; None for what an iteration changes.
    assumed: dict[int, onnx.TypeProto.Tensor | None] = {}
    for _ in range(_MOST_RUNS):
        types = {i: each.type for i, each in enumerate(_list_carried(inferred.graph))}
        found = {i: kind for i, kind in types.items() if kind is not None and i not in assumed}
        if found:
            assumed |= found
        elif changed := _find_changed(inferred, assumed):
            # Other assumptions may have followed from these.
            changed += [i for i, kind in assumed.items() if kind is None]
            assumed = dict.fromkeys(changed)
        else:
            return inferred
        inferred = _infer_from(complete, assumed)
    return plain


def _copy_constants(graph: onnx.GraphProto, outside: Mapping[str, onnx.TensorProto]) -> None:
    """Copy the short vectors of integers that subgraphs read from outside into them."""
    short = dict(outside)
    for name, tensor in chain(
        ((tensor.name, tensor) for tensor in graph.initializer),
        ((first_output(node), value) for node in graph.node if (value := constant_value(node))),
    ):
        if tensor.data_type in _INTEGERS and math.prod(tensor.dims) <= _MOST_INTEGERS:
            short[name] = tensor
    for node in graph.node:
        for body in subgraphs(node):
            reads = {name for inner in body.node for name in inner.input}
            for name in reads & short.keys():
                body.initializer.add().CopyFrom(short[name])
                body.initializer[-1].name = name
            _copy_constants(body, short)


def _infer_from(
    model: onnx.ModelProto, assumed: Mapping[int, onnx.TypeProto.Tensor | None]
) -> onnx.ModelProto:
    """Infer shapes where what Loops carry has the numbers of axes of the given types."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for i, each in enumerate(_list_carried(copy.graph)):
        kind = assumed.get(i)
        if kind is not None:
            _set_rank(each.at_start, kind)
            if each.result:
                _set_rank(_declare(each.graph, each.result), kind)
    return onnx.shape_inference.infer_shapes(copy)


def _find_changed(
    inferred: onnx.ModelProto, assumed: Mapping[int, onnx.TypeProto.Tensor | None]
) -> list[int]:
    """List the places of what an iteration does not return with as many axes as assumed."""
    return [
        i
        for i, each in enumerate(_list_carried(inferred.graph))
        if (kind := assumed.get(i)) is not None and _rank(each.at_end) != _rank(kind)
    ]


def _list_carried(graph: onnx.GraphProto, outside: _Types | None = None) -> Iterator[_Carried]:
    """List what Loops carry, in the same order whatever is known of it."""
    values = (*graph.input, *graph.value_info, *graph.output)
    types = dict(outside or {}) | {value.name: value.type.tensor_type for value in values}
    types |= {tensor.name: _type_of(tensor) for tensor in graph.initializer}
    for node in graph.node:
        bodies = list(subgraphs(node))
        if node.op_type == "Loop" and len(bodies) == 1:
            (body,) = bodies
            places = zip(node.input[2:], body.input[2:], body.output[1:], strict=False)
            for place, (initial, start, end) in enumerate(places):
                result = node.output[place] if place < len(node.output) else ""
                ends = start.type.tensor_type, end.type.tensor_type
                yield _Carried(graph, result, types, initial, *ends)
        for body in bodies:
            yield from _list_carried(body, types)


def _type_of(tensor: onnx.TensorProto) -> onnx.TypeProto.Tensor:
    shape = onnx.TensorShapeProto(
        dim=[onnx.TensorShapeProto.Dimension(dim_value=size) for size in tensor.dims]
    )
    return onnx.TypeProto.Tensor(elem_type=tensor.data_type, shape=shape)


def _rank(kind: onnx.TypeProto.Tensor) -> int | None:
    return len(kind.shape.dim) if kind.HasField("shape") else None


def _set_rank(kind: onnx.TypeProto.Tensor, like: onnx.TypeProto.Tensor) -> None:
    """Set the number of axes of a type to that of another one, if it is open."""
    if not kind.HasField("shape"):
        kind.elem_type = kind.elem_type or like.elem_type
        kind.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in like.shape.dim)
        kind.shape.SetInParent()


def _declare(graph: onnx.GraphProto, name: str) -> onnx.TypeProto.Tensor:
    """Return the type that a graph declares of a tensor; a new one where it has none."""
    declared = (value for value in (*graph.value_info, *graph.output) if value.name == name)
    value: onnx.ValueInfoProto = next(declared, None) or graph.value_info.add(name=name)
    return value.type.tensor_type
