"""What a store's attribute must fulfil beyond its types: its parts must fit each other."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from cnatool.store.layout import split_arrays
from cnatool.store.reference_records import is_relative_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.store.flatness_records import FlatnessRecord
    from cnatool.store.records import SplitRecord, StoreRecord
    from cnatool.store.weight_records import WeightsRecord

__all__ = ["SPLIT_NAME", "contradictions"]

# A split's name is a folder's name inside the store.
SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What a store can hold: no array is larger, and no number in JSON is exact beyond it.
_MOST = 1 << 53
# Of any number of chunks, eight digits each.
_CHECKSUMS = re.compile(r"(?:[0-9a-f]{8})*")
# What counts of levels are, with the checksum that follows them.
_COUNTS = ("uint32", (257,))


def contradictions(record: StoreRecord) -> Iterator[str]:
    """Give what is wrong with a store's attribute, most telling first.

    Parameters
    ----------
    record : StoreRecord
        As decoded; its types are right.
    """
    names = [tensor.name for tensor in record.tensors]
    if len(set(names)) < len(names):
        yield "two tensors have the same name"
    if not record.inputs or not (record.outputs or record.tensors):
        yield "it lists no inputs, or neither outputs nor tensors"
    for number, tensor in enumerate(record.tensors):
        if tensor.number != number:
            yield f"tensor {tensor.name!r} is number {tensor.number} in place {number}"
        if tensor.output is not None and not 0 <= tensor.output < len(record.outputs):
            yield f"tensor {tensor.name!r} should be output {tensor.output}, which there is not"
        merged = tensor.merged is not None
        if merged and tensor.batch_axis not in range(len(tensor.shape)):
            yield f"tensor {tensor.name!r} has no axis {tensor.batch_axis} that could be merged"
        if tensor.varies and tensor.stored is not None:
            yield f"the shape of tensor {tensor.name!r} varies, and it is stored whole"
        if tensor.stored is not None and not _is_dtype(tensor.stored):
            yield f"tensor {tensor.name!r} has the unknown type {tensor.stored!r}"
    for array in (*record.inputs, *record.outputs):
        if not _is_dtype(array.dtype):
            yield f"{array.name!r} has the unknown type {array.dtype!r}"
    for given in record.inputs:
        if given.levels is not None and (given.dtype, given.shape) != _COUNTS:
            yield (
                f"{given.name!r} should count levels, which are {_COUNTS[1]} of {_COUNTS[0]}, and "
                f"is {given.shape} of {given.dtype}"
            )
    for made in record.outputs:
        if made.levels is not None:
            yield f"{made.name!r} is an output, and should count levels as only inputs can"
    shapes = [(array.name, array.shape) for array in (*record.inputs, *record.outputs)]
    shapes += [(tensor.name, tensor.shape) for tensor in record.tensors]
    for name, shape in shapes:
        if any(size < 0 for size in shape) or math.prod(shape) > _MOST:
            yield f"{name!r} has the impossible shape {shape}"
    if any(not 0 < layer.path <= len(record.layers) for layer in record.layers):
        yield "a layer lies on a path longer than there are layers"
    if record.weights is not None:
        yield from _weight_contradictions(record.weights, len(record.layers))
    if record.flatness is not None:
        yield from _flatness_contradictions(record.flatness)
    for name, split in record.splits.items():
        if not SPLIT_NAME.fullmatch(name):
            yield f"{name!r} is no name of a split"
        yield from _split_contradictions(name, split)
        yield from _checksum_contradictions(name, split, record)


def _weight_contradictions(weights: WeightsRecord, layers: int) -> Iterator[str]:
    if [layer.number for layer in weights.layers] != list(range(1, layers + 1)):
        yield f"it has {layers} layers, and norms of the weights of others"
    for layer in weights.layers:
        norms = (layer.frobenius, layer.spectral, layer.absolute_sum)
        missing = layer.shape is None or any(norm is None for norm in norms)
        if missing and layer.reason is None:
            yield f"norms of layer {layer.number} are missing, and no reason is given"
        if any(number is not None and number < 0 for number in (*norms, layer.distance)):
            yield f"a norm of layer {layer.number} is negative"
        if layer.shape is not None and min(layer.shape) < 1:
            yield f"the weights of layer {layer.number} have the impossible shape {layer.shape}"
    if (weights.parameters or 0) < 0 or weights.depth < 0:
        yield "its number of parameters or its depth is negative"


def _flatness_contradictions(flatness: FlatnessRecord) -> Iterator[str]:
    if flatness.settings.samples < 1 or flatness.settings.draws < 1:
        yield "its flatness was measured over no samples or no draws"
    for noise in (flatness.plain, flatness.magnitude):
        if noise is None:
            continue
        if noise.sigma is None:
            if noise.reason is None:
                yield "a scale of noise is missing, and no reason is given"
        elif noise.sigma <= 0:
            yield f"noise of scale {noise.sigma:g} cannot be"
    measured = (flatness.weights, flatness.square_sum, flatness.plain, flatness.magnitude)
    if None in measured:
        if flatness.reason is None:
            yield "its flatness is missing, and no reason is given"
    elif not (flatness.weights or 0) > 0 or not (flatness.epsilon or 0) > 0:
        yield "its flatness is of no weights, or without ε"
    sums = (flatness.square_sum, flatness.distance_square_sum)
    if any(number is not None and number < 0 for number in sums):
        yield "a sum of squares of its weights is negative"


def _split_contradictions(name: str, split: SplitRecord) -> Iterator[str]:
    edges = [edge for pair in split.committed for edge in pair]
    if not 0 <= split.rows <= _MOST:
        yield f"split {name!r} has {split.rows} rows"
    elif edges != sorted(edges) or any(not 0 <= edge <= split.rows for edge in edges):
        yield (
            f"split {name!r} has {split.rows} rows and claims to have committed "
            f"{list(split.committed)}"
        )
    elif split.complete and sum(stop - start for start, stop in split.committed) != split.rows:
        yield f"split {name!r} claims to be complete, and not all its rows are committed"
    if split.inputs_from is not None and not is_relative_path(split.inputs_from.store):
        yield f"the inputs of split {name!r} are in {split.inputs_from.store!r}, no relative path"


def _checksum_contradictions(name: str, split: SplitRecord, record: StoreRecord) -> Iterator[str]:
    if split.checksums is None:
        return
    unknown = set(split.checksums) - {a.key for a in split_arrays(record, labels=split.labels)}
    if unknown:
        yield f"split {name!r} has checksums of {min(unknown)!r}, which is none of its arrays"
    rows = sum(stop - start for start, stop in split.committed)
    if split.committed not in ((), ((0, rows),)):
        yield f"split {name!r} has checksums of rows that are not its first"
    for key, checksums in split.checksums.items():
        if checksums.rows < 1 or not _CHECKSUMS.fullmatch(checksums.crc32c):
            yield f"the checksums of array {key} of split {name!r} are none"
        elif len(checksums) != -(-rows // checksums.rows):
            yield (
                f"array {key} of split {name!r} has {len(checksums)} checksums, of "
                f"{checksums.rows} rows each, for {rows} committed rows"
            )


def _is_dtype(name: str) -> bool:
    try:
        return np.dtype(name).kind in "fiub" and np.dtype(name).name == name
    except TypeError:
        return False
