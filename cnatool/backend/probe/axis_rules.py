"""How operators pass on axes whose length depends on the values of an input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from cnatool.backend.graph.nodes import inner_nodes
from cnatool.backend.probe.counted_lengths import ALL, NONE, Axes, CountedLengths
from cnatool.backend.probe.operator_shapes import (
    BROADCAST,
    CONVOLVING,
    COUNTING,
    REDUCING,
    SAME,
    UNARY,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class CountedRules(CountedLengths):
    """The counted axes of each tensor, one node after another.

    Parameters and attributes are those of `CountedLengths`.
    """

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
            rank = len(self._shapes[name]) if name in self._shapes else len(ALL)
            if name and (kept := frozenset(axis for axis in axes if 0 <= axis < rank)):
                self.axes[name] = kept

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
            return [NONE] * results
        if node.domain not in ("", "ai.onnx", "com.microsoft"):
            return [ALL] * results
        if node.op_type in SAME:
            return [operands[0]] * results
        if node.op_type.startswith("Reduce") or node.op_type in REDUCING:
            return [self._reduced(node)] * results
        if node.op_type in CONVOLVING:
            return [_convolved(node.op_type, operands)] * results
        if self._elementwise(node):
            return [self._broadcast(node.input, node.output[0])] * results
        return [ALL] * results

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
            return NONE
        rank = self._rank(result)
        if rank is None and None not in ranks:
            rank = max(r for r in ranks if r is not None)
        if rank is None:
            return ALL
        found = NONE
        for name in counted:
            own = self._rank(name)
            if own is None:
                return ALL
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
            return ALL
        if not axes:
            if self._int(node, "noop_with_empty_axes", 0):
                return counted
            return NONE
        gone = {axis % rank for axis in axes}
        left = [axis for axis in range(rank) if keep or axis not in gone]
        return frozenset(k for k, axis in enumerate(left) if axis in counted and axis not in gone)

    # Operators that count.

    def _nonzero(self, node: onnx.NodeProto) -> Axes:
        return frozenset({1}) if self._varies(node) else NONE

    def _nonmaxsuppression(self, node: onnx.NodeProto) -> Axes:
        return frozenset({0}) if self._varies(node) else NONE

    def _compress(self, node: onnx.NodeProto) -> Axes:
        chosen = node.input[1] in self._graph.dynamic or bool(self._of(node, 1))
        axes = self._ints(node, 9, "axis")
        if not axes:
            return frozenset({0}) if chosen or self._of(node, 0) else NONE
        rank = self._rank(node.input[0])
        if rank is None:
            return ALL
        return self._of(node, 0) | ({axes[0] % rank} if chosen else NONE)

    def _unique(self, node: onnx.NodeProto) -> list[Axes]:
        if not self._varies(node):
            return [NONE] * len(node.output)
        axes, rank = self._ints(node, 9, "axis"), self._rank(node.input[0])
        if not axes:
            whole = frozenset({0})
            # The third result has an index for each element of the input.
            return [whole, whole, whole if self._of(node, 0) else NONE, whole]
        if rank is None:
            return [ALL] * 4
        axis = axes[0] % rank
        along = frozenset({0}) if axis in self._of(node, 0) else NONE
        return [self._of(node, 0) | {axis}, frozenset({0}), along, frozenset({0})]

    def _varies(self, node: onnx.NodeProto) -> bool:
        return any(
            name in self._graph.dynamic or bool(self.axes.get(name)) for name in node.input if name
        )

    def _range(self, node: onnx.NodeProto) -> Axes:
        return frozenset({0}) if any(self._value_counts(n) for n in node.input) else NONE

    def _constantofshape(self, node: onnx.NodeProto) -> Axes:
        return self._shape_axes(node, 0)

    def _expand(self, node: onnx.NodeProto) -> Axes:
        rank, own = self._rank(node.output[0]), self._rank(node.input[0])
        places, counted = self._shape_axes(node, 1), self._of(node, 0)
        if not places and not counted:
            return NONE
        length = self._length(node.input[1])
        if rank is None or own is None or length is None:
            return ALL
        found = frozenset(axis + rank - own for axis in counted)
        return found | frozenset(k + rank - length for k in places)

    def _tile(self, node: onnx.NodeProto) -> Axes:
        return self._of(node, 0) | self._shape_axes(node, 1)

    def _pad(self, node: onnx.NodeProto) -> Axes:
        places, rank = self._shape_axes(node, 1), self._rank(node.input[0])
        if places and (rank is None or (len(node.input) > 3 and node.input[3])):
            return ALL
        return self._of(node, 0) | frozenset(place % rank for place in places if rank)

    def _resize(self, node: onnx.NodeProto) -> Axes:
        sizes = self._shape_axes(node, 2) | self._shape_axes(node, 3)
        return self._of(node, 0) | (sizes if len(node.input) > 2 else NONE)

    def _topk(self, node: onnx.NodeProto) -> Axes:
        rank = self._rank(node.input[0])
        if not self._shape_axes(node, 1):
            return self._of(node, 0)
        return self._of(node, 0) | ({self._int(node, "axis", -1) % rank} if rank else ALL)

    def _onehot(self, node: onnx.NodeProto) -> Axes:
        rank = self._rank(node.input[0])
        depth, counted = self._shape_axes(node, 1), self._of(node, 0)
        if not depth and not counted:
            return NONE
        if rank is None:
            return ALL
        axis = self._int(node, "axis", -1) % (rank + 1)
        return frozenset(k + (k >= axis) for k in counted) | ({axis} if depth else NONE)

    # Operators that move axes.

    def _slice(self, node: onnx.NodeProto) -> Axes:
        counted = self._of(node, 0)
        ends = [name for name in (*node.input[1:3], *node.input[4:]) if name]
        if not any(self._value_counts(name) for name in ends):
            return counted
        axes, rank = self._ints(node, 3, "axes"), self._rank(node.input[0])
        if not axes or rank is None:
            return ALL
        return counted | frozenset(axis % rank for axis in axes)

    def _split(self, node: onnx.NodeProto) -> Axes:
        rank = self._rank(node.input[0])
        if not self._shape_axes(node, 1):
            return self._of(node, 0)
        return self._of(node, 0) | ({self._int(node, "axis", 0) % rank} if rank else ALL)

    def _transpose(self, node: onnx.NodeProto) -> Axes:
        counted, rank = self._of(node, 0), self._rank(node.input[0])
        if not counted:
            return NONE
        if rank is None:
            return ALL
        order = self._ints(node, 9, "perm") or list(range(rank))[::-1]
        return frozenset(k for k, axis in enumerate(order) if axis in counted)

    def _unsqueeze(self, node: onnx.NodeProto) -> Axes:
        counted, axes = self._of(node, 0), self._ints(node, 1, "axes")
        rank = self._rank(node.input[0])
        if not counted:
            return NONE
        if axes is None or rank is None:
            return ALL
        whole = rank + len(axes)
        added = {axis % whole for axis in axes}
        kept = [axis for axis in range(whole) if axis not in added]
        return frozenset(kept[axis] for axis in counted)

    def _squeeze(self, node: onnx.NodeProto) -> Axes:
        counted, axes = self._of(node, 0), self._ints(node, 1, "axes")
        shape = self._shapes.get(node.input[0])
        if not counted:
            return NONE
        if shape is None or axes is None:
            return ALL
        gone = {axis % len(shape) for axis in axes} or {k for k, n in enumerate(shape) if n == 1}
        kept = [axis for axis in range(len(shape)) if axis not in gone]
        return frozenset(k for k, axis in enumerate(kept) if axis in counted)

    def _flatten(self, node: onnx.NodeProto) -> Axes:
        counted, rank = self._of(node, 0), self._rank(node.input[0])
        if not counted:
            return NONE
        if rank is None:
            return ALL
        axis = self._int(node, "axis", 1)
        axis = axis + rank if axis < 0 else axis
        return frozenset(int(k >= axis) for k in counted)

    def _reshape(self, node: onnx.NodeProto) -> Axes:
        counted, places = self._of(node, 0), self._shape_axes(node, 1)
        if not counted and not places:
            return NONE
        before, after = self._shapes.get(node.input[0]), self._shapes.get(node.output[0])
        if before is None or after is None or 0 in before or 0 in after:
            return ALL
        found = frozenset(places)
        if places:  # what is left for -1 depends on them
            shape = self._ints(node, 1, "")
            found = ALL if shape is None else found
        for old, new in pair_reshaped_axes(before, after):
            if counted & set(old):
                found |= frozenset(new)
        return found

    def _concat(self, node: onnx.NodeProto) -> Axes:
        return frozenset[int]().union(*(self._of(node, k) for k in range(len(node.input))))

    def _gather(self, node: onnx.NodeProto) -> Axes:
        data, indices = self._of(node, 0), self._of(node, 1)
        if not data and not indices:
            return NONE
        rank, width = self._rank(node.input[0]), self._rank(node.input[1])
        if rank is None or width is None:
            return ALL
        axis = self._int(node, "axis", 0) % rank
        return (
            frozenset(k for k in data if k < axis)
            | frozenset(k + axis for k in indices)
            | frozenset(k + width - 1 for k in data if k > axis)
        )

    def _gathernd(self, node: onnx.NodeProto) -> Axes:
        data, indices = self._of(node, 0), self._of(node, 1)
        if not data and not indices:
            return NONE
        shape, batch = self._shapes.get(node.input[1]), self._int(node, "batch_dims", 0)
        if shape is None:
            return ALL
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
            return NONE
        first, second = self._rank(node.input[0]), self._rank(node.input[1])
        if first is None or second is None or min(first, second) < 2:
            return ALL
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
        state = frozenset({0 if last else 1}) if batch in counted else NONE
        whole = frozenset({0}) if time in counted and not last else NONE
        whole |= frozenset({1}) if time in counted and last else NONE
        whole |= frozenset({0 if last else 2}) if batch in counted else NONE
        return [whole, state, state]

    _gru = _rnn = _lstm

    # Subgraphs.

    def _nested(self, node: onnx.NodeProto, captures: Sequence[str], place: int) -> Axes:
        """Judge a result of a subgraph by the operators in it: one that counts makes all count."""
        outer = any(self.axes.get(name) for name in (*node.input, *captures) if name)
        inner = any(one.op_type in COUNTING for one in inner_nodes(node))
        if outer or inner:
            return ALL
        trips = node.op_type == "Loop" and any(
            self._value_counts(name) for name in node.input[:2] if name
        )
        carried = len(node.input) - 2
        return frozenset({0}) if trips and place >= carried else NONE


def _convolved(operator: str, operands: Sequence[Axes]) -> Axes:
    if any(operands[1:]):
        return ALL
    pooling, everywhere = "Pool" in operator, operator.startswith("Global")
    return frozenset(
        axis
        for axis in operands[0]
        if axis == 0 or (axis == 1 and pooling) or (axis > 1 and not everywhere)
    )


def pair_reshaped_axes(
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
