"""Norms of weights passed as arrays, for stores without a model file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import count_text
from cnatool.errors import UsageError
from cnatool.records.weights import LayerWeights, WeightsRecord
from cnatool.store.block_matrix import BlockMatrix
from cnatool.store.weight_norms import measure_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.records.store import LayerRecord

# Whether it is of an array or of its source object; address, type, strides and lengths.
_Memory = tuple[str, int, str, tuple[tuple[int, int], ...]]


def measure_weights(
    layers: Sequence[LayerRecord],
    groups: Sequence[int],
    weights: Mapping[str, ArrayLike],
    initial: Mapping[str, ArrayLike] | None,
    parameters: int | None,
) -> WeightsRecord:
    """Measure the weights of a recorded network.

    Layers share weights if their arrays share memory and have the same shape and type.
    """
    known = {name for layer in layers for name in (layer.preactivation, layer.linear)}
    for what, arrays in (("weights", weights), ("initial_weights", initial or {})):
        unknown = next((name for name in arrays if name not in known), None)
        if unknown is not None:
            raise UsageError(f"{what}: {unknown!r} is not a layer.")
    first: dict[_Memory, int] = {}
    # Arrays are kept alive: another one in the same memory would count as the same array.
    alive: list[object] = []
    return WeightsRecord(
        layers=tuple(
            _measure(layer, count, weights, initial, first, alive)
            for layer, count in zip(layers, groups, strict=True)
        ),
        parameters=parameters,
        depth=max((layer.path for layer in layers), default=0),
        path_norm_reason="it needs the network itself: dump an ONNX export of it",
    )


def check_units(
    record: WeightsRecord | None,
    layers: Sequence[LayerRecord],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Make sure that weights have as many units as the tensors of their layers.

    A tensor's units are on the first or the last axis of a sample.
    """
    for layer, measured in zip(layers, () if record is None else record.layers, strict=False):
        shape = shapes.get(layer.linear)
        if measured.shape is None or shape is None:
            continue
        units = measured.shape[0]
        if units not in ({shape[0], shape[-1]} if shape else {1}):
            has = f"has {math.prod(shape)}" if len(shape) < 2 else f"is {shape} for a sample"
            raise UsageError(
                f"weights[{measured.name!r}] has {count_text(units, 'unit')}, but tensor "
                f"{layer.linear!r} {has}: "
                "pass weights as (out, in, …)."
            )


def _measure(
    layer: LayerRecord,
    groups: int,
    weights: Mapping[str, ArrayLike],
    initial: Mapping[str, ArrayLike] | None,
    first: dict[_Memory, int],
    alive: list[object],
) -> LayerWeights:
    name = layer.linear if layer.linear in weights else layer.preactivation
    if name not in weights:
        reason = f"no weights were given for layer {layer.number} ({layer.preactivation!r})"
        return LayerWeights(layer.number, name, None, reason=reason)
    given = weights[name]
    array = _array("weights", name, given)
    memory = _memory(given, array)
    alive += [given, array] if memory[0] == "array" else [given]
    same_as = first.get(memory)
    first.setdefault(memory, layer.number)
    matrix = _matrix("weights", name, array, groups)
    before = None
    if initial is not None:
        if name not in initial:
            raise UsageError(f"initial_weights: the weights of layer {name!r} are missing.")
        moved = _array("initial_weights", name, initial[name])
        before = _matrix("initial_weights", name, moved, groups)
        if before.blocks.shape != matrix.blocks.shape:
            raise UsageError(
                f"initial_weights[{name!r}] has shape {before.shape}, but weights[{name!r}] "
                f"{matrix.shape}."
            )
    return measure_layer(layer.number, name, matrix, before, same_as)


def _array(what: str, name: str, given: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"{what}[{name!r}]: expected numbers of shape (out, in, …), not: {error}"
        ) from error


def _memory(given: ArrayLike, array: NDArray[Any]) -> _Memory:
    """Identify the memory of an array, whatever the order of its axes."""
    if array is not given and array.flags.owndata:
        # A copy; only its source object can be shared.
        return "object", id(given), "", ()
    axes = zip(array.strides, array.shape, strict=True)
    lies = tuple(sorted((stride, count) for stride, count in axes if count > 1))
    return "array", int(array.__array_interface__["data"][0]), array.dtype.str, lies


def _matrix(what: str, name: str, array: NDArray[Any], groups: int) -> BlockMatrix:
    fits = array.ndim >= 2 and array.size and array.dtype.kind in "fiu"
    if not fits or groups < 1 or len(array) % groups:
        of = f" in {groups} groups" if groups != 1 else ""
        raise UsageError(
            f"{what}[{name!r}]: expected numbers of shape (out, in, …){of}, got {array.dtype} "
            f"{array.shape}."
        )
    blocks = array.reshape(groups, len(array) // groups, -1)
    return BlockMatrix(blocks, np.ones((1, blocks.shape[1])))
