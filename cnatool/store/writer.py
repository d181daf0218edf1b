"""Writing a store: batches of rows of any size, whole chunks on disk, commits."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import msgspec

from cnatool.errors import StoreDamagedError, StoreWriteError, UsageError
from cnatool.records.layout import LABELS, common_axes, input_key, split_arrays
from cnatool.records.narrowed import narrowed_tensors
from cnatool.records.narrowing import NarrowingRecord, merge_narrowing
from cnatool.records.store import ChunkChecksums, SkippedSample, SplitRecord, StoreRecord
from cnatool.store.chunks import ChunkedArray, chunk_rows, commit_rows
from cnatool.store.components import component_keys
from cnatool.store.format_table import format_by_name
from cnatool.store.integrity import (
    RowsDigest,
    attribute_checksum,
    combine_digests,
    start_digests,
    update_digests,
)
from cnatool.store.narrow import narrow_rows
from cnatool.store.ragged import ChunkedRagged, RaggedArray, create_ragged, reopen_ragged
from cnatool.store.unit_state import read_unit_state
from cnatool.store.unit_writer import UnitsWriter, adopt_units
from cnatool.store.write_errors import advise_beginning_anew, report_write_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.records.layout import StoreRows
    from cnatool.records.references import InputsReference
    from cnatool.records.store import SourceObject
    from cnatool.records.weights import WeightsRecord
    from cnatool.store.store import Split, Store
    from cnatool.store.unit_writer import UnitSource

ChunkedRows: TypeAlias = ChunkedArray | ChunkedRagged

# Arrays that are compressed and written at the same time.
WRITERS = min(4, os.cpu_count() or 1)


def check_codec(path: Path, codec: Codec | None) -> None:
    """Make sure that the format of a new store's name supports a codec."""
    codecs = format_by_name(path).codecs
    if codec is not None and codec not in codecs:
        raise UsageError(
            f"{path}: a {path.suffix} store cannot be compressed with {codec}, only with "
            f"{' or '.join(codecs)}."
        )


