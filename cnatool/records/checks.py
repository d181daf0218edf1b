"""Consistency of a store's attribute beyond its types.

Everything that readers rely on is checked here, once, so that no reader has to.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, get_args

import numpy as np

from cnatool.records.choices import Statistic
from cnatool.records.limits import LARGEST, SHA256
from cnatool.records.split_checks import check_split
from cnatool.records.weight_checks import check_flatness, check_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.store import ArrayRecord, ModelRecord, StoreRecord, TensorRecord

# A split's name is a folder's name inside the store.
SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# NumPy allows 64 axes, and rows take one.
_MOST_AXES = 63
# A resumed dump starts this many threads.
_MOST_THREADS = 1 << 12
# Type and shape of counts of levels: 256 counts and a checksum.
_COUNTS = ("uint32", (257,))
# Each is the name of an array.
_STATISTICS = (*get_args(Statistic), "count")
# Compared by name, since np.dtype() accepts more than names.
_DTYPES = frozenset(np.dtype(code).name for code in "?bBhHiIlLqQefdg")


def find_contradictions(record: StoreRecord) -> Iterator[str]:
    """Give what is wrong with a store's attribute, most telling first."""
    if not record.inputs or not (record.outputs or record.tensors):
        yield "it lists no inputs, or neither outputs nor tensors"
    for what, names in (
        ("tensors", [tensor.name for tensor in record.tensors]),
        ("inputs", [array.name for array in record.inputs]),
        ("outputs", [array.name for array in record.outputs]),
        ("statistics", record.statistics),
    ):
        if len(set(names)) < len(names):
            yield f"two {what} have the same name"
    for name in set(record.statistics).difference(_STATISTICS):
        yield f"{name!r} is no statistic; there are {', '.join(_STATISTICS)}"
    for given in record.inputs:
        yield from _array_contradictions(given, output=False)
    for made in record.outputs:
        yield from _array_contradictions(made, output=True)
    for number, tensor in enumerate(record.tensors):
        yield from _tensor_contradictions(number, tensor, record)
    numbers = [tensor.output for tensor in record.tensors if tensor.output is not None]
    if len(set(numbers)) < len(numbers):
        yield "two tensors are the same output"
    if record.magnitudes and len(record.magnitudes) != len(record.tensors):
        yield f"it has {len(record.tensors)} tensors, and magnitudes of {len(record.magnitudes)}"
    if any(magnitude is not None and magnitude < 0 for magnitude in record.magnitudes):
        yield "a magnitude is negative"
    yield from _layer_contradictions(record)
    yield from _run_contradictions(record)
    if record.weights is not None:
        yield from check_weights(record.weights, len(record.layers))
    if record.flatness is not None:
        yield from check_flatness(record.flatness)
    if len(set(map(str.lower, record.splits))) < len(record.splits):
        # Their folders are one where case makes no difference.
        yield "two splits have the same name but for case"
    for name, split in record.splits.items():
        if not SPLIT_NAME.fullmatch(name):
            yield f"{name!r} is no name of a split"
        yield from check_split(name, split, record)


def _array_contradictions(array: ArrayRecord, *, output: bool) -> Iterator[str]:
    if array.dtype not in _DTYPES:
        yield f"{array.name!r} has the unknown type {array.dtype!r}"
    yield from _shape_contradictions(array.name, array.shape)
    if array.levels is None:
        return
    if output:
        yield f"{array.name!r} is an output, and should count levels as only inputs can"
    elif (array.dtype, array.shape) != _COUNTS:
        yield (
            f"{array.name!r} should count levels, which are {_COUNTS[1]} of {_COUNTS[0]}, and "
            f"is {array.shape} of {array.dtype}"
        )


def _shape_contradictions(name: str, shape: tuple[int, ...]) -> Iterator[str]:
    possible = len(shape) <= _MOST_AXES and all(0 <= size <= LARGEST for size in shape)
    if not possible or math.prod(shape) > LARGEST:
        yield f"{name!r} has the impossible shape {shape}"


