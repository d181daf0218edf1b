"""Nodes to be appended to a graph, and the constants that they read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cnatool.backend.graph.nodes import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


@dataclass(slots=True)
class AppendedNodes:
    """Nodes to be appended to a graph, each added by a method that returns its result's name."""

    opset: int
    # Begins the names of results; one of its own for each graph that nodes are appended to
    prefix: str = PREFIX
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    # Of the main graph, which nodes in subgraphs read as well
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    # Numbers in names that must differ between all graphs of the model
    _numbers: Iterator[int] = field(default_factory=count)

    def inside(self) -> Self:
        """Make nodes for a subgraph, with the same constants."""
        return replace(self, prefix=f"{self.unique('body')}.", nodes=[])

    def unique(self, kind: str) -> str:
        """Return a name that no other graph of the model uses."""
        return f"{PREFIX}{kind} {next(self._numbers)}"

    def add(self, operator: str, inputs: list[str], output: str | None = None, **kw: Any) -> str:
        """Add a node with one result."""
        output = output or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **kw))
        return output

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """Add the same numbers in another shape."""
        return self.add("Reshape", [name, self.integers(shape)])

    def unsqueeze(self, name: str, axis: int) -> str:
        """Add the same numbers with one more axis."""
        if self.opset < 13:
            return self.add("Unsqueeze", [name], axes=[axis])
        return self.add("Unsqueeze", [name, self.integers([axis])])

    def reduce_axes(
        self, operator: str, name: str, axes: Sequence[int], *, keep: bool = False
    ) -> str:
        """Add a reduction over axes, which have length 1 in the result or are left out of it."""
        # Of sums the axes became an input with opset 13, of the others with 18.
        if self.opset < (13 if operator == "ReduceSum" else 18):
            return self.add(operator, [name], axes=axes, keepdims=int(keep))
        return self.add(operator, [name, self.integers(axes)], keepdims=int(keep))

    def integers(self, values: Sequence[int]) -> str:
        """Add a vector of integers."""
        return self.constant(f"constant {list(values)}", np.array(values, np.int64))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant; one name stands for one value."""
        name = PREFIX + name
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name
