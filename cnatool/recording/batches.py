"""Batches of a recorded store: checked, ordered, compared with the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import count_text
from cnatool._version import __version__
from cnatool.errors import DataError
from cnatool.records.store import ArrayRecord, LayerRecord, StoreRecord, TensorRecord
from cnatool.store.statistics import magnitude, row_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.records.choices import Kept, Statistic
    from cnatool.records.weights import WeightsRecord

# Element type, and shape for one sample.
Form = tuple[np.dtype[Any], tuple[int, ...]]

_LOOKED_AT = 8  # rows from which the magnitude of a tensor is computed


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one batch, (n, …) each, by name in the store's order."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    tensors: dict[str, NDArray[Any]]  # including the outputs
    statistics: dict[str, NDArray[np.float64]]  # (n, T) each, of all T tensors
    labels: NDArray[np.int64] | None
    ids: list[str] | None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    def forms(self) -> dict[str, Form]:
        """Return type and shape of one sample of each array, by kind and name."""
        kinds = (("input", self.inputs), ("output", self.outputs), ("tensor", self.tensors))
        return {
            f"{kind} {name!r}": (value.dtype, value.shape[1:])
            for kind, arrays in kinds
            for name, value in arrays.items()
        }


@dataclass(frozen=True, slots=True)
class Description:
    """Description of a store by its caller; shapes and types follow from the first batch."""

    operators: dict[str, str]  # by tensor
    layers: tuple[LayerRecord, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    keep: Kept
    statistics: tuple[Statistic, ...]
    shapes: dict[str, tuple[int, ...]]  # of one sample, of tensors whose statistics alone are given
    tags: dict[str, str]
    weights: WeightsRecord | None
    held_inputs: tuple[ArrayRecord, ...] | None = None  # of another store that contains them

    def record(self, batch: Batch) -> StoreRecord:
        """Describe the store by its first batch."""
        hidden = {n for layer in self.layers for n in (layer.linear, layer.preactivation)}
        last = {n for r in self.layers if r.output for n in (r.linear, r.preactivation)}
        tensors = []
        for number, (name, operator) in enumerate(self.operators.items()):
            value = batch.tensors.get(name)
            output = self.outputs.index(name) if name in self.outputs else None
            dtype = "float32" if value is None else value.dtype.name
            is_last = name in last or output is not None
            tensors.append(
                TensorRecord(
                    number=number,
                    name=name,
                    operator=operator,
                    role="output" if is_last else "layer" if name in hidden else "activation",
                    dtype=dtype,
                    shape=self.shapes[name] if value is None else value.shape[1:],
                    batch_axis=0,
                    kept=self.keep,
                    output=output,
                    stored=dtype if self.keep == "full" and output is None else None,
                )
            )
        return StoreRecord(
            schema="cnatool.store/1",
            created_by=f"cnatool {__version__}",
            inputs=self.held_inputs or _array_records(batch.inputs),
            outputs=_array_records(batch.outputs),
            tensors=tuple(tensors),
            layers=self.layers,
            statistics=self.statistics,
            splits={},
            tags=self.tags,
            weights=self.weights,
            magnitudes=tuple(_magnitude(batch.tensors.get(name)) for name in self.operators),
        )


def _magnitude(values: NDArray[Any] | None) -> float | None:
    """Compute the magnitude of a tensor from its first rows; None without values."""
    if values is None:
        return None
    return magnitude(row_statistics(values[:_LOOKED_AT], ["abs_sum"])["abs_sum"])


def arrange_batch(
    described: Description,
    inputs: ArrayLike | Mapping[str, ArrayLike],
    outputs: ArrayLike | Mapping[str, ArrayLike],
    activations: Mapping[str, ArrayLike],
    statistics: Mapping[str, Mapping[str, ArrayLike]] | None,
    labels: ArrayLike | None,
    ids: Sequence[str] | None,
) -> Batch:
    """Check the arrays of a batch and put them into the store's order."""
    named_inputs = _arrays_by_name("inputs", inputs, described.inputs)
    named_outputs = _arrays_by_name("outputs", outputs, described.outputs)
    tensors = {name: _native_array(value) for name, value in activations.items()}
    unknown = [name for name in tensors if name not in described.operators]
    if unknown:
        raise DataError(f"activations: {unknown[0]!r} is none of the store's tensors.")
    tensors = {n: named_outputs[n] for n in described.operators if n in named_outputs} | tensors
    rows = _rows(next(iter(named_inputs.values())))
    kinds = (("input", named_inputs), ("output", named_outputs), ("tensor", tensors))
    for what, arrays in kinds:
        for name, array in arrays.items():
            _check_array(f"{what} {name!r}", array, rows)
    targets = None if labels is None else np.asarray(labels)
    if targets is not None and (targets.dtype.kind not in "iu" or targets.shape != (rows,)):
        raise DataError(
            f"labels: expected {rows} integers, got {targets.dtype} of shape {targets.shape}."
        )
    if targets is not None and targets.max(initial=0) > np.iinfo(np.int64).max:
        raise DataError(f"labels: {targets.max()} exceeds a signed 64-bit integer.")
    if ids is not None and len(ids) != rows:
        raise DataError(f"ids: expected {rows}, one per sample, got {len(ids)}.")
    return Batch(
        inputs=named_inputs,
        outputs=named_outputs,
        tensors=tensors,
        statistics=_statistics(described, tensors, statistics, rows),
        labels=None if targets is None else targets.astype(np.int64),
        ids=None if ids is None else [_check_id(name) for name in ids],
    )


