"""Verification of a store: checksums, shapes, its attribute, statistics."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import numpy as np

from cnatool._util.documents import Document
from cnatool._util.html import shown_by
from cnatool._util.observer import Silent
from cnatool._util.text import count_text, escape
from cnatool._util.urls import parse_path
from cnatool.errors import MetricError, StoreDamagedError
from cnatool.records.choices import Statistic
from cnatool.records.layout import (
    LABELS,
    TOKEN_NUMBERS,
    activation_key,
    input_key,
    output_key,
    split_arrays,
    statistic_key,
    token_key,
)
from cnatool.store.components import find_component_faults
from cnatool.store.damaged_rows import divide_into_blocks, find_damaged_rows
from cnatool.store.format_table import find_metadata_faults
from cnatool.store.integrity import combine_digests, start_digests
from cnatool.store.missing_rows import explain_missing_rows
from cnatool.store.ragged import RaggedArray
from cnatool.store.reader import open_store
from cnatool.store.unit_checks import find_unit_faults
from cnatool.store.unit_state import open_parts
from cnatool.store.value_checks import find_mismatches, find_token_faults

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.records.ragged import Rows
    from cnatool.records.store import StoreRecord, TensorRecord
    from cnatool.store.store import Split, Store
    from cnatool.store.stored_array import StoredArray

# Faults that are reported at most.
_MOST_FAULTS = 1000


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault of a store.

    Attributes
    ----------
    where : str
        The array, as ``splits/<split>/<key>``; ``attribute``; or, as ``part <number>``, a part of
        a merged store that cannot be opened.
    rows : tuple of (int, int) or None
        The half-open range of affected rows; null if all rows are affected.
    problem : str
        What is wrong.
    """

    where: str
    rows: tuple[int, int] | None
    problem: str


class Verification(Document, frozen=True, forbid_unknown_fields=True):
    """The result of verifying a store.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    store : str
        The store's path.
    complete : bool
        Whether all rows of all splits are committed. In an incomplete store, the committed rows
        were checked.
    committed, rows : int
        Committed rows of all splits, and rows of the complete store.
    arrays : int
        Number of arrays that were read.
    bytes : int
        Bytes that were read, uncompressed.
    faults : tuple of Fault
        The faults, in the order of the store.
    """

    schema: Literal["cnatool.verify/1"]
    store: str
    complete: bool
    committed: int
    rows: int
    arrays: int
    bytes: int
    faults: tuple[Fault, ...]

    def __repr__(self) -> str:
        return f"<verification of {self.store!r}: {count_text(len(self.faults), 'fault')}>"

    _repr_html_ = shown_by("cnatool.store.html", "verification_html")


def verify(
    store: str | Path,
    *,
    inputs: str | Path | Iterable[str | Path] = (),
    observer: Observer | None = None,
) -> Verification:
    """Read every committed row of a store and check everything that can be checked.

    This covers the attribute, against its schema and for consistency; the shape and type of every
    array; the checksum of every chunk; statistics, against stored values; and the fingerprint of
    the data. Raw inputs in another store are read as well.

    Parameters
    ----------
    store : str or Path
        The store.
    inputs : str, Path or iterable of these
        As in `cnatool.score`.
    observer : Observer, optional
        Receives the progress of the verification, and a note about a store that is not finished.

    Returns
    -------
    Verification

    Raises
    ------
    NotAStoreError
        If there is no store.
    StoreInUseError
        If it is replaced in the meantime.
    """
    path = parse_path(store)
    try:
        opened = open_store(path, inputs)
    except StoreDamagedError as error:
        fault = Fault("attribute", None, _without_path(path, error))
        return Verification("cnatool.verify/1", str(path), False, 0, 0, 0, 0, (fault,))
    observer = observer or Silent()
    if not opened.record.complete:
        observer.note(explain_missing_rows(opened))
    missing = _find_missing_parts(opened)
    faults = [
        *(Fault(f"part {number}", None, text) for number, text in missing.items()),
        *islice(_metadata_faults(opened), _MOST_FAULTS),
    ][:_MOST_FAULTS]
    arrays = read = 0
    for where, problem in find_component_faults(opened):
        faults.append(Fault(where, None, _without_path(path, StoreDamagedError(problem))))
    for split in opened.splits.values():
        check = _SplitCheck(split, opened.record, observer, set(missing.values()))
        # A split that claims more rows than it has is not read to its end.
        faults += islice(check.faults(), _MOST_FAULTS - len(faults))
        arrays += check.arrays
        read += check.bytes
    if faults:
        opened.identity.check()
    return Verification(
        schema="cnatool.verify/1",
        store=str(path),
        complete=opened.record.complete,
        committed=sum(map(len, opened.splits.values())),
        rows=sum(split.record.rows for split in opened.splits.values()),
        arrays=arrays,
        bytes=read,
        faults=tuple(faults),
    )


