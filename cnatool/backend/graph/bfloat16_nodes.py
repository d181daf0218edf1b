"""Models that compute in bfloat16, for a runtime without kernels for it, and without arrays.

ONNX Runtime has hardly any operator for bfloat16 on a CPU. There, every operator that has to do
with it computes in float32, and each of its results is rounded to bfloat16: what frameworks do
whose kernels accumulate in float32. The runtime keeps these roundings, whatever it optimises.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cnatool.backend.graph.nodes import PREFIX, operator_set, subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_BFLOAT16 = onnx.TensorProto.BFLOAT16
_FLOAT = onnx.TensorProto.FLOAT
# What the runtime has for every type, or what has graphs inside that are rewritten by themselves.
_KEPT = operator_set("Cast Constant Identity If Loop Scan")
# Attributes that name an element type, besides that of Cast.
_TYPES = ("dtype", "output_dtype", "stash_type")


def is_bfloat16_input(value: onnx.ValueInfoProto) -> bool:
    """Whether an input of a model takes bfloat16."""
    return bool(value.type.tensor_type.elem_type == _BFLOAT16)


def computes_in_bfloat16(graph: onnx.GraphProto) -> bool:
    """Whether anything in a graph is bfloat16, but for the result of a Cast at its end."""
    return any(_mentions(graph))


def _mentions(graph: onnx.GraphProto) -> Iterator[bool]:
    yield from (tensor.data_type == _BFLOAT16 for tensor in graph.initializer)
    yield from map(is_bfloat16_input, graph.input)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t.data_type == _BFLOAT16
            yield attribute.name in ("to", *_TYPES) and attribute.i == _BFLOAT16
        for inner in subgraphs(node):
            yield from _mentions(inner)


def feed_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose inputs of bfloat16 take float32, which it rounds."""
    names = [value.name for value in model.graph.input if is_bfloat16_input(value)]
    if not names:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rounded = {name: f"{PREFIX}rounded {name}" for name in names}
    _rename(copy.graph, rounded)
    for value in copy.graph.input:
        if value.name in rounded:
            value.type.tensor_type.elem_type = _FLOAT
    casts = [helper.make_node("Cast", [n], [to], to=_BFLOAT16) for n, to in rounded.items()]
    nodes = [*casts, *copy.graph.node]
    copy.graph.ClearField("node")
    copy.graph.node.extend(nodes)
    return copy


def compute_in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that computes in float32 what it should in bfloat16, and rounds the results.

    All tensors keep their names and types.
    """
    if not computes_in_bfloat16(model.graph):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _Rewriting(model).rewrite(copy.graph, _infer(model), set())
    return copy


def _infer(model: onnx.ModelProto) -> onnx.GraphProto:
    """Infer the types of the tensors of a model, whose outputs may be known by name alone."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    typed.graph.ClearField("output")
    typed.graph.output.extend(
        value for value in model.graph.output if value.type.tensor_type.elem_type
    )
    with suppress(Exception):  # of several classes; what schemas tell remains
        typed = onnx.shape_inference.infer_shapes(typed)
    return typed.graph


class _Rewriting:
    """Replaces the nodes of a model's graphs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opsets = {each.domain: each.version for each in model.opset_import}
        self._numbers = count()

    def rewrite(self, graph: onnx.GraphProto, typed: onnx.GraphProto, outer: set[str]) -> None:
        """Replace the nodes of a graph; ``typed`` is the same with types, ``outer`` those around.

        These are the names of tensors that are bfloat16.
        """
        values = (*typed.input, *typed.value_info, *typed.output)
        known = {v.name: v.type.tensor_type.elem_type for v in values if v.type.WhichOneof("value")}
        known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        half = outer - known.keys()
        half |= {name for name, kind in known.items() if kind == _BFLOAT16}
        wide: dict[str, str] = {}
        nodes: list[onnx.NodeProto] = []
        for node, same in zip(graph.node, typed.node, strict=True):
            if not any(name in known for name in node.output):
                half |= self._guess(node, half)
            for inner, inner_typed in zip(subgraphs(node), subgraphs(same), strict=True):
                self.rewrite(inner, inner_typed, half)
            touched = half.intersection((*node.input, *node.output))
            if node.op_type in _KEPT or not touched:
                nodes.append(node)
                continue
            for place, name in enumerate(node.input):
                if name in half:
                    if name not in wide:
                        wide[name] = self._name("wide")
                        nodes.append(_cast(name, wide[name], _FLOAT))
                    node.input[place] = wide[name]
            _widen_attributes(node)
            after = []
            for place, name in enumerate(node.output):
                if name in half:
                    node.output[place] = self._name("exact")
                    after.append(_cast(node.output[place], name, _BFLOAT16))
            nodes += [node, *after]
        graph.ClearField("node")
        graph.node.extend(nodes)

    def _name(self, kind: str) -> str:
        return f"{PREFIX}{kind} {next(self._numbers)}"

    def _guess(self, node: onnx.NodeProto, half: set[str]) -> set[str]:
        """Return the results of a node that are bfloat16, where inference leaves them open."""
        inputs = [name in half for name in node.input]
        if not any(inputs) or node.op_type in _KEPT:
            same = node.op_type == "Identity" and any(inputs)
            return {*node.output} if same else set()
        try:
            version = self._opsets.get(node.domain, 1)
            schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        except onnx.defs.SchemaError:
            # Of the runtime's own operators, most have one type.
            return {name for name in node.output if name}
        formal = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in range(len(inputs))]
        kinds = {each.type_str for each, found in zip(formal, inputs, strict=True) if found}
        results = [schema.outputs[min(i, len(schema.outputs) - 1)] for i in range(len(node.output))]
        pairs = zip(node.output, results, strict=True)
        return {name for name, each in pairs if name and each.type_str in kinds}


def _cast(name: str, to: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [to], name=to, to=kind)


def _widen_attributes(node: onnx.NodeProto) -> None:
    """Let a node that makes values make float32."""
    for attribute in node.attribute:
        if attribute.name in _TYPES and attribute.i == _BFLOAT16:
            attribute.i = _FLOAT
        if attribute.HasField("t") and attribute.t.data_type == _BFLOAT16:
            values = numpy_helper.to_array(attribute.t).astype(np.float32)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename what the nodes of a graph read, also in the graphs inside them."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for inner in subgraphs(node):
            own = {each.name for each in (*inner.input, *inner.initializer)}
            own.update(name for each in inner.node for name in each.output)
            _rename(inner, {old: new for old, new in names.items() if old not in own})
            for output in _captured(inner.output, names, own):
                output.name = names[output.name]


def _captured(
    outputs: Iterable[onnx.ValueInfoProto], names: Mapping[str, str], own: set[str]
) -> Iterator[onnx.ValueInfoProto]:
    yield from (output for output in outputs if output.name in names and output.name not in own)
