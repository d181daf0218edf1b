"""Operators that draw random numbers, and the tensors that depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import numpy_helper

from cnatool.backend.graph.graph import KNOWN_DOMAINS, captured_names, inner_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import onnx

    from cnatool.backend.graph.graph import Graph

_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Sampling",
    }
)
# These draw in training mode alone, and the input at this place says whether it is.
_DROPOUTS = {"Dropout": 2, "BiasDropout": 4, "BitmaskBiasDropout": 4, "BitmaskDropout": 2}
# Of a random tensor they read the shape, which is not random.
_SHAPES = frozenset({"Shape", "Size"})


def draws_random(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether a node of a graph draws random numbers."""
    if node.domain not in KNOWN_DOMAINS:
        return False
    if node.op_type in _RANDOM:
        return True
    place = _DROPOUTS.get(node.op_type)
    if place is None or len(node.input) <= place or not node.input[place]:
        return False
    training = _constant(node.input[place], graph)
    return training is None or bool(training.any())


def find_random_tensors(graph: Graph) -> dict[str, str]:
    """Find the tensors of a graph that depend on random numbers."""
    return _downstream(graph, lambda node: draws_random(node, graph))


def find_opaque_tensors(graph: Graph) -> dict[str, str]:
    """Find the tensors that depend on operators of which nothing is known, with that operator."""
    return _downstream(graph, lambda node: node.domain not in KNOWN_DOMAINS)


def _downstream(graph: Graph, starts: Callable[[onnx.NodeProto], bool]) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type in _SHAPES:
            continue
        origins = [inner.op_type for inner in (node, *inner_nodes(node)) if starts(inner)]
        # A Like operator reads the shape of its input alone, and is random whatever that holds.
        origins += [found[name] for name in (*node.input, *captured_names(node)) if name in found]
        if origins:
            found.update((name, origins[0]) for name in node.output if name)
    return found


def _constant(name: str, graph: Graph) -> np.ndarray | None:
    """Return the value of an initializer or a Constant; None of anything else."""
    for tensor in graph.model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    node = graph.producer.get(name)
    if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
        return numpy_helper.to_array(node.attribute[0].t)
    return None
