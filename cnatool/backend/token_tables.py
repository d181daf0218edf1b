"""The tables of a language model: rows for token ids, and rows for positions.

A model looks token ids up in a table, whose rows are its vocabulary, and often positions
in another one, or takes as many of their rows as there are tokens. How many positions it has
follows from running that part of the graph alone, for as many tokens as the table has rows, and
one more: positions may begin above 0, or fall into buckets, which limit nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from cnatool.backend.derived_rules import find_derived_inputs
from cnatool.backend.graph.nodes import attributes, captured_names, operator_set
from cnatool.backend.session import RunOptions, Session
from cnatool.errors import CnatoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import ModelInput

    # Picks rows of a table for a number of tokens.
    _Pick: TypeAlias = Callable[[int], NDArray[Any]]

# Operators that change the type or the shape of ids, not their values.
_PASSING = operator_set("Cast Flatten Identity Reshape Squeeze Transpose Unsqueeze")
# Operators that make a table from stored weights.
_MAKING = operator_set("Cast DequantizeLinear Identity")
# Place of the table of tokens, and of that of positions, among the inputs of a fused operator.
_FUSED = "EmbedLayerNormalization"
_FUSED_TOKENS, _FUSED_POSITIONS, _FUSED_IDS = 2, 3, 7
# Parts of a graph with these compute more than positions.
_HEAVY = operator_set("Attention Conv Einsum GRU Gemm LSTM MatMul")
# Larger tables limit nothing that is run here; a run would take as many positions.
_MOST_ROWS = 1 << 17
# An id that is hardly ever that of padding, which some models give no position.
_ID = 5


@dataclass(frozen=True, slots=True)
class Table:
    """A table of which a model looks up rows.

    Attributes
    ----------
    name : str
    rows : int
        Number of rows; of positions, as many as tokens can have.
    width : int, optional
        Length of a row, of a table of tokens.
    """

    name: str
    rows: int
    width: int | None = None


def find_token_table(graph: Graph, ids: str) -> Table | None:
    """Find the table in which a model looks the ids of an input up; None if that does not show."""
    tables = []
    for node, place in _lookups(graph, ids):
        name = node.input[place]
        shape = _constant_shape(graph, name)
        if shape:
            tables.append(Table(name, shape[0], shape[-1]))
    return min(tables, key=lambda table: table.rows, default=None)


def find_position_table(graph: Graph, inputs: Sequence[ModelInput], ids: str) -> Table | None:
    """Find the table that limits how many tokens a model takes; None if none does."""
    found = [Table(n.input[_FUSED_POSITIONS], s[0]) for n, s in _fused(graph) if s]
    looked_up = {id(node) for node, _ in _lookups(graph, ids)}
    candidates = [
        (node, shape)
        for node in graph.nodes
        if id(node) not in looked_up
        and node.op_type in ("Gather", "Slice")
        and not graph.lies_inside(node.output[0])
        and (shape := _constant_shape(graph, node.input[0])) is not None
        and not _is_constant(graph, node.output[0])
    ]
    for node, shape in candidates:
        rows = _find_limit(graph, inputs, ids, node, shape)
        if rows is not None:
            found.append(Table(node.input[0], rows))
    return min(found, key=lambda table: table.rows, default=None)


def _lookups(graph: Graph, ids: str) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Yield the nodes that look ids up, with the place of the table among their inputs."""
    waiting, seen = [ids], {ids}
    while waiting:
        name = waiting.pop()
        for node in graph.consumers.get(name, ()):
            if node.op_type in ("Gather", "GatherBlockQuantized") and node.input[1] == name:
                if attributes(node).get("axis", 0) in (0, None):
                    yield node, 0
            elif node.op_type == _FUSED and node.input[0] == name:
                yield node, _FUSED_TOKENS
            elif node.op_type in _PASSING and node.input[0] == name:
                output = node.output[0]
                if output not in seen:
                    seen.add(output)
                    waiting.append(output)


def _fused(graph: Graph) -> Iterator[tuple[onnx.NodeProto, tuple[int, ...] | None]]:
    """Yield the fused operators that count positions themselves."""
    for node in graph.nodes:
        if node.op_type == _FUSED and not any(node.input[_FUSED_IDS : _FUSED_IDS + 1]):
            yield node, _constant_shape(graph, node.input[_FUSED_POSITIONS])


def _is_constant(graph: Graph, name: str) -> bool:
    return name not in graph.dynamic and name not in graph.shape_arithmetic


