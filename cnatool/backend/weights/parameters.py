"""How many parameters a model has, and which weights no layer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.weights.fold import linear_operators

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnatool.backend.graph.constants import Constants
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.weights.fold import Fold

# Their constants are settings, even floating ones.
_SETTINGS = frozenset(
    {"Clip", "DequantizeLinear", "Pad", "QuantizeLinear", "Range", "Resize", "RoiAlign", "Upsample"}
)
# How many first inputs are parameters: running statistics and initial states follow.
_PARAMETERS = {"BatchNormalization": 3, "GRU": 4, "LSTM": 4, "RNN": 4}
# Operators with linear operators inside, which the graph does not show.
_CLOSED = frozenset({"Attention", "GRU", "LSTM", "QAttention", "RNN"})


def count_parameters(graph: Graph, constants: Constants, folds: Mapping[str, Fold]) -> int:
    """Count the parameters of a model with BatchNormalization folded, shared ones once.

    These are the weights of each layer, a shift for each of its units where there is a bias or
    something folded that adds one, and all other floating constants of more than one number that
    are combined with tensors that depend on the input: gains of normalisations, embeddings, slopes.
    Running means and variances do not count, nor does a scale that is folded into weights.
    """
    sizes: dict[str, int] = {}
    operators = {operator.result: operator for operator in linear_operators(graph)}
    inside = {name for fold in folds.values() for name in fold.used}
    for operator in operators.values():
        fold = folds.get(operator.result)
        added = (operator.bias,) if fold is None else fold.added
        biases = {
            constants.source(name): constants.size(name) or 1
            for name in added
            if name and not _is_no_bias(name, constants)
        }
        # Several constants that are added are one shift.
        new = [name for name in biases if name not in sizes]
        sizes |= dict.fromkeys(new, 0)
        if new:
            sizes[new[0]] = max(biases.values())
        source = constants.source(operator.weights)
        sizes[source] = constants.size(operator.weights) or 0
    for node in graph.nodes:
        if node.output[0] in inside or node.output[0] in operators:
            continue
        if node.output[0] not in graph.dynamic or node.op_type in _SETTINGS:
            continue
        reads = node.input[: _PARAMETERS.get(node.op_type)]
        for name in filter(constants.has, reads):
            size = constants.size(name)
            if size is not None and size > 1 and constants.is_floating(name):
                sizes.setdefault(constants.source(name), size)
    return sum(sizes.values())


def _is_no_bias(name: str, constants: Constants) -> bool:
    """Whether a bias is zeros that the graph computes, as exporters write for no bias."""
    if not constants.has(name):
        return name in constants.graph.shape_arithmetic
    return constants.size(name) is None and not constants.value(name).any()


def find_unseen_weights(graph: Graph, constants: Constants) -> str | None:
    """Describe the first operator with weights that belong to no layer; None without any."""
    for node in graph.nodes:
        if node.output[0] not in graph.dynamic:
            continue
        if node.op_type in _CLOSED and any(map(constants.has, node.input)):
            return f"{node.op_type} (tensor {node.output[0]!r}) has weights that no layer shows"
    return None
