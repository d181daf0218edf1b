"""Batches of a recorded store: checked, ordered, compared with the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from cnatool._util.bfloat16 import BFLOAT16, NAME, dtype_name, is_bfloat16, narrow, widen
from cnatool._util.text import count_text
from cnatool._version import __version__
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged
from cnatool.records.store import ArrayRecord, LayerRecord, StoreRecord, TensorRecord
from cnatool.store.statistics import magnitude, row_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.records.choices import InputKind, Kept, Statistic
    from cnatool.records.ragged import Rows
    from cnatool.records.weights import WeightsRecord

# Element type, and shape for one sample, with None where samples differ in length.
Form = tuple[np.dtype[Any], tuple[int | None, ...]]

# Rows as callers give them; a list of arrays if samples differ in length.
GivenRows: TypeAlias = "ArrayLike | Ragged | Sequence[ArrayLike]"

_NO_KINDS: Mapping[str, InputKind] = MappingProxyType({})
# Kinds of element types of what inputs hold.
_KIND_TYPES: Mapping[InputKind, str] = {"text": "u", "tokens": "iu", "sound": "iuf"}

_LOOKED_AT = 8  # rows from which the magnitude of a tensor is computed


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one batch, (n, …) each, by name in the store's order."""

    inputs: dict[str, Rows]
    outputs: dict[str, Rows]
    tensors: dict[str, Rows]  # including the outputs
    statistics: dict[str, NDArray[np.float64]]  # (n, T) each, of all T tensors
    labels: Rows | None
    ids: list[str] | None
    # What was given as bfloat16, such as "input 'x'": in memory it is float32.
    bfloat16: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    def forms(self) -> dict[str, Form]:
        """Return type and shape of one sample of each array, by kind and name."""
        kinds = (("input", self.inputs), ("output", self.outputs), ("tensor", self.tensors))
        forms: dict[str, Form] = {}
        for kind, arrays in kinds:
            for name, value in arrays.items():
                what = f"{kind} {name!r}"
                dtype = BFLOAT16 if what in self.bfloat16 else value.dtype
                forms[what] = (dtype, _form_shape(value))
        if self.labels is not None:
            forms["labels"] = (self.labels.dtype, _form_shape(self.labels))
        return forms


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
    ragged: dict[str, int]  # axis of one sample along which samples differ in length, by name
    kinds: dict[str, InputKind]  # what inputs hold, by name
    special: tuple[int, ...]  # token ids that are no part of a text
    held_inputs: tuple[ArrayRecord, ...] | None = None  # of another store that contains them

    def record(self, batch: Batch) -> StoreRecord:
        """Describe the store by its first batch."""
        hidden = {n for layer in self.layers for n in (layer.linear, layer.preactivation)}
        last = {n for r in self.layers if r.output for n in (r.linear, r.preactivation)}
        tensors = []
        for number, (name, operator) in enumerate(self.operators.items()):
            value = batch.tensors.get(name)
            axis = self.ragged.get(name)
            output = self.outputs.index(name) if name in self.outputs else None
            dtype = "float32" if value is None else value.dtype.name
            what = f"tensor {name!r}" if output is None else f"output {name!r}"
            stored = NAME if what in batch.bfloat16 else dtype
            is_last = name in last or output is not None
            tensors.append(
                TensorRecord(
                    number=number,
                    name=name,
                    operator=operator,
                    role="output" if is_last else "layer" if name in hidden else "activation",
                    dtype=dtype,
                    shape=self.shapes[name] if value is None else _mean_shape(value),
                    batch_axis=0,
                    kept=self.keep,
                    output=output,
                    stored=stored if self.keep == "full" and output is None else None,
                    onnx_type=stored if stored == NAME else None,
                    varies=axis is not None,
                    ragged_axis=_kept_axis(axis, whole=self.keep == "full" or output is not None),
                )
            )
        return StoreRecord(
            schema="cnatool.store/1",
            created_by=f"cnatool {__version__}",
            inputs=self.held_inputs
            or tuple(map(self._say_kind, _array_records("input", batch.inputs, batch.bfloat16))),
            outputs=_array_records("output", batch.outputs, batch.bfloat16),
            tensors=tuple(tensors),
            layers=self.layers,
            statistics=tuple(batch.statistics),
            splits={},
            label_lists=isinstance(batch.labels, Ragged) or msgspec.UNSET,
            tags=self.tags,
            weights=self.weights,
            magnitudes=tuple(_magnitude(batch.tensors.get(name)) for name in self.operators),
        )

    def _say_kind(self, array: ArrayRecord) -> ArrayRecord:
        """Add to the record of an input what it holds."""
        kind = self.kinds.get(array.name)
        if kind is None:
            return array
        special = self.special if kind == "tokens" and self.special else msgspec.UNSET
        return msgspec.structs.replace(array, kind=kind, special=special)