class StoreWriter:
    """A store being written: a new one, or one that `resume` continues.

    The path must not exist. With ``under``, it is written at that path, which the caller renames to
    ``path`` later.
    """

    def __init__(
        self,
        path: Path,
        record: StoreRecord,
        codec: Codec | None = None,
        *,
        under: Path | None = None,
    ) -> None:
        self.path = path
        self.record = record
        check_codec(path, codec)
        self._codec: Codec = codec or format_by_name(path).codecs[0]
        try:
            self._tree = format_by_name(path).create(under or path, temporary=under is not None)
            self._save()
        except OSError as error:
            raise StoreWriteError(
                f"{path} cannot be created: {error.strerror or error}."
            ) from error

    @classmethod
    def resume(cls, store: Store, codec: Codec | None = None) -> Self:
        """Continue a store, as its last commit left it; nobody else is writing it.

        Arrays of further splits are compressed with ``codec``; the others keep their own.
        """
        writer = cls.__new__(cls)
        writer.path = store.path
        writer.record = store.record
        writer._codec = codec or format_by_name(store.path).codecs[0]
        with report_write_errors(store.path, 0):
            writer._tree = format_by_name(store.path).reopen(store.path, store.splits)
            for key in component_keys(store):
                # The last commit lists the metadata of all arrays.
                array = store.common_array(key)
                writer._tree.reopen_array(key, array.shape[0])
        return writer

    def close(self) -> None:
        """Close all files; changes that were not committed are lost."""
        self._tree.close()

    def split(
        self,
        name: str,
        rows: int | None,
        *,
        source: str,
        labels: bool,
        classes: tuple[str, ...] | None = None,
        available: int | None = None,
        id_bytes: int = 64,
        codecs: Mapping[str, Codec] | None = None,
        skips: bool = False,
        most: int | None = None,
        seconds: float | None = None,
        whole: int | None = None,
        inputs_from: InputsReference | None = None,
        objects: tuple[SourceObject, ...] | msgspec.UnsetType = msgspec.UNSET,
    ) -> SplitWriter:
        """Create the arrays of a split.

        ``rows`` is None if it is unknown; with ``skips``, samples that are skipped may be missing
        from them. The source has ``available`` samples, of which these are the first. ``id_bytes``
        is the UTF-8 length of the longest id. ``codecs`` has the compression of arrays by their
        keys, where it is not that of the store. ``most`` is the most rows between two commits,
        ``seconds`` the time after which a batch commits all rows, wherever chunks end, and
        ``whole`` the number of rows for which chunks are chosen, if these are a part of them. With
        ``inputs_from``, raw inputs are not written. ``objects`` are those that samples are read
        from.
        """
        record = SplitRecord(
            rows=rows or 0,
            committed=(),
            complete=False,
            labels=labels,
            source=source,
            classes=classes,
            available=available,
            skips=skips,
            inputs_from=inputs_from,
            objects=objects,
        )
        layout = split_arrays(self.record, labels=labels, inputs=inputs_from is None)
        sizes = [array.row_bytes for array in layout]
        arrays: dict[str, ChunkedRows] = {}
        commit, folder, grows = commit_rows(sizes, most), f"splits/{name}", rows is None or skips
        with report_write_errors(self.path, 0):
            for spec, chunk in zip(layout, chunk_rows(sizes, whole or rows, most), strict=True):
                codec = (codecs or {}).get(spec.key, self._codec)
                create = partial(self._tree.create_array, codec=codec, text_bytes=id_bytes)
                if spec.ragged_axis is not None:
                    arrays[spec.key] = create_ragged(
                        create, folder, spec, chunk, rows, commit, grows=grows
                    )
                    continue
                array = create(
                    f"{folder}/{spec.key}",
                    (rows or 0, *spec.shape),
                    spec.dtype,
                    chunk,
                    axes=spec.dimensions,
                    name=spec.name,
                    grows=grows,
                    commit_rows=commit,
                    extends=seconds is not None,
                )
                arrays[spec.key] = ChunkedArray(array, spec.dtype)
            self._update(name, record)
        return SplitWriter(self, name, record, arrays, commit, seconds=seconds, grows=rows is None)

    def add_common(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write arrays that belong to all splits, by their keys; counts with the next commit."""
        with report_write_errors(self.path, 0):
            for key, values in arrays.items():
                chunk = chunk_rows([values[:1].nbytes], len(values))[0]
                array = self._tree.create_array(
                    key,
                    values.shape,
                    values.dtype,
                    chunk,
                    self._codec,
                    axes=common_axes(key, values.shape),
                    text_bytes=0,
                )
                rows = ChunkedArray(array, values.dtype)
                rows.append(values)
                rows.flush()

    def set_weights(self, weights: WeightsRecord) -> None:
        """Set the norms of the model's weights; counts with the next commit."""
        self.record = msgspec.structs.replace(self.record, weights=weights)

    def _set_rows(self, split: str, rows: Mapping[str, int]) -> None:
        for key, count in rows.items():
            self._tree.set_rows(f"splits/{split}/{key}", count)

    def resume_split(self, split: Split, digests: list[RowsDigest]) -> SplitWriter:
        """Continue a split after its committed rows.

        Every split of a resumed store is opened like this, also the complete ones.
        """
        record = split.record
        own_inputs = record.inputs_from is None
        layout = split_arrays(self.record, labels=record.labels, inputs=own_inputs)
        sizes = [array.row_bytes for array in layout]
        committed, grows = len(split), record.skips and not record.complete
        arrays: dict[str, ChunkedRows] = {}
        with report_write_errors(self.path, committed):
            stored = {spec.key: split.array(spec.key) for spec in layout}
            chunks = {
                key: array.chunk_rows
                for key, array in stored.items()
                if not isinstance(array, RaggedArray)
            }
            # All chunks divide the largest, unless it holds the whole split, of which a part may
            # have few rows.
            part = self.record.part
            taken = record.taken if part is msgspec.UNSET else part.rows[split.name]
            largest = max(chunks.values())
            commit = largest if largest < taken else commit_rows(sizes)
            for spec in layout:
                rows = stored[spec.key]
                if isinstance(rows, RaggedArray):
                    arrays[spec.key] = reopen_ragged(
                        self._tree.reopen_array, f"splits/{split.name}", spec, rows, record
                    )
                    continue
                key, chunk = f"splits/{split.name}/{spec.key}", chunks[spec.key]
                whole = committed == record.rows or committed % chunk == 0
                if not whole or (chunk != taken and commit % chunk):
                    raise StoreDamagedError(
                        f"{self.path}: array {key} has chunks of {chunk} rows and {committed} "
                        "committed rows, so it cannot be continued: "
                        f"{advise_beginning_anew(self.path)}."
                    )
                array = self._tree.reopen_array(key, committed, grows=grows)
                known = (record.checksums or {}).get(spec.key)
                checksums = bytes.fromhex(known.crc32c) if known else None if committed else b""
                arrays[spec.key] = ChunkedArray(array, spec.dtype, committed, checksums)
                commit = max(commit, min(array.commit_rows, record.taken))
            adopt_units(self._tree, split.name, record)
        return SplitWriter(self, split.name, record, arrays, commit, digests=digests)

    def _update(self, name: str, split: SplitRecord) -> None:
        splits = {**self.record.splits, name: split}
        self.record = msgspec.structs.replace(self.record, splits=splits)
        self._save()

    def _save(self) -> None:
        attribute = msgspec.json.encode(self.record)
        self._tree.commit(
            attribute,
            attribute_checksum(attribute),
            final=self.record.complete,
        )


class SplitWriter:
    """One split being written; made by `StoreWriter.split`."""

    def __init__(
        self,
        store: StoreWriter,
        name: str,
        record: SplitRecord,
        arrays: Mapping[str, ChunkedRows],
        commit: int,
        *,
        seconds: float | None = None,
        grows: bool = False,
        digests: list[RowsDigest] | None = None,
    ) -> None:
        self._store = store
        self._grows = grows
        self._name = name
        self._record = record
        self._arrays = arrays
        self._ragged = [each for each in arrays.values() if isinstance(each, ChunkedRagged)]
        self._commit = commit
        self._seconds = seconds
        self._last = time.monotonic()
        self._broken = False
        self._rows = self.committed
        # Without whole activations there is little to write, and the model needs the processors.
        whole = any(tensor.stored for tensor in store.record.tensors)
        self._pool = ThreadPoolExecutor(WRITERS, "cnatool-write") if whole else None
        self._digests = digests or start_digests(store.record, labels=record.labels)
        self._units: UnitsWriter | None = None
        self._narrowed = _begin_narrowing(store.record, record)

    def measure_units(self, source: UnitSource) -> None:
        """Commit statistics of units with the rows, as they are then.

        They must cover no other rows than those that were appended, and in the end all of them.
        """
        store = self._store
        self._units = UnitsWriter(store._tree, self._name, store._codec, source)

    @property
    def name(self) -> str:
        """The split's name."""
        return self._name

    @property
    def complete(self) -> bool:
        """Whether the split is complete."""
        return self._record.complete

    @property
    def rows(self) -> int:
        """Rows that were appended."""
        return self._rows

    @property
    def labelled(self) -> bool:
        """Whether its samples have labels."""
        return self._record.labels

    @property
    def committed(self) -> int:
        """Rows that are safely on disk."""
        return self._record.committed[-1][1] if self._record.committed else 0

    def append(self, rows: StoreRows, *, borrowed: bool = False) -> None:
        """Add a batch of rows; commit whole chunks of all arrays where they are due.

        Their arrays must stay as they are, unless they are ``borrowed``.
        """
        if self._broken:
            raise StoreWriteError(
                f"{self._store.path}: an earlier batch was not written completely, so none can "
                "follow."
            )
        self._broken = True
        with report_write_errors(self._store.path, self.committed):
            for part in self._cut(rows):
                self._append(part, borrowed=borrowed)
        self._broken = False

    def _cut(self, rows: StoreRows) -> list[StoreRows]:
        """Cut a batch at the row of the next commit, where all rows that were added are counted.

        Rows that vary in length need that, and errors of narrowing, which are those of the
        committed rows: others are committed in whole chunks.
        """
        end = self._rows + len(rows)
        before = end - end % self._commit - self._rows
        if not (self._ragged or self._narrowed) or not 0 < before < len(rows):
            return [rows]
        return [rows[:before], rows[before:]]

    def _append(self, rows: StoreRows, *, borrowed: bool) -> None:
        batch: dict[str, Any] = rows.arrays()
        self._run_calls(
            partial(self._append_array, key, batch[key], borrowed=borrowed) for key in self._arrays
        )
        self._rows += len(rows)
        update_digests(self._digests, rows.inputs, rows.labels)
        written = min(array.written for array in self._arrays.values())
        whole = written - written % self._commit
        if self._seconds is not None and time.monotonic() - self._last >= self._seconds:
            self._run_calls(array.publish for array in self._arrays.values())
            self._commit_record(self._with_committed(self._rows))
        elif whole > self.committed:
            self._run_calls(array.publish for array in self._ragged)
            self._commit_record(self._with_committed(whole))

    def _append_array(self, key: str, rows: Any, *, borrowed: bool) -> None:
        """Add the rows of one array; where they are narrowed, count the errors."""
        array = self._arrays[key]
        if (before := self._narrowed.get(key)) is not None:
            rows, errors = narrow_rows(rows, array.dtype)
            self._narrowed[key] = before.merge(errors)
            borrowed = False
        array.append(rows, borrowed=borrowed)

    def set_skipped(self, samples: Iterable[SkippedSample]) -> None:
        """Set the samples so far that have no row; counts with the next commit."""
        self._record = msgspec.structs.replace(self._record, skipped=tuple(samples))

    def finish(self) -> None:
        """Write the last, partial chunks and mark the split complete."""
        samples = self._rows + (len(self._record.skipped) if self._record.skips else 0)
        if self._broken or not (self._grows or samples == self._record.rows):
            raise StoreWriteError(
                f"{self._store.path}: split {self._name!r} has {self._rows} of "
                f"{self._record.rows} rows, so it is not complete."
            )
        with report_write_errors(self._store.path, self.committed):
            self._close_arrays()
            # If samples may be skipped, arrays have room for any number of rows until now, even if
            # none was skipped.
            self._set_rows(grows=self._grows or self._record.skips)
            record = self._with_committed(self._rows)
            self._commit_record(
                msgspec.structs.replace(
                    record,
                    rows=self._rows,
                    complete=True,
                    fingerprint=combine_digests(self._digests),
                )
            )

    def stop(self) -> None:
        """Commit all rows of a split of unknown length and end it unfinished.

        After a batch that was not written whole, the rows of the last commit remain.
        """
        if self._broken:
            return
        with report_write_errors(self._store.path, self.committed):
            self._close_arrays()
            self._set_rows(grows=self._grows)
            self._commit_record(self._with_committed(self._rows))

    def _with_committed(self, rows: int) -> SplitRecord:
        room = rows if self._grows else self._record.rows
        return msgspec.structs.replace(
            self._record,
            rows=room,
            committed=((0, rows),),
            checksums=self._checksums(rows),
            narrowed=dict(self._narrowed) or msgspec.UNSET,
        )

    def _checksums(self, rows: int) -> dict[str, ChunkChecksums]:
        """Return the checksums of the first rows of all arrays for which they are known."""
        known: dict[str, ChunkChecksums] = {}
        for key, array in self._arrays.items():
            known |= array.checksums(key, rows)
        return known

    def _set_rows(self, *, grows: bool) -> None:
        """Set the final number of rows of arrays for which it was unknown."""
        for key, array in self._arrays.items():
            self._store._set_rows(self._name, array.final_rows(key, grows=grows))

    def copy(self, split: Split, progress: Callable[[int], None]) -> None:
        """Write every row of a complete split of another store, array by array.

        The split's record is copied, except for the reference to raw inputs, the committed ranges
        and the checksums. Raw inputs in a third store are read for the fingerprint only.
        ``progress`` receives the bytes of each copied block. Raises StoreDamagedError if rows
        cannot be read or do not match their fingerprint.
        """
        digests = self._digests_by_key()

        def copy_array(key: str, array: Any) -> None:
            for _, rows in split.array(key).blocks():
                array.append(rows)
                if key in digests:
                    digests[key].update(rows)
                progress(rows.nbytes)

        with report_write_errors(self._store.path, 0):
            self._run_calls(partial(copy_array, key, array) for key, array in self._arrays.items())
            for key in digests.keys() - self._arrays.keys():
                for _, rows in split.array(key).blocks():
                    digests[key].update(rows)
            self._rows = len(split)
            self._close_arrays()
            self._set_rows(grows=False)
            fingerprint = combine_digests(self._digests)
            if split.record.fingerprint not in (None, fingerprint):
                raise StoreDamagedError(
                    f"{split.path}: the inputs and labels of split {split.name!r} do not match "
                    "their fingerprint. "
                    "Dump again with `overwrite=True`, or restore the store from a copy."
                )
            if (state := read_unit_state(split)) is not None:
                self.measure_units(state)
            # Other tools may list several ranges for all rows.
            committed = ((0, self._rows),) if self._rows else split.record.committed
            # A store made of parts has none in its attribute.
            own = split.store.parts is None
            self._commit_record(
                msgspec.structs.replace(
                    split.record,
                    fingerprint=split.record.fingerprint if own else fingerprint,
                    committed=committed,
                    inputs_from=self._record.inputs_from,
                    checksums=self._checksums(self._rows),
                    units=msgspec.UNSET,
                )
            )

    def copy_part(self, split: Split) -> None:
        """Write all rows of a complete split of a part, behind the rows that were written."""
        digests = self._digests_by_key()

        def copy_array(key: str, array: Any) -> None:
            array.copy(split.array(key))

        def digest(key: str) -> None:
            for _, rows in split.array(key).blocks():
                digests[key].update(rows)

        with report_write_errors(self._store.path, 0):
            self._run_calls(
                [
                    *(partial(copy_array, *item) for item in self._arrays.items()),
                    *(partial(digest, key) for key in digests),
                ]
            )
        self._rows += len(split)
        self._narrowed = self._add_narrowing(split.record)

    def _add_narrowing(self, part: SplitRecord) -> dict[str, NarrowingRecord]:
        """Add the errors of a part to those of the rows before it."""
        merged = merge_narrowing((self._narrowed or msgspec.UNSET, part.narrowed))
        return {} if isinstance(merged, msgspec.UnsetType) else merged

    def _digests_by_key(self) -> dict[str, RowsDigest]:
        keys = [input_key(number) for number in range(len(self._store.record.inputs))]
        keys += [LABELS] if self._record.labels else []
        return dict(zip(keys, self._digests, strict=True))

    def _close_arrays(self) -> None:
        self._run_calls(array.flush for array in self._arrays.values())
        if self._pool is not None:
            self._pool.shutdown()

    def _run_calls(self, calls: Iterable[Callable[[], None]]) -> None:
        """Make calls in several threads; none is still running when this returns or raises."""
        if self._pool is None:
            for call in calls:
                call()
            return
        futures = [self._pool.submit(call) for call in calls]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _commit_record(self, record: SplitRecord) -> None:
        if self._units is not None:
            record = self._units.write(record)
        self._store._update(self._name, record)
        # Only now: a commit that was interrupted makes nothing safe.
        self._record = record
        self._last = time.monotonic()


def _begin_narrowing(store: StoreRecord, split: SplitRecord) -> dict[str, NarrowingRecord]:
    """Return the errors of the tensors that are narrowed, by key, over the committed rows.

    It is empty, and nothing is counted, if an earlier version wrote these without counting.
    """
    if split.narrowed is not msgspec.UNSET:
        return dict(split.narrowed)
    keys = () if split.committed else narrowed_tensors(store)
    return dict.fromkeys(keys, NarrowingRecord())
