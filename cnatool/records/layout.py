"""The arrays of a split, and their keys."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.bfloat16 import storage_dtype
from cnatool.records.axes import (
    SAMPLE,
    TENSOR,
    add_sizes,
    input_axes,
    output_axes,
    tensor_axes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord

IDS = "ids"
LABELS = "labels"

# The groups of a store: its splits, and what belongs to all of them.
SPLITS = "splits"
REDUCTIONS = "reductions"
GROUPS = frozenset({SPLITS, REDUCTIONS})

# Numbers of the tokens of each sample, with their types.
TOKEN_NUMBERS = {"loss": "float64", "correct": "int64", "count": "int64"}

# Estimated bytes of an id; only the size of a chunk depends on it.
_ID_BYTES = 64
# The first axis of ``offsets``, which is one longer than that of samples.
_OFFSET = "offset"


def input_key(number: int) -> str:
    """Return the key of a raw input in a split."""
    return f"inputs/{number}"


def is_input(key: str) -> bool:
    """Whether a key is that of a raw input."""
    return key.startswith("inputs/")


def output_key(number: int) -> str:
    """Return the key of a model output in a split."""
    return f"outputs/{number}"


def activation_key(number: int) -> str:
    """Return the key of a tensor that is stored whole in a split."""
    return f"activations/{number}"


def statistic_key(name: str) -> str:
    """Return the key of a per-sample statistic of all tensors in a split."""
    return f"statistics/{name}"


def reduction_key(number: int, name: str) -> str:
    """Return the key, in the store, of ``mean`` or ``components`` of a reduced tensor."""
    return f"{REDUCTIONS}/{number}/{name}"


def common_axes(key: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Name the axes of an array that belongs to all splits."""
    names = ("component", "feature")[-len(shape) :]
    return add_sizes(names, shape)


def token_key(name: str) -> str:
    """Return the key of a number of each sample's tokens in a split: loss, correct, count."""
    return f"tokens/{name}"


def values_key(key: str) -> str:
    """Return the key of the values of an array whose rows vary in length."""
    return f"{key}/values"


