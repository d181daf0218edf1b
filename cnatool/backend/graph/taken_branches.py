"""Ifs whose condition is the same for every sample, replaced by the branch that they take.

A tensor of the branch keeps the name that says where it lay: ``NODE/then_branch/TENSOR``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
from onnx import helper

from cnatool.backend.graph.graph import analyse_graph
from cnatool.backend.graph.inline_weights import take_values
from cnatool.backend.graph.inner_names import (
    UsedNames,
    inner_name,
    label_nodes,
    own_names,
    rename_tensors,
)
from cnatool.backend.graph.known_values import KnownValues
from cnatool.backend.graph.nodes import overwrites_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import ConstantInput
    from cnatool.records.run import BranchName

# An Identity copies only tensors before this version of the default operators.
_IDENTITY_OPSET = 16


class TakenBranch(NamedTuple):
    """An If that was replaced by the branch that it takes."""

    node: str
    branch: BranchName
    condition: str  # the tensor that decides, where it is in the main graph; otherwise empty


class InlinedGraph(NamedTuple):
    """A graph, and the branches of its Ifs that replaced them."""

    graph: Graph
    branches: tuple[TakenBranch, ...]


def take_branches(
    graph: Graph,
    constants: Iterable[ConstantInput] = (),
    shapes: Mapping[str, Sequence[int | None]] | None = None,
) -> InlinedGraph:
    """Replace each If whose condition is known by the branch that it takes.

    ``shapes`` are those of one sample, by input. A condition is known if neither the number of
    samples nor their values enter it.
    """
    constants = list(constants)
    conditions = _list_conditions(graph)
    if not conditions or (not constants and conditions <= graph.dynamic):
        return InlinedGraph(graph, ())
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    inliner = _Inliner(graph, model)
    known = KnownValues.of_inputs(graph, constants, shapes or {})
    inliner.inline(model.graph, _Scope(known, UsedNames(model.graph)))
    if not inliner.branches:
        return InlinedGraph(graph, ())
    weights = {**graph.weights, **inliner.weights}
    inlined = analyse_graph(graph.path, graph.files, model, weights, graph.same)
    return InlinedGraph(inlined, tuple(inliner.branches))


def _list_conditions(graph: Graph) -> set[str]:
    """List the tensors that decide which branch the Ifs of a graph take."""
    bodies = graph.results.values()
    return {name for body in bodies if body.operator == "If" for name in body.controls}


def join_branches(
    earlier: Iterable[TakenBranch], later: Sequence[TakenBranch]
) -> tuple[TakenBranch, ...]:
    """Join branches, the outer ones first, without those inside one that is not taken."""
    other: dict[BranchName, BranchName] = {
        "then_branch": "else_branch",
        "else_branch": "then_branch",
    }
    gone = tuple(inner_name(taken.node, other[taken.branch], "") for taken in later)
    return (*later, *(taken for taken in earlier if not taken.node.startswith(gone)))


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is known in a graph, where it lies, and which names are in use there."""

    known: KnownValues
    names: UsedNames
    prefix: str = ""

    def inside(self, label: str, attribute: onnx.AttributeProto) -> _Scope:
        """Return the scope of a subgraph of a node."""
        body, prefix = attribute.g, inner_name(self.prefix + label, attribute.name, "")
        return _Scope(self.known.inside(body), self.names.inside(body), prefix)


class _Inliner:
    """Replaces Ifs in a model, in place."""

    def __init__(self, graph: Graph, model: onnx.ModelProto) -> None:
        self.branches: list[TakenBranch] = []
        self.weights: dict[str, NDArray[Any]] = {}  # large initializers of branches, by new name
        self._main = model.graph
        self._inner = graph.inner
        self._copies_all = graph.opset >= _IDENTITY_OPSET

    def inline(self, graph: onnx.GraphProto, scope: _Scope) -> None:
        """Replace the Ifs of a graph and of its subgraphs."""
        before = len(self.branches)
        nodes: list[onnx.NodeProto] = []
        waiting = deque(zip(label_nodes(graph.node), graph.node, strict=True))
        while waiting:
            label, node = waiting.popleft()
            name = _taken_branch(node, scope.known)
            taken = self._find(node, name, scope.prefix + label)
            if name is not None and taken is not None:
                condition = node.input[0] if graph is self._main else ""
                self.branches.append(TakenBranch(scope.prefix + label, name, condition))
                place = partial(inner_name, label, name)
                waiting.extendleft(reversed(self._unpack(graph, scope, node, taken, place)))
                continue
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self.inline(attribute.g, scope.inside(label, attribute))
            scope.known.add(node)
            nodes.append(node)
        if len(self.branches) > before:
            inlined = onnx.GraphProto(node=nodes)
            graph.ClearField("node")
            graph.node.extend(inlined.node)

    def _find(
        self, node: onnx.NodeProto, name: BranchName | None, label: str
    ) -> onnx.GraphProto | None:
        """Return a branch of an If; None where it cannot replace the node."""
        branch = next((a.g for a in node.attribute if a.name == name and a.HasField("g")), None)
        if name is None or branch is None or len(branch.output) < len(node.output):
            return None
        is_copied = self._copies_all or all(
            self._is_tensor(value, inner_name(label, name, value.name)) for value in branch.output
        )
        return branch if is_copied else None

    def _is_tensor(self, value: onnx.ValueInfoProto, name: str) -> bool:
        """Whether a result of a branch is a tensor, as it declares, or as ONNX infers."""
        if value.type.WhichOneof("value") is not None:
            return bool(value.type.HasField("tensor_type"))
        return name in self._inner and self._inner[name].kind.startswith("tensor(")

    def _unpack(
        self,
        graph: onnx.GraphProto,
        scope: _Scope,
        node: onnx.NodeProto,
        branch: onnx.GraphProto,
        place: Callable[[str], str],
    ) -> list[tuple[str, onnx.NodeProto]]:
        """Move a branch's initializers to a graph, and return its nodes with their labels."""
        renamed = {name: scope.names.add_unused(place(name)) for name in own_names(branch)}
        self._move_initializers(graph, branch, renamed)
        scope.known.add_initializers(branch)
        unpacked = []
        for inner_label, inner in zip(label_nodes(branch.node), branch.node, strict=True):
            if inner.name:
                inner.name = place(inner.name)
            rename_tensors(inner, renamed)
            unpacked.append((place(inner_label), inner))
        for value, result in zip(branch.output, node.output, strict=False):
            if result:
                source = renamed.get(value.name, value.name)
                unpacked.append((result, helper.make_node("Identity", [source], [result])))
        return unpacked

    def _move_initializers(
        self, graph: onnx.GraphProto, branch: onnx.GraphProto, renamed: Mapping[str, str]
    ) -> None:
        is_kept = graph is not self._main or any(map(overwrites_weights, branch.node))
        for tensor in branch.initializer:
            tensor.name = renamed[tensor.name]
            values = None if is_kept else take_values(tensor)
            if values is not None:
                self.weights[tensor.name] = values
        for sparse in branch.sparse_initializer:
            sparse.values.name = renamed[sparse.values.name]
        graph.initializer.extend(branch.initializer)
        graph.sparse_initializer.extend(branch.sparse_initializer)


def _taken_branch(node: onnx.NodeProto, known: KnownValues) -> BranchName | None:
    """Return which branch a node takes; None where it is no If, or takes either."""
    truth = known.truth(node.input[0]) if node.op_type == "If" and node.input else None
    if truth is None:
        return None
    return "then_branch" if truth else "else_branch"
