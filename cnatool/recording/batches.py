"""Batches that a caller gives for a store: checked, brought into order, compared with the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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

_LOOKED_AT = 8  # rows that tell how large a tensor is


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one batch, (n, …) each, by name in the store's order.

    Attributes
    ----------
    inputs, outputs, tensors : dict of str to ndarray
        Raw inputs, what the network gives, and its tensors, the outputs among them.
    statistics : dict of str to ndarray, shape (n, T)
        Per-sample statistics of all T tensors.
    labels : ndarray, shape (n,), or None
        Labels.
    ids : list of str or None
        Where each sample came from.
    """

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    tensors: dict[str, NDArray[Any]]
    statistics: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int64] | None
    ids: list[str] | None

    @property
    def rows(self) -> int:
        """Samples of the batch."""
        return len(next(iter(self.inputs.values())))

    def forms(self) -> dict[str, Form]:
        """Return type and shape for one sample of each array, by what it is."""
        kinds = (("input", self.inputs), ("output", self.outputs), ("tensor", self.tensors))
        return {
            f"{kind} {name!r}": (value.dtype, value.shape[1:])
            for kind, arrays in kinds
            for name, value in arrays.items()
        }


@dataclass(frozen=True, slots=True)
class Description:
    """What the caller says of a store; shapes and types follow from the first batch.

    Attributes
    ----------
    operators : dict of str to str
        Names of the tensors, with the operators that make them.
    layers : tuple of LayerRecord
        The linear operators.
    inputs, outputs : tuple of str
        Their names.
    keep : {"full", "statistics"}
        Whether whole activations are stored, or their statistics alone.
    statistics : tuple of Statistic
        What is computed of each tensor.
    shapes : dict of str to tuple of int
        Shapes for one sample of the tensors of which statistics alone will be given.
    tags : dict of str to str
        Words of the caller's own.
    weights : WeightsRecord or None
        Norms of the weights, where the caller gave these.
    held_inputs : tuple of ArrayRecord or None
        What another store says of the raw inputs, where it has them.
    """

    operators: dict[str, str]
    layers: tuple[LayerRecord, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    keep: Kept
    statistics: tuple[Statistic, ...]
    shapes: dict[str, tuple[int, ...]]
    tags: dict[str, str]
    weights: WeightsRecord | None
    held_inputs: tuple[ArrayRecord, ...] | None = None

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
    """Return the magnitude of a tensor by its first rows; None where only sums were given."""
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
    """Bring what the caller gave into order; every array has as many rows."""
    given = _arrays_by_name("inputs", inputs, described.inputs)
    made = _arrays_by_name("outputs", outputs, described.outputs)
    tensors = {name: _native_array(value) for name, value in activations.items()}
    unknown = [name for name in tensors if name not in described.operators]
    if unknown:
        raise DataError(f"activations: {unknown[0]!r} is none of the store's tensors.")
    tensors = {n: made[n] for n in described.operators if n in made} | tensors
    rows = _rows(next(iter(given.values())))
    for what, arrays in (("input", given), ("output", made), ("tensor", tensors)):
        for name, array in arrays.items():
            _check_array(f"{what} {name!r}", array, rows)
    targets = None if labels is None else np.asarray(labels)
    if targets is not None and (targets.dtype.kind not in "iu" or targets.shape != (rows,)):
        raise DataError(
            f"labels: {rows} integers, and they are {targets.dtype} of shape {targets.shape}."
        )
    if targets is not None and targets.max(initial=0) > np.iinfo(np.int64).max:
        raise DataError(f"labels: {targets.max()} is beyond 64 bits with a sign.")
    if ids is not None and len(ids) != rows:
        raise DataError(f"ids: one for each of {rows} samples, and there are {len(ids)}.")
    return Batch(
        inputs=given,
        outputs=made,
        tensors=tensors,
        statistics=_statistics(described, tensors, statistics, rows),
        labels=None if targets is None else targets.astype(np.int64),
        ids=None if ids is None else [_id(one) for one in ids],
    )


def _statistics(
    described: Description,
    tensors: Mapping[str, NDArray[Any]],
    given: Mapping[str, Mapping[str, ArrayLike]] | None,
    rows: int,
) -> dict[str, NDArray[np.float64]]:
    """Return each statistic, (n, T): of the tensors' values, or as the caller computed it."""
    found: dict[str, NDArray[np.float64]] = {
        name: np.empty((rows, len(described.operators))) for name in described.statistics
    }
    for column, name in enumerate(described.operators):
        if name in tensors:
            for statistic, values in row_statistics(tensors[name], described.statistics).items():
                found[statistic][:, column] = values
            continue
        if described.keep == "full" or given is None:
            raise DataError(f"activations: tensor {name!r} is missing.")
        if name not in described.shapes:
            raise DataError(f"shapes: that of tensor {name!r} is needed, for means over it.")
        for statistic in described.statistics:
            value = np.asarray(given.get(statistic, {}).get(name))
            if value.shape != (rows,) or value.dtype.kind not in "fiu":
                raise DataError(
                    f"statistics[{statistic!r}][{name!r}]: {rows} numbers, one a sample."
                )
            found[statistic][:, column] = value
    return found


def check_same_forms(forms: Mapping[str, Form], first: Mapping[str, Form]) -> None:
    """Compare types and shapes with those of the first batch."""
    for what, (dtype, shape) in forms.items():
        was = first.get(what, (dtype, shape))
        if (dtype, shape) != was:
            raise DataError(
                f"{what}: {dtype} {shape} a sample, and in the first batch {was[0]} {was[1]}."
            )


def _native_array(value: ArrayLike) -> NDArray[Any]:
    """Return an array in the byte order of the machine, which is what is stored and hashed."""
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _arrays_by_name(
    what: str, given: ArrayLike | Mapping[str, ArrayLike], names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return arrays by name, in the store's order."""
    if not isinstance(given, Mapping):
        if len(names) != 1:
            raise DataError(f"{what}: there are {len(names)}, so give them by name.")
        return {names[0]: _native_array(given)}
    if set(given) != set(names):
        raise DataError(f"{what}: they are {', '.join(names)}, and not {', '.join(given)}.")
    return {name: _native_array(given[name]) for name in names}


def _id(given: object) -> str:
    text = str(given)
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise DataError(f"ids: {text!r} holds a character that text in a store cannot.")
    return text


def _rows(array: NDArray[Any]) -> int:
    return len(array) if array.ndim else 0


def _check_array(what: str, array: NDArray[Any], rows: int) -> None:
    # A long double has no place in the formats.
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DataError(f"{what}: numbers or booleans, and it is {array.dtype}.")
    if array.ndim == 0 or len(array) != rows or not rows:
        raise DataError(f"{what}: shape {array.shape}, and there are {rows} samples.")


def _array_records(arrays: Mapping[str, NDArray[Any]]) -> tuple[ArrayRecord, ...]:
    return tuple(
        ArrayRecord(name, value.dtype.name, value.shape[1:]) for name, value in arrays.items()
    )