def _find_missing_parts(store: Store) -> dict[int, str]:
    """Find the parts of a merged store that cannot be opened, with the reasons."""
    parts = store.parts
    if parts is None:
        return {}
    missing = {}
    for number in range(len(parts)):
        try:
            parts.open(number)
        except StoreDamagedError as error:
            missing[number + 1] = str(error)
    return missing


def _metadata_faults(store: Store) -> Iterator[Fault]:
    """Find faults of metadata that reading the rows does not reveal, also those of parts."""
    for where, problem in find_metadata_faults(store.path):
        yield Fault(where, None, problem)
    paths = () if store.parts is None else map(store.parts.path, range(len(store.parts)))
    for number, path in enumerate(paths, 1):
        # A part that is missing is a fault of its own.
        with suppress(OSError):
            for where, problem in find_metadata_faults(path):
                yield Fault(where, None, f"of part {number} ({path}): {problem}")


class _SplitCheck:
    """The check of one split: all its arrays, a range of rows at a time, in bounded memory."""

    def __init__(
        self, split: Split, record: StoreRecord, observer: Observer, told: Collection[str]
    ) -> None:
        self._split = split
        self._told = told  # errors that are faults already
        self._record = record
        self._observer = observer
        self._statistics: tuple[Statistic, ...] = tuple(
            name for name in get_args(Statistic) if split.has_statistic(name)
        )
        self._measured = {_values_key(tensor): tensor for tensor in record.tensors}
        data = [input_key(i) for i in range(len(record.inputs))]
        data += [LABELS] if split.record.labels else []
        digests = start_digests(record, labels=split.record.labels)
        self._digests = dict(zip(data, digests, strict=True))
        self._opened: dict[str, StoredArray] = {}
        self._ragged: dict[str, RaggedArray] = {}
        self._unread: set[str] = set()
        self.arrays = 0
        self.bytes = 0

    def faults(self) -> Iterator[Fault]:
        """Find the faults of the split."""
        yield from self._open()
        # Without an array the number of rows in the attribute cannot be checked.
        rows = len(self._split) if self._opened else 0
        step = max([array.chunk_rows for array in self._opened.values()], default=1)
        self._observer.progress(self._split.name, 0, rows)
        for start, stop in _ranges(0, rows, step):
            yield from self._faults_of_rows(start, stop)
            self._observer.progress(self._split.name, stop, rows)
        yield from self._faults_of_data()
        yield from self._faults_of_units()

    def _open(self) -> Iterator[Fault]:
        for spec in split_arrays(self._record, labels=self._split.record.labels):
            try:
                array = self._split.array(spec.key)
            except (MetricError, StoreDamagedError) as error:
                self._unread.add(spec.key)
                yield self._unreadable(spec.key, None, error)
            else:
                if isinstance(array, RaggedArray):
                    self._ragged[spec.key] = array
                else:
                    self._opened[spec.key] = array
        self.arrays = len(self._opened) + 2 * len(self._ragged)

    def _faults_of_rows(self, start: int, stop: int) -> Iterator[Fault]:
        statistics: dict[Statistic, NDArray[np.float64]] = {}
        for name in self._statistics:
            rows = yield from self._read(statistic_key(name), start, stop)
            if rows is not None:
                statistics[name] = rows
        for key, array in self._opened.items():
            counted = key == statistic_key("count")
            if key.startswith(("statistics/", "tokens/")) and not counted:
                continue
            for first, last in _ranges(start, stop, array.chunk_rows):
                part = {
                    name: rows[first - start : last - start] for name, rows in statistics.items()
                }
                yield from self._faults_of_chunk(key, first, last, part)
        yield from self._faults_of_tokens(start, stop)
        for key, ragged in self._ragged.items():
            for first, last in divide_into_blocks(ragged, start, stop):
                part = {
                    name: rows[first - start : last - start] for name, rows in statistics.items()
                }
                yield from self._faults_of_ragged(key, first, last, part)

    def _faults_of_chunk(
        self, key: str, start: int, stop: int, statistics: Mapping[Statistic, NDArray[np.float64]]
    ) -> Iterator[Fault]:
        values = yield from self._read(key, start, stop)
        if values is None:
            self._unread.add(key)
        elif key in self._digests:
            self._digests[key].update(values)
        elif key in self._measured:
            yield from self._mismatches(self._measured[key], values, statistics, start)

    def _faults_of_tokens(self, start: int, stop: int) -> Iterator[Fault]:
        if not self._record.tokens:
            return
        numbers = {}
        for name in TOKEN_NUMBERS:
            rows = yield from self._read(token_key(name), start, stop)
            if rows is not None:
                numbers[name] = rows
        if len(numbers) == len(TOKEN_NUMBERS):
            for name, span, problem in find_token_faults(numbers, start):
                yield Fault(self._where(token_key(name)), span, problem)

    def _faults_of_ragged(
        self, key: str, start: int, stop: int, statistics: Mapping[Statistic, NDArray[np.float64]]
    ) -> Iterator[Fault]:
        """Find the faults of rows that vary in length; one for all rows of the same reason."""
        array = self._ragged[key]
        try:
            rows = array[start:stop]
        except StoreDamagedError:
            self._unread.add(key)
            for (first, last), error in find_damaged_rows(array, start, stop):
                if str(error) not in self._told:
                    yield self._unreadable(key, (first, last), error)
            return
        self.bytes += rows.nbytes
        if key in self._digests:
            self._digests[key].update(rows)
        tensor = self._measured.get(key)
        if tensor is None:
            return
        yield from self._mismatches(tensor, rows, statistics, start)
        counts = yield from self._read(statistic_key("count"), start, stop)
        if counts is not None and (wrong := counts[:, tensor.number] != rows.counts).any():
            row = int(wrong.argmax())
            yield Fault(
                self._where(statistic_key("count")),
                (start + row, start + row + 1),
                f"of tensor {tensor.name!r} in row {start + row} is "
                f"{counts[row, tensor.number]:.0f}, but it has {rows.counts[row]} values",
            )

    def _faults_of_data(self) -> Iterator[Fault]:
        """Compare inputs and labels with their fingerprint, if all of them could be read."""
        fingerprint = self._split.record.fingerprint
        if fingerprint is None or self._unread & self._digests.keys():
            return
        if combine_digests(list(self._digests.values())) != fingerprint:
            where = f"splits/{self._split.name}"
            yield Fault(where, None, "inputs and labels do not match the fingerprint")

    def _faults_of_units(self) -> Iterator[Fault]:
        """Find the faults of statistics of units, also of those that parts have."""
        parted = self._split.store.parts is not None
        try:
            splits = list(open_parts(self._split)) if parted else [self._split]
        except StoreDamagedError:
            return  # a fault already
        for split in splits:
            state = split.record.units
            if not state:
                continue
            self.arrays += len(state.arrays)
            self.bytes += sum(
                math.prod(array.shape) * np.dtype(array.dtype).itemsize
                for array in state.arrays.values()
            )
            for key, problem in find_unit_faults(split):
                if isinstance(problem, StoreDamagedError):
                    yield self._unreadable(key, None, problem)
                else:
                    of = f"of {split.path}: " if parted else ""
                    yield Fault(self._where(key), None, f"{of}{problem}")

    def _read(self, key: str, start: int, stop: int) -> Generator[Fault, None, NDArray[Any] | None]:
        """Read rows of an array; None after faults, one for each unreadable chunk."""
        if key not in self._opened:
            return None
        array = self._opened[key]
        parts = []
        broken = False
        for first, last in _ranges(start, stop, array.chunk_rows):
            try:
                parts.append(array[first:last])
            except StoreDamagedError as error:
                broken = True
                if str(error) not in self._told:
                    yield self._unreadable(key, (first, last), error)
        if broken:
            return None
        values = np.concatenate(parts)
        self.bytes += values.nbytes
        return values

    def _mismatches(
        self,
        tensor: TensorRecord,
        rows: Rows,
        stored: Mapping[Statistic, NDArray[np.float64]],
        first: int,
    ) -> Iterator[Fault]:
        """Compare statistics with those of the values."""
        for name, span, problem in find_mismatches(tensor, rows, stored, first):
            yield Fault(self._where(statistic_key(name)), span, problem)

    def _unreadable(self, key: str, rows: tuple[int, int] | None, error: Exception) -> Fault:
        """Make a fault from an error, without repeating the place."""
        where = self._where(key)
        problem = _without_path(self._split.path, error)
        for part in ("values", "offsets"):
            if problem.startswith(f"{where}/{part}"):
                where = f"{where}/{part}"
        if problem.startswith(where):
            problem = problem.removeprefix(where).lstrip("/: ")
        problem = problem.replace(f" of array {where}", "", 1).removeprefix(f"array {where} ")
        if rows is not None:
            span = f"rows {rows[0]} to {rows[1] - 1}"
            problem = problem.removeprefix(f"{span} ").replace(f" ({span})", "", 1)
        return Fault(where, rows, problem)

    def _where(self, key: str) -> str:
        return f"splits/{self._split.name}/{key}"


def _ranges(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def _values_key(tensor: TensorRecord) -> str:
    """Return the key of the array of a tensor's values, whether or not it exists."""
    if tensor.output is not None:
        return output_key(tensor.output)
    return activation_key(tensor.number)


def _without_path(path: Path, error: Exception) -> str:
    """Return the text of an error without the store's path."""
    text, own = str(error), escape(str(path))
    # The names of files beside it begin like its own.
    if not text.startswith((f"{own}/", f"{own}:", f"{own} ")):
        return text
    return text.removeprefix(own).lstrip("/: ")
