"""Writing a store from arrays of any framework."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, get_args

from msgspec import UNSET

from cnatool._util.urls import parse_path
from cnatool.errors import DataError, StoreWarning, UsageError
from cnatool.recording.batches import (
    Description,
    Form,
    GivenRows,
    arrange_batch,
    check_same_forms,
)
from cnatool.recording.weights import check_units, measure_weights
from cnatool.records.checks import SPLIT_NAME
from cnatool.records.choices import InputKind, Kept, Statistic
from cnatool.records.layout import StoreRows, ragged_axis
from cnatool.records.ragged import Ragged
from cnatool.records.store import LayerRecord
from cnatool.store.lock import lock_store
from cnatool.store.replace import ReplacedStore, check_free, recover_replaced
from cnatool.store.shared_inputs import SampleComparison, SharedInputs
from cnatool.store.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import ArrayLike

    from cnatool.records.choices import Codec
    from cnatool.store.writer import SplitWriter

# Default space for an id.
_ID_BYTES = 256
# Longest time from one commit to the next, as far as batches come in between.
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear operator of the recorded network; see `create_store`.

    Attributes
    ----------
    preactivation : str
        The tensor that is the input of the nonlinearity.
    linear : str, optional
        The operator's own result with its bias, before any normalisation; by default
        ``preactivation``.
    operator : str
        The framework's name for the operator: ``Linear``, ``Conv2d``.
    output : bool
        Whether its result is the network's output.
    shortcut : bool
        Whether it is a projection on a residual bypass.
    path : int, optional
        Layers on the longest path from the input up to this one; by default its position.
    groups : int
        Groups of a convolution, for the norms of its weights.
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
    ragged: Sequence[str] | Mapping[str, int] = (),
    kinds: Mapping[str, InputKind] | None = None,
    special: Sequence[int] = (),
    codec: Codec | None = None,
    tags: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    initial_weights: Mapping[str, ArrayLike] | None = None,
    parameters: int | None = None,
    inputs_from: str | Path | None = None,
    id_bytes: int = _ID_BYTES,
    overwrite: bool = False,
) -> Recording:
    """Create a store to append batches of any framework to.

    Use it as a context manager: on exit, every split is completed. After an exception or Ctrl-C
    inside it, the rows of all batches that were appended remain as an unfinished store, which can
    be scored but not continued. If the process is killed, or interrupted while it writes a batch,
    the rows up to the last commit remain. A batch commits all rows so far if the last commit was at
    least a minute ago; complete chunks are committed after 8,192 rows or 1 GiB.

    Parameters
    ----------
    path : str or Path
        Path of the store; its suffix determines the format.
    tensors : sequence of str, or mapping of str to str
        Names of the tensors in execution order, or a mapping from names to the operators that
        compute them. A tensor with the name of an output is that output.
    layers : sequence of str or Layer, optional
        The linear operators in execution order; by default every tensor is a layer, and an output
        is the output layer.
    inputs, outputs : sequence of str
        Names of the raw inputs, and of the network's outputs.
    keep : {"full", "statistics"}
        Store whole activations, or only their statistics.
    statistics : str or sequence of str
        Statistics over the elements of each sample, as in `cnatool.dump`; ``sum`` is always
        included.
    shapes : mapping of str to tuple of int, optional
        Shapes of one sample of the tensors for which only statistics are appended.
    ragged : sequence of str, or mapping of str to int
        Names of the tensors, inputs and outputs whose samples differ in length along their first
        axis, or a mapping from names to the axis of one sample's shape. For these, append a list of
        arrays, one per sample, or a `Ragged`.
    kinds : mapping of str to {"text", "tokens", "sound"}, optional
        What raw inputs contain, because α depends on it. ``text``: append a list of strings, which
        are stored as UTF-8; ``ragged`` need not name them. ``tokens``: token ids. ``sound``:
        amplitudes, from −1 to 1 if they are floating-point numbers, and over the range of their
        type if they are integers.
    special : sequence of int
        Ids of tokens that are not part of a text, such as padding; α ignores them.
    codec : {"none", "lz4", "zstd", "gzip"}, optional
        Compression of the arrays; by default the best for the format.
    tags : mapping of str to str, optional
        Tags of the store.
    classes : sequence of str, optional
        Names of the label values.
    weights : mapping of str to array_like, optional
        Weights of the layers, (out, in, …) each, by the layer's name: the store then contains their
        norms, for the baselines of `cnatool.score`. The first or the last axis of the layer's
        tensor has ``out`` units. A normalisation after the layer is not folded in. Layers with the
        same array share it: it counts once in sums over weights, and for each layer in products.
    initial_weights : mapping of str to array_like, optional
        Weights before training.
    parameters : int, optional
        Number of parameters of the network.
    inputs_from : str or Path, optional
        A finished store of the same samples in the same order: the new store refers to its raw
        inputs and contains none. `Recording.append` may then omit inputs; any inputs and ids that
        it gets are compared with that store.
    id_bytes : int
        Length of the longest id, in bytes of UTF-8.
    overwrite : bool
        Replace an existing store.

    Returns
    -------
    Recording

    Raises
    ------
    UsageError
        If names are missing, repeated or unknown.
    NotAStoreError
        If the path exists, or its name is not that of a store.

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
            raise UsageError(f"{what}: pass a list of distinct names.")
    if keep not in get_args(Kept):
        raise UsageError(f"keep={keep!r}: use 'full' or 'statistics'.")
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
        raise UsageError(f"id_bytes={id_bytes!r}: use at least 1.")
    if initial_weights is not None and weights is None:
        raise UsageError("initial_weights: pass weights too, to measure distances.")
    all_layers = _layers(operators, layers, outputs)
    records = _layer_records(operators, all_layers)
    path = parse_path(path)
    check_free(path, overwrite=overwrite)
    shared = None if inputs_from is None else SharedInputs(inputs_from, path)
    if shared is not None:
        inputs = [array.name for array in shared.inputs]
    measured = None
    if weights is not None:
        groups = [layer.groups for layer in all_layers]
        measured = measure_weights(records, groups, weights, initial_weights, parameters)
    check_units(measured, records, shapes or {})
    axes = dict(ragged) if isinstance(ragged, Mapping) else dict.fromkeys(ragged, 0)
    contents = _check_kinds(kinds or {}, special, inputs, shared)
    axes |= {name: 0 for name, kind in contents.items() if kind == "text"}
    if shared is not None:
        axes |= {a.name: n for a in shared.inputs if (n := ragged_axis(a)) is not None}
    given = {*operators, *inputs, *outputs}
    unknown = [name for name in axes if name not in given]
    if unknown:
        names = ", ".join(dict.fromkeys([*operators, *inputs, *outputs]))
        raise UsageError(
            f"ragged: {unknown[0]!r} is not a tensor, input or output; these are {names}."
        )
    return Recording(
        path,
        Description(
            operators=operators,
            layers=records,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            keep=keep,
            statistics=tuple(name for name in get_args(Statistic) if name in {"sum", *statistics}),
            shapes=dict(shapes or {}),
            tags=dict(tags or {}),
            weights=measured,
            ragged=axes,
            kinds=contents,
            special=tuple(sorted({int(token) for token in special})),
            held_inputs=None if shared is None else shared.inputs,
        ),
        shared=shared,
        codec=codec,
        classes=None if classes is None else tuple(classes),
        id_bytes=id_bytes,
        overwrite=overwrite,
    )


