"""Weights of a Keras model's layers, for `cnatool.create_store`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.recorders.select import Selection
    from cnatool.recording.recording import Layer

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def model_state(model: Any) -> dict[str, NDArray[Any]]:
    """Return a model's variables by path, for ``initial_state``."""
    return {variable.path: np.array(variable) for variable in model.variables}


def with_groups(selection: Selection, layers: Mapping[str, Any]) -> list[Layer]:
    """Return the layers with the groups of their convolutions."""
    sources = {tensor.name: tensor.source.module for tensor in selection.tensors}
    layers_with_groups = []
    for layer in selection.layers:
        module = layers.get(sources[layer.linear or layer.preactivation])
        if isinstance(module, _DEPTHWISE):
            layers_with_groups.append(replace(layer, groups=int(module.kernel.shape[-2])))
        else:
            layers_with_groups.append(replace(layer, groups=int(getattr(module, "groups", 1))))
    return layers_with_groups


def layer_arrays(
    model: Any,
    selection: Selection,
    layers: Mapping[str, Any],
    initial_state: Mapping[str, NDArray[Any]] | None,
) -> dict[str, Any]:
    """Return the arguments ``weights``, ``initial_weights``, ``parameters`` of `create_store`.

    A BatchNormalization that follows a layer is folded into its weights.
    """
    arguments: dict[str, Any] = {
        "weights": _arrays(selection, layers, model_state(model)),
        "parameters": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
    }
    if initial_state is not None:
        try:
            arguments["initial_weights"] = _arrays(selection, layers, initial_state)
        except KeyError as error:
            raise UsageError(f"initial_state: {error} is missing.") from error
    return arguments


def _arrays(
    selection: Selection, layers: Mapping[str, Any], state: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    sources = {tensor.name: tensor.source.module for tensor in selection.tensors}
    arrays: dict[str, NDArray[Any]] = {}
    # Layers of one module share its weights, marked by the same array.
    weights: dict[tuple[str, str], NDArray[Any]] = {}
    for layer in selection.layers:
        tensor = layer.linear or layer.preactivation
        key = sources[tensor], sources[layer.preactivation]
        if key not in weights:
            weight = _outputs_first(layers.get(key[0]), state)
            if weight is None:
                continue
            follows = layers.get(key[1])
            if isinstance(follows, keras.layers.BatchNormalization):
                scale = _scale(follows, state)
                weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            weights[key] = weight
        arrays[tensor] = weights[key]
    return arrays


def _outputs_first(layer: Any, state: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """Return a layer's kernel as (out, …); None if the layer has no kernel of its own."""
    with_kernel = (keras.layers.Dense, *_TRANSPOSED, *_CONVOLUTIONS, *_DEPTHWISE)
    if not isinstance(layer, with_kernel):
        return None
    kernel = state[layer.kernel.path]
    if isinstance(layer, _DEPTHWISE):
        channels = int(np.prod(kernel.shape[-2:]))
        return np.moveaxis(kernel.reshape(*kernel.shape[:-2], channels, 1), -2, 0)
    return np.moveaxis(kernel, -2 if isinstance(layer, _TRANSPOSED) else -1, 0)


def _scale(layer: Any, state: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Compute the factor of each channel of a BatchNormalization."""
    scale = 1 / np.sqrt(state[layer.moving_variance.path] + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * state[layer.gamma.path]
    folded: NDArray[Any] = scale
    return folded
