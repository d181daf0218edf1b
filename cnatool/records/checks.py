"""Consistency of a store's attribute, beyond its types.

Everything that readers rely on is checked here, so that no reader has to.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, get_args

import msgspec
import numpy as np

from cnatool._util import bfloat16
from cnatool.records.choices import Statistic
from cnatool.records.layout import ragged_axis
from cnatool.records.limits import LARGEST, SHA256
from cnatool.records.parts import check_part, check_references
from cnatool.records.reductions import find_contradiction
from cnatool.records.split_checks import check_split
from cnatool.records.unit_axis import list_unit_axes
from cnatool.records.unit_checks import check_state, check_units
from cnatool.records.weight_checks import check_flatness, check_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.choices import InputKind
    from cnatool.records.run import ModelRecord
    from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord, TokensRecord

# The name of a split is that of a folder in the store.
SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# NumPy allows 64 axes, one of which is for rows.
_MOST_AXES = 63
# A resumed dump starts as many threads as the record says.
_MOST_THREADS = 1 << 12
# Type and shape of counts of levels: 256 counts and a checksum.
_COUNTS = ("uint32", (257,))
_KINDS: dict[InputKind, str] = {
    "text": "bytes of a text",
    "tokens": "token ids",
    "sound": "amplitudes",
}
# Each is the name of an array.
_STATISTICS = (*get_args(Statistic), "count")
# Compared by name, since np.dtype() accepts more than names.
_DTYPES = frozenset(np.dtype(code).name for code in "?bBhHiIlLqQefdg")


def find_contradictions(record: StoreRecord) -> Iterator[str]:
    """Find contradictions in a store's attribute, the most informative first."""
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
        yield f"{name!r} is not a statistic; these are {', '.join(_STATISTICS)}"
    for array in record.inputs:
        yield from _check_array(array, output=False)
    for array in record.outputs:
        yield from _check_array(array, output=True)
    for number, tensor in enumerate(record.tensors):
        yield from _check_tensor(number, tensor, record)
    numbers = [tensor.output for tensor in record.tensors if tensor.output is not None]
    if len(set(numbers)) < len(numbers):
        yield "two tensors are the same output"
    if record.magnitudes and len(record.magnitudes) != len(record.tensors):
        yield f"it has {len(record.tensors)} tensors, but magnitudes of {len(record.magnitudes)}"
    if any(magnitude is not None and magnitude < 0 for magnitude in record.magnitudes):
        yield "a magnitude is negative"
    yield from _check_layer(record)
    yield from _check_run(record)
    if record.tokens:
        yield from _check_tokens(record.tokens)
    if record.units is not msgspec.UNSET:
        yield from check_units(record, record.units)
    if record.weights is not None:
        yield from check_weights(record.weights, len(record.layers))
    if record.flatness is not None:
        yield from check_flatness(record.flatness)
    if len(set(map(str.lower, record.splits))) < len(record.splits):
        # Their folders coincide on systems that ignore case.
        yield "the names of two splits differ only in case"
    rows = {name: split.rows for name, split in record.splits.items()}
    if record.part is not msgspec.UNSET:
        yield from check_part(record.part, rows)
    if record.parts is not msgspec.UNSET:
        yield from check_references(record.parts, rows)
    for name, split in record.splits.items():
        if not SPLIT_NAME.fullmatch(name):
            yield f"{name!r} is not a valid name of a split"
        yield from check_split(name, split, record)
        yield from check_state(name, split, record)


def _check_array(array: ArrayRecord, *, output: bool) -> Iterator[str]:
    if array.dtype not in _DTYPES:
        yield f"{array.name!r} has the unknown type {array.dtype!r}"
    yield from _check_shape(array.name, array.shape)
    yield from _check_ragged_axis(array.name, array)
    yield from _check_kind(array, output=output)
    if array.stored and array.dtype != "float32":
        yield f"{array.name!r} is stored as {array.stored}, which is read as float32"
    if array.levels is None:
        return
    if output:
        yield f"{array.name!r} is an output, but only inputs can count levels"
    elif (array.dtype, array.shape) != _COUNTS:
        yield (
            f"{array.name!r} counts levels, which are {_COUNTS[1]} of {_COUNTS[0]}, but it is "
            f"{array.shape} of {array.dtype}"
        )


