"""Every tensor of a model, recomputed node by node with ONNX's reference evaluator.

A node is evaluated on the *stored* values of the tensors that it reads, which were compared before
it: that every tensor equals its recomputed value, and the samples what was fed, means by induction
that the whole store is right. Rounding errors do not add up over the depth of a network, so that
the tolerance is that of a single operator, and a rounding or an ArgMax near a tie sees the very
number that the runtime saw.

A node with subgraphs is evaluated as a whole. What its bodies compute is taken down run by run, and
put together as a dump does: one leading axis for the iterations of each loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from cnatool.backend.graph.control_flow import InnerTensor
from cnatool.backend.graph.nodes import captured_names, first_output
from cnatool.records.skipped import RANDOM_OPERATORS
from zoo.operators import list_operators


@dataclass(frozen=True)
class Recomputed:
    """One tensor: its value, None if it cannot be computed, and the largest number read for it.

    ``total`` is the sum of its elements, also where the runs of a body give it different shapes;
    NaN if it cannot be computed.
    """

    name: str
    operator: str
    value: Any
    magnitude: float
    total: float


@dataclass
class _BodyRun:
    """The values of one run of a graph, and the runs of the bodies of its nodes, by their names."""

    values: Mapping[str, Any]
    bodies: dict[str, list[_BodyRun]]


class _Recorder(ReferenceEvaluator):
    """An evaluator that takes down what bodies compute, whose evaluators are of its class."""

    running: ClassVar[list[_BodyRun]] = []

    def run(self, output_names: Any, feed_inputs: Any, *rest: Any, **options: Any) -> Any:
        this = _BodyRun({}, {})
        if self.running:
            self.running[-1].bodies.setdefault(self.proto_.name, []).append(this)
        self.running.append(this)
        try:
            options["intermediate"] = True
            this.values = super().run(output_names, feed_inputs, *rest, **options)
        finally:
            self.running.pop()
        self.last = this
        return [this.values[name] for name in output_names or self.output_names]


def recompute(
    model: onnx.ModelProto,
    given: Mapping[str, Any],
    stored: Mapping[str, Any],
    inner: Mapping[str, InnerTensor] = MappingProxyType({}),
) -> Iterator[Recomputed]:
    """Recompute the results of every node, in the order of the main graph.

    ``given`` are the values of inputs and initializers, ``inner`` the tensors of bodies by name.
    """
    known = dict(given)
    for node in model.graph.node:
        reads = dict.fromkeys(name for name in (*node.input, *captured_names(node)) if name)
        run = None
        if node.op_type not in RANDOM_OPERATORS and all(name in known for name in reads):
            run = _evaluate(model, node, {name: known[name] for name in reads})
        if run is not None and node.op_type == "TopK":
            run = _order_as_stored(node, run, known, stored)
        magnitude = max((_magnitude(known[name]) for name in reads if name in known), default=0.0)
        for name in filter(None, node.output):
            value = None if run is None else run.values[name]
            yield Recomputed(name, node.op_type, value, magnitude, _sum([value]))
            if name in stored:
                known[name] = stored[name]
            elif value is not None:
                known[name] = value
        for name, tensor in inner.items():
            if tensor.bodies[0].node == first_output(node):
                value = None if run is None else _collect(run, tensor)
                total = np.nan if run is None else _sum(_list_values(run, tensor))
                yield Recomputed(name, node.op_type, value, magnitude, total)


def _evaluate(
    model: onnx.ModelProto, node: onnx.NodeProto, values: dict[str, Any]
) -> _BodyRun | None:
    """Evaluate one node; None where the evaluator cannot."""
    outputs = [name for name in node.output if name]
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    named = onnx.NodeProto()
    named.CopyFrom(node)
    _name_bodies(named)
    try:
        if all(isinstance(value, np.ndarray) for value in values.values()):
            # Some operators are functions that need the types of what they read.
            inputs = [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                )
                for name, value in values.items()
            ]
            graph = helper.make_graph(
                [named], "node", inputs, [onnx.ValueInfoProto(name=name) for name in outputs]
            )
            proto: Any = helper.make_model(graph, opset_imports=model.opset_import)
        else:
            proto = helper.make_function(
                "local", "node", [*values], outputs, [named], [*model.opset_import]
            )
        # The evaluator is NumPy code: it divides by zero wherever the model does.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            evaluator = _Recorder(proto, new_ops=list_operators(opset))
            evaluator.run(None, values)
    except MemoryError:
        raise
    except Exception:  # anything that NumPy code can raise, or an operator that it lacks
        return None
    return evaluator.last


def _order_as_stored(
    node: onnx.NodeProto, run: _BodyRun, known: Mapping[str, Any], stored: Mapping[str, Any]
) -> _BodyRun:
    """Take the stored results of an unsorted TopK, whose order is free, if they are the largest."""
    settings = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if settings.get("sorted", 1) or not all(name in stored for name in node.output):
        return run
    values, places = (stored[name] for name in node.output)
    axis = settings.get("axis", -1)
    right = (
        values.shape == run.values[node.output[0]].shape
        and np.array_equal(np.sort(values, axis), np.sort(run.values[node.output[0]], axis))
        and np.array_equal(np.take_along_axis(known[node.input[0]], places, axis), values)
        and not (np.diff(np.sort(places, axis), axis=axis) == 0).any()
    )
    if not right:
        return run
    return _BodyRun({**run.values, node.output[0]: values, node.output[1]: places}, {})


def _name_bodies(node: onnx.NodeProto) -> None:
    """Name the bodies of a node, and theirs, by the node and the attribute."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            attribute.g.name = f"{first_output(node)} {attribute.name}"
            for inside in attribute.g.node:
                _name_bodies(inside)


def _list_runs(run: _BodyRun, tensor: InnerTensor, level: int) -> list[_BodyRun]:
    """List the runs of the body at a level around a tensor."""
    body = tensor.bodies[level]
    return run.bodies.get(f"{body.node} {body.attribute}", [])


def _list_values(run: _BodyRun, tensor: InnerTensor, level: int = 0) -> list[Any]:
    """List the values of a tensor in all runs of its body."""
    if level == len(tensor.bodies):
        return [run.values.get(tensor.own)]
    runs = _list_runs(run, tensor, level)
    return [value for each in runs for value in _list_values(each, tensor, level + 1)]


def _collect(run: _BodyRun, tensor: InnerTensor, level: int = 0) -> Any:
    """Collect a tensor from all runs of its body; None where none or not all of one shape."""
    if level == len(tensor.bodies):
        return run.values.get(tensor.own)
    values = [_collect(each, tensor, level + 1) for each in _list_runs(run, tensor, level)]
    if not tensor.bodies[level].repeats:
        return values[0] if values else None
    if not values or any(not isinstance(value, np.ndarray) for value in values):
        return None
    return np.stack(values) if len({value.shape for value in values}) == 1 else None


def _sum(values: Sequence[Any]) -> float:
    if any(not isinstance(value, np.ndarray) or value.dtype == object for value in values):
        return np.nan
    return float(sum(value.astype(np.float64).sum() for value in values))


def _magnitude(value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return 0.0
    finite = np.abs(value[np.isfinite(value)])
    return float(finite.max(initial=0.0))
