"""Consistency of the records of weights and flatness, beyond their types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cnatool.records.limits import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.weights import FlatnessRecord, LayerWeights, WeightsRecord


def check_weights(weights: WeightsRecord, layers: int) -> Iterator[str]:
    """Find contradictions in the norms of a network's weights."""
    if [layer.number for layer in weights.layers] != list(range(1, layers + 1)):
        yield f"it has {layers} layers, but norms of the weights of others"
    for layer in weights.layers:
        yield from _check_layer(layer)
    if not 0 <= (weights.parameters or 0) <= LARGEST or not 0 <= weights.depth <= layers:
        yield "its number of parameters or its depth is impossible"


def _check_layer(layer: LayerWeights) -> Iterator[str]:
    norms = (layer.frobenius, layer.spectral, layer.absolute_sum)
    missing = layer.shape is None or any(norm is None for norm in norms)
    if missing and layer.reason is None:
        yield f"norms of layer {layer.number} are missing without a reason"
    if any(number is not None and number < 0 for number in (*norms, layer.distance)):
        yield f"a norm of layer {layer.number} is negative"
    if layer.shape is not None and (min(layer.shape) < 1 or math.prod(layer.shape) > LARGEST):
        yield f"the weights of layer {layer.number} have the impossible shape {layer.shape}"
    if not 1 <= layer.blocks <= LARGEST:
        yield f"the weights of layer {layer.number} have {layer.blocks} blocks"
    if layer.same_as is not None and not 1 <= layer.same_as < layer.number:
        yield f"layer {layer.number} cannot share the weights of layer {layer.same_as}"


def check_flatness(flatness: FlatnessRecord) -> Iterator[str]:
    """Find contradictions in the record of a network's flatness."""
    settings = flatness.settings
    counts = (settings.samples, settings.draws, flatness.samples)
    if any(count is not None and not 1 <= count <= LARGEST for count in counts):
        yield "its flatness was measured over no samples or no draws"
    if not 0 < settings.target < 1:
        yield f"its flatness was measured for a fall in accuracy of {settings.target:g}"
    noises = [noise for noise in (flatness.plain, flatness.magnitude) if noise is not None]
    for noise in noises:
        if noise.sigma is None:
            if noise.reason is None:
                yield "a scale of noise is missing without a reason"
        elif noise.sigma <= 0:
            yield f"noise of scale {noise.sigma:g} is impossible"
    accuracies = (flatness.accuracy, *(noise.accuracy for noise in noises))
    if any(accuracy is not None and not 0 <= accuracy <= 1 for accuracy in accuracies):
        yield "an accuracy of its flatness is not between 0 and 1"
    measured = (flatness.weights, flatness.square_sum, flatness.plain, flatness.magnitude)
    if None in measured and flatness.reason is None:
        yield "its flatness is missing without a reason"
    known = 0 < (flatness.weights or 0) <= LARGEST and (flatness.epsilon or 0) > 0
    if not known and (None not in measured or any(noise.sigma is not None for noise in noises)):
        yield "its flatness has no weights or no ε"
    sums = (flatness.square_sum, flatness.distance_square_sum)
    if any(number is not None and number < 0 for number in sums):
        yield "a sum of squares of its weights is negative"
