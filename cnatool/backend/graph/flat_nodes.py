"""The nodes of a model and of all its subgraphs as one list, under names that say where they lie.

A tensor ``h`` in the body of a Loop named ``decoder`` is ``decoder/body/h``. Two kinds of nodes
stand for what an If, Loop or Scan does itself: a `SUBGRAPH_INPUT` makes what a body is given (the
state of a loop, the number of the iteration, the slice that a Scan takes), and a node of the
operator's own type, behind its bodies, makes each of its results.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import onnx
from onnx import helper

from cnatool.backend.graph.control_flow import Body, InnerTensor
from cnatool.backend.graph.element_types import UNKNOWN_TYPE, find_element_types, find_unreadable
from cnatool.backend.graph.inner_names import inner_name, label_nodes, own_names, tensor_names
from cnatool.backend.graph.nodes import attributes, first_output, subgraphs
from cnatool.records.skipped import subgraph_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cnatool.backend.graph.element_types import TensorType

# Type of the nodes that stand for what a subgraph is given.
SUBGRAPH_INPUT = "SubgraphInput"
# Since this version a Scan has no batch axis of its own.
_SCAN_OPSET = 9
# Since these versions the branches of an If need not return the same shapes, and ONNX Runtime can
# take the least and largest of float64 in loops.
_SINCE = {"If": 11, "Loop": 8, "Scan": _SCAN_OPSET}


@dataclass(slots=True)
class FlatNodes:
    """All nodes of a model, and what is known of those in subgraphs."""

    # In execution order, those of a subgraph in front of the results of the node around it
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    # Initializers of subgraphs
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    # What nodes in subgraphs compute
    inner: dict[str, InnerTensor] = field(default_factory=dict)
    # The results of nodes with subgraphs, and the subgraph that decides about their shape
    results: dict[str, Body] = field(default_factory=dict)
    # Results of Ifs of which both branches return the same fixed shape
    fixed: set[str] = field(default_factory=set)


def flatten(model: onnx.ModelProto) -> FlatNodes:
    """List the nodes of a model and of its subgraphs; those of the main graph are its own."""
    if not any(True for node in model.graph.node for _ in subgraphs(node)):
        return FlatNodes(list(model.graph.node))
    flattening = _Flattening(model)
    flattening.add_nodes(model.graph, {}, "", ())
    return flattening.flat


@dataclass(frozen=True, slots=True)
class _Outer:
    """A node with subgraphs, and where it lies."""

    node: onnx.NodeProto
    scope: Mapping[str, str]  # the new names of tensors in the subgraphs around it
    label: str  # its own, behind those of the nodes and subgraphs around it
    bodies: tuple[Body, ...]  # the subgraphs around it

    @property
    def reads(self) -> list[str]:
        return [self.scope.get(name, name) for name in self.node.input]

    @property
    def results(self) -> list[str]:
        return [self.scope.get(name, name) for name in self.node.output]

    def subgraph(self, name: str) -> onnx.GraphProto:
        return next((a.g for a in self.node.attribute if a.name == name), onnx.GraphProto())

    def body(
        self,
        attribute: str,
        controls: Sequence[str],
        lengths: tuple[tuple[str, int], ...] = (),
    ) -> Body:
        kind, name = self.node.op_type, first_output(self.node)
        return Body(kind, name, attribute, tuple(controls), lengths)


class _Flattening:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.flat = FlatNodes()
        self._types = find_element_types(model)
        self._taken = set(tensor_names(model.graph))
        self._opset = next(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1
        )

    def add_nodes(
        self,
        graph: onnx.GraphProto,
        scope: Mapping[str, str],
        prefix: str,
        bodies: tuple[Body, ...],
    ) -> None:
        """Add the nodes of a graph; ``scope`` has the new names of tensors in subgraphs."""
        for label, node in zip(label_nodes(graph.node), graph.node, strict=True):
            if any(True for _ in subgraphs(node)):
                self._add_outer(_Outer(node, scope, prefix + label, bodies))
            elif bodies:
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.input[:] = [scope.get(name, name) for name in node.input]
                copy.output[:] = [scope.get(name, name) for name in node.output]
                self.flat.nodes.append(copy)
            else:
                self.flat.nodes.append(node)

    def _add_outer(self, outer: _Outer) -> None:
        """Add the nodes inside a node, and those that stand for the node itself."""
        if outer.node.op_type == "If":
            self._add_if(outer)
        elif outer.node.op_type == "Loop":
            self._add_loop(outer)
        elif outer.node.op_type == "Scan" and self._opset >= _SCAN_OPSET:
            self._add_scan(outer)
        else:
            self._add_other(outer)

    def _add_if(self, outer: _Outer) -> None:
        branches, types = [], []
        for name in ("then_branch", "else_branch"):
            body, graph = outer.body(name, outer.reads), outer.subgraph(name)
            inside = self._scope(graph, outer, name)
            branches.append(self._add_body(graph, inside, outer, body))
            inferred = self._types_in((*outer.bodies, body))
            types.append([inferred.get(value.name, UNKNOWN_TYPE) for value in graph.output])
        for result, *values in zip(outer.results, *branches, strict=False):
            self._add_result(body, result, values)
        for result, one, other in zip(outer.results, *types, strict=False):
            if one.is_fixed and one.dims == other.dims:
                self.flat.fixed.add(result)

    def _add_loop(self, outer: _Outer) -> None:
        graph = outer.subgraph("body")
        inside = self._scope(graph, outer, "body")
        go_on = graph.output[0].name
        controls = (*filter(None, outer.reads[:2]), inside.get(go_on, go_on))
        body = outer.body("body", controls)
        for value in graph.input[:2]:
            # The number of the iteration, and the condition, which holds within the body.
            self._add_input(inside[value.name], ())
        states = outer.reads[2:]
        self._add_states(graph, inside, graph.input[2:], states, graph.output[1:])
        _, *values = self._add_body(graph, inside, outer, body)
        for number, (result, value) in enumerate(zip(outer.results, values, strict=False)):
            if number < len(states):
                self._add_result(body, result, (value, states[number]))
            else:
                self._add_result(body, result, (value,), axis=0)

    def _add_scan(self, outer: _Outer) -> None:
        graph, settings = outer.subgraph("body"), attributes(outer.node)
        count = len(outer.reads) - int(settings["num_scan_inputs"])
        states, scanned = outer.reads[:count], outer.reads[count:]
        axes = settings.get("scan_input_axes") or [0] * len(scanned)
        inside = self._scope(graph, outer, "body")
        body = replace(
            outer.body("body", (), tuple(zip(scanned, axes, strict=True))),
            is_backwards=any(settings.get("scan_input_directions", ())),
        )
        self._add_states(graph, inside, graph.input[:count], states, graph.output)
        for value, name, axis in zip(graph.input[count:], scanned, axes, strict=False):
            self._add_input(inside[value.name], (name,), axis=axis)
        values = self._add_body(graph, inside, outer, body)
        stacked = settings.get("scan_output_axes") or [0] * len(outer.results)
        for number, (result, value) in enumerate(zip(outer.results, values, strict=False)):
            if number < count:
                self._add_result(body, result, (value, states[number]))
            else:
                self._add_result(body, result, (value,), axis=stacked[number - count])

    def _add_other(self, outer: _Outer) -> None:
        """Add a node of which only its operator knows what its subgraphs are given, and return."""
        reads = tuple(filter(None, outer.reads))
        values = list(reads)
        body = outer.body("", ())
        for attribute in outer.node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                body = outer.body(attribute.name, ())
                inside = self._scope(graph, outer, attribute.name)
                for value in graph.input:
                    self._add_input(inside[value.name], reads)
                values += self._add_body(graph, inside, outer, body)
        for result in outer.results:
            self._add_result(body, result, values)

    def _scope(self, graph: onnx.GraphProto, outer: _Outer, attribute: str) -> dict[str, str]:
        """Name the tensors of a subgraph, which may hide others of the same name around it."""
        names = dict.fromkeys(own_names(graph))
        own = {name: self._unique(inner_name(outer.label, attribute, name)) for name in names}
        return {**outer.scope, **own}

    def _add_states(
        self,
        graph: onnx.GraphProto,
        inside: dict[str, str],
        inputs: Iterable[onnx.ValueInfoProto],
        initial: Sequence[str],
        returns: Iterable[onnx.ValueInfoProto],
    ) -> None:
        """Add the states of a loop; one that no iteration changes is what the loop is given."""
        copies = {
            node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"
        }
        changing = []
        for value, name, returned in zip(inputs, initial, returns, strict=False):
            source = returned.name
            while source in copies:
                source = copies[source]
            if source == value.name:
                inside[value.name] = name
            else:
                changing.append((value, name, returned))
        # Last, since a state may be returned as another one.
        for value, name, returned in changing:
            result = inside.get(returned.name, returned.name)
            self._add_input(inside[value.name], (name, result))

    def _add_body(
        self,
        graph: onnx.GraphProto,
        inside: Mapping[str, str],
        outer: _Outer,
        body: Body,
    ) -> list[str]:
        """Add the constants and nodes of a subgraph; return what it returns."""
        flat, bodies = self.flat, (*outer.bodies, body)
        flat.constants.update((inside[tensor.name], tensor) for tensor in graph.initializer)
        types = self._types_in(bodies)
        for node in graph.node:
            for place, own in enumerate(node.output):
                if not own:
                    continue
                known = types.get(own, UNKNOWN_TYPE)
                is_state = node.op_type == "BatchNormalization" and place > 0
                tensor = InnerTensor(inside[own], own, bodies, known.kind, known.rank, is_state)
                obstacle = _find_obstacle(tensor, self._opset)
                flat.inner[tensor.name] = replace(tensor, obstacle=obstacle)
        self.add_nodes(graph, inside, inner_name(outer.label, body.attribute, ""), bodies)
        return [inside.get(output.name, output.name) for output in graph.output]

    def _types_in(self, bodies: Sequence[Body]) -> Mapping[str, TensorType]:
        """Return what is known of the tensors in a subgraph."""
        return self._types.get(tuple((body.node, body.attribute) for body in bodies), {})

    def _add_input(self, name: str, reads: Sequence[str], axis: int | None = None) -> None:
        node = helper.make_node(SUBGRAPH_INPUT, reads, [name], axis=axis)
        self.flat.nodes.append(node)

    def _add_result(
        self, body: Body, result: str, values: Sequence[str], axis: int | None = None
    ) -> None:
        if result:
            reads = [*values, *body.controls]
            self.flat.nodes.append(helper.make_node(body.operator, reads, [result], axis=axis))
            self.flat.results[result] = body

    def _unique(self, name: str) -> str:
        while name in self._taken:
            name += "~"
        self._taken.add(name)
        return name


def _find_obstacle(tensor: InnerTensor, opset: int) -> str:
    """Describe why a tensor cannot be handed out of subgraphs; empty where it can."""
    operators = [body.operator for body in tensor.bodies]
    for operator in operators:
        if operator not in _SINCE:
            return subgraph_reason(operator, "the operator cannot return more")
        if opset < _SINCE[operator]:
            return subgraph_reason(operator, f"exposed since opset {_SINCE[operator]}")
    if tensor.kind:
        reason = find_unreadable(tensor.kind)
        if reason:
            return reason
    elif "If" in operators or "Scan" in operators:
        return subgraph_reason(operators[-1], "its element type is not known")
    if "Scan" in operators and tensor.rank is None:
        return subgraph_reason(operators[-1], "its number of axes is not known")
    for place, operator in enumerate(operators):
        single = tensor.rank_at(place + 1) == 0
        if single and operator == "If" and "Scan" in operators[:place]:
            return subgraph_reason("If", "a single number, which the Scan around it cannot collect")
    return ""