def _check_kind(array: ArrayRecord, *, output: bool) -> Iterator[str]:
    kind = None if array.kind is msgspec.UNSET else array.kind
    if kind is not None and (output or array.levels is not None or array.dtype not in _DTYPES):
        yield f"{array.name!r} is no input whose values are {_KINDS[kind]}"
    elif kind == "text" and (array.dtype != "uint8" or len(array.shape) != 1):
        yield f"{array.name!r} is {array.shape} of {array.dtype}, which is not text"
    elif kind == "tokens" and np.dtype(array.dtype).kind not in "iu":
        yield f"{array.name!r} is of {array.dtype}, which is not a type of ids"
    elif kind == "sound" and np.dtype(array.dtype).kind not in "iuf":
        yield f"{array.name!r} is of {array.dtype}, which is not a type of amplitudes"
    if array.special is not msgspec.UNSET and kind != "tokens":
        yield f"{array.name!r} has special tokens, but is no input of token ids"


def _check_shape(name: str, shape: tuple[int, ...]) -> Iterator[str]:
    possible = len(shape) <= _MOST_AXES and all(0 <= size <= LARGEST for size in shape)
    if not possible or math.prod(shape) > LARGEST:
        yield f"{name!r} has the impossible shape {shape}"


def _check_ragged_axis(name: str, array: ArrayRecord | TensorRecord) -> Iterator[str]:
    axis = ragged_axis(array)
    if axis is not None and not 0 <= axis < len(array.shape):
        yield f"{name!r} has {len(array.shape)} axes, but its samples differ along axis {axis}"


def _check_tensor(number: int, tensor: TensorRecord, record: StoreRecord) -> Iterator[str]:
    name = f"tensor {tensor.name!r}"
    if tensor.number != number:
        yield f"{name} is number {tensor.number} in place {number}"
    yield from _check_shape(tensor.name, tensor.shape)
    yield from _check_ragged_axis(tensor.name, tensor)
    if tensor.ragged_axis is not msgspec.UNSET and not tensor.varies:
        yield f"the samples of {name} differ in length, but its shape does not vary"
    for dtype in {tensor.dtype, tensor.stored or tensor.dtype} - {bfloat16.NAME}:
        if dtype not in _DTYPES:
            yield f"{name} has the unknown type {dtype!r}"
            return
    if tensor.dtype == bfloat16.NAME:
        yield f"{name} has the type bfloat16, which is read as float32"
        return
    axis = tensor.batch_axis
    if axis is not None and not 0 <= axis <= len(tensor.shape):
        yield f"{name} has {len(tensor.shape)} axes, but its samples are along axis {axis}"
    if tensor.merged is not None and (axis is None or axis >= len(tensor.shape)):
        yield f"{name} has no axis {axis} to be merged"
    if not all(0 <= source < number for source in tensor.sources or ()):
        yield f"{name} should be computed from tensors that are not before it"
    if tensor.unit_axis is not msgspec.UNSET and tensor.unit_axis not in list_unit_axes(tensor):
        yield f"{name} has no axis {tensor.unit_axis} for its units"
    if tensor.output is not None:
        yield from _check_output(name, tensor, record.outputs)
    if tensor.reduction:
        fault = find_contradiction(name, tensor.reduction, tensor.shape)
        if fault is not None:
            yield fault
    if tensor.stored is not None:
        if tensor.varies and tensor.ragged_axis is msgspec.UNSET:
            yield f"the shape of {name} varies, but it is stored whole"
        if tensor.kept != "full":
            yield f"only statistics of {name} are kept, but it is stored whole"
        stored = bfloat16.memory_dtype(bfloat16.storage_dtype(tensor.stored))
        floating = stored.kind == np.dtype(tensor.dtype).kind == "f"
        if tensor.stored != tensor.dtype and not floating:
            yield f"{name} is stored as {tensor.stored}, but {tensor.dtype} cannot be narrowed"


