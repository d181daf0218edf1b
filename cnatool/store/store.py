"""An open store and its splits: typed, committed rows only, in bounded memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.bfloat16 import dtype_name
from cnatool._util.html import shown_by
from cnatool._util.names import advise_on_name, find_full_name
from cnatool._util.text import count_text
from cnatool.errors import MetricError, StoreDamagedError
from cnatool.records.layout import (
    IDS,
    LABELS,
    activation_key,
    input_key,
    is_input,
    output_key,
    split_arrays,
    statistic_key,
    token_key,
)
from cnatool.records.limits import LARGEST
from cnatool.store.batches import BUFFER_BYTES
from cnatool.store.components import read_components
from cnatool.store.integrity import attribute_digest, combine_digests, start_digests
from cnatool.store.parts import PartedTree
from cnatool.store.ragged import RaggedArray, as_plain
from cnatool.store.split_names import SplitsByName
from cnatool.store.stored_array import BLOCK_BYTES, StoredArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import xarray
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from cnatool.records.layout import ArraySpec
    from cnatool.records.store import LayerRecord, SplitRecord, StoreRecord, TensorRecord
    from cnatool.store.batches import Batches
    from cnatool.store.format import ReadableArray, ReadableTree
    from cnatool.store.identity import Identity
    from cnatool.store.parts import MergedParts

# Imported on use, as it needs xarray.
_AS_XARRAY = "cnatool.store.as_xarray"
# Imported on use, as it knows splits.
_OPEN_BATCHES = "cnatool.store.open_batches"
# Of splits made of parts, by the store's attribute and the name of the split.
_FINGERPRINTS: dict[tuple[str, str], str] = {}


class Split:
    """One split of a store: ids, labels, raw inputs, outputs, activations, statistics.

    Its rows are the committed ones, in order.
    """

    __slots__ = ("_store", "name")

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.record.committed)

    def __repr__(self) -> str:
        state = "" if self.record.complete else f" of {self.record.rows}, incomplete"
        return f"<split {self.name!r}: {count_text(len(self), 'row')}{state}>"

    _repr_html_ = shown_by("cnatool.store.html", "split_html")

    @property
    def record(self) -> SplitRecord:
        """The split's record in the store's attribute."""
        return self._store.record.splits[self.name]

    @property
    def store(self) -> Store:
        """The store that the split is in."""
        return self._store

    @property
    def path(self) -> Path:
        """Path of that store."""
        return self._store.path

    @property
    def first_row(self) -> int:
        """Number of the first row within the complete split, if the store is one part of a dump."""
        part = self._store.record.part
        return 0 if part is msgspec.UNSET else part.first[self.name]

    @property
    def whole_rows(self) -> int:
        """Number of rows of the complete split, of which one part of a dump has a range."""
        part = self._store.record.part
        return self.record.rows if part is msgspec.UNSET else part.rows[self.name]

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of raw inputs and labels; None if it is unknown.

        It is in the attribute, except in a store made of parts, where all inputs and labels are
        read the first time.
        """
        if self._store.parts is None or not self.record.complete:
            return self.record.fingerprint
        key = attribute_digest(self._store.attribute()), self.name
        if key not in _FINGERPRINTS:
            _FINGERPRINTS[key] = _compute_fingerprint(self)
        return _FINGERPRINTS[key]

    @property
    def ids(self) -> StoredArray:
        """Origin of each sample; (n,) str."""
        return self.stored(IDS)

    @property
    def labels(self) -> StoredArray | RaggedArray | None:
        """Labels, (n,) int64, or a list for each sample; None if the split has none."""
        return self.array(LABELS) if self.record.labels else None

    @property
    def sample_labels(self) -> StoredArray | None:
        """Labels, (n,) int64; None if the split has none, or a list for each sample."""
        per_sample = self.record.labels and not self._store.record.label_lists
        return self.stored(LABELS) if per_sample else None

    def inputs(self, number: int | str = 0) -> StoredArray | RaggedArray:
        """Return a raw input by its number or name, before preprocessing, (n, …).

        If `holds_levels` is true, these are counts instead, (n, 257) uint32: how often each of the
        levels 0 … 255 occurs in a sample, and in the last column a checksum of the sample. If
        another store contains the inputs, they are read there.

        Raises
        ------
        MetricError
            If there is no such input, or if another store should contain the inputs, but does not.
        """
        names = [each.name for each in self._store.record.inputs]
        return self.array(input_key(self._find_number("input", names, number)))

    def holds_levels(self, number: int = 0) -> bool:
        """Whether `inputs` returns counts of the levels of a raw input instead of the input."""
        return self.store.record.inputs[number].levels is not None

    def holds_texts(self) -> bool:
        """Whether a raw input holds texts, which `texts` returns."""
        return any(array.kind == "text" for array in self._store.record.inputs)

    def texts(self, rows: slice | ArrayLike = slice(None)) -> list[str]:
        """Return the texts of the samples, as far as the store contains them.

        Parameters
        ----------
        rows : slice, list of int or mask
            The samples; all by default, which are held in memory.

        Returns
        -------
        list of str
            One for each sample. Bytes that are not valid UTF-8 become U+FFFD.

        Raises
        ------
        MetricError
            If no raw input consists of texts, for example if it is token ids; also as in `inputs`.
        """
        if not self.holds_texts():
            raise MetricError(f"{self._store.path}: no raw input holds texts.")
        kinds = [array.kind for array in self._store.record.inputs]
        block = self.inputs(kinds.index("text"))[rows]
        return [sample.tobytes().decode(errors="replace") for sample in block]

    def outputs(self, number: int | str = 0) -> StoredArray | RaggedArray:
        """Return a model output by its number or name, (n, …); MetricError if there is none."""
        names = [output.name for output in self._store.record.outputs]
        return self.array(output_key(self._find_number("output", names, number)))

    def _find_number(self, kind: str, names: list[str], wanted: int | str) -> int:
        """Return the number of an input or output that is given by number or name."""
        if isinstance(wanted, str) and wanted in names:
            return names.index(wanted)
        if isinstance(wanted, str) or wanted not in range(len(names)):
            listed = ", ".join(f"{place} {name!r}" for place, name in enumerate(names))
            raise MetricError(
                f"{self._store.path} has no {kind} {wanted!r}. Its {kind}s: {listed or 'none'}."
            )
        return wanted

    def output_operator(self, number: int = 0) -> str | None:
        """Return the operator that computes model output ``number``; None if unknown."""
        return next((t.operator for t in self._store.tensors if t.output == number), None)

    def activations(self, name: str) -> StoredArray | RaggedArray:
        """Return the stored tensor ``name``, (n, …), or its samples if they differ in length.

        Raises
        ------
        MetricError
            If there is no such tensor, or only its statistics are stored.
        """
        tensor = self._store.tensor(name)
        if tensor.stored is not None:
            return self.array(activation_key(tensor.number))
        if tensor.output is not None:
            return self.outputs(tensor.output)
        advice = "Dump with `keep='full'` to store it whole."
        if tensor.varies and any(other.stored is not None for other in self._store.tensors):
            # A full dump stores what it can.
            advice = (
                "Its shape is not one for all samples and iterations, along more than one axis or "
                "where padding does not count, so its values are not stored."
            )
        elif tensor.varies:
            advice = (
                "Its shape is not one for all samples and iterations; `keep='full'` stores it "
                "whole where that is along one axis alone."
            )
        elif tensor.role == "output":
            advice = (
                f"Scores of tokens are stored only if named: dump again and add {name!r} to "
                "`tensors`."
            )
        raise MetricError(
            f"{self._store.path}: only statistics of tensor {name!r} are stored. {advice}"
        )

    def has_statistic(self, name: str) -> bool:
        """Whether a per-sample statistic is stored."""
        return name in self._store.record.statistics

    def statistics(self, name: str = "sum") -> StoredArray:
        """Return the per-sample statistic ``name`` of all tensors, (n, T) float64."""
        return self.stored(statistic_key(name))

    def token_scores(self, name: str) -> StoredArray:
        """Return a statistic of the tokens of each sample that a dump compared with targets, (n,).

        `StoreRecord.tokens` states which targets. ``loss`` is the sum of −ln p(target) in nats,
        ``correct`` the number of targets that have the highest score, and ``count`` the number of
        tokens that have a target.

        Raises
        ------
        MetricError
            If the store has no such statistic.
        """
        return self.stored(token_key(name))

    def to_xarray(self, tensors: str | Iterable[str] | None = None) -> xarray.Dataset:
        """Return the split as an xarray Dataset whose rows are read when they are used.

        Variables are inputs, outputs, fully stored tensors, and statistics, with the coordinates
        ``id`` and ``label`` and, for statistics, ``tensor``. A variable is named after its tensor,
        with ``_`` for each character that an identifier cannot contain; if the name is taken, a
        suffix shows its role. The attribute ``long_name`` contains the name in the network.

        The first axis is ``sample``. The others are ``channel``, ``y``, ``x`` and ``feature`` where
        the network's operators determine them, and ``axis1``, ``axis2``, … otherwise. If an axis
        has different sizes in two variables, its size is part of its name: ``channel_64``.

        With Dask, variables are Dask arrays with chunks of about 16 MiB. Without Dask, computing
        with a variable reads all of it, so index it first.

        Parameters
        ----------
        tensors : str or iterable of str, optional
            Names of tensors, or globs; only these become variables. By default everything does.

        Returns
        -------
        xarray.Dataset

        Raises
        ------
        UsageError
            If xarray is not installed.
        MetricError
            If there is no such tensor, or only its statistics are stored.

        Warns
        -----
        StoreWarning
            If another store should contain the raw inputs, but does not; they are then omitted.
        """
        dataset: xarray.Dataset = import_module(_AS_XARRAY).build_dataset(self, tensors)
        return dataset

    def batches(
        self,
        tensors: str | Iterable[str] | None = None,
        *,
        size: int = 256,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        worker: tuple[int, int] = (0, 1),
        drop_last: bool = False,
        ids: bool = False,
        inputs: bool = False,
        dtype: DTypeLike | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> Batches:
        """Return the batches of an epoch, for training: in random order, in bounded memory.

        Blocks of a few complete chunks are read in random order into a window of half
        ``buffer_bytes`` and shuffled there, while the batches of the previous window are in use. A
        batch therefore comes from ``window_rows / block_rows`` blocks of the split, or from all of
        them if the split fits into one window. The same arguments give the same batches.

        Parameters
        ----------
        tensors : str or iterable of str, optional
            Names or globs of fully stored tensors; all of these by default.
        size : int
            Samples in a batch.
        shuffle : bool
            Whether the order is random; otherwise it is that of the store.
        seed, epoch : int
            Both determine the random order, so each epoch has a different one.
        start : int
            Number of batches to skip without reading them, to continue training where it stopped.
        worker : (int, int)
            Number of this worker, counted from 0, and the number of workers. Each has a share of
            the random order; together they have every row once. Shares differ by at most one row,
            so the workers' numbers of batches differ by at most one, and are equal with
            ``drop_last``.
        drop_last : bool
            Whether to drop the last batch if it is not full.
        ids, inputs : bool
            Whether batches contain the ids of the samples, and the raw inputs as `inputs` returns
            them.
        dtype : dtype, optional
            Element type of the tensors; as stored by default.
        buffer_bytes : int
            Memory for two windows, of at least one batch each.

        Returns
        -------
        Batches
            An iterable. Each batch has ``tensors``, ``labels``, ``rows``, ``ids`` and ``inputs``,
            and ``batch[NAME]`` is a tensor, (size, …), or a `Ragged`.

        Raises
        ------
        UsageError
            If a number is out of range, or ``dtype`` is of a different kind from that of a tensor.
        MetricError
            If there is no such tensor, or only its statistics are stored; if the split is
            incomplete; while iterating, if a value is too large for ``dtype``.
        StoreDamagedError
            While iterating, before the first batch with a row that cannot be read.

        Examples
        --------
        >>> batches = split.batches(["relu1", "relu2"], size=4096)  # doctest: +SKIP
        >>> for batch in batches:  # doctest: +SKIP
        ...     train(batch["relu1"], batch["relu2"], batch.labels)
        """
        batches: Batches = import_module(_OPEN_BATCHES).open_batches(
            self,
            tensors,
            ids=ids,
            inputs=inputs,
            size=size,
            shuffle=shuffle,
            seed=seed,
            epoch=epoch,
            start=start,
            worker=worker,
            drop_last=drop_last,
            buffer_bytes=buffer_bytes,
            dtype=dtype,
        )
        return batches

    def array(self, key: str) -> StoredArray | RaggedArray:
        """Return the array with a key of the layout, such as ``ids`` or ``activations/3``.

        An array whose samples differ in length consists of two arrays, ``activations/3/values`` and
        ``activations/3/offsets``.

        Raises
        ------
        MetricError
            If the store's attribute lists no such array.
        StoreDamagedError
            If the array is missing, or its shape or type differs from the attribute.
        """
        if self.record.inputs_from is not None and is_input(key):
            first = self.first_row
            ranges = ((start + first, stop + first) for start, stop in self.record.committed)
            return self.inputs_split()._array(key, tuple(ranges))
        return self._array(key, self.record.committed)

    def inputs_split(self) -> Split:
        """Return the split that contains the raw inputs: this one, or one of another store.

        Raises
        ------
        MetricError
            If another store should contain them, but does not.
        """
        if self.record.inputs_from is None:
            return self
        referred = self._store._referred
        if self.name not in referred:
            referred[self.name] = self._store._find_inputs(self)
        return referred[self.name]

    def stored(self, key: str) -> StoredArray:
        """Return an array that is stored as one array, such as ``ids`` or ``inputs/0/values``.

        Raises
        ------
        MetricError, StoreDamagedError
            As in `array`; also MetricError if samples differ in length along an axis.
        """
        return as_plain(self.array(key))

    def _array(self, key: str, committed: tuple[tuple[int, int], ...]) -> StoredArray | RaggedArray:
        """Return an array with the rows that this store, or one that uses it, committed."""
        specs = self._store._specs
        whole, _, part = key.rpartition("/")
        if key not in specs and not (whole in specs and part in ("values", "offsets")):
            raise MetricError(
                f"{self._store.path} contains no array {key}, only {', '.join(specs)}."
            )
        try:
            if key not in specs:
                array = self._open_ragged(specs[whole], committed)
                return array.values if part == "values" else array.offsets
            if specs[key].ragged_axis is not None:
                return self._open_ragged(specs[key], committed)
            rows = self.record.rows
            # Arrays without skipped samples may have fewer rows until the split is complete.
            least = len(self) if self.record.skips and not self.record.complete else rows
            end = self.record.committed[-1][1] if self.record.committed else 0
            return self._open_array(specs[key], committed, rows, least, end)
        except StoreDamagedError:
            self._store.identity.check()
            raise

    def _open_ragged(self, spec: ArraySpec, committed: tuple[tuple[int, int], ...]) -> RaggedArray:
        """Open the two arrays of samples that differ in length."""
        rows = self.record.rows
        least = len(self) if self.record.skips and not self.record.complete else rows
        end = self.record.committed[-1][1] if self.record.committed else 0
        # Even a split without samples has an offset once it is committed.
        count = end + 1 if self.record.committed or self.record.complete else 0
        offsets = self._open_array(spec.offsets, ((0, count),), rows + 1, least + 1, count)
        total = int(offsets[-1]) if count else 0
        if not 0 <= total <= LARGEST:
            raise StoreDamagedError(
                f"{self._store.path}: array {offsets.key} ends with {total}. "
                "Dump again with `overwrite=True`, or "
                "restore the store from a copy."
            )
        values = self._open_array(spec.values, ((0, total),), total, total, total)
        assert spec.ragged_axis is not None
        return RaggedArray(values, offsets, committed, spec.ragged_axis, spec.name)

    def _open_array(
        self,
        spec: ArraySpec,
        ranges: tuple[tuple[int, int], ...],
        rows: int,
        least: int,
        end: int,
    ) -> StoredArray:
        """Open an array with ``rows``, of which the ranges are read and ``end`` are committed.

        Until the split is complete, it may have room for more rows, and only for ``least``.
        """
        key = spec.key
        array = self._store._tree.array(f"splits/{self.name}/{key}")
        dtype = "object" if spec.dtype is str else dtype_name(np.dtype(spec.dtype))
        if not self.record.complete:
            rows = max(least, array.shape[0] if array.shape else 0)
        for what, actual, expected in (
            ("shape", array.shape, (rows, *spec.shape)),
            ("type", dtype_name(array.dtype), dtype),
        ):
            if actual != expected:
                raise StoreDamagedError(
                    f"{self._store.path}: array {array.key} has {what} {actual} instead of "
                    f"{expected}, as in the store's attribute. "
                    "Dump again with `overwrite=True`, or restore the store "
                    "from a copy."
                )
        checksums = (self.record.checksums or {}).get(key)
        if (
            checksums is not None
            and checksums.rows != min(array.chunk_rows, end)
            and checksums.rows * spec.row_bytes > BLOCK_BYTES
        ):
            raise StoreDamagedError(
                f"{self._store.path}: array {array.key} has chunks of {array.chunk_rows} rows, but "
                f"the attribute has checksums of {checksums.rows} rows each. "
                "Dump again with `overwrite=True`, or "
                "restore the store from a copy. If you changed its chunks on purpose, remove "
                "`checksums` of the split and `cnatool_crc32c`."
            )
        if checksums is not None and len(checksums) != -(-end // checksums.rows):
            raise StoreDamagedError(
                f"{self._store.path}: array {array.key} has {end} committed rows, but "
                f"{len(checksums)} checksums of {checksums.rows} rows each. "
                "Dump again with `overwrite=True`, or "
                "restore the store from a copy."
            )
        identity = self._store.identity
        return StoredArray(array, ranges, self._store.path, checksums, end, identity, spec.name)


class Store:
    """An open store.

    Attributes
    ----------
    path : Path
        Its path.
    record : StoreRecord
        Its attribute as typed records.
    splits : mapping of str to Split
        Its splits, in the order in which they were dumped; the KeyError for an unknown name lists
        them.
    identity : Identity
        Identity of the file or folder when it was opened.
    reopen : callable
        Opens the store again, even in another process on this machine.
    """

    def __init__(
        self,
        path: Path,
        record: StoreRecord,
        tree: ReadableTree,
        identity: Identity,
        find_inputs: Callable[[Split], Split],
        reopen: Callable[[], Store],
    ) -> None:
        self.identity = identity
        self.reopen = reopen
        self.path = path
        self.record = record
        self._tree = tree
        self._find_inputs = find_inputs
        self._referred: dict[str, Split] = {}
        splits = {name: Split(self, name) for name in record.splits}
        self.splits: Mapping[str, Split] = SplitsByName(path, splits)
        self._tensors = {tensor.name: tensor for tensor in record.tensors}
        self._specs = {spec.key: spec for spec in split_arrays(record, labels=True)}

    def __repr__(self) -> str:
        splits = ", ".join(
            f"{name} ({count_text(len(split), 'row')})" for name, split in self.splits.items()
        )
        tensors = count_text(len(self._tensors), "tensor")
        return f"<cnatool store {str(self.path)!r}: {tensors}; {splits or 'no splits yet'}>"

    _repr_html_ = shown_by("cnatool.store.html", "store_html")

    @property
    def parts(self) -> MergedParts | None:
        """The parts that hold the rows of a merged store; None for other stores."""
        return self._tree.parts if isinstance(self._tree, PartedTree) else None

    def attribute(self) -> bytes:
        """Return the attribute as JSON."""
        return self._tree.attribute() or b""

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        """The stored tensors, by number."""
        return self.record.tensors

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        """The network's linear operators in execution order."""
        return self.record.layers

    def to_xarray(self, tensors: str | Iterable[str] | None = None) -> xarray.DataTree:
        """Return the store as an xarray DataTree with one Dataset per split.

        Parameters
        ----------
        tensors : str or iterable of str, optional
            As in `Split.to_xarray`.

        Raises
        ------
        UsageError, MetricError
            As in `Split.to_xarray`.
        """
        tree: xarray.DataTree = import_module(_AS_XARRAY).build_tree(self, tensors)
        return tree

    def components(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the mean and the principal components that a tensor was projected onto.

        Parameters
        ----------
        name : str
            A tensor that was reduced to ``pca:K``, including the form: ``NAME:pca:64``.

        Returns
        -------
        mean : ndarray, (D,)
        components : ndarray, (K, D)
            For each sample, ``(x - mean) @ components.T`` is stored, where x are its D numbers.

        Raises
        ------
        MetricError
            If the store has no such tensor, or it was reduced to another form.
        StoreDamagedError
            If they differ from those that were stored.
        """
        return read_components(self, self.tensor(name))

    def common_array(self, key: str) -> ReadableArray:
        """Open an array that belongs to all splits, by its key in the store."""
        return self._tree.array(key)

    def has_tensor(self, name: str) -> bool:
        """Whether a tensor or its statistics are stored."""
        return name in self._tensors

    def tensor(self, name: str) -> TensorRecord:
        """Return the record of a tensor.

        Raises
        ------
        MetricError
            If the store contains no tensor of that name.
        """
        try:
            return self._tensors[name]
        except KeyError:
            if not isinstance(name, str):
                raise MetricError(
                    f"{self.path}: no tensor {name!r}. Tensors have names, such as "
                    f"{next(iter(self._tensors), '…')!r}."
                ) from None
            full = find_full_name(self._tensors, name)
            hint = (
                f"One inside a subgraph is {full!r}."
                if full
                else advise_on_name(name, self._tensors, self.path)
            )
            raise MetricError(f"{self.path}: no tensor {name!r}. {hint}") from None


def _compute_fingerprint(split: Split) -> str:
    """Compute the fingerprint of a split by reading its raw inputs and labels."""
    digests = start_digests(split.store.record, labels=split.record.labels)
    keys = [input_key(number) for number in range(len(split.store.record.inputs))]
    keys += [LABELS] if split.record.labels else []
    for key, digest in zip(keys, digests, strict=True):
        for _, rows in split.array(key).blocks():
            digest.update(rows)
    return combine_digests(digests)