def _constant_shape(graph: Graph, name: str) -> tuple[int, ...] | None:
    """Return the shape of weights, or of what is made of them; None if it is not constant."""
    while name not in graph.constants:
        node = graph.producer.get(name)
        if node is None or not node.input:
            return None
        if node.op_type == "Transpose":
            shape = _constant_shape(graph, node.input[0])
            order = attributes(node).get("perm")
            if shape is None:
                return None
            return tuple(shape[axis] for axis in order) if order else shape[::-1]
        if node.op_type not in _MAKING:
            return None
        name = node.input[0]
    return tuple(graph.constants[name].dims)


def _find_limit(
    graph: Graph,
    inputs: Sequence[ModelInput],
    ids: str,
    node: onnx.NodeProto,
    shape: tuple[int, ...],
) -> int | None:
    """Find how many tokens a table limits a model to, by running what picks its rows."""
    picked = node.input[1] if node.op_type == "Gather" else node.output[0]
    if node.op_type == "Gather" and (len(shape) != 2 or attributes(node).get("axis", 0) != 0):
        return None
    part = _cut_out(graph, picked)
    names = {value.name for value in part.graph.input} if part is not None else {picked}
    if part is None and picked not in {each.name for each in inputs}:
        return None
    try:
        session = None if part is None else Session(part, graph, RunOptions())

        def pick(length: int) -> NDArray[Any]:
            feeds = _make_feeds(inputs, ids, length, names)
            return np.asarray(session.run([picked], feeds)[0]) if session else feeds[picked]

        if node.op_type == "Gather":
            return _limit_of_rows(shape[0], pick)
        return _limit_of_slice(shape, pick)
    # What does not run alone says nothing.
    except (CnatoolError, ValueError):
        return None


def _limit_of_rows(rows: int, pick: _Pick) -> int | None:
    """Find the limit of a table by the largest row that is picked."""
    if not 1 < rows <= _MOST_ROWS:
        return None
    picked = pick(rows + 1)
    if not picked.size or picked.dtype.kind not in "iu":
        return None
    largest = int(picked.max())
    return rows - max(0, largest - rows) if largest >= rows else None


def _limit_of_slice(shape: tuple[int, ...], pick: _Pick) -> int | None:
    """Find the limit of a table of which as many rows are taken as there are tokens."""
    two, three = pick(2).shape, pick(3).shape
    if len(two) != len(shape) or len(three) != len(shape):
        return None
    limits = []
    for axis, (few, more) in enumerate(zip(two, three, strict=True)):
        length = shape[axis]
        if (
            (few, more) == (2, 3)
            and length <= _MOST_ROWS
            and pick(length + 1).shape[axis] <= length
        ):
            limits.append(length)
    return min(limits, default=None)


def _cut_out(graph: Graph, name: str) -> onnx.ModelProto | None:
    """Cut out the part of a model that computes a tensor; None for an input, or a large part."""
    needed = {name}
    nodes = []
    for node in reversed(graph.model.graph.node):
        if needed.isdisjoint(node.output):
            continue
        if node.op_type in _HEAVY:
            return None
        nodes.append(node)
        needed.update((*node.input, *captured_names(node)))
    model = onnx.ModelProto(ir_version=graph.model.ir_version)
    model.opset_import.extend(graph.model.opset_import)
    model.graph.name = graph.model.graph.name or "positions"
    model.graph.node.extend(reversed(nodes))
    model.graph.initializer.extend(t for t in graph.model.graph.initializer if t.name in needed)
    model.graph.input.extend(value for value in graph.inputs if value.name in needed)
    if not nodes:
        return None
    model.graph.output.add(name=name)
    return model


def _make_feeds(
    inputs: Sequence[ModelInput], ids: str, length: int, names: set[str]
) -> dict[str, NDArray[Any]]:
    """Make the inputs of a run of one sample of some tokens, as rules fill them in."""
    derived = {each.name: each for each in find_derived_inputs(inputs, (ids,))}
    feeds = {}
    for each in inputs:
        if each.name not in names:
            continue
        if each.name in derived:
            feeds[each.name] = derived[each.name].array(np.array([length]), length)
            continue
        shape = [size if isinstance(size, int) else length for size in each.dims or (1, length)]
        shape[:1] = [1]
        feeds[each.name] = np.full(shape, _ID if each.name == ids else 0, each.dtype)
    return feeds