def _tensor_contradictions(number: int, tensor: TensorRecord, record: StoreRecord) -> Iterator[str]:
    name = f"tensor {tensor.name!r}"
    if tensor.number != number:
        yield f"{name} is number {tensor.number} in place {number}"
    yield from _shape_contradictions(tensor.name, tensor.shape)
    for dtype in {tensor.dtype, tensor.stored or tensor.dtype}:
        if dtype not in _DTYPES:
            yield f"{name} has the unknown type {dtype!r}"
            return
    axis = tensor.batch_axis
    if axis is not None and not 0 <= axis <= len(tensor.shape):
        yield f"{name} has {len(tensor.shape)} axes, and its samples are along axis {axis}"
    if tensor.merged is not None and (axis is None or axis >= len(tensor.shape)):
        yield f"{name} has no axis {axis} that could be merged"
    if tensor.output is not None:
        yield from _output_contradictions(name, tensor, record.outputs)
    if tensor.stored is not None:
        if tensor.varies:
            yield f"the shape of {name} varies, and it is stored whole"
        if tensor.kept != "full":
            yield f"of {name} only statistics are kept, and it is stored whole"
        floating = np.dtype(tensor.stored).kind == np.dtype(tensor.dtype).kind == "f"
        if tensor.stored != tensor.dtype and not floating:
            yield f"{name} is stored as {tensor.stored}, and {tensor.dtype} cannot be narrowed"


def _output_contradictions(
    name: str, tensor: TensorRecord, outputs: tuple[ArrayRecord, ...]
) -> Iterator[str]:
    assert tensor.output is not None
    if not 0 <= tensor.output < len(outputs):
        yield f"{name} should be output {tensor.output}, which there is not"
        return
    if tensor.stored is not None:
        yield f"{name} is output {tensor.output}, and is stored a second time"
    made = outputs[tensor.output]
    if (made.shape, made.dtype) != (tensor.shape, tensor.dtype):
        yield (
            f"{name} is {tensor.shape} of {tensor.dtype}, and should be output {tensor.output}, "
            f"which is {made.shape} of {made.dtype}"
        )


def _layer_contradictions(record: StoreRecord) -> Iterator[str]:
    numbers = [layer.number for layer in record.layers]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "its layers are not numbered from 1 on"
    if any(not 0 < layer.path <= len(numbers) for layer in record.layers):
        yield "a layer lies on a path longer than there are layers"


def _run_contradictions(record: StoreRecord) -> Iterator[str]:
    """Give what is wrong with the models, the runtime and the preprocessing."""
    for what, model in (("model", record.model), ("initial model", record.initial)):
        if model is not None:
            yield from _model_contradictions(what, model)
    runtime = record.runtime
    if runtime is not None and not 0 < runtime.batch_size <= LARGEST:
        yield f"its model ran on batches of {runtime.batch_size} samples"
    if runtime is not None and not 0 <= runtime.threads <= _MOST_THREADS:
        yield f"its model ran with {runtime.threads} threads"
    if len(record.preprocessing) not in (0, len(record.inputs)):
        yield (
            f"it has {len(record.inputs)} inputs, and says of {len(record.preprocessing)} how "
            "they were prepared"
        )
    for step in record.preprocessing:
        for dtype in (step.source_dtype, step.dtype):
            # Texts are objects.
            if dtype not in _DTYPES and dtype != "object":
                yield f"input {step.input!r} was prepared from or to the unknown type {dtype!r}"
        for shape in (step.source_shape, step.shape):
            yield from _shape_contradictions(step.input, shape)
        if 0 in step.std:
            yield f"input {step.input!r} was divided by a standard deviation of 0"
    for constant in record.constants:
        yield from _shape_contradictions(constant.input, constant.shape)
        if not SHA256.fullmatch(constant.sha256):
            yield f"{constant.sha256!r} is no SHA-256 of input {constant.input!r}"


def _model_contradictions(what: str, model: ModelRecord) -> Iterator[str]:
    if not model.files:
        yield f"its {what} consists of no files"
    for file in model.files:
        if not SHA256.fullmatch(file.sha256):
            yield f"{file.sha256!r} is no SHA-256 of the {what}'s file {file.name!r}"
        if not 0 <= file.bytes <= LARGEST:
            yield f"the {what}'s file {file.name!r} has {file.bytes} bytes"
    if any(abs(version) > LARGEST for version in model.opsets.values()):
        yield f"the {what}'s operator sets have impossible versions"