def _form_shape(rows: Rows) -> tuple[int | None, ...]:
    """Return the shape of one sample, with None where samples differ in length."""
    if not isinstance(rows, Ragged):
        return rows.shape[1:]
    return *rows.rest[: rows.axis], None, *rows.rest[rows.axis :]


def _mean_shape(rows: Rows) -> tuple[int, ...]:
    """Return the shape of one sample, with the mean of lengths that differ."""
    mean = round(float(rows.lengths.mean())) if isinstance(rows, Ragged) else 0
    return tuple(mean if size is None else size for size in _form_shape(rows))


def _kept_axis(axis: int | None, *, whole: bool) -> int | msgspec.UnsetType:
    """Return the axis along which stored samples differ in length, if there is one."""
    return msgspec.UNSET if axis is None or not whole else axis


def _magnitude(values: Rows | None) -> float | None:
    """Compute the magnitude of a tensor from its first rows; None without values."""
    if values is None:
        return None
    return magnitude(row_statistics(values[:_LOOKED_AT], ["abs_sum"])["abs_sum"])


def arrange_batch(
    described: Description,
    inputs: GivenRows | Mapping[str, GivenRows],
    outputs: GivenRows | Mapping[str, GivenRows],
    activations: Mapping[str, GivenRows],
    statistics: Mapping[str, Mapping[str, ArrayLike]] | None,
    labels: ArrayLike | Ragged | Sequence[ArrayLike] | None,
    ids: Sequence[str] | None,
) -> Batch:
    """Check the arrays of a batch and put them into the store's order."""
    ragged = described.ragged
    found: set[str] = set()
    named_inputs = _arrays_by_name(
        "inputs", inputs, described.inputs, ragged, found, described.kinds
    )
    named_outputs = _arrays_by_name("outputs", outputs, described.outputs, ragged, found)
    tensors = {
        name: _memory_rows(f"tensor {name!r}", value, ragged.get(name), found)
        for name, value in activations.items()
    }
    unknown = [name for name in tensors if name not in described.operators]
    if unknown:
        raise DataError(f"activations: {unknown[0]!r} is none of the store's tensors.")
    tensors = {n: named_outputs[n] for n in described.operators if n in named_outputs} | tensors
    rows = _count_rows(next(iter(named_inputs.values())))
    kinds = (("input", named_inputs), ("output", named_outputs), ("tensor", tensors))
    for what, arrays in kinds:
        for name, array in arrays.items():
            _check_array(f"{what} {name!r}", array, rows)
    if ids is not None and len(ids) != rows:
        raise DataError(f"ids: expected {rows}, one per sample, got {len(ids)}.")
    return Batch(
        inputs=named_inputs,
        outputs=named_outputs,
        tensors=tensors,
        statistics=_statistics(described, tensors, statistics, rows),
        labels=None if labels is None else _convert_labels(labels, rows),
        ids=None if ids is None else [_check_id(name) for name in ids],
        bfloat16=frozenset(found),
    )


def _convert_labels(
    labels: ArrayLike | Ragged | Sequence[ArrayLike], rows: int
) -> NDArray[np.int64] | Ragged:
    """Convert labels, an integer or a list of integers for each sample."""
    lists: Ragged | None = None
    if isinstance(labels, Ragged):
        lists = labels
    elif isinstance(labels, list | tuple) and any(np.ndim(each) for each in labels):
        try:
            lists = Ragged.join(
                [np.asarray(each, np.int64 if not len(each) else None) for each in labels]
            )
        except (TypeError, ValueError) as error:
            raise DataError(f"labels: they are not lists of integers: {error}.") from None
    values = np.asarray(labels) if lists is None else lists.values
    count = len(lists) if lists is not None else len(values) if values.ndim else 0
    if values.dtype.kind not in "iu" or values.ndim != 1 or count != rows:
        shape = values.shape if lists is None else (count, "…")
        advice = ""
        if lists is None and values.ndim == 2 and values.dtype.kind in "iu":
            advice = ", or a list of integers for each, as in list(labels)"
        raise DataError(
            f"labels: expected {rows} integers{advice}, got {values.dtype} of shape {shape}."
        )
    if values.max(initial=0) > np.iinfo(np.int64).max:
        raise DataError(f"labels: {values.max()} exceeds a signed 64-bit integer.")
    return values.astype(np.int64) if lists is None else lists.astype(np.dtype(np.int64))


