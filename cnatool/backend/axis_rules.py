"""How operators pass on axes whose length depends on the values of an input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from cnatool.backend.graph import inner_nodes
from cnatool.backend.operator_shapes import (
    BROADCAST,
    CONVOLVING,
    COUNTING,
    REDUCING,
    SAME,
    UNARY,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cnatool.backend.graph import Graph

__all__ = ["CountedRules", "reshaped_groups"]

Axes = frozenset[int]
_NONE: Axes = frozenset()
# More axes than any tensor has.
_ALL: Axes = frozenset(range(64))
# Larger constants are no axes and no shapes.
_SMALL = 64


class CountedRules:
    """The counted axes of each tensor, one node after another.

    Parameters
    ----------
    graph : Graph
    shapes : mapping of str to tuple of int
        Shapes that one run gave.

    Attributes
    ----------
    axes : dict of str to frozenset of int
        Counted axes of the tensors that were met.
    """

    def __init__(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.axes: dict[str, Axes] = {}
        self._graph = graph
        self._shapes = dict(shapes)
        self._constants: dict[str, np.ndarray[Any, Any]] = {}
        # Places in a shape, or in what was computed from one, that hold a count.
        self._counts: dict[str, Axes] = {}
        for tensor in graph.model.graph.initializer:
            self._add_constant(tensor.name, tensor)

    def add(self, node: onnx.NodeProto, captures: Sequence[str] = ()) -> None:
        """Find the counted axes of what a node makes."""
        if node.op_type == "Constant" and node.attribute:
            value = onnx.helper.get_attribute_value(node.attribute[0])
            if isinstance(value, onnx.TensorProto):
                self._add_constant(node.output[0], value)
            elif node.attribute[0].name in ("value_int", "value_ints"):
                self._constants[node.output[0]] = np.asarray(value)
            return
        self._count(node)
        found = self._counted(node, captures)
        for name, axes in zip(node.output, found, strict=False):
            rank = len(self._shapes[name]) if name in self._shapes else len(_ALL)
            if name and (kept := frozenset(axis for axis in axes if 0 <= axis < rank)):
                self.axes[name] = kept

    # --- what is known of a node's inputs --------------------------------------------------------

    def _add_constant(self, name: str, tensor: onnx.TensorProto) -> None:
        self._shapes.setdefault(name, tuple(tensor.dims))
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and int(np.prod(tensor.dims)) <= _SMALL:
            self._constants[name] = numpy_helper.to_array(tensor)

    def _of(self, node: onnx.NodeProto, place: int) -> Axes:
        return self.axes.get(node.input[place], _NONE) if place < len(node.input) else _NONE

    def _rank(self, name: str) -> int | None:
        return len(self._shapes[name]) if name in self._shapes else None

    def _ints(self, node: onnx.NodeProto, place: int, attribute: str) -> list[int] | None:
        """Return whole numbers that an attribute or a constant input holds; None where unknown."""
        for given in node.attribute:
            if given.name == attribute:
                return [given.i] if given.type == given.INT else list(given.ints)
        if place < len(node.input) and node.input[place]:
            value = self._constants.get(node.input[place])
            return None if value is None else [int(i) for i in value.ravel()]
        return []

    def _int(self, node: onnx.NodeProto, attribute: str, default: int) -> int:
        return next((a.i for a in node.attribute if a.name == attribute), default)

    def _value_counts(self, name: str) -> Axes:
        """Return the places of a vector of lengths that depend on the values of an input."""
        return self._counts.get(name, _ALL if name in self._graph.dynamic else _NONE)

    def _shape_axes(self, node: onnx.NodeProto, place: int) -> Axes:
        """Return the counted places of the shape that an input holds."""
        return self._value_counts(node.input[place]) if place < len(node.input) else _NONE

    # --- lengths ---------------------------------------------------------------------------------

    def _count(self, node: onnx.NodeProto) -> None:
        """Follow counts through the arithmetic of shapes."""
        found: Axes
        operator, inputs = node.op_type, [name for name in node.input if name]
        counts = [self._value_counts(name) for name in inputs]
        if operator == "Shape":
            start, end = self._int(node, "start", 0), self._int(node, "end", len(_ALL))
            rank = self._rank(node.input[0])
            if rank is not None:
                start, end = (i + rank if i < 0 else i for i in (start, end))
            elif start < 0 or end < 0:
                start, end = 0, len(_ALL)
            found = frozenset(axis - start for axis in self._of(node, 0) if start <= axis < end)
        elif operator == "Size":
            found = _ALL if self._of(node, 0) else _NONE
        elif not any(counts):
            return
        elif operator in ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"):
            found = counts[0]
        elif operator == "Gather" and node.input[1] in self._constants:
            places = [int(i) for i in self._constants[node.input[1]].ravel()]
            length = self._length(node.input[0])
            if length is None and any(place < 0 for place in places):
                found = _ALL
            else:
                places = [place + (length or 0) if place < 0 else place for place in places]
                found = frozenset(k for k, place in enumerate(places) if place in counts[0])
        elif operator == "Slice" and (starts := self._ints(node, 1, "starts")) is not None:
            steps = self._ints(node, 4, "steps")
            plain = len(starts) == 1 and starts[0] >= 0 and steps in ([], [1])
            found = frozenset(k - starts[0] for k in counts[0] if k >= starts[0]) if plain else _ALL
        elif operator == "Concat":
            found, behind = _NONE, 0
            for name, counted in zip(inputs, counts, strict=True):
                length = self._length(name)
                if length is None:
                    found = _ALL
                    break
                found |= frozenset(behind + k for k in counted if k < length)
                behind += length
        elif operator in BROADCAST:
            lengths = {self._length(name) for name in inputs}
            found = frozenset[int]().union(*counts) if len(lengths) == 1 else _ALL
            if None in lengths:
                found = _ALL
        else:
            found = _ALL
        if found or any(counts):
            self._counts.update((name, found) for name in node.output if name)

    def _length(self, name: str) -> int | None:
        """Return the length of a vector of lengths, where it is known."""
        if name in self._shapes:
            return int(np.prod(self._shapes[name]))
        node = self._graph.producer.get(name)
        if node is None:
            return None
        if node.op_type == "Gather" and node.input[1] in self._constants:
            return int(self._constants[node.input[1]].size)
        if node.op_type in ("Unsqueeze", "Identity", "Cast", "Squeeze", "Reshape"):
            return self._length(node.input[0])
        if node.op_type in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Neg"):
            lengths = [self._length(i) for i in node.input]
            return None if None in lengths else max(n for n in lengths if n is not None)
        if node.op_type == "Shape" and not node.attribute:
            return self._rank(node.input[0])
        return None

    # --- axes ------------------------------------------------------------------------------------

    def _counted(self, node: onnx.NodeProto, captures: Sequence[str]) -> list[Axes]:
        """Return the counted axes of each of a node's results."""
        results = len(node.output)
        rule: Callable[[onnx.NodeProto], Axes | list[Axes]] | None = getattr(
            self, f"_{node.op_type.lower()}", None
        )
        if node.op_type in ("If", "Loop", "Scan"):
            return [self._nested(node, captures, place) for place in range(results)]
        if node.domain in ("", "ai.onnx") and rule is not None:
            found = rule(node)
            return found if isinstance(found, list) else [found] * results
        operands = [self._of(node, place) for place in range(len(node.input))]
        if not any(operands) or node.op_type in ("Shape", "Size"):
            return [_NONE] * results
        if node.domain not in ("", "ai.onnx", "com.microsoft"):
            return [_ALL] * results
        if node.op_type in SAME:
            return [operands[0]] * results
        if node.op_type.startswith("Reduce") or node.op_type in REDUCING:
            return [self._reduced(node)] * results
        if node.op_type in CONVOLVING:
            return [_convolved(node.op_type, operands)] * results
        if self._elementwise(node):
            return [self._broadcast(node.input, node.output[0])] * results
        return [_ALL] * results

    def _elementwise(self, node: onnx.NodeProto) -> bool:
        """Whether the result has the shape that the inputs broadcast to, judged by the shapes."""
        shapes = [self._shapes.get(name) for name in node.input if name]
        result = self._shapes.get(node.output[0])
        if result is None or any(shape is None for shape in shapes):
            return node.op_type in BROADCAST
        if node.op_type in BROADCAST:
            return True
        return len(node.input) == 1 and shapes[0] == result and node.op_type in UNARY

    def _broadcast(self, names: Iterable[str], result: str) -> Axes:
        names = [name for name in names if name]
        ranks = [self._rank(name) for name in names]
        counted = [name for name in names if self.axes.get(name)]
        if not counted:
            return _NONE
        rank = self._rank(result)
        if rank is None and None not in ranks:
            rank = max(r for r in ranks if r is not None)
        if rank is None:
            return _ALL
        found = _NONE
        for name in counted:
            own = self._rank(name)
            if own is None:
                return _ALL
            found |= frozenset(axis + rank - own for axis in self.axes[name])
        return found

    def _reduced(self, node: onnx.NodeProto) -> Axes:
        counted = self._of(node, 0)
        rank = self._rank(node.input[0])
        axes = self._ints(node, 1, "axes" if node.op_type.startswith("Reduce") else "axis")
        if node.op_type in REDUCING and axes == []:
            axes = [0]
        keep = self._int(node, "keepdims", 1)
        if axes is None or rank is None:
            return _ALL
        if not axes:
            if self._int(node, "noop_with_empty_axes", 0):
                return counted
            return _NONE
        gone = {axis % rank for axis in axes}
        left = [axis for axis in range(rank) if keep or axis not in gone]
        return frozenset(k for k, axis in enumerate(left) if axis in counted and axis not in gone)

    # Operators that count.

    def _nonzero(self, node: onnx.NodeProto) -> Axes:
        return frozenset({1}) if self._varies(node) else _NONE

    def _nonmaxsuppression(self, node: onnx.NodeProto) -> Axes:
        return frozenset({0}) if self._varies(node) else _NONE

    def _compress(self, node: onnx.NodeProto) -> Axes:
        chosen = node.input[1] in self._graph.dynamic or bool(self._of(node, 1))
        axes = self._ints(node, 9, "axis")
        if not axes:
            return frozenset({0}) if chosen or self._of(node, 0) else _NONE
        rank = self._rank(node.input[0])
        if rank is None:
            return _ALL
        return self._of(node, 0) | ({axes[0] % rank} if chosen else _NONE)

    def _unique(self, node: onnx.NodeProto) -> list[Axes]:
        if not self._varies(node):
            return [_NONE] * len(node.output)
        axes, rank = self._ints(node, 9, "axis"), self._rank(node.input[0])
        if not axes:
            whole = frozenset({0})
            # The third result has an index for each element of the input.
            return [whole, whole, whole if self._of(node, 0) else _NONE, whole]
        if rank is None:
            return [_ALL] * 4
        axis = axes[0] % rank
        along = frozenset({0}) if axis in self._of(node, 0) else _NONE
        return [self._of(node, 0) | {axis}, frozenset({0}), along, frozenset({0})]

    def _varies(self, node: onnx.NodeProto) -> bool:
        return any(
            name in self._graph.dynamic or bool(self.axes.get(name)) for name in node.input if name
        )

    def _range(self, node: onnx.NodeProto) -> Axes:
        return frozenset({0}) if any(self._value_counts(n) for n in node.input) else _NONE

    def _constantofshape(self, node: onnx.NodeProto) -> Axes:
        return self._shape_axes(node, 0)

    def _expand(self, node: onnx.NodeProto) -> Axes:
        rank, own = self._rank(node.output[0]), self._rank(node.input[0])
        places, counted = self._shape_axes(node, 1), self._of(node, 0)
        if not places and not counted:
            return _NONE
        length = self._length(node.input[1])
        if rank is None or own is None or length is None:
            return _ALL
        found = frozenset(axis + rank - own for axis in counted)
        return found | frozenset(k + rank - length for k in places)

    def _tile(self, node: onnx.NodeProto) -> Axes:
        return self._of(node, 0) | self._shape_axes(node, 1)

    def _pad(self, node: onnx.NodeProto) -> Axes:
        places, rank = self._shape_axes(node, 1), self._rank(node.input[0])
        if places and (rank is None or (len(node.input) > 3 and node.input[3])):
            return _ALL
        return self._of(node, 0) | frozenset(place % rank for place in places if rank)

    def _resize(self, node: onnx.NodeProto) -> Axes:
        sizes = self._shape_axes(node, 2) | self._shape_axes(node, 3)
        return self._of(node, 0) | (sizes if len(node.input) > 2 else _NONE)

    def _topk(self, node: onnx.NodeProto) -> Axes:
        rank = self._rank(node.input[0])
        if not self._shape_axes(node, 1):
            return self._of(node, 0)
        return self._of(node, 0) | ({self._int(node, "axis", -1) % rank} if rank else _ALL)

    def _onehot(self, node: onnx.NodeProto) -> Axes:
        rank = self._rank(node.input[0])
        depth, counted = self._shape_axes(node, 1), self._of(node, 0)
        if not depth and not counted:
            return _NONE
        if rank is None:
            return _ALL
        axis = self._int(node, "axis", -1) % (rank + 1)
        return frozenset(k + (k >= axis) for k in counted) | ({axis} if depth else _NONE)

    # Operators that move axes.

    def _slice(self, node: onnx.NodeProto) -> Axes:
        counted = self._of(node, 0)
        ends = [name for name in (*node.input[1:3], *node.input[4:]) if name]
        if not any(self._value_counts(name) for name in ends):
            return counted
        axes, rank = self._ints(node, 3, "axes"), self._rank(node.input[0])
        if not axes or rank is None:
            return _ALL
        return counted | frozenset(axis % rank for axis in axes)

    def _split(self, node: onnx.NodeProto) -> Axes:
        rank = self._rank(node.input[0])
        if not self._shape_axes(node, 1):
            return self._of(node, 0)
        return self._of(node, 0) | ({self._int(node, "axis", 0) % rank} if rank else _ALL)

    def _transpose(self, node: onnx.NodeProto) -> Axes:
        counted, rank = self._of(node, 0), self._rank(node.input[0])
        if not counted:
            return _NONE
        if rank is None:
            return _ALL
        order = self._ints(node, 9, "perm") or list(range(rank))[::-1]
        return frozenset(k for k, axis in enumerate(order) if axis in counted)

    def _unsqueeze(self, node: onnx.NodeProto) -> Axes:
        counted, axes = self._of(node, 0), self._ints(node, 1, "axes")
        rank = self._rank(node.input[0])
        if not counted:
            return _NONE
        if axes is None or rank is None:
            return _ALL
        whole = rank + len(axes)
        added = {axis % whole for axis in axes}
        kept = [axis for axis in range(whole) if axis not in added]
        return frozenset(kept[axis] for axis in counted)

    def _squeeze(self, node: onnx.NodeProto) -> Axes:
        counted, axes = self._of(node, 0), self._ints(node, 1, "axes")
        shape = self._shapes.get(node.input[0])
        if not counted:
            return _NONE
        if shape is None or axes is None:
            return _ALL
        gone = {axis % len(shape) for axis in axes} or {k for k, n in enumerate(shape) if n == 1}
        kept = [axis for axis in range(len(shape)) if axis not in gone]
        return frozenset(k for k, axis in enumerate(kept) if axis in counted)

    def _flatten(self, node: onnx.NodeProto) -> Axes:
        counted, rank = self._of(node, 0), self._rank(node.input[0])
        if not counted:
            return _NONE
        if rank is None:
            return _ALL
        axis = self._int(node, "axis", 1)
        axis = axis + rank if axis < 0 else axis
        return frozenset(int(k >= axis) for k in counted)

    def _reshape(self, node: onnx.NodeProto) -> Axes:
        counted, places = self._of(node, 0), self._shape_axes(node, 1)
        if not counted and not places:
            return _NONE
        before, after = self._shapes.get(node.input[0]), self._shapes.get(node.output[0])
        if before is None or after is None or 0 in before or 0 in after:
            return _ALL
        found = frozenset(places)
        if places:  # what is left for -1 depends on them
            shape = self._ints(node, 1, "")
            found = _ALL if shape is None else found
        for old, new in reshaped_groups(before, after):
            if counted & set(old):
                found |= frozenset(new)
        return found

    def _concat(self, node: onnx.NodeProto) -> Axes:
        return frozenset[int]().union(*(self._of(node, k) for k in range(len(node.input))))

    def _gather(self, node: onnx.NodeProto) -> Axes:
        data, indices = self._of(node, 0), self._of(node, 1)
        if not data and not indices:
            return _NONE
        rank, width = self._rank(node.input[0]), self._rank(node.input[1])
        if rank is None or width is None:
            return _ALL
        axis = self._int(node, "axis", 0) % rank
        return (
            frozenset(k for k in data if k < axis)
            | frozenset(k + axis for k in indices)
            | frozenset(k + width - 1 for k in data if k > axis)
        )

    def _gathernd(self, node: onnx.NodeProto) -> Axes:
        data, indices = self._of(node, 0), self._of(node, 1)
        if not data and not indices:
            return _NONE
        shape, batch = self._shapes.get(node.input[1]), self._int(node, "batch_dims", 0)
        if shape is None:
            return _ALL
        width = len(shape) - 1
        taken = batch + shape[-1]
        return (
            frozenset(k for k in indices if k < width)
            | frozenset(k for k in data if k < batch)
            | frozenset(width + k - taken for k in data if k >= taken)
        )

    def _gatherelements(self, node: onnx.NodeProto) -> Axes:
        return self._of(node, 1)

    def _matmul(self, node: onnx.NodeProto) -> Axes:
        left, right = self._of(node, 0), self._of(node, 1)
        if not left and not right:
            return _NONE
        first, second = self._rank(node.input[0]), self._rank(node.input[1])
        if first is None or second is None or min(first, second) < 2:
            return _ALL
        rank = max(first, second)
        kept = {k + rank - first for k in left if k != first - 1}
        kept |= {k + rank - second for k in right if k != second - 2}
        return frozenset(kept)

    _matmulinteger = _matmul

    def _gemm(self, node: onnx.NodeProto) -> Axes:
        rows, columns = self._int(node, "transA", 0), 1 - self._int(node, "transB", 0)
        found = {0} if rows in self._of(node, 0) else set()
        found |= {1} if columns in self._of(node, 1) else set()
        return frozenset(found)

    def _roialign(self, node: onnx.NodeProto) -> Axes:
        return self._of(node, 1) & {0} | self._of(node, 0) & {1}

    def _lstm(self, node: onnx.NodeProto) -> list[Axes]:
        counted, last = self._of(node, 0), self._int(node, "layout", 0)
        time, batch = (1, 0) if last else (0, 1)
        state = frozenset({0 if last else 1}) if batch in counted else _NONE
        whole = frozenset({0}) if time in counted and not last else _NONE
        whole |= frozenset({1}) if time in counted and last else _NONE
        whole |= frozenset({0 if last else 2}) if batch in counted else _NONE
        return [whole, state, state]

    _gru = _rnn = _lstm

    # Subgraphs.

    def _nested(self, node: onnx.NodeProto, captures: Sequence[str], place: int) -> Axes:
        """Judge a result of a subgraph by the operators in it: one that counts makes all count."""
        outer = any(self.axes.get(name) for name in (*node.input, *captures) if name)
        inner = any(one.op_type in COUNTING for one in inner_nodes(node))
        if outer or inner:
            return _ALL
        trips = node.op_type == "Loop" and any(
            self._value_counts(name) for name in node.input[:2] if name
        )
        carried = len(node.input) - 2
        return frozenset({0}) if trips and place >= carried else _NONE


def _convolved(operator: str, operands: Sequence[Axes]) -> Axes:
    if any(operands[1:]):
        return _ALL
    pooling, everywhere = "Pool" in operator, operator.startswith("Global")
    return frozenset(
        axis
        for axis in operands[0]
        if axis == 0 or (axis == 1 and pooling) or (axis > 1 and not everywhere)
    )


def reshaped_groups(
    before: Sequence[int], after: Sequence[int]
) -> Iterable[tuple[list[int], list[int]]]:
    """Pair the axes of a reshaped tensor: runs of axes that hold the same elements."""
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        left = right = 1
        while True:
            if i < len(before) and (left <= right or j >= len(after)):
                left *= before[i]
                old.append(i)
                i += 1
            elif j < len(after):
                right *= after[j]
                new.append(j)
                j += 1
            if (left == right and old and new) or (i >= len(before) and j >= len(after)):
                break
        yield old, new