def _statistics(
    described: Description,
    tensors: Mapping[str, NDArray[Any]],
    given: Mapping[str, Mapping[str, ArrayLike]] | None,
    rows: int,
) -> dict[str, NDArray[np.float64]]:
    """Collect each statistic, (n, T), computed from the tensors' values or by the caller."""
    columns: dict[str, NDArray[np.float64]] = {
        name: np.empty((rows, len(described.operators))) for name in described.statistics
    }
    for column, name in enumerate(described.operators):
        if name in tensors:
            for statistic, values in row_statistics(tensors[name], described.statistics).items():
                columns[statistic][:, column] = values
            continue
        if described.keep == "full" or given is None:
            raise DataError(f"activations: tensor {name!r} is missing.")
        if name not in described.shapes:
            raise DataError(f"shapes: the shape of tensor {name!r} is required for its means.")
        for statistic in described.statistics:
            value = np.asarray(given.get(statistic, {}).get(name))
            if value.shape != (rows,) or value.dtype.kind not in "fiu":
                raise DataError(
                    f"statistics[{statistic!r}][{name!r}]: expected {rows} numbers, one per sample."
                )
            columns[statistic][:, column] = value
    return columns


def check_same_forms(forms: Mapping[str, Form], first: Mapping[str, Form]) -> None:
    """Compare types and shapes with those of the first batch."""
    for what, (dtype, shape) in forms.items():
        was = first.get(what, (dtype, shape))
        if (dtype, shape) != was:
            raise DataError(
                f"{what}: {dtype} {shape} per sample, but {was[0]} {was[1]} in the first batch."
            )


def _native_array(value: ArrayLike) -> NDArray[Any]:
    """Convert an array to the byte order of the machine, which is stored and hashed."""
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _arrays_by_name(
    what: str, given: ArrayLike | Mapping[str, ArrayLike], names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return arrays by name, in the store's order."""
    if not isinstance(given, Mapping):
        if len(names) != 1:
            raise DataError(f"{what}: there are {len(names)}, so pass them by name.")
        return {names[0]: _native_array(given)}
    if set(given) != set(names):
        raise DataError(f"{what}: expected {', '.join(names)}, got {', '.join(given)}.")
    return {name: _native_array(given[name]) for name in names}


def _check_id(name: object) -> str:
    text = str(name)
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise DataError(f"ids: {text!r} contains a character that a store cannot hold.")
    return text


def _rows(array: NDArray[Any]) -> int:
    return len(array) if array.ndim else 0


def _check_array(what: str, array: NDArray[Any], rows: int) -> None:
    # The formats have no long double.
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DataError(f"{what}: expected numbers or booleans, got {array.dtype}.")
    if array.ndim == 0 or len(array) != rows or not rows:
        raise DataError(
            f"{what}: its shape is {array.shape}, but "
            f"{'there is' if rows == 1 else 'there are'} {count_text(rows, 'sample')}."
        )


def _array_records(arrays: Mapping[str, NDArray[Any]]) -> tuple[ArrayRecord, ...]:
    return tuple(
        ArrayRecord(name, value.dtype.name, value.shape[1:]) for name, value in arrays.items()
    )