def _statistics(
    described: Description,
    tensors: Mapping[str, Rows],
    given: Mapping[str, Mapping[str, ArrayLike]] | None,
    rows: int,
) -> dict[str, NDArray[np.float64]]:
    """Collect each statistic, (n, T), computed from the tensors' values or by the caller."""
    columns: dict[str, NDArray[np.float64]] = {
        name: np.empty((rows, len(described.operators))) for name in described.statistics
    }
    operators = described.operators
    for column, name in enumerate(operators):
        if name in tensors:
            for statistic, values in row_statistics(tensors[name], described.statistics).items():
                columns[statistic][:, column] = values
            continue
        if described.keep == "full" or given is None or name in described.ragged:
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
    if any(name in described.ragged for name in described.operators):
        counts = [_element_counts(tensors.get(n), described.shapes.get(n), rows) for n in operators]
        columns["count"] = np.stack(counts, axis=1)
    return columns


def _element_counts(
    values: Rows | None, shape: tuple[int, ...] | None, rows: int
) -> NDArray[np.float64]:
    """Count the elements of each sample of a tensor, (n,)."""
    if isinstance(values, Ragged):
        return values.counts.astype(np.float64)
    sizes = shape or () if values is None else values.shape[1:]
    return np.full(rows, float(math.prod(sizes)))


def check_same_forms(forms: Mapping[str, Form], first: Mapping[str, Form]) -> None:
    """Compare types and shapes with those of the first batch."""
    for what, (dtype, shape) in forms.items():
        was = first.get(what, (dtype, shape))
        if (dtype, shape) != was:
            raise DataError(
                f"{what}: {dtype_name(dtype)} {_shape_text(shape)} per sample, but "
                f"{dtype_name(was[0])} "
                f"{_shape_text(was[1])} in the first batch."
            )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return str(shape).replace("None", "…")


def _memory_rows(what: str, value: GivenRows, axis: int | None, found: set[str]) -> Rows:
    """Convert rows to arrays as `_native_rows` does; bfloat16 becomes float32, and is ``found``."""
    rows = _native_rows(what, value, axis)
    if not is_bfloat16(rows.dtype):
        return rows
    found.add(what)
    if isinstance(rows, Ragged):
        return Ragged(widen(rows.values), rows.offsets, rows.axis)
    return widen(rows)


def _to_array(value: Any) -> NDArray[Any]:
    """Convert an array of any framework; PyTorch has no NumPy array of its bfloat16."""
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        return narrow(value.detach().float().cpu().numpy())
    return np.asarray(value)


def _to_native(array: NDArray[Any]) -> NDArray[Any]:
    native = is_bfloat16(array.dtype)
    return array if native else array.astype(array.dtype.newbyteorder("="), copy=False)


def _native_rows(what: str, value: GivenRows, axis: int | None) -> Rows:
    """Convert rows to the byte order of the machine, which is stored and hashed.

    Along ``axis``, if that is not None, samples may differ in length.
    """
    if axis is not None:
        try:
            rows = value if isinstance(value, Ragged) else _join(what, [*value], axis)  # type: ignore[misc]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{what}: samples cannot be joined along axis {axis}: {error}."
            ) from None
        if rows.axis != axis:
            raise DataError(f"{what}: samples differ along axis {rows.axis} instead of {axis}.")
        return Ragged(_to_native(rows.values), rows.offsets, rows.axis)
    if isinstance(value, Ragged):
        raise DataError(f"{what}: samples differ in length: name it in `ragged`.")
    try:
        array = _to_array(value)
    except ValueError as error:
        raise DataError(
            f"{what}: its samples do not form an array ({error}). If they differ in length, name "
            "it in `ragged`."
        ) from None
    return _to_native(array)


