"""Counted axes of what goes into the bodies of If, Loop and Scan, and of what comes out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.probe.counted_lengths import ALL, NONE, Axes, CountedLengths

if TYPE_CHECKING:
    import onnx

    from cnatool.backend.graph.control_flow import Body


class SubgraphAxes(CountedLengths):
    """Passes on counted axes between a graph and its subgraphs."""

    def outer_axes(self, name: str) -> Axes:
        """Return the counted axes of a tensor outside the loops that it lies in."""
        inner = self._graph.inner.get(name)
        if inner is None:
            return self.axes.get(name, NONE)
        loops = [body for body in inner.bodies if body.repeats]
        repeated = frozenset(axis for axis, body in enumerate(loops) if self._counts_trips(body))
        return repeated | frozenset(axis + len(loops) for axis in self.axes.get(name, NONE))

    def _subgraph_input(self, node: onnx.NodeProto) -> Axes:
        """Return the axes of a loop's state, or of the slice along an axis that a Scan takes."""
        whole = frozenset[int]().union(*(self.axes.get(name, NONE) for name in node.input))
        if not node.attribute:
            return whole
        axis, rank = self._int(node, "axis", 0), self._rank(node.input[0])
        if axis < 0 and whole:
            if rank is None:
                return ALL
            axis += rank
        return frozenset(k - (k > axis) for k in whole if k != axis)

    def _subgraph_result(self, node: onnx.NodeProto, body: Body) -> Axes:
        """Return the axes of what a branch or a loop returns, or of what a loop stacks."""
        values = node.input[: len(node.input) - len(body.controls)]
        whole = frozenset[int]().union(*(self.axes.get(name, NONE) for name in values))
        if not node.attribute:
            return whole
        trips, axis = self._counts_trips(body), self._int(node, "axis", 0)
        if axis < 0 and (whole or trips):
            if (rank := self._rank(node.output[0])) is None:
                return ALL
            axis += rank
        stacked = frozenset(k + (k >= axis) for k in whole)
        return stacked | {axis} if trips else stacked

    def _counts_trips(self, body: Body) -> bool:
        """Whether the number of a loop's iterations depends on the values of an input."""
        if any(self._value_counts(name) for name in body.controls):
            return True
        for name, axis in body.lengths:
            counted, rank = self.axes.get(name, NONE), self._rank(name)
            if counted and (rank is None or axis % rank in counted):
                return True
        return False