def offsets_key(key: str) -> str:
    """Return the key of the offsets of an array whose rows vary in length."""
    return f"{key}/offsets"


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a split: its key, the shape of one row, its element type."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | type[str]  # of the stored array, `BFLOAT16` among them
    axes: tuple[str, ...]  # names of the row's axes, without sizes
    name: str | None = None  # of the tensor, input or output in the network
    ragged_axis: int | None = None  # of the shape, if rows differ in length along it
    rows_axis: str = SAMPLE  # name of the first axis

    @property
    def row_bytes(self) -> int:
        """Bytes of one row before compression."""
        if self.ragged_axis is not None:
            # Rows are as long as the first ones, and at least 1.
            length = max(1, self.shape[self.ragged_axis])
            return length * self.values.row_bytes + self.offsets.row_bytes
        if isinstance(self.dtype, np.dtype):
            return math.prod(self.shape) * self.dtype.itemsize
        return _ID_BYTES

    @property
    def values(self) -> ArraySpec:
        """The values of rows that vary in length, behind one another."""
        axis = self.ragged_axis
        assert axis is not None
        rest, axes = list(self.shape), list(self.axes)
        del rest[axis]
        along = f"{axes.pop(axis)}_of_{self.key.replace('/', '_')}"
        key = values_key(self.key)
        return ArraySpec(key, tuple(rest), self.dtype, tuple(axes), self.name, rows_axis=along)

    @property
    def offsets(self) -> ArraySpec:
        """The offsets of rows that vary in length among their values."""
        key, dtype = offsets_key(self.key), np.dtype(np.int64)
        return ArraySpec(key, (), dtype, (), self.name, rows_axis=_OFFSET)

    @property
    def stored(self) -> tuple[ArraySpec, ...]:
        """The arrays in the store: this one, or values and offsets."""
        return (self,) if self.ragged_axis is None else (self.values, self.offsets)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of all axes; those of equal names have the same size in all arrays of a split."""
        if self.axes == (TENSOR,):
            return (SAMPLE, TENSOR)
        return (self.rows_axis, *add_sizes(self.axes, self.shape))


def ragged_axis(array: ArrayRecord | TensorRecord) -> int | None:
    """Return the axis of one sample along which samples differ in length; None if none does."""
    return None if array.ragged_axis is msgspec.UNSET else array.ragged_axis


def sample_form(array: ArrayRecord | TensorRecord) -> tuple[str, tuple[int | None, ...]]:
    """Return element type and shape of one sample, None in place of a length that differs."""
    axis = ragged_axis(array)
    sizes = (None if place == axis else size for place, size in enumerate(array.shape))
    return array.dtype, tuple(sizes)


def split_arrays(record: StoreRecord, *, labels: bool, inputs: bool = True) -> list[ArraySpec]:
    """List the arrays of a split, with ``labels`` and raw ``inputs`` if it has them itself."""
    specs = [ArraySpec(IDS, (), str, ())]
    if labels and record.label_lists:
        specs.append(ArraySpec(LABELS, (1,), np.dtype(np.int64), ("label",), ragged_axis=0))
    elif labels:
        specs.append(ArraySpec(LABELS, (), np.dtype(np.int64), ()))
    named = tensor_axes(record)
    for i, axes in enumerate(input_axes(record) if inputs else ()):
        array, dtype = record.inputs[i], _array_dtype(record.inputs[i])
        axis = ragged_axis(array)
        specs.append(ArraySpec(input_key(i), array.shape, dtype, axes, array.name, axis))
    for i, axes in enumerate(output_axes(record, named)):
        array, dtype = record.outputs[i], _array_dtype(record.outputs[i])
        axis = ragged_axis(array)
        specs.append(ArraySpec(output_key(i), array.shape, dtype, axes, array.name, axis))
    for tensor in record.tensors:
        if tensor.stored is not None:
            key, dtype = activation_key(tensor.number), storage_dtype(tensor.stored)
            axes, axis = named[tensor.number], ragged_axis(tensor)
            specs.append(ArraySpec(key, tensor.shape, dtype, axes, tensor.name, axis))
    shape = (len(record.tensors),)
    for name in record.statistics:
        key = statistic_key(name)
        specs.append(ArraySpec(key, shape, np.dtype(np.float64), (TENSOR,)))
    if record.tokens:
        for name, kind in TOKEN_NUMBERS.items():
            specs.append(ArraySpec(token_key(name), (), np.dtype(kind), ()))
    return specs


def _array_dtype(array: ArrayRecord) -> np.dtype[Any]:
    return storage_dtype(array.stored or array.dtype)


@dataclass(frozen=True, slots=True)
class StoreRows:
    """Rows of a split, the sample axis first in every array."""

    ids: Sequence[str]  # where each sample came from
    inputs: Sequence[Rows]
    labels: Rows | None
    outputs: Sequence[Rows]
    activations: Mapping[int, Rows]  # of the tensors kept whole, by number
    statistics: Mapping[str, NDArray[np.float64]]  # (n, T) each, of all T tensors
    tokens: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # (n,) each, by name

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> StoreRows:
        return StoreRows(
            self.ids[rows],
            [values[rows] for values in self.inputs],
            None if self.labels is None else self.labels[rows],
            [values[rows] for values in self.outputs],
            {number: values[rows] for number, values in self.activations.items()},
            {name: values[rows] for name, values in self.statistics.items()},
            {name: values[rows] for name, values in self.tokens.items()},
        )

    def arrays(self) -> dict[str, Rows]:
        """Map the keys of the split's arrays to their rows."""
        arrays: dict[str, Rows] = {IDS: np.array(self.ids, dtype=object)}
        if self.labels is not None:
            arrays[LABELS] = self.labels
        arrays.update({input_key(i): values for i, values in enumerate(self.inputs)})
        arrays.update({output_key(i): values for i, values in enumerate(self.outputs)})
        arrays.update({activation_key(n): values for n, values in self.activations.items()})
        arrays.update({statistic_key(name): v for name, v in self.statistics.items()})
        arrays.update({token_key(name): values for name, values in self.tokens.items()})
        return arrays
