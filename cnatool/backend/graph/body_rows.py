"""Rows of numbers that bodies of If, Loop and Scan return, combined over branches and iterations.

A body returns a row of numbers for each sample: those of its own tensors, and those of the bodies
inside it. A Loop or Scan combines the rows of its iterations in a further state, so that nothing is
stacked, however often it runs. An If returns for the branch that it does not take what leaves every
other row as it is: zeros where rows are added, infinities where the least or largest is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper

from cnatool.backend.graph.appended_nodes import AppendedNodes
from cnatool.backend.graph.loop_results import add_stacked, add_state, name_results
from cnatool.backend.graph.nodes import attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cnatool.backend.graph.control_flow import Body
    from cnatool.records.store import Merged

# By the operator that combines two rows: what leaves the other as it is, and the same reduction.
_EMPTY: Final[Mapping[str, float]] = {"Add": 0.0, "Min": math.inf, "Max": -math.inf}
_REDUCE: Final[Mapping[str, str]] = {"Add": "ReduceSum", "Min": "ReduceMin", "Max": "ReduceMax"}

Nodes = TypeVar("Nodes", bound=AppendedNodes)
Item = TypeVar("Item")


class Row(NamedTuple):
    """Numbers of each sample in a graph, (n, columns) float64."""

    name: str
    columns: list[int]  # what each number is


@dataclass(frozen=True, slots=True)
class SampledLoop:
    """A loop whose iterations are samples."""

    level: int  # its place among the bodies around a tensor
    merged: Merged | None = None  # whether a sample has several iterations, and which are outer
    factor: int = 1  # how many


# All numbers are in one row, whatever the number of samples.
ONE_ROW: Final = SampledLoop(-1)


class Samples:
    """The samples of a run, as tensors of the main graph, which all bodies can read."""

    def __init__(self, nodes: AppendedNodes, fed: str) -> None:
        self._nodes, self._fed = nodes, fed
        self._empty: dict[tuple[str, int], str] = {}
        self._count = ""

    def count(self) -> str:
        """Return the tensor that holds their number, (1,) int64."""
        if not self._count:
            shape = self._nodes.add("Shape", [self._fed])
            self._count = self._nodes.add("Gather", [shape, self._nodes.integers([0])])
        return self._count

    def empty_row(self, operator: str, width: int, *, one: bool) -> str:
        """Return the rows, (n, width), that leave others as they are, of all samples or of one."""
        nodes = self._nodes
        row = nodes.constant(f"{width} for {operator}", np.full((1, width), _EMPTY[operator]))
        if one:
            return row
        if (operator, width) not in self._empty:
            shape = nodes.add("Concat", [self.count(), nodes.integers([1])], axis=0)
            self._empty[operator, width] = nodes.add("Expand", [row, shape])
        return self._empty[operator, width]


def gather_rows(
    nodes: Nodes,
    graph: onnx.GraphProto,
    items: Iterable[tuple[Sequence[Body], Item]],
    measure: Callable[[Item, Nodes, bool], Iterator[Row]],
    operator: Callable[[int], str],
    along: SampledLoop | None,
    samples: Samples,
) -> list[Row]:
    """Make bodies return the rows of the items in them, combined by Add, Min or Max.

    ``measure`` adds the rows of an item to the nodes of its body; it is told whether these are rows
    of one sample. ``operator`` combines the rows of a node that so many bodies surround. ``along``
    is the loop whose iterations are samples, if there is one. Appended to the graph itself are
    ``nodes``.
    """
    tree: _Tree[Item] = _Tree(graph)
    for bodies, item in items:
        tree.add(bodies, item)
    return _Gathering(measure, operator, along, samples).gather(tree, 0, nodes)


@dataclass(slots=True)
class _Tree(Generic[Item]):
    """A graph, with the items in it and in the bodies inside it."""

    graph: onnx.GraphProto
    items: list[Item] = field(default_factory=list)
    # By a result of a node, and the attribute that holds the body
    inside: dict[str, dict[str, _Tree[Item]]] = field(default_factory=dict)

    def add(self, path: Sequence[Body], item: Item) -> None:
        """Add an item in the last of the bodies on a path."""
        if not path:
            self.items.append(item)
            return
        body, *rest = path
        bodies = self.inside.setdefault(body.node, {})
        if body.attribute not in bodies:
            bodies[body.attribute] = _Tree(attributes(self.node(body.node))[body.attribute])
        bodies[body.attribute].add(rest, item)

    def node(self, result: str) -> onnx.NodeProto:
        """Return the node with this result, in front of which others may have been added."""
        nodes: list[onnx.NodeProto] = list(self.graph.node)
        return next(node for node in nodes if result in node.output)


@dataclass(frozen=True, slots=True)
class _Gathering(Generic[Item, Nodes]):
    measure: Callable[[Item, Nodes, bool], Iterator[Row]]
    operator: Callable[[int], str]
    along: SampledLoop | None
    samples: Samples

    def gather(self, tree: _Tree[Item], level: int, nodes: Nodes) -> list[Row]:
        """Gather the rows of a graph that so many bodies surround, and of those inside it."""
        rows = [
            row for item in tree.items for row in self.measure(item, nodes, self._is_one(level))
        ]
        for result, bodies in tree.inside.items():
            node = tree.node(result)
            for attribute, inner in bodies.items():
                own = nodes.inside()
                parts = self.gather(inner, level + 1, own)
                if not parts:
                    continue
                columns = [column for part in parts for column in part.columns]
                row = Row(own.add("Concat", [part.name for part in parts], axis=1), columns)
                inner.graph.node.extend(own.nodes)
                if node.op_type == "If":
                    rows.append(self._return_from_branch(node, attribute, row, level, nodes))
                else:
                    rows.append(self._return_from_loop(node, inner.graph, row, level, nodes))
        return rows

    def _is_one(self, level: int) -> bool:
        """Whether a graph that so many bodies surround sees one sample, or one row for all."""
        return self.along is not None and level > self.along.level

    def _empty_row(self, width: int, level: int) -> str:
        return self.samples.empty_row(self.operator(level), width, one=self._is_one(level))

    def _return_from_branch(
        self, node: onnx.NodeProto, attribute: str, row: Row, level: int, nodes: Nodes
    ) -> Row:
        """Return a row from a branch of an If, and an empty one from the other."""
        width, result = len(row.columns), nodes.unique("branch")
        name_results(node, node.attribute[0].g, result)
        for branch in node.attribute:
            name = row.name
            if branch.name != attribute:
                name = f"{result} not taken"
                empty = self._empty_row(width, level)
                branch.g.node.append(helper.make_node("Identity", [empty], [name], name=name))
            branch.g.output.append(_declare(name, width))
        node.output.append(result)
        return Row(result, row.columns)

    def _return_from_loop(
        self, node: onnx.NodeProto, body: onnx.GraphProto, row: Row, level: int, nodes: Nodes
    ) -> Row:
        """Return the rows of all iterations of a Loop or Scan: combined, or by sample."""
        width, result = len(row.columns), nodes.unique("loop")
        if self.along is not None and self.along.level == level:
            add_stacked(node, body, _declare(row.name, width), result)
            name = _split_samples(result, width, self.along, _REDUCE[self.operator(level)], nodes)
            return Row(name, row.columns)
        before, after = f"{result} before", f"{result} after"
        combine = helper.make_node(self.operator(level), [before, row.name], [after], name=after)
        body.node.append(combine)
        values = _declare(before, width), _declare(after, width)
        add_state(node, body, self._empty_row(width, level), values, result)
        return Row(result, row.columns)


def _split_samples(
    name: str, width: int, along: SampledLoop, reduction: str, nodes: AppendedNodes
) -> str:
    """Add the rows of samples, from those of iterations, (iterations, 1, width)."""
    if along.factor == 1:
        return nodes.reshape(name, [-1, width])
    outer = along.merged == "NT"
    shape = [-1, along.factor, width] if outer else [along.factor, -1, width]
    return nodes.reduce_axes(reduction, nodes.reshape(name, shape), [1 if outer else 0])


def _declare(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, width])
