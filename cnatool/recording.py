"""Writing a store from any framework: activations go in as arrays, a valid store comes out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np

from cnatool._version import __version__
from cnatool.errors import DataError, UsageError
from cnatool.recorded_weights import recorded_weights
from cnatool.store.checks import SPLIT_NAME
from cnatool.store.lock import locked
from cnatool.store.records import (
    ArrayRecord,
    Kept,
    LayerRecord,
    Statistic,
    StoreRecord,
    TensorRecord,
)
from cnatool.store.replacing import Replaced, check_free
from cnatool.store.row_statistics import row_statistics
from cnatool.store.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

    from cnatool.store.tree import Codec
    from cnatool.store.weight_records import WeightsRecord
    from cnatool.store.writer import SplitWriter

__all__ = ["Layer", "Recording", "create_store"]

# Room for an id where nobody says how long they are.
_ID_BYTES = 256


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear operator of the recorded network; see `create_store`.

    Attributes
    ----------
    preactivation : str
        The tensor that enters the nonlinearity.
    linear : str, optional
        The operator's own result with its bias, before any normalisation; by default the same.
    operator : str
        What the framework calls it: ``Linear``, ``Conv2d``.
    output : bool
        Its result is the network's output.
    shortcut : bool
        It is a projection on a residual bypass.
    path : int, optional
        Layers on the longest path from the input up to this one; by default its place in the list.
    groups : int
        Of a grouped convolution, for the norms of its weights.
    """

    preactivation: str
    linear: str | None = None
    operator: str = ""
    output: bool = False
    shortcut: bool = False
    path: int | None = None
    groups: int = 1


