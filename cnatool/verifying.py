"""Every check that a store allows: checksums, shapes, its own description, statistics."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import msgspec
import numpy as np

from cnatool.errors import StoreDamagedError
from cnatool.store.layout import (
    LABELS,
    activation_key,
    input_key,
    output_key,
    split_arrays,
    statistic_key,
)
from cnatool.store.reader import open_store
from cnatool.store.records import Statistic
from cnatool.store.row_statistics import row_statistics
from cnatool.store.tree import faults_of_metadata

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.store.layout import ArraySpec
    from cnatool.store.reader import Split, StoredArray
    from cnatool.store.records import StoreRecord, TensorRecord

__all__ = ["Fault", "Progress", "Verification", "verify"]

# What a store promises of a sum, as a share of the absolute sum.
_TOLERANCE = 1e-5
# More of a kind say nothing new.
_MOST_FAULTS = 1000


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something in a store that is not as it should be.

    Attributes
    ----------
    where : str
        The array, as ``splits/<split>/<key>``, or ``attribute``.
    rows : tuple of (int, int) or None
        The half-open range of rows that it touches; null where it touches all.
    problem : str
        What is wrong.
    """

    where: str
    rows: tuple[int, int] | None
    problem: str


class Verification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a check of a store found.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    store : str
        The store's path.
    complete : bool
        Whether all rows of all its splits are committed. Of a store that is not, the committed rows
        were checked.
    committed, rows : int
        Rows of all splits that are committed, and that there will be once the store is complete.
    arrays : int
        Arrays that were read.
    bytes : int
        Bytes that were read of them, uncompressed.
    faults : tuple of Fault
        What is wrong, in the order of the store; empty where nothing is.
    """

    schema: Literal["cnatool.verify/1"]
    store: str
    complete: bool
    committed: int
    rows: int
    arrays: int
    bytes: int
    faults: tuple[Fault, ...]


class Progress(Protocol):
    """Is told how far a check is."""

    def progress(self, split: str, done: int, rows: int) -> None:
        """``done`` of ``rows`` rows of a split have been read."""


class _Silent:
    def progress(self, split: str, done: int, rows: int) -> None:
        pass


def verify(store: str | Path, *, observer: Progress | None = None) -> Verification:
    """Read every committed row of a store and check all that can be checked.

    These are: the attribute against its schema and itself, the shape and type of every array, the
    checksum of every chunk, statistics against the values they are of where these are stored, and
    the fingerprint of the data.

    Parameters
    ----------
    store : str or Path
        The store.
    observer : Progress, optional
        Told how far the check is.

    Returns
    -------
    Verification

    Raises
    ------
    NotAStoreError
        If there is no store.
    """
    path = Path(store)
    try:
        opened = open_store(path)
    except StoreDamagedError as error:
        fault = Fault("attribute", None, _of_store(path, error))
        return Verification("cnatool.verify/1", str(path), False, 0, 0, 0, 0, (fault,))
    faults = [Fault(where, None, problem) for where, problem in faults_of_metadata(path)]
    arrays = read = 0
    for split in opened.splits.values():
        check = _SplitCheck(split, opened.record, observer or _Silent())
        faults += check.faults()
        arrays += check.arrays
        read += check.bytes
    return Verification(
        schema="cnatool.verify/1",
        store=str(path),
        complete=all(split.record.complete for split in opened.splits.values()),
        committed=sum(map(len, opened.splits.values())),
        rows=sum(split.record.rows for split in opened.splits.values()),
        arrays=arrays,
        bytes=read,
        faults=tuple(faults[:_MOST_FAULTS]),
    )


class _SplitCheck:
    """The check of one split: a range of rows at a time, all arrays of it, in bounded memory."""

    def __init__(self, split: Split, record: StoreRecord, observer: Progress) -> None:
        self._split = split
        self._record = record
        self._observer = observer
        self._statistics: tuple[Statistic, ...] = tuple(
            name for name in get_args(Statistic) if split.has_statistic(name)
        )
        self.arrays = 0
        self.bytes = 0

    def faults(self) -> Iterator[Fault]:
        """Give what is wrong."""
        opened: dict[str, StoredArray] = {}
        for spec in split_arrays(self._record, labels=self._split.record.labels):
            array = self._opened(spec)
            if isinstance(array, Fault):
                yield array
            else:
                opened[spec.key] = array
        self.arrays = len(opened)
        rows = len(self._split)
        step = max([array.chunk_rows for array in opened.values()], default=1)
        data = [input_key(i) for i in range(len(self._record.inputs))]
        data += [LABELS] if self._split.record.labels else []
        digests = {key: hashlib.sha256() for key in data}
        unread: set[str] = set(data) - set(opened)
        self._observer.progress(self._split.name, 0, rows)
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            statistics: dict[Statistic, NDArray[np.float64]] = {}
            for name in self._statistics:
                found = yield from self._read(opened, statistic_key(name), start, stop)
                if found is not None:
                    statistics[name] = found
            measured = {self._key(tensor): tensor for tensor in self._record.tensors}
            for key, array in opened.items():
                if key.startswith("statistics/") and key != statistic_key("count"):
                    continue
                for first in range(start, stop, array.chunk_rows):
                    last = min(first + array.chunk_rows, stop)
                    values = yield from self._read(opened, key, first, last)
                    if values is None:
                        unread.add(key)
                    elif key in digests:
                        digests[key].update(np.ascontiguousarray(values).data)
                    elif key in measured:
                        part = {n: v[first - start : last - start] for n, v in statistics.items()}
                        yield from self._mismatches(measured[key], values, part, first)
            self._observer.progress(self._split.name, stop, rows)
        fingerprint = self._split.record.fingerprint
        if fingerprint is not None and not unread & set(data):
            joined = b"".join(digests[key].digest() for key in data)
            if hashlib.sha256(joined).hexdigest() != fingerprint:
                where = f"splits/{self._split.name}"
                yield Fault(where, None, "inputs and labels are not those of the fingerprint")

    def _opened(self, spec: ArraySpec) -> StoredArray | Fault:
        where = f"splits/{self._split.name}/{spec.key}"
        try:
            return self._split.array(spec.key)
        except StoreDamagedError as error:
            return Fault(where, None, _of_store(self._split.path, error))

    def _read(
        self, opened: Mapping[str, StoredArray], key: str, start: int, stop: int
    ) -> Generator[Fault, None, NDArray[Any] | None]:
        """Give rows of an array; None after faults, one for each chunk that cannot be read."""
        if key not in opened:
            return None
        array = opened[key]
        parts = []
        broken = False
        for first in range(start, stop, array.chunk_rows):
            last = min(first + array.chunk_rows, stop)
            try:
                parts.append(array[first:last])
            except StoreDamagedError as error:
                broken = True
                problem = _of_store(self._split.path, error)
                yield Fault(f"splits/{self._split.name}/{key}", (first, last), problem)
        if broken:
            return None
        values = np.concatenate(parts)
        self.bytes += values.nbytes
        return values

    def _key(self, tensor: TensorRecord) -> str:
        """Give the key of the array that holds a tensor's values, be it there or not."""
        if tensor.output is not None:
            return output_key(tensor.output)
        return activation_key(tensor.number)

    def _mismatches(
        self,
        tensor: TensorRecord,
        values: NDArray[Any],
        stored: Mapping[Statistic, NDArray[np.float64]],
        first: int,
    ) -> Iterator[Fault]:
        """Compare statistics with those of the values."""
        # Narrowed values are not those that the statistics are of.
        narrowed = tensor.stored is not None and tensor.stored != tensor.dtype
        tolerance, rounded = _TOLERANCE, 0.0
        if narrowed and tensor.stored is not None:
            limits = np.finfo(tensor.stored)
            tolerance += float(limits.eps)
            # What is closer to zero than normal numbers is rounded by as much, however small it is.
            rounded = float(limits.smallest_subnormal)
        expected = row_statistics(values, [*stored, "abs_sum", "max", "min"])
        largest = np.maximum(np.abs(expected["min"]), np.abs(expected["max"]))
        scales = {"square_sum": row_statistics(values, ["square_sum"])["square_sum"] * 2}
        scales |= {"min": largest, "max": largest}
        count = float(np.prod(values.shape[1:]))
        added = {"min": rounded, "max": rounded}
        for name, all_found in stored.items():
            if narrowed and name == "nonzero_count":
                continue
            found = all_found[:, tensor.number]
            truth = expected[name]
            scale = scales.get(name, expected["abs_sum"])
            # An infinity elsewhere among the values allows nothing.
            scale = np.where(np.isfinite(scale), scale, np.abs(truth))
            with np.errstate(invalid="ignore"):
                allowed = tolerance * scale + added.get(name, rounded * count)
                if name == "square_sum" and rounded:
                    allowed += 2 * rounded * expected["abs_sum"]
                near = np.isfinite(truth) & (np.abs(found - truth) <= allowed)
            if name in ("min", "max"):
                # A runtime may or may not pass NaN by.
                near |= np.isnan(truth)
            wrong = np.flatnonzero(~(near | (found == truth) | (np.isnan(found) & np.isnan(truth))))
            if len(wrong):
                row = int(wrong[0])
                others = f", and of {len(wrong) - 1} more rows" if len(wrong) > 1 else ""
                yield Fault(
                    f"splits/{self._split.name}/{statistic_key(name)}",
                    (first + row, first + int(wrong[-1]) + 1),
                    f"of tensor {tensor.name!r} in row {first + row} is {found[row]:.9g}, and its "
                    f"values give {truth[row]:.9g}{others}",
                )


def _of_store(path: Path, error: Exception) -> str:
    """Give what an error says without the path, which is the same for all."""
    return str(error).removeprefix(str(path)).lstrip("/: ")
