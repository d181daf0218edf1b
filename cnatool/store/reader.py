"""Reading a store: typed, committed rows only, in bounded memory."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool._util.text import printable
from cnatool._version import __version__
from cnatool.errors import (
    MetricError,
    NotAStoreError,
    StoreDamagedError,
    StoreVersionError,
    StoreWarning,
)
from cnatool.records.checks import find_contradictions
from cnatool.records.layout import (
    IDS,
    LABELS,
    activation_key,
    input_key,
    is_input,
    output_key,
    split_arrays,
    statistic_key,
)
from cnatool.records.store import StoreRecord
from cnatool.store.format_table import detect_format
from cnatool.store.hdf5.journal import find_journal_fault, follow_link
from cnatool.store.identity import Identity
from cnatool.store.integrity import attribute_checksum
from cnatool.store.references import find_inputs_split
from cnatool.store.stored_array import BLOCK_BYTES, StoredArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cnatool.records.store import LayerRecord, SplitRecord, TensorRecord
    from cnatool.store.format import ReadableTree

# Built on import: msgspec crashes the process where threads build the first decoder of a type.
_RECORD = msgspec.json.Decoder(StoreRecord)
_SCHEMA = "cnatool.store/1"

_AGAIN_SECONDS = (0.005, 0.02, 0.08)


def open_store(path: str | Path, inputs: str | Path | Iterable[str | Path] = ()) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path : str or Path
        A ``.zarr`` folder, a ``.zarr.zip`` file, or an HDF5 file.
    inputs : str, Path or iterable of these
        Stores to look in for raw inputs, if this one refers to another for them, before the one
        that it names.

    Returns
    -------
    Store

    Raises
    ------
    NotAStoreError
        If there is no store at ``path``.
    StoreDamagedError
        If its attribute is not what the schema says, or an array is missing or has another shape.
    StoreVersionError
        If it is whole, and in the form of another version of cnatool.

    Warns
    -----
    StoreWarning
        If the journal of an HDF5 store is damaged, so that its last commit may be missing.
    """
    path = Path(path)
    try:
        store = _open(path, as_paths(inputs))
    except (NotAStoreError, StoreDamagedError):
        _warn_of_journal(path, "")
        raise
    rows = (
        f"{sum(stop - start for start, stop in split.committed)} of {split.rows} rows of {name}"
        for name, split in store.record.splits.items()
    )
    # A complete store is left alone by a dump that would go on with it.
    complete = all(split.complete for split in store.record.splits.values())
    _warn_of_journal(path, f": it has {' and '.join(rows) or 'no rows'}", complete=complete)
    return store


def _warn_of_journal(path: Path, rows: str, *, complete: bool = False) -> None:
    """Warn that a damaged journal is ignored, so that the last commit may be missing."""
    if path.is_file() and (problem := find_journal_fault(follow_link(path))) is not None:
        ways = "Restore" if complete else "Complete the store with `cnatool dump --resume`, restore"
        warnings.warn(
            f"{problem}. The last commit may be missing from {path}{rows}. {ways} both files from "
            "a copy, or, if the journal does not belong to this store, delete it.",
            StoreWarning,
            stacklevel=3,
        )


def _open(path: Path, inputs: tuple[Path, ...]) -> Store:
    text = checksum = None
    identity = Identity(path)
    try:
        tree, text, checksum = _read_attribute(path)
        record = None if text is None else _RECORD.decode(text)
        wrong = None if record is None else next(find_contradictions(record), None)
        found = None if text is None else attribute_checksum(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
        if (maker := _other_version(text, checksum)) is not None:
            raise StoreVersionError(
                f"{path}: made by another version of cnatool, {maker}, in a form that cnatool "
                f"{__version__} does not read ({error}). Read it with that version, or dump again."
            ) from error
        raise StoreDamagedError(
            f"{path}: the attribute cnatool is not what the schema says: {error}."
        ) from error
    if record is None and checksum is None:
        raise NotAStoreError(f"{path} is no cnatool store: its root has no attribute cnatool.")
    if wrong is not None:
        raise StoreDamagedError(f"{path}: the attribute cnatool contradicts itself: {wrong}.")
    if record is None or checksum not in (None, found):
        raise StoreDamagedError(
            f"{path}: the attribute cnatool does not match its checksum cnatool_crc32c. Dump "
            "again, or restore the store from a copy. If you changed it on purpose, remove the "
            "checksum."
        )
    return Store(path, record, tree, inputs, identity)


class _Maker(msgspec.Struct):
    """What every version writes."""

    schema: str = ""
    created_by: str = ""


def _other_version(text: bytes | None, checksum: str | None) -> str | None:
    """Name the version that wrote an attribute this one cannot read; None where it is damaged."""
    try:
        maker = msgspec.json.decode(text or b"", type=_Maker)
        whole = checksum is not None and checksum == attribute_checksum(text or b"")
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError):
        return None
    form, _, number = maker.schema.rpartition("/")
    known = f"{form}/{number}" == _SCHEMA
    if form != _SCHEMA.rpartition("/")[0] or not number.isdecimal():
        return None
    if known and (not whole or maker.created_by in ("", f"cnatool {__version__}")):
        return None
    name = printable(maker.created_by)[:100]
    return f"{name} ({maker.schema})" if name else maker.schema


