"""The arrays of a split, and their keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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

    from cnatool.records.store import StoreRecord

IDS = "ids"
LABELS = "labels"

# Estimated bytes of an id; only the size of a chunk depends on it.
_ID_BYTES = 64


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


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a split: its key, the shape of one row, its element type."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | type[str]
    axes: tuple[str, ...]  # names of the row's axes, without sizes
    name: str | None = None  # of the tensor, input or output in the network

    @property
    def row_bytes(self) -> int:
        """Bytes of one row before compression."""
        if isinstance(self.dtype, np.dtype):
            return math.prod(self.shape) * self.dtype.itemsize
        return _ID_BYTES

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of all axes; those of equal names have the same size in all arrays of a split."""
        if self.axes == (TENSOR,):
            return (SAMPLE, TENSOR)
        return (SAMPLE, *add_sizes(self.axes, self.shape))


def split_arrays(record: StoreRecord, *, labels: bool, inputs: bool = True) -> list[ArraySpec]:
    """List the arrays of a split, with ``labels`` and raw ``inputs`` if it has them itself."""
    specs = [ArraySpec(IDS, (), str, ())]
    if labels:
        specs.append(ArraySpec(LABELS, (), np.dtype(np.int64), ()))
    named = tensor_axes(record)
    for i, axes in enumerate(input_axes(record) if inputs else ()):
        array, dtype = record.inputs[i], np.dtype(record.inputs[i].dtype)
        specs.append(ArraySpec(input_key(i), array.shape, dtype, axes, array.name))
    for i, axes in enumerate(output_axes(record, named)):
        array, dtype = record.outputs[i], np.dtype(record.outputs[i].dtype)
        specs.append(ArraySpec(output_key(i), array.shape, dtype, axes, array.name))
    for tensor in record.tensors:
        if tensor.stored is not None:
            key, dtype = activation_key(tensor.number), np.dtype(tensor.stored)
            axes = named[tensor.number]
            specs.append(ArraySpec(key, tensor.shape, dtype, axes, tensor.name))
    shape = (len(record.tensors),)
    for name in record.statistics:
        key = statistic_key(name)
        specs.append(ArraySpec(key, shape, np.dtype(np.float64), (TENSOR,)))
    return specs


@dataclass(frozen=True, slots=True)
class StoreRows:
    """Rows of a split, the sample axis first in every array."""

    ids: Sequence[str]  # where each sample came from
    inputs: Sequence[NDArray[Any]]
    labels: NDArray[np.int64] | None
    outputs: Sequence[NDArray[Any]]
    activations: Mapping[int, NDArray[Any]]  # of the tensors kept whole, by number
    statistics: Mapping[str, NDArray[np.float64]]  # (n, T) each, of all T tensors

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
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Map the keys of the split's arrays to their rows."""
        arrays: dict[str, NDArray[Any]] = {IDS: np.array(self.ids, dtype=object)}
        if self.labels is not None:
            arrays[LABELS] = self.labels
        arrays.update({input_key(i): values for i, values in enumerate(self.inputs)})
        arrays.update({output_key(i): values for i, values in enumerate(self.outputs)})
        arrays.update({activation_key(n): values for n, values in self.activations.items()})
        arrays.update({statistic_key(name): v for name, v in self.statistics.items()})
        return arrays