def _check_kinds(
    kinds: Mapping[str, InputKind],
    special: Sequence[int],
    inputs: Sequence[str],
    shared: SharedInputs | None,
) -> dict[str, InputKind]:
    """Check what inputs hold; another store that contains them says it of its own."""
    for name, kind in kinds.items():
        if name not in inputs:
            raise UsageError(f"kinds: {name!r} is not one of the inputs {', '.join(inputs)}.")
        if kind not in get_args(InputKind):
            known = ", ".join(get_args(InputKind))
            raise UsageError(f"kinds: {kind!r} of input {name!r} is none of {known}.")
    if special and "tokens" not in kinds.values():
        raise UsageError(
            "special: no input holds tokens: name it in `kinds`, as in kinds={'ids': 'tokens'}."
        )
    if shared is None:
        return dict(kinds)
    if kinds:
        raise UsageError("kinds: the store of `inputs_from` says what its inputs hold: omit them.")
    held = ((array.name, array.kind) for array in shared.inputs)
    return {name: kind for name, kind in held if kind is not UNSET}


def _layers(
    tensors: Mapping[str, str], layers: Sequence[str | Layer] | None, outputs: Sequence[str]
) -> list[Layer]:
    return [
        Layer(layer, output=layer in outputs) if isinstance(layer, str) else layer
        for layer in (tensors if layers is None else layers)
    ]