def _read_attribute(path: Path) -> tuple[ReadableTree, bytes | None, str | None]:
    """Read a store's attribute and its checksum; again where a writer came between the two."""
    for wait in (*_AGAIN_SECONDS, None):
        tree = detect_format(path).open(path)
        text, checksum = tree.attribute(), tree.checksum()
        if wait is None or text is None or checksum in (None, attribute_checksum(text)):
            break
        time.sleep(wait)
    return tree, text, checksum


def as_paths(inputs: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """List the paths of one store that a caller named, or of several."""
    return tuple(map(Path, (inputs,) if isinstance(inputs, str | Path) else inputs))


class Split:
    """One split of a store: ids, labels, raw inputs, outputs, activations, statistics.

    Rows are the committed ones, in order.
    """

    __slots__ = ("_store", "name")

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.record.committed)

    def __repr__(self) -> str:
        state = "" if self.record.complete else f" of {self.record.rows}, incomplete"
        return f"<split {self.name!r}: {len(self)} rows{state}>"

    @property
    def record(self) -> SplitRecord:
        """What the store's attribute says of this split."""
        return self._store.record.splits[self.name]

    @property
    def store(self) -> Store:
        """The store that the split is in."""
        return self._store

    @property
    def path(self) -> Path:
        """Where that store is."""
        return self._store.path

    @property
    def ids(self) -> StoredArray:
        """Where each sample came from; (n,) str."""
        return self.array(IDS)

    @property
    def labels(self) -> StoredArray | None:
        """Labels, (n,) int64; None where the split has none."""
        return self.array(LABELS) if self.record.labels else None

    def inputs(self, number: int = 0) -> StoredArray:
        """Raw input ``number`` before preprocessing, (n, …).

        Where `holds_levels` says so, these are counts instead, (n, 257) uint32: how often each of
        the levels 0 … 255 occurs in a sample. Where another store has them, they are read there.

        Raises
        ------
        MetricError
            If another store should have them, and does not.
        """
        return self.array(input_key(number))

    def holds_levels(self, number: int = 0) -> bool:
        """Say whether `inputs` counts the levels of a raw input instead of holding it."""
        return self.store.record.inputs[number].levels is not None

    def outputs(self, number: int = 0) -> StoredArray:
        """Model output ``number``, (n, …)."""
        return self.array(output_key(number))

    def output_operator(self, number: int = 0) -> str | None:
        """Operator that makes model output ``number``; None where the store does not know it."""
        return next((t.operator for t in self._store.tensors if t.output == number), None)

    def activations(self, name: str) -> StoredArray:
        """Tensor ``name`` whole, (n, …).

        Raises
        ------
        MetricError
            If there is no such tensor, or only its statistics were kept.
        """
        tensor = self._store.tensor(name)
        if tensor.stored is not None:
            return self.array(activation_key(tensor.number))
        if tensor.output is not None:
            return self.outputs(tensor.output)
        raise MetricError(
            f"{self._store.path}: of tensor {name!r} only statistics are stored. "
            "Dump with --keep full to have it whole."
        )

    def has_statistic(self, name: str) -> bool:
        """Say whether a per-sample statistic is stored."""
        return name in self._store.record.statistics

    def statistics(self, name: str = "sum") -> StoredArray:
        """Per-sample statistic ``name`` of all tensors, (n, T) float64."""
        return self.array(statistic_key(name))

    def array(self, key: str) -> StoredArray:
        """Give the array under a key of the layout, such as ``ids`` or ``activations/3``.

        Raises
        ------
        MetricError
            If the store's attribute says that there is none.
        StoreDamagedError
            If there should be one, and is none of the shape and type that the attribute says.
        """
        if self.record.inputs_from is not None and is_input(key):
            return self.inputs_split()._array(key, self.record.committed)
        return self._array(key, self.record.committed)

    def inputs_split(self) -> Split:
        """Give the split that holds the raw inputs: this one, or one of another store.

        Raises
        ------
        MetricError
            If another store should have them, and does not.
        """
        if self.record.inputs_from is None:
            return self
        found = self._store._referred.get(self.name)
        if found is None:
            found = find_inputs_split(self, self._store._named, open_store)
            self._store._referred[self.name] = found
        return found

    def _array(self, key: str, committed: tuple[tuple[int, int], ...]) -> StoredArray:
        """Give the rows of an array of this split that are committed, here or where it is used."""
        try:
            return self._found(key, committed)
        except StoreDamagedError:
            self._store.identity.check()
            raise

    def _found(self, key: str, committed: tuple[tuple[int, int], ...]) -> StoredArray:
        specs = self._store._specs
        if key not in specs:
            raise MetricError(f"{self._store.path} has no array {key}; it has {', '.join(specs)}.")
        spec = specs[key]
        array = self._store._tree.array(f"splits/{self.name}/{key}")
        dtype = "object" if spec.dtype is str else np.dtype(spec.dtype).name
        # Until a split is complete, arrays that grow may have room for more, and those that lack
        # what was skipped for less.
        rows = self.record.rows
        if not self.record.complete:
            least = len(self) if self.record.skips else rows
            rows = max(least, array.shape[0] if array.shape else 0)
        for what, found, expected in (
            ("shape", array.shape, (rows, *spec.shape)),
            ("type", array.dtype.name, dtype),
        ):
            if found != expected:
                raise StoreDamagedError(
                    f"{self._store.path}: array {array.key} has {what} {found}, and the store's "
                    f"attribute says {expected}. Dump again, or restore the store from a copy."
                )
        checksums = (self.record.checksums or {}).get(key)
        if (
            checksums is not None
            and checksums.rows != min(array.chunk_rows, len(self))
            and checksums.rows * spec.row_bytes > BLOCK_BYTES
        ):
            raise StoreDamagedError(
                f"{self._store.path}: array {array.key} has chunks of {array.chunk_rows} rows, and "
                f"the attribute checksums of {checksums.rows} rows each. Dump again, or restore "
                "the store from a copy. If you changed its chunks on purpose, remove "
                "`checksums` of the split, and `cnatool_crc32c`."
            )
        end = self.record.committed[-1][1] if self.record.committed else 0
        identity = self._store.identity
        return StoredArray(array, committed, self._store.path, checksums, end, identity)