def _join(what: str, samples: Sequence[ArrayLike], axis: int) -> Ragged:
    """Join samples that differ in length; DataError if they are texts, or differ otherwise."""
    arrays = [_to_array(sample) for sample in samples]
    for place, array in enumerate(arrays):
        if array.dtype.kind in "USO":
            raise DataError(
                f"{what}: sample {place} is not an array of numbers. If samples are texts, say so: "
                "kinds={NAME: 'text'}."
            )
        sizes = array.shape[:axis], array.shape[axis + 1 :]
        if array.ndim <= axis or sizes != (arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]):
            raise DataError(
                f"{what}: samples cannot be joined along axis {axis}: sample {place} has shape "
                f"{array.shape}, sample 0 {arrays[0].shape}."
            )
    return Ragged.join(arrays, axis)


def _arrays_by_name(
    what: str,
    given: GivenRows | Mapping[str, GivenRows],
    names: Sequence[str],
    ragged: Mapping[str, int],
    found: set[str],
    kinds: Mapping[str, InputKind] = _NO_KINDS,
) -> dict[str, Rows]:
    """Return arrays by name, in the store's order."""
    if not isinstance(given, Mapping):
        if len(names) != 1:
            raise DataError(f"{what}: there are {len(names)}, so pass them by name.")
        given = {names[0]: given}
    if set(given) != set(names):
        raise DataError(f"{what}: expected {', '.join(names)}, got {', '.join(given)}.")
    arrays = {}
    for name in names:
        what_named, kind = f"{what[:-1]} {name!r}", kinds.get(name)
        rows = _encode_texts(what_named, given[name]) if kind == "text" else given[name]
        arrays[name] = _memory_rows(what_named, rows, ragged.get(name), found)
        if kind is not None and arrays[name].dtype.kind not in _KIND_TYPES[kind]:
            raise DataError(f"{what_named}: {arrays[name].dtype} is not a type of {kind}.")
    return arrays


def _encode_texts(what: str, texts: GivenRows) -> GivenRows:
    """Encode strings, one for each sample, as UTF-8; arrays of bytes stay."""
    if isinstance(texts, str):
        raise DataError(f"{what}: pass a list of texts, one for each sample.")
    if isinstance(texts, Ragged):
        if texts.dtype != np.uint8:
            raise DataError(f"{what}: the bytes of texts are uint8, not {texts.dtype}.")
        return texts
    encoded = []
    for place, text in enumerate(texts):  # type: ignore[arg-type]
        try:
            data = text.encode() if isinstance(text, str) else text
        except UnicodeEncodeError as error:
            raise DataError(f"{what}: text {place} cannot be encoded as UTF-8: {error}.") from None
        sample = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.asarray(data)
        if sample.ndim != 1 or sample.dtype != np.uint8:
            raise DataError(
                f"{what}: sample {place} is not a text: pass strings, or the bytes of their UTF-8."
            )
        encoded.append(sample)
    return encoded


def _check_id(name: object) -> str:
    text = str(name)
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise DataError(f"ids: {text!r} contains a character that a store cannot hold.")
    return text


def _count_rows(rows: Rows) -> int:
    return len(rows) if isinstance(rows, Ragged) or rows.ndim else 0


def _check_array(what: str, array: Rows, rows: int) -> None:
    # The formats have no long double.
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DataError(f"{what}: expected numbers or booleans, got {array.dtype}.")
    if _count_rows(array) != rows or not rows:
        shape = (len(array), *_form_shape(array)) if isinstance(array, Ragged) else array.shape
        raise DataError(
            f"{what}: its shape is {_shape_text(shape)}, but "
            f"{'there is' if rows == 1 else 'there are'} {count_text(rows, 'sample')}."
        )


def _array_records(
    kind: str, arrays: Mapping[str, Rows], bfloat16: frozenset[str]
) -> tuple[ArrayRecord, ...]:
    return tuple(
        ArrayRecord(
            name,
            rows.dtype.name,
            _mean_shape(rows),
            ragged_axis=rows.axis if isinstance(rows, Ragged) else msgspec.UNSET,
            stored="bfloat16" if f"{kind} {name!r}" in bfloat16 else msgspec.UNSET,
        )
        for name, rows in arrays.items()
    )
