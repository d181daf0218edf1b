"""Norms of weights that a caller hands over as arrays, for stores that no model file is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool.errors import UsageError
from cnatool.layer_weights import layer_weights
from cnatool.matrix_norms import BlockMatrix
from cnatool.store.weight_records import LayerWeights, WeightsRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from cnatool.store.records import LayerRecord

__all__ = ["recorded_weights"]


def recorded_weights(
    layers: Sequence[LayerRecord],
    groups: Sequence[int],
    weights: Mapping[str, ArrayLike],
    initial: Mapping[str, ArrayLike] | None,
    parameters: int | None,
) -> WeightsRecord:
    """Measure the weights of a recorded network, as they are.

    Parameters
    ----------
    layers : sequence of LayerRecord
    groups : sequence of int
        Of each layer.
    weights, initial : mapping of str to array_like
        By name of the layer's tensor, (out, in, …) each, as a framework keeps them; before
        training, of the same shapes.
    parameters : int or None
        Number of parameters of the network, where the caller knows it.

    Raises
    ------
    UsageError
        If a name is that of no layer, or an array is none that weights can be.
    """
    known = {name for layer in layers for name in (layer.preactivation, layer.linear)}
    for what, given in (("weights", weights), ("initial_weights", initial or {})):
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise UsageError(f"{what}: {unknown!r} is no layer.")
    return WeightsRecord(
        layers=tuple(
            _measured(layer, count, weights, initial)
            for layer, count in zip(layers, groups, strict=True)
        ),
        parameters=parameters,
        depth=max((layer.path for layer in layers), default=0),
        path_norm_reason="it needs the network itself: dump an ONNX export of it",
    )


def _measured(
    layer: LayerRecord,
    groups: int,
    weights: Mapping[str, ArrayLike],
    initial: Mapping[str, ArrayLike] | None,
) -> LayerWeights:
    name = layer.linear if layer.linear in weights else layer.preactivation
    if name not in weights:
        reason = f"no weights were given for layer {layer.number} ({layer.preactivation!r})"
        return LayerWeights(layer.number, name, None, reason=reason)
    matrix = _matrix("weights", name, weights[name], groups)
    before = None
    if initial is not None:
        if name not in initial:
            raise UsageError(f"initial_weights: those of layer {name!r} are missing.")
        before = _matrix("initial_weights", name, initial[name], groups)
        if before.blocks.shape != matrix.blocks.shape:
            raise UsageError(
                f"initial_weights[{name!r}] are {before.shape}, and weights[{name!r}] "
                f"{matrix.shape}."
            )
    return layer_weights(layer.number, name, matrix, before)


def _matrix(what: str, name: str, given: ArrayLike, groups: int) -> BlockMatrix:
    array = np.asarray(given)
    fits = array.ndim >= 2 and array.size and array.dtype.kind in "fiu"
    if not fits or groups < 1 or len(array) % groups:
        of = f" in {groups} groups" if groups != 1 else ""
        raise UsageError(
            f"{what}[{name!r}]: numbers of shape (out, in, …){of}, and it is {array.dtype} "
            f"{array.shape}."
        )
    blocks = array.reshape(groups, len(array) // groups, -1)
    return BlockMatrix(blocks, np.ones((1, blocks.shape[1])))
