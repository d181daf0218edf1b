"""Columns that number samples by the definition of an operator, and not only in what runs show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from cnatool.backend.graph.nodes import attributes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

    from cnatool.backend.graph.graph import Graph

# A tensor of rows, and one of its columns: 0 also for a vector.
_Column = tuple[str, int]
_SAME = frozenset({"Cast", "Identity"})
# (m,) becomes (m, 1) or the other way about.
_RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze"})


def numbers_samples(
    graph: Graph,
    by_sample: Collection[str],
    shapes: Mapping[str, tuple[int, ...]],
    name: str,
    column: int | None,
) -> bool:
    """Whether a column numbers samples because an operator defines its first column so.

    NonMaxSuppression and NonZero number what they are given along its first axis, which has to be
    that of the samples: a tensor in ``by_sample``. From there, columns are followed through
    operators that move them or choose rows, in the main graph. ``shapes`` are those of tensors of
    rows in one run.
    """
    at: _Column | None = (name, column or 0)
    while at is not None and at[0] not in graph.inner and at[0] in graph.producer:
        node = graph.producer[at[0]]
        source = graph.producer.get(node.input[0]) if node.op_type == "Transpose" else node
        if source is not None and source.op_type in ("NonMaxSuppression", "NonZero"):
            # The result of NonZero itself has a row for each axis.
            columns = node.op_type != "NonZero"
            return columns and at[1] == 0 and source.input[0] in by_sample
        at = _follow(graph, shapes, node, at[1])
    return False


def _follow(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], node: onnx.NodeProto, column: int
) -> _Column | None:
    """Return the column that a column of a node's result is, or chooses rows of."""
    source, result = node.input[0], node.output[0]
    if node.op_type in _SAME:
        return source, column
    if node.op_type in _RESHAPING:
        widths = {shapes[name][1:] for name in (source, result) if name in shapes}
        return (source, 0) if widths == {(), (1,)} else None
    axis = attributes(node).get("axis", 0)
    if node.op_type == "Gather" and axis == 0:
        return (source, column) if len(shapes[result]) == len(shapes.get(source, ())) else None
    if node.op_type == "Gather":
        return _follow_chosen(graph, shapes, node, column)
    if node.op_type == "Concat" and axis in (1, -1):
        for part in node.input:
            if len(shapes.get(part, ())) != 2:
                return None
            if column < shapes[part][1]:
                return part, column
            column -= shapes[part][1]
    return None


def _follow_chosen(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], node: onnx.NodeProto, column: int
) -> _Column | None:
    """Return the column that a Gather of columns takes."""
    source, constant = node.input[0], graph.constants.get(node.input[1])
    if constant is None or uses_external_data(constant) or len(shapes.get(source, ())) != 2:
        return None
    chosen = np.atleast_1d(numpy_helper.to_array(constant))
    return (source, int(chosen[column]) % shapes[source][1]) if chosen.ndim == 1 else None