def _check_output(
    name: str, tensor: TensorRecord, outputs: tuple[ArrayRecord, ...]
) -> Iterator[str]:
    assert tensor.output is not None
    if not 0 <= tensor.output < len(outputs):
        yield f"{name} should be output {tensor.output}, which does not exist"
        return
    if tensor.stored is not None:
        yield f"{name} is output {tensor.output}, but is stored a second time"
    output = outputs[tensor.output]
    if (output.shape, output.dtype) != (tensor.shape, tensor.dtype):
        yield (
            f"{name} is {tensor.shape} of {tensor.dtype}, but should be output {tensor.output}, "
            f"which is {output.shape} of {output.dtype}"
        )
    if ragged_axis(output) != ragged_axis(tensor):
        yield f"{name} and output {tensor.output} differ in the axis along which samples vary"


def _check_tokens(tokens: TokensRecord) -> Iterator[str]:
    if not 1 <= tokens.classes <= LARGEST:
        yield f"the tokens of {tokens.output!r} have scores of {tokens.classes} classes"


def _check_layer(record: StoreRecord) -> Iterator[str]:
    numbers = [layer.number for layer in record.layers]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "its layers are not numbered from 1 on"
    if any(not 0 < layer.path <= len(numbers) for layer in record.layers):
        yield "a layer lies on a path longer than there are layers"


def _check_run(record: StoreRecord) -> Iterator[str]:
    """Find contradictions in the models, the runtime and the preprocessing."""
    for what, model in (("model", record.model), ("initial model", record.initial)):
        if model is not None:
            yield from _check_model(what, model)
    runtime = record.runtime
    if runtime is not None and not 0 < runtime.batch_size <= LARGEST:
        yield f"its model ran on batches of {runtime.batch_size} samples"
    if runtime is not None and not 0 <= runtime.threads <= _MOST_THREADS:
        yield f"its model ran with {runtime.threads} threads"
    # The bytes of a text are stored beside its tokens, which the model receives.
    texts = sum(array.kind == "text" for array in record.inputs)
    if len(record.preprocessing) not in (0, len(record.inputs) - texts, len(record.inputs)):
        yield (
            f"it has {len(record.inputs)} inputs, but the preprocessing of "
            f"{len(record.preprocessing)}"
        )
    for step in record.preprocessing:
        for dtype in (step.source_dtype, step.dtype):
            # Text has the type object.
            if dtype not in _DTYPES and dtype != "object":
                yield f"the preprocessing of input {step.input!r} has the unknown type {dtype!r}"
        for shape in (step.source_shape, step.shape):
            yield from _check_shape(step.input, shape)
        if 0 in step.std:
            yield f"input {step.input!r} was divided by a standard deviation of 0"
    for constant in record.constants:
        yield from _check_shape(constant.input, constant.shape)
        if not SHA256.fullmatch(constant.sha256):
            yield f"{constant.sha256!r} is not a SHA-256 (input {constant.input!r})"
    for derived in record.derived or ():
        lengths = tuple(size for size in derived.dims if isinstance(size, int))
        if len(derived.dims) > _MOST_AXES or not all(0 <= n <= LARGEST for n in lengths):
            yield f"input {derived.input!r}, filled in by rule, has the impossible shape of a run"


def _check_model(what: str, model: ModelRecord) -> Iterator[str]:
    if not model.files:
        yield f"its {what} consists of no files"
    for file in model.files:
        if not SHA256.fullmatch(file.sha256):
            yield f"{file.sha256!r} is not a SHA-256 (file {file.name!r} of the {what})"
        if not 0 <= file.bytes <= LARGEST:
            yield f"the {what}'s file {file.name!r} has {file.bytes} bytes"
    if any(abs(version) > LARGEST for version in model.opsets.values()):
        yield f"the {what}'s operator sets have impossible versions"
