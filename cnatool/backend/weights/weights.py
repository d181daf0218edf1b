"""Measures of a model's weights: norms of each layer, path norm, number of parameters."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from cnatool._util.text import count_text
from cnatool.backend.graph.constants import Constants
from cnatool.backend.weights.fold import fold_scales, linear_operators
from cnatool.backend.weights.matrix import linear_map
from cnatool.backend.weights.parameters import count_parameters, find_unseen_weights
from cnatool.backend.weights.path_norm import compute_log_path_norm
from cnatool.backend.weights.unfolded import find_unfolded_scale
from cnatool.errors import CnatoolError, ModelError
from cnatool.records.weights import LayerWeights, WeightsRecord
from cnatool.store.block_matrix import BlockMatrix
from cnatool.store.weight_norms import measure_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.linear_operators import LinearOperator
    from cnatool.backend.network import Network
    from cnatool.backend.weights.fold import Fold
    from cnatool.records.store import TensorRecord


def measure_weights(
    network: Network,
    tensors: Sequence[TensorRecord],
    shape: Sequence[int],
    initial: Network | None = None,
    custom_ops: tuple[Path, ...] = (),
    check: Callable[[], None] = lambda: None,
) -> WeightsRecord:
    """Measure the weights of a model, one layer at a time.

    BatchNormalization, and constant scales, are folded into the linear operator that they follow,
    so that a model measures the same whether it was exported with or without them folded. ``check``
    is called before each layer, and may raise a BaseException to end the measurement.
    """
    graph = network.graph
    # A merged sample axis is an axis of the graph, but none of the record's shape; and the
    # iterations of a loop are an axis of the record's only.
    ranks = {t.name: len(t.shape) + (t.merged is None) - graph.loops(t.name) for t in tensors}
    matrices = _LayerMatrices(graph, Constants(graph, custom_ops), ranks)
    before = None
    if initial is not None:
        check_initial(network, initial)
        before = _LayerMatrices(initial.graph, Constants(initial.graph, custom_ops), ranks={})
    layers = []
    for number in range(len(matrices.operators)):
        check()
        layers.append(matrices.layer(number, before))
    sizes = {t.name: math.prod(t.shape) for t in tensors}
    value, reason = _path_norm(network, matrices, shape, sizes, check)
    return WeightsRecord(
        layers=tuple(layers),
        parameters=count_parameters(graph, matrices.constants, matrices.folds),
        depth=max((layer.path for layer in network.layers.layers), default=0),
        log_path_norm=value,
        path_norm_reason=reason,
        unseen=find_unseen_weights(graph, matrices.constants),
        unfolded=_find_unfolded(matrices),
    )


def check_initial(network: Network, initial: Network) -> None:
    """Refuse two models with different numbers of layers."""
    counts = [len(measured.layers.layers) for measured in (network, initial)]
    if counts[0] != counts[1]:
        raise ModelError(
            f"{initial.graph.path} is not the initial state of {network.graph.path}: it has "
            f"{count_text(counts[1], 'layer')}, and that has {counts[0]:,}. Export both from the "
            "same network."
        )


class _InitialError(ModelError):
    """The initial weights do not belong to the network."""


class _LayerMatrices:
    """The linear operators of a graph and the matrices of their weights."""

    def __init__(self, graph: Graph, constants: Constants, ranks: Mapping[str, int]) -> None:
        self.graph = graph
        self.constants = constants
        self.ranks = ranks
        self.operators: list[LinearOperator] = linear_operators(graph)
        # Of the operators that could be read, by result.
        self.folds: dict[str, Fold] = {}
        self._first: dict[str, int] = {}

    def matrix(self, number: int) -> BlockMatrix:
        """Read the matrix of a layer, counted from 0, with its scale folded in."""
        operator = self.operators[number]
        linear = linear_map(operator, self.constants)
        fold = fold_scales(self.graph, operator, linear, self.constants, self.ranks)
        self.folds[operator.result] = fold
        return BlockMatrix(linear.blocks, linear.row_scale(fold.scale))

    def layer(self, number: int, before: _LayerMatrices | None) -> LayerWeights:
        """Measure a layer."""
        operator = self.operators[number]
        source = self.constants.source(operator.weights)
        same_as = self._first.get(source)
        self._first.setdefault(source, number + 1)
        try:
            matrix = self.matrix(number)
            initial = None if before is None else before.initial(number, matrix, self.graph)
            return measure_layer(number + 1, operator.weights, matrix, initial, same_as)
        except _InitialError:
            raise
        except Exception as error:
            # The runtime accepts more than is foreseen here, and a dump must not fail for it.
            reason = f"layer {number + 1} ({operator.result!r}): {_reason(error)}"
            return LayerWeights(number + 1, operator.weights, None, reason=reason)

    def initial(self, number: int, trained: BlockMatrix, of: Graph) -> BlockMatrix:
        """Read the initial matrix of a layer, which must have the shape of the trained one."""
        try:
            matrix = self.matrix(number)
        except Exception as error:
            raise _InitialError(
                f"{self.graph.path}: the initial weights of layer {number + 1} cannot be read: "
                f"{_reason(error)}."
            ) from error
        if matrix.blocks.shape != trained.blocks.shape:
            raise _InitialError(
                f"{self.graph.path} is not the initial state of {of.path}: the weights of layer "
                f"{number + 1} are {_text(matrix)}, and there {_text(trained)}. Export both from "
                "the same network."
            )
        return matrix


def _find_unfolded(matrices: _LayerMatrices) -> str | None:
    used = {name for fold in matrices.folds.values() for name in fold.used}
    try:
        return find_unfolded_scale(matrices.graph, matrices.constants, used)
    except Exception as error:
        # A dump must not fail for it.
        return f"a scale of the data cannot be read: {_reason(error)}"


def _text(matrix: BlockMatrix) -> str:
    count = len(matrix.blocks)
    return " × ".join(map(str, matrix.shape)) + (f" in {count} groups" if count > 1 else "")


def _path_norm(
    network: Network,
    matrices: _LayerMatrices,
    shape: Sequence[int],
    sizes: Mapping[str, int],
    check: Callable[[], None],
) -> tuple[float | None, str | None]:
    path_norm = partial(
        compute_log_path_norm,
        network.graph,
        network.layers,
        matrices.constants,
        ranks=matrices.ranks,
        check=check,
    )
    value = None
    if shape[0] > 1:
        # All samples are equal, so one is enough unless a constant holds their number.
        with suppress(Exception):
            value = path_norm(shape=(1, *shape[1:]), sizes=sizes)
    try:
        if value is None:
            value = path_norm(shape=shape)
    except Exception as error:
        return None, _reason(error)
    if not math.isfinite(value):
        return None, "it is 0: no path leads from the input to the output"
    return value, None


def _reason(error: Exception) -> str:
    known = isinstance(error, CnatoolError)
    return str(error) if known else f"it cannot be computed ({type(error).__name__}: {error})"