def create_store(
    path: str | Path,
    *,
    tensors: Sequence[str] | Mapping[str, str],
    layers: Sequence[str | Layer] | None = None,
    inputs: Sequence[str] = ("input",),
    outputs: Sequence[str] = ("output",),
    keep: Kept = "full",
    statistics: str | Sequence[str] = "sum",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    codec: Codec | None = None,
    tags: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    initial_weights: Mapping[str, ArrayLike] | None = None,
    parameters: int | None = None,
    id_bytes: int = _ID_BYTES,
    overwrite: bool = False,
) -> Recording:
    """Make a store that is filled by hand, from any framework.

    Use it as a context: at its end every split is finished, or, after an exception, what was
    committed is left as an unfinished store.

    Parameters
    ----------
    path : str or Path
        Where the store goes; its ending chooses the format.
    tensors : sequence of str, or mapping of str to str
        Names of the tensors in execution order, with the operators that make them where a mapping
        is given. A tensor that has an output's name is that output.
    layers : sequence of str or Layer, optional
        The linear operators in execution order; by default every tensor is one, and one that is an
        output is the output layer.
    inputs, outputs : sequence of str
        Names of what a sample consists of, and of what the network gives.
    keep : {"full", "statistics"}
        Whether whole activations are stored, or their statistics alone.
    statistics : str or sequence of str
        What is computed of each tensor over each sample's elements, as of `cnatool.dump`; ``sum``
        always is.
    shapes : mapping of str to tuple of int, optional
        Shapes for one sample of the tensors of which statistics alone will be given.
    codec : {"none", "lz4", "zstd", "gzip"}, optional
        How arrays are compressed; by default as the format does best.
    tags : mapping of str to str, optional
        Words of your own, kept in the store.
    classes : sequence of str, optional
        Names of the label values.
    weights : mapping of str to array_like, optional
        Weights of the layers, (out, in, …) each, by the layer's name: the store then holds their
        norms, for the baselines of `cnatool.score`. They are taken as they are, a normalisation
        behind them is not folded in.
    initial_weights : mapping of str to array_like, optional
        The same before training.
    parameters : int, optional
        How many parameters the network has.
    id_bytes : int
        Bytes of UTF-8 that the longest id takes.
    overwrite : bool
        Replace a store that is already there.

    Returns
    -------
    Recording

    Raises
    ------
    UsageError
        If names are missing, doubled or unknown.
    NotAStoreError
        If the path is taken, or its name is no store's.

    Examples
    --------
    >>> with cnatool.create_store("net.zarr", tensors=["fc1", "logits"],
    ...                           outputs=["logits"]) as store:  # doctest: +SKIP
    ...     for x, y in batches:
    ...         store.append("train", inputs=x, labels=y, outputs=logits,
    ...                      activations={"fc1": fc1, "logits": logits})
    """
    operators = dict(tensors) if isinstance(tensors, Mapping) else dict.fromkeys(tensors, "")
    for what, names in (("tensors", tensors), ("inputs", inputs), ("outputs", outputs)):
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise UsageError(f"{what}: a list of names, each once.")
    if keep not in get_args(Kept):
        raise UsageError(f"keep={keep!r}: full or statistics.")
    statistics = [statistics] if isinstance(statistics, str) else list(statistics)
    if "all" in statistics:
        statistics = list(get_args(Statistic))
    unknown = [name for name in statistics if name not in get_args(Statistic)]
    if unknown:
        known = ", ".join(get_args(Statistic))
        raise UsageError(f"statistics: {unknown[0]!r} is none of {known}.")
    _check_text("tags", [text for tag in (tags or {}).items() for text in tag])
    _check_text("classes", classes or ())
    for what, names in (("tensors", operators), ("inputs", inputs), ("outputs", outputs)):
        _check_text(what, names)
    _check_text("operators", operators.values())
    if not isinstance(id_bytes, int) or id_bytes < 1:
        raise UsageError(f"id_bytes={id_bytes!r}: at least 1.")
    if initial_weights is not None and weights is None:
        raise UsageError("initial_weights: give weights too, from which their distance is taken.")
    given = _layers(operators, layers, outputs)
    records = _layer_records(operators, given)
    check_free(Path(path), overwrite=overwrite)
    return Recording(
        Path(path),
        _Description(
            operators=operators,
            layers=records,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            keep=keep,
            statistics=tuple(name for name in get_args(Statistic) if name in {"sum", *statistics}),
            shapes=dict(shapes or {}),
            tags=dict(tags or {}),
            weights=None
            if weights is None
            else recorded_weights(
                records, [one.groups for one in given], weights, initial_weights, parameters
            ),
        ),
        codec=codec,
        classes=None if classes is None else tuple(classes),
        id_bytes=id_bytes,
    )


def _layers(
    tensors: Mapping[str, str], layers: Sequence[str | Layer] | None, outputs: Sequence[str]
) -> list[Layer]:
    return [
        Layer(one, output=one in outputs) if isinstance(one, str) else one
        for one in (tensors if layers is None else layers)
    ]


def _layer_records(tensors: Mapping[str, str], given: Sequence[Layer]) -> tuple[LayerRecord, ...]:
    for layer in given:
        for name in (layer.preactivation, layer.linear or layer.preactivation):
            if name not in tensors:
                raise UsageError(f"layer {name!r} is none of the tensors.")
    return tuple(
        LayerRecord(
            number=number,
            operator=layer.operator or tensors[layer.preactivation],
            linear=layer.linear or layer.preactivation,
            preactivation=layer.preactivation,
            output=layer.output,
            shortcut=layer.shortcut,
            path=layer.path or number,
        )
        for number, layer in enumerate(given, 1)
    )


@dataclass(frozen=True, slots=True)
class _Description:
    """What the caller says of a store; shapes and types follow from the first batch."""

    operators: dict[str, str]
    layers: tuple[LayerRecord, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    keep: Kept
    statistics: tuple[Statistic, ...]
    shapes: dict[str, tuple[int, ...]]
    tags: dict[str, str]
    weights: WeightsRecord | None

    def record(self, batch: _Batch) -> StoreRecord:
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
            inputs=_array_records(batch.inputs),
            outputs=_array_records(batch.outputs),
            tensors=tuple(tensors),
            layers=self.layers,
            statistics=self.statistics,
            splits={},
            tags=self.tags,
            weights=self.weights,
        )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Arrays of one batch, (n, …) each."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    tensors: dict[str, NDArray[Any]]
    statistics: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int64] | None
    ids: list[str] | None

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


