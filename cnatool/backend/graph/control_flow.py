"""Tensors inside the subgraphs of If, Loop and Scan, and how they are handed out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import helper

from cnatool.backend.graph.loop_results import declare_stacked, name_results
from cnatool.backend.graph.nodes import PREFIX, first_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Body:
    """A subgraph of a node, and what decides whether and how often it runs."""

    operator: str  # type of the node
    node: str  # first result of the node, as the graph around it names it
    attribute: str  # then_branch, else_branch or body
    # Tensors whose values decide it: a condition, a number of iterations
    controls: tuple[str, ...]
    # Tensors whose length decides it, with the axis: those that a Scan takes apart
    lengths: tuple[tuple[str, int], ...] = ()
    is_backwards: bool = False  # a Scan takes some of them from the end

    @property
    def repeats(self) -> bool:
        """Whether it runs once for each iteration."""
        return self.operator in ("Loop", "Scan")


@dataclass(frozen=True, slots=True)
class InnerTensor:
    """A tensor that a node in a subgraph computes.

    Handed out, it has one more leading axis for each Loop and Scan around it: the iteration, in the
    order in which they run.
    """

    name: str  # its name outside
    own: str  # its name in the subgraph
    bodies: tuple[Body, ...]  # the subgraphs around it, the outermost first
    # ``tensor(…)``, as ONNX Runtime writes types; empty where it is not known
    kind: str = ""
    rank: int | None = None  # its number of axes in the subgraph; None where it is not known
    is_state: bool = False  # it is a statistic that a BatchNormalization updates in training mode
    obstacle: str = ""  # why it cannot be handed out; empty where it can
    # What a branch that does not run gives in its place, a tensor of the main graph; a tensor
    # without elements where there is none
    absent: str = ""

    def runs_backwards(self, axis: int | None) -> bool:
        """Whether a leading axis, of iterations, is in the reverse order of what a Scan takes."""
        loops = [body for body in self.bodies if body.repeats]
        return axis is not None and axis < len(loops) and loops[axis].is_backwards

    @property
    def loops(self) -> int:
        """How many Loops and Scans surround it."""
        return sum(body.repeats for body in self.bodies)

    def rank_at(self, level: int) -> int:
        """Return the number of axes that it has in a graph that so many bodies surround."""
        return sum(body.repeats for body in self.bodies[level:]) + (self.rank or 0)

    def is_absent(self, shape: Sequence[int]) -> bool:
        """Whether a shape is that of a run that does not compute it."""
        loops = 0
        for body in self.bodies:
            if body.operator == "If" and len(shape) > loops and not any(shape[loops:]):
                return True
            loops += body.repeats
        return 0 in shape[:loops]

    @property
    def controls(self) -> frozenset[str]:
        """Tensors whose values decide whether and how often it is computed."""
        return frozenset(name for body in self.bodies for name in body.controls)


def hand_out(model: onnx.ModelProto, tensors: Iterable[InnerTensor]) -> None:
    """Make tensors inside subgraphs tensors of a model's main graph, under their names.

    Each node around a tensor has one more result for it: a branch returns it, the other branch of
    an If something in its place, and a loop collects it from all iterations.
    """
    _hand_out(model.graph, list(tensors), 0)


def _hand_out(graph: onnx.GraphProto, tensors: Sequence[InnerTensor], level: int) -> None:
    """Make tensors of a graph's subgraphs tensors of the graph, which so many bodies surround."""
    by_node: dict[str, list[InnerTensor]] = {}
    for tensor in tensors:
        by_node.setdefault(tensor.bodies[level].node, []).append(tensor)
    for node in graph.node:
        inside = by_node.get(first_output(node))
        if inside:
            _widen(node, inside, level)


def _widen(node: onnx.NodeProto, tensors: Sequence[InnerTensor], level: int) -> None:
    """Let a node return tensors of its subgraphs."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    name_results(node, bodies[0], _name(tensors[0], level))
    for attribute in node.attribute:
        if not attribute.HasField("g"):
            continue
        body = attribute.g
        deeper = [t for t in tensors if _lies_in(t, attribute, level) and len(t.bodies) > level + 1]
        _hand_out(body, deeper, level + 1)
        returned = {output.name for output in body.output}
        for tensor in tensors:
            name = _name(tensor, level + 1)
            if not _lies_in(tensor, attribute, level):
                body.node.append(_make_absent(tensor, name, level + 1))
            elif len(tensor.bodies) == level + 1:
                if tensor.own in returned:
                    body.node.append(helper.make_node("Identity", [tensor.own], [name], name=name))
                else:
                    name = tensor.own
            value = onnx.ValueInfoProto(name=name)
            if node.op_type in ("Scan", "Loop") and "Scan" in [b.operator for b in tensor.bodies]:
                # A Scan takes no results without a number of axes, and inside it a Loop without
                # iterations fails.
                shape = [None] * tensor.rank_at(level + 1)
                kind = helper.make_tensor_type_proto(_element_number(tensor), shape)
                value.type.CopyFrom(kind)
            body.output.append(value)
    declare_stacked(node, len(tensors))
    node.output.extend(_name(tensor, level) for tensor in tensors)


def _lies_in(tensor: InnerTensor, attribute: onnx.AttributeProto, level: int) -> bool:
    """Whether a subgraph, which so many bodies surround, is one of those around a tensor."""
    return bool(tensor.bodies[level].attribute == attribute.name)


def _name(tensor: InnerTensor, level: int) -> str:
    """Name a tensor in a graph that so many bodies surround."""
    return f"{PREFIX}{level} {tensor.name}" if level else tensor.name


def _element_number(tensor: InnerTensor) -> int:
    kind = tensor.kind.removeprefix("tensor(").removesuffix(")").upper()
    return int(onnx.TensorProto.DataType.Value(kind))


def _make_absent(tensor: InnerTensor, name: str, level: int) -> onnx.NodeProto:
    """Make the node that stands for a tensor in the branch that does not compute it."""
    if tensor.absent:
        return helper.make_node("Identity", [tensor.absent], [name], name=name)
    # A single number has no empty form; an axis more gives it one.
    dims = (0,) * max(1, tensor.rank_at(level))
    empty = onnx.TensorProto(data_type=_element_number(tensor), dims=dims)
    return helper.make_node("Constant", [], [name], name=name, value=empty)