def _layer_records(tensors: Mapping[str, str], layers: Sequence[Layer]) -> tuple[LayerRecord, ...]:
    for layer in layers:
        for name in (layer.preactivation, layer.linear or layer.preactivation):
            if name not in tensors:
                raise UsageError(f"layer {name!r} is not one of the tensors.")
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
        for number, layer in enumerate(layers, 1)
    )


class Recording:
    """A store that is being recorded; made by `create_store`.

    Attributes
    ----------
    path : Path
        Path of the store.
    """

    def __init__(
        self,
        path: Path,
        description: Description,
        *,
        shared: SharedInputs | None,
        codec: Codec | None,
        classes: tuple[str, ...] | None,
        id_bytes: int,
        overwrite: bool,
    ) -> None:
        self.path = path
        self._overwrite = overwrite
        self._shared = shared
        self._same: dict[str, SampleComparison] = {}
        self._description = description
        self._codec = codec
        self._classes = classes
        self._id_bytes = id_bytes
        self._context = ExitStack()
        self._replaced: ReplacedStore | None = None
        self._writer: StoreWriter | None = None
        self._splits: dict[str, SplitWriter] = {}
        self._first: dict[str, Form] = {}
        self._over = False

    def __enter__(self) -> Self:
        if self._replaced is not None:
            raise UsageError(
                f"{self.path}: a recording can be entered only once; create another one."
            )
        with ExitStack() as context:
            context.enter_context(lock_store(self.path))
            note = recover_replaced(self.path)
            if note is not None:
                warnings.warn(note, StoreWarning, stacklevel=2)
            # A store may have been created here since this object was.
            check_free(self.path, overwrite=self._overwrite)
            self._replaced = ReplacedStore(self.path)
            self._context = context.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        with self._context:
            finished = False
            try:
                if error is None and not self._splits:
                    raise UsageError(f"{self.path}: no batch was appended, so there is no store.")
                if error is None:
                    for same in self._same.values():
                        same.finish()
                    for split in self._splits.values():
                        split.finish()
                    finished = True
                else:
                    for split in self._splits.values():
                        split.stop()
            finally:
                if self._writer is not None:
                    self._writer.close()
                self._settle(finished=finished)

    def _settle(self, *, finished: bool) -> None:
        """Remove the store that was replaced, or restore it if no row replaced it."""
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
        inputs: GivenRows | Mapping[str, GivenRows] | None = None,
        outputs: GivenRows | Mapping[str, GivenRows],
        activations: Mapping[str, GivenRows] | None = None,
        statistics: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        labels: GivenRows | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Append a batch of samples; every array has the sample axis first.

        Shapes and types must equal those of the first batch.

        Parameters
        ----------
        split : str
            Name of the split, which its first batch creates.
        inputs, outputs : array_like, or mapping of str to array_like
            Raw inputs before any preprocessing, and the network's outputs, (n, …); by name if there
            are several. Inputs may be omitted if another store contains them. Samples that differ
            in length (``ragged``) are a list of arrays, or a `Ragged` of values and offsets.
        activations : mapping of str to array_like
            Tensors by name, (n, …) each. An output may be omitted.
        statistics : mapping of str to mapping of str to array_like
            With ``keep="statistics"``, values by statistic and tensor, (n,) each, instead of
            activations.
        labels : array_like of int, or list of these, optional
            Labels, (n,), or a list for each sample, such as one for each token, −100 where it has
            none; in every batch of a split or in none.
        ids : sequence of str, optional
            Origin of each sample; by default its row.

        Raises
        ------
        DataError
            If an array is missing or unexpected, or its length, shape or type differs.
        StoreInUseError, StoreWriteError
            If another process writes the store, or it cannot be written.
        """
        if self._replaced is None:
            raise UsageError("use the store as a context: with cnatool.create_store(…) as store.")
        if self._over:
            raise UsageError(f"{self.path}: its context has ended, so nothing can follow.")
        if not SPLIT_NAME.fullmatch(split):
            raise UsageError(
                f"{split!r} is not a valid name of a split: use letters, digits, - and _."
            )
        same = self._same_samples(split)
        held_ids = None
        if same is not None:
            held_ids, held = same.next(_rows(outputs))
            if inputs is None:
                inputs = dict(zip(self._description.inputs, held, strict=True))
        if inputs is None:
            raise DataError("inputs: required, since no other store contains them (inputs_from).")
        batch = arrange_batch(
            self._description,
            inputs,
            outputs,
            activations or {},
            statistics,
            labels,
            ids,
        )
        forms = batch.forms()
        check_same_forms(forms, self._first)
        if same is not None:
            same.compare(batch.ids, list(batch.inputs.values()))
        if self._writer is None:
            record = self._description.record(batch)
            shapes = {tensor.name: tensor.shape for tensor in record.tensors}
            check_units(record.weights, record.layers, shapes)
            self._writer = StoreWriter(self.path, record, self._codec)
        # Only now: a refused batch must not determine those that follow.
        self._first = forms | self._first
        writer = self._splits.get(split)
        if writer is None:
            writer = self._splits[split] = self._writer.split(
                split,
                None,
                source="recorded",
                labels=batch.labels is not None,
                classes=self._classes,
                id_bytes=self._id_bytes,
                seconds=_SECONDS,
                inputs_from=None if self._shared is None else self._shared.reference(split),
            )
        if writer.labelled != (batch.labels is not None):
            has, had = ("none", "labels") if writer.labelled else ("labels", "none")
            raise DataError(f"split {split!r}: this batch has {has}, but those before had {had}.")
        lists = bool(self._writer.record.label_lists)
        if batch.labels is not None and isinstance(batch.labels, Ragged) != lists:
            has = "single labels" if lists else "lists of labels"
            raise DataError(
                f"split {split!r}: this batch has {has}, and the store's first batch did not."
            )
        if same is not None:
            same.accept(batch.rows)
        first = writer.rows
        writer.append(
            StoreRows(
                ids=batch.ids or held_ids or [str(first + i) for i in range(batch.rows)],
                inputs=list(batch.inputs.values()),
                labels=batch.labels,
                outputs=list(batch.outputs.values()),
                activations={
                    tensor.number: batch.tensors[tensor.name]
                    for tensor in self._writer.record.tensors
                    if tensor.stored is not None
                },
                statistics=batch.statistics,
            ),
            # The caller may use its arrays again.
            borrowed=True,
        )

    def _same_samples(self, split: str) -> SampleComparison | None:
        """Return the comparison with another store that contains the inputs; None without one."""
        if self._shared is not None and split not in self._same:
            self._same[split] = SampleComparison(self._shared.split(split))
        return self._same.get(split)


def _rows(outputs: GivenRows | Mapping[str, GivenRows]) -> int:
    first = next(iter(outputs.values()), ()) if isinstance(outputs, Mapping) else outputs
    return len(first) if isinstance(first, Sized) else 0


def _check_text(what: str, words: Iterable[object]) -> None:
    """Refuse words that are not text, which the store could not be read with."""
    for word in words:
        if not isinstance(word, str):
            raise UsageError(f"{what}: {word!r} is not text.")
