"""Operators that draw random numbers, and the tensors that depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import numpy_helper

from cnatool.backend.graph.input_dependence import KNOWN_DOMAINS
from cnatool.records.skipped import RANDOM_OPERATORS

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from cnatool.backend.graph.graph import Graph

# These draw only in training mode, which the input at this place switches on.
_DROPOUTS = {"Dropout": 2, "BiasDropout": 4, "BitmaskBiasDropout": 4, "BitmaskDropout": 2}
# They read only the shape of a tensor, which is not random.
_SHAPES = frozenset({"Shape", "Size"})


def draws_random(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether a node of a graph draws random numbers."""
    if node.domain not in KNOWN_DOMAINS:
        return False
    if node.op_type in RANDOM_OPERATORS:
        return True
    place = _DROPOUTS.get(node.op_type)
    if place is None or len(node.input) <= place or not node.input[place]:
        return False
    training = graph.constants.get(node.input[place])
    return training is None or bool(numpy_helper.to_array(training).any())


def find_random_tensors(graph: Graph) -> dict[str, str]:
    """Map each tensor that depends on random numbers to the operator that draws them."""
    return _downstream(graph, lambda node: draws_random(node, graph))


def find_opaque_tensors(graph: Graph) -> dict[str, str]:
    """Map each tensor that depends on an unknown operator to that operator."""
    return _downstream(graph, lambda node: node.domain not in KNOWN_DOMAINS)


def _downstream(graph: Graph, starts: Callable[[onnx.NodeProto], bool]) -> dict[str, str]:
    downstream: dict[str, str] = {}
    before = -1
    while before < (before := len(downstream)):
        for node in graph.nodes:
            if node.op_type in _SHAPES:
                continue
            # A …Like operator reads only the shape of its input, and is random whatever that holds.
            origins = [node.op_type] if starts(node) else []
            origins += [downstream[name] for name in node.input if name in downstream]
            if origins:
                for name in filter(None, node.output):
                    downstream.setdefault(name, origins[0])
        if not graph.results:
            break  # without loops, nothing is read before it is computed
    return downstream
