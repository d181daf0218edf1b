"""Inputs of positions that begin behind that of padding, as in RoBERTa: at 2, not at 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import numpy_helper

from cnatool.backend.graph.nodes import operator_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

_PASSING = operator_set("Cast Identity Reshape Squeeze Unsqueeze")
# Positions of RoBERTa's kind: 0 is that of no token, 1 that of padding.
_PADDING = 1
# Networks of that kind, by what their weights are called.
_FAMILIES = ("roberta", "camembert", "data2vec", "longformer", "mpnet")


def reserves_padding(graph: Graph, name: str) -> bool:
    """Whether an input picks rows of a table in which padding has a row of its own, all zeros."""
    waiting = [name]
    while waiting:
        tensor = waiting.pop()
        for node in graph.consumers.get(tensor, ()):
            if node.op_type in _PASSING and node.input[0] == tensor:
                waiting.append(node.output[0])
            elif node.op_type == "Gather" and len(node.input) > 1 and node.input[1] == tensor:
                table = node.input[0]
                if any(word in table.lower() for word in _FAMILIES):
                    return True
                rows = _read(graph, table)
                if rows is None or rows.ndim != 2 or len(rows) <= _PADDING + 1:
                    continue
                if not rows[_PADDING].any() and rows[_PADDING + 1].any():
                    return True
    return False


def _read(graph: Graph, name: str) -> NDArray[Any] | None:
    """Read a table that lies in the model's file; None for another one."""
    if name in graph.weights:
        return graph.weights[name]
    tensor = graph.constants.get(name)
    if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    return numpy_helper.to_array(tensor)
