"""Lengths that depend on the values of an input, followed through the arithmetic of shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from cnatool.backend.probe.operator_shapes import BROADCAST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.backend.graph.graph import Graph

Axes = frozenset[int]
NONE: Axes = frozenset()
# More axes than any tensor has.
ALL: Axes = frozenset(range(64))
# Larger constants are no axes and no shapes.
_SMALL = 64


class CountedLengths:
    """Which entries of the shapes that a graph computes depend on the values of an input.

    ``shapes`` are those of tensors in one run. Where it is not known which axes of a tensor count,
    all do; without ``guess``, none does.
    """

    def __init__(
        self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], *, guess: bool = True
    ) -> None:
        self._guess = guess
        # Counted axes by tensor.
        self.axes: dict[str, Axes] = {}
        self._graph = graph
        self._shapes = dict(shapes)
        self._constants: dict[str, np.ndarray[Any, Any]] = {}
        # Places in a shape, or in what was computed from one, that hold a count.
        self._counts: dict[str, Axes] = {}
        for name, tensor in graph.constants.items():
            self._shapes.setdefault(name, tuple(tensor.dims))
            external = tensor.data_location == onnx.TensorProto.EXTERNAL
            if not external and int(np.prod(tensor.dims)) <= _SMALL:
                self._constants[name] = numpy_helper.to_array(tensor)

    def _of(self, node: onnx.NodeProto, place: int) -> Axes:
        return self.axes.get(node.input[place], NONE) if place < len(node.input) else NONE

    def _rank(self, name: str) -> int | None:
        return len(self._shapes[name]) if name in self._shapes else None

    def _ints(self, node: onnx.NodeProto, place: int, attribute: str) -> list[int] | None:
        """Return whole numbers that an attribute or a constant input holds; None where unknown."""
        for declared in node.attribute:
            if declared.name == attribute:
                return [declared.i] if declared.type == declared.INT else list(declared.ints)
        if place < len(node.input) and node.input[place]:
            value = self._constants.get(node.input[place])
            return None if value is None else [int(i) for i in value.ravel()]
        return []

    def _int(self, node: onnx.NodeProto, attribute: str, default: int) -> int:
        return next((a.i for a in node.attribute if a.name == attribute), default)

    def _value_counts(self, name: str) -> Axes:
        """Return the places of a vector of lengths that depend on the values of an input."""
        return self._counts.get(name, ALL if name in self._graph.dynamic else NONE)

    def _shape_axes(self, node: onnx.NodeProto, place: int) -> Axes:
        """Return the counted places of the shape that an input holds."""
        return self._value_counts(node.input[place]) if place < len(node.input) else NONE

    def _count(self, node: onnx.NodeProto) -> None:
        """Follow counts through the arithmetic of shapes."""
        counts = [self._value_counts(name) for name in node.input if name]
        if node.op_type == "Shape":
            places = self._shape_counts(node)
        elif node.op_type == "Size":
            places = ALL if self._of(node, 0) else NONE
        elif any(counts):
            places = self._arithmetic_counts(node, counts)
        else:
            return
        if places or any(counts):
            for name in filter(None, node.output):
                self._counts[name] = places | self._counts.get(name, NONE)

    def _shape_counts(self, node: onnx.NodeProto) -> Axes:
        start, end = self._int(node, "start", 0), self._int(node, "end", len(ALL))
        rank = self._rank(node.input[0])
        if rank is not None:
            start, end = (i + rank if i < 0 else i for i in (start, end))
        elif start < 0 or end < 0:
            start, end = 0, len(ALL)
        return frozenset(axis - start for axis in self._of(node, 0) if start <= axis < end)

    def _arithmetic_counts(self, node: onnx.NodeProto, counts: Sequence[Axes]) -> Axes:
        operator, inputs = node.op_type, [name for name in node.input if name]
        lengths = [self._length(name) for name in inputs]
        if operator in ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"):
            return counts[0]
        if operator == "Gather" and node.input[1] in self._constants:
            places = [int(i) for i in self._constants[node.input[1]].ravel()]
            if lengths[0] is None and any(place < 0 for place in places):
                return ALL
            places = [place + (lengths[0] or 0) if place < 0 else place for place in places]
            return frozenset(k for k, place in enumerate(places) if place in counts[0])
        if operator == "Slice" and (starts := self._ints(node, 1, "starts")) is not None:
            steps = self._ints(node, 4, "steps")
            if len(starts) != 1 or starts[0] < 0 or steps not in ([], [1]):
                return ALL
            return frozenset(k - starts[0] for k in counts[0] if k >= starts[0])
        if operator == "Concat":
            joined, before = NONE, 0
            for length, counted in zip(lengths, counts, strict=True):
                if length is None:
                    return ALL
                joined |= frozenset(before + k for k in counted if k < length)
                before += length
            return joined
        if operator in BROADCAST and len(set(lengths)) == 1 and None not in lengths:
            return frozenset[int]().union(*counts)
        return ALL

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