class Recording:
    """A store that is being filled; made by `create_store`.

    Attributes
    ----------
    path : Path
        Where it is.
    """

    def __init__(
        self,
        path: Path,
        description: _Description,
        *,
        codec: Codec | None,
        classes: tuple[str, ...] | None,
        id_bytes: int,
    ) -> None:
        self.path = path
        self._description = description
        self._codec = codec
        self._classes = classes
        self._id_bytes = id_bytes
        self._held = ExitStack()
        self._replaced: Replaced | None = None
        self._writer: StoreWriter | None = None
        self._splits: dict[str, SplitWriter] = {}
        self._first: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._over = False

    def __enter__(self) -> Self:
        if self._replaced is not None:
            raise UsageError(f"{self.path}: a recording is one context; make another for more.")
        self._held.enter_context(locked(self.path))
        self._replaced = Replaced(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        with self._held:
            finished = False
            try:
                if error is None and not self._splits:
                    raise UsageError(f"{self.path}: no batch was appended, so there is no store.")
                if error is None:
                    for split in self._splits.values():
                        split.finish()
                    finished = True
            finally:
                if self._writer is not None:
                    self._writer.close()
                self._settle(finished=finished)

    def _settle(self, *, finished: bool) -> None:
        """Remove the store that was replaced, or put it back where nothing came in its place."""
        if self._replaced is None:
            return
        if finished:
            self._replaced.remove()
        elif any(split.committed for split in self._splits.values()):
            self._replaced.keep()
        else:
            self._replaced.restore()

    def append(
        self,
        split: str,
        *,
        inputs: ArrayLike | Mapping[str, ArrayLike],
        outputs: ArrayLike | Mapping[str, ArrayLike],
        activations: Mapping[str, ArrayLike] | None = None,
        statistics: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        labels: ArrayLike | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Add a batch of samples; every array has the sample axis first.

        Shapes and types are those of the first batch.

        Parameters
        ----------
        split : str
            The split's name; a new one begins with its first batch.
        inputs, outputs : array_like, or mapping of str to array_like
            Raw inputs before any preprocessing, and the network's outputs, (n, …); by name where
            there are several.
        activations : mapping of str to array_like
            Tensors by name, (n, …) each. One that is an output may be left out.
        statistics : mapping of str to mapping of str to array_like
            With ``keep="statistics"``, instead of activations: for each statistic and each tensor
            its values, (n,).
        labels : array_like of int, optional
            Labels, (n,); in every batch of a split or in none.
        ids : sequence of str, optional
            Where each sample came from; by default its row.

        Raises
        ------
        DataError
            If an array is missing, too many, or of another length, shape or type than before.
        StoreInUseError, StoreWriteError
            If another process writes the store, or the disk is full or refuses.
        """
        if self._replaced is None:
            raise UsageError("use the store as a context: with cnatool.create_store(…) as store.")
        if self._over:
            raise UsageError(f"{self.path}: its context has ended, and nothing can follow.")
        if not SPLIT_NAME.fullmatch(split):
            raise UsageError(f"{split!r} is no name of a split: letters, digits, - and _.")
        batch = self._batch(inputs, outputs, activations or {}, statistics, labels, ids)
        alike = self._alike(batch)
        if self._writer is None:
            record = self._description.record(batch)
            self._writer = StoreWriter(self.path, record, self._codec)
        # Only now: a batch that was refused says nothing of those that follow.
        self._first = alike | self._first
        writer = self._splits.get(split)
        if writer is None:
            writer = self._splits[split] = self._writer.split(
                split,
                None,
                source="recorded",
                labels=batch.labels is not None,
                classes=self._classes,
                id_bytes=self._id_bytes,
            )
        if writer.labelled != (batch.labels is not None):
            has, had = ("none", "labels") if writer.labelled else ("labels", "none")
            raise DataError(f"split {split!r}: this batch has {has}, and those before had {had}.")
        first = writer.rows
        writer.append(
            ids=batch.ids or [str(first + i) for i in range(batch.rows)],
            inputs=list(batch.inputs.values()),
            labels=batch.labels,
            outputs=list(batch.outputs.values()),
            activations={
                tensor.number: batch.tensors[tensor.name]
                for tensor in self._writer.record.tensors
                if tensor.stored is not None
            },
            statistics=batch.statistics,
        )

    def _batch(
        self,
        inputs: ArrayLike | Mapping[str, ArrayLike],
        outputs: ArrayLike | Mapping[str, ArrayLike],
        activations: Mapping[str, ArrayLike],
        statistics: Mapping[str, Mapping[str, ArrayLike]] | None,
        labels: ArrayLike | None,
        ids: Sequence[str] | None,
    ) -> _Batch:
        """Bring what the caller gave into order; every array has as many rows."""
        described = self._description
        given = _named("inputs", inputs, described.inputs)
        made = _named("outputs", outputs, described.outputs)
        tensors = {name: _native(value) for name, value in activations.items()}
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
        return _Batch(
            inputs=given,
            outputs=made,
            tensors=tensors,
            statistics=self._statistics(tensors, statistics, rows),
            labels=None if targets is None else targets.astype(np.int64),
            ids=None if ids is None else [_id(one) for one in ids],
        )

    def _statistics(
        self,
        tensors: Mapping[str, NDArray[Any]],
        given: Mapping[str, Mapping[str, ArrayLike]] | None,
        rows: int,
    ) -> dict[str, NDArray[np.float64]]:
        """Give each statistic, (n, T): of the tensors' values, or as the caller computed it."""
        described = self._description
        found: dict[str, NDArray[np.float64]] = {
            name: np.empty((rows, len(described.operators))) for name in described.statistics
        }
        for column, name in enumerate(described.operators):
            if name in tensors:
                for statistic, values in row_statistics(
                    tensors[name], described.statistics
                ).items():
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

    def _alike(self, batch: _Batch) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Give type and shape of each array, after comparing them with the first batch's."""
        named = {f"input {name!r}": value for name, value in batch.inputs.items()}
        named |= {f"output {name!r}": value for name, value in batch.outputs.items()}
        named |= {f"tensor {name!r}": value for name, value in batch.tensors.items()}
        found = {what: (value.dtype, value.shape[1:]) for what, value in named.items()}
        for what, (dtype, shape) in found.items():
            first = self._first.get(what, (dtype, shape))
            if (dtype, shape) != first:
                raise DataError(
                    f"{what}: {dtype} {shape} a sample, and in the first batch {first[0]} "
                    f"{first[1]}."
                )
        return found


def _check_text(what: str, words: Iterable[object]) -> None:
    """Refuse what would be written and could not be read: the store says it in text."""
    for word in words:
        if not isinstance(word, str):
            raise UsageError(f"{what}: {word!r} is no text.")


def _native(value: ArrayLike) -> NDArray[Any]:
    """Give an array in the byte order of the machine, which is what is stored and hashed."""
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _named(
    what: str, given: ArrayLike | Mapping[str, ArrayLike], names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Give arrays by name, in the store's order."""
    if not isinstance(given, Mapping):
        if len(names) != 1:
            raise DataError(f"{what}: there are {len(names)}, so give them by name.")
        return {names[0]: _native(given)}
    if set(given) != set(names):
        raise DataError(f"{what}: they are {', '.join(names)}, and not {', '.join(given)}.")
    return {name: _native(given[name]) for name in names}


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