class Store:
    """An open store.

    Attributes
    ----------
    path : Path
        Where it is.
    record : StoreRecord
        Its attribute, as typed records.
    splits : mapping of str to Split
        Its splits, in the order in which they were dumped.
    identity : Identity
        Identity of the file or folder when it was opened.
    """

    def __init__(
        self,
        path: Path,
        record: StoreRecord,
        tree: ReadableTree,
        named: tuple[Path, ...],
        identity: Identity,
    ) -> None:
        self.identity = identity
        self.path = path
        self.record = record
        self._tree = tree
        self._named = named
        self._referred: dict[str, Split] = {}
        self.splits: Mapping[str, Split] = {name: Split(self, name) for name in record.splits}
        self._tensors = {tensor.name: tensor for tensor in record.tensors}
        self._specs = {spec.key: spec for spec in split_arrays(record, labels=True)}

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} ({len(split)} rows)" for name, split in self.splits.items())
        return f"<cnatool store {str(self.path)!r}: {len(self._tensors)} tensors; {splits}>"

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        """The tensors in the store, by number."""
        return self.record.tensors

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        """The network's linear operators in execution order."""
        return self.record.layers

    def has_tensor(self, name: str) -> bool:
        """Say whether anything of a tensor is stored."""
        return name in self._tensors

    def tensor(self, name: str) -> TensorRecord:
        """Give the record of a tensor.

        Raises
        ------
        MetricError
            If the store has none of that name.
        """
        try:
            return self._tensors[name]
        except KeyError:
            raise MetricError(
                f"{self.path} holds no tensor {name!r}. `cnatool inspect {self.path}` lists them."
            ) from None
