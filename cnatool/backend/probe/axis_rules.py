"""How operators pass on axes whose length depends on the values of an input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.flat_nodes import SUBGRAPH_INPUT
from cnatool.backend.probe.counted_lengths import ALL, NONE, Axes
from cnatool.backend.probe.operator_shapes import (
    BROADCAST,
    CONVOLVING,
    REDUCING,
    SAME,
    UNARY,
    pair_reshaped_axes,
)
from cnatool.backend.probe.subgraph_axes import SubgraphAxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import onnx


class CountedRules(SubgraphAxes):
    """Finds the counted axes of each tensor, one node after another."""

    def add(self, node: onnx.NodeProto) -> None:
        """Find the counted axes of a node's results."""
        if node.op_type == "Constant":
            return
        self._count(node)
        for name, axes in zip(node.output, self._result_axes(node), strict=False):
            rank = len(self._shapes[name]) if name in self._shapes else len(ALL)
            if axes >= ALL and not self._guess:
                continue
            if name and (kept := frozenset(axis for axis in axes if 0 <= axis < rank)):
                self.axes[name] = kept | self.axes.get(name, NONE)

    def _result_axes(self, node: onnx.NodeProto) -> list[Axes]:
        """Return the counted axes of each of a node's results."""
        results = len(node.output)
        if node.op_type == SUBGRAPH_INPUT:
            return [self._subgraph_input(node)]
        if (body := self._graph.results.get(node.output[0])) is not None:
            return [self._subgraph_result(node, body)]
        if node.domain in ("", "ai.onnx") and node.op_type in _RULES:
            axes = _RULES[node.op_type](self, node)
            return axes if isinstance(axes, list) else [axes] * results
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
            return [_convolution_axes(node.op_type, operands)] * results
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
        axes = NONE
        for name in counted:
            own = self._rank(name)
            if own is None:
                return ALL
            axes |= frozenset(axis + rank - own for axis in self.axes[name])
        return axes

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

    def _non_zero(self, node: onnx.NodeProto) -> Axes:
        return frozenset({1}) if self._varies(node) else NONE

    def _non_max_suppression(self, node: onnx.NodeProto) -> Axes:
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

    def _constant_of_shape(self, node: onnx.NodeProto) -> Axes:
        return self._shape_axes(node, 0)

    def _expand(self, node: onnx.NodeProto) -> Axes:
        rank, own = self._rank(node.output[0]), self._rank(node.input[0])
        places, counted = self._shape_axes(node, 1), self._of(node, 0)
        if not places and not counted:
            return NONE
        length = self._length(node.input[1])
        if rank is None or own is None or length is None:
            return ALL
        kept = frozenset(axis + rank - own for axis in counted)
        return kept | frozenset(k + rank - length for k in places)

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

    def _top_k(self, node: onnx.NodeProto) -> Axes:
        rank = self._rank(node.input[0])
        if not self._shape_axes(node, 1):
            return self._of(node, 0)
        return self._of(node, 0) | ({self._int(node, "axis", -1) % rank} if rank else ALL)

    def _one_hot(self, node: onnx.NodeProto) -> Axes:
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
        axes = frozenset(places)
        if places and self._ints(node, 1, "") is None:  # the axis with -1 depends on them
            axes = ALL
        for old, new in pair_reshaped_axes(before, after):
            if counted & set(old):
                axes |= frozenset(new)
        return axes

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

    def _gather_nd(self, node: onnx.NodeProto) -> Axes:
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

    def _gather_elements(self, node: onnx.NodeProto) -> Axes:
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

    def _gemm(self, node: onnx.NodeProto) -> Axes:
        rows, columns = self._int(node, "transA", 0), 1 - self._int(node, "transB", 0)
        axes = {0} if rows in self._of(node, 0) else set()
        axes |= {1} if columns in self._of(node, 1) else set()
        return frozenset(axes)

    def _roi_align(self, node: onnx.NodeProto) -> Axes:
        return self._of(node, 1) & {0} | self._of(node, 0) & {1}

    def _recurrent(self, node: onnx.NodeProto) -> list[Axes]:
        counted, last = self._of(node, 0), self._int(node, "layout", 0)
        time, batch = (1, 0) if last else (0, 1)
        state = frozenset({0 if last else 1}) if batch in counted else NONE
        whole = frozenset({0}) if time in counted and not last else NONE
        whole |= frozenset({1}) if time in counted and last else NONE
        whole |= frozenset({0 if last else 2}) if batch in counted else NONE
        return [whole, state, state]


_RULES: Mapping[str, Callable[[CountedRules, onnx.NodeProto], Axes | list[Axes]]] = {
    "Compress": CountedRules._compress,
    "Concat": CountedRules._concat,
    "ConstantOfShape": CountedRules._constant_of_shape,
    "Expand": CountedRules._expand,
    "Flatten": CountedRules._flatten,
    "GRU": CountedRules._recurrent,
    "Gather": CountedRules._gather,
    "GatherElements": CountedRules._gather_elements,
    "GatherND": CountedRules._gather_nd,
    "Gemm": CountedRules._gemm,
    "LSTM": CountedRules._recurrent,
    "MatMul": CountedRules._matmul,
    "MatMulInteger": CountedRules._matmul,
    "NonMaxSuppression": CountedRules._non_max_suppression,
    "NonZero": CountedRules._non_zero,
    "OneHot": CountedRules._one_hot,
    "Pad": CountedRules._pad,
    "RNN": CountedRules._recurrent,
    "Range": CountedRules._range,
    "Reshape": CountedRules._reshape,
    "Resize": CountedRules._resize,
    "RoiAlign": CountedRules._roi_align,
    "Slice": CountedRules._slice,
    "Split": CountedRules._split,
    "Squeeze": CountedRules._squeeze,
    "Tile": CountedRules._tile,
    "TopK": CountedRules._top_k,
    "Transpose": CountedRules._transpose,
    "Unique": CountedRules._unique,
    "Unsqueeze": CountedRules._unsqueeze,
}


def _convolution_axes(operator: str, operands: Sequence[Axes]) -> Axes:
    if any(operands[1:]):
        return ALL
    pooling, everywhere = "Pool" in operator, operator.startswith("Global")
    return frozenset(
        axis
        for axis in operands[0]
        if axis == 0 or (axis == 1 and pooling) or (axis > 1 and not everywhere)
    )
