"""Resuming an interrupted dump: its committed rows, and whether the same dump wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool._util.text import printable
from cnatool.dumping.sample_checks import examine_samples
from cnatool.errors import DataError, NotAStoreError, UsageError
from cnatool.records.differences import describe_differences
from cnatool.records.layout import IDS, LABELS, input_key
from cnatool.records.parts import find_other_data
from cnatool.records.store import SkippedSample, StoreRecord
from cnatool.records.weights import FlatnessRecord
from cnatool.store.codec_choice import codecs_of
from cnatool.store.format_table import detect_format, format_by_name
from cnatool.store.integrity import start_digests, update_digests
from cnatool.store.reader import open_store
from cnatool.store.shared_inputs import RowCursor, compare_rows
from cnatool.store.write_errors import advise_beginning_anew

if TYPE_CHECKING:
    from pathlib import Path

    from cnatool._util.observer import Observer
    from cnatool.data.source import Block
    from cnatool.dumping.sample_checks import SampleChecks
    from cnatool.records.choices import Codec
    from cnatool.records.ragged import Rows
    from cnatool.records.store import TensorRecord
    from cnatool.store.store import Split, Store


def open_resumable(path: Path, inputs: str | Path | None = None) -> Store | None:
    """Open the store that a dump resumes; None if there is none, or one without committed rows.

    ``inputs`` is the store that has its raw inputs.
    """
    if path.is_symlink():
        raise NotAStoreError(f"{path} is a link. Name the store that it points to.")
    form = format_by_name(path)
    if not form.exists(path):
        return None
    try:
        store = open_store(path, () if inputs is None else inputs)
    except NotAStoreError:
        # It was interrupted before its first commit.
        if form.is_replaceable(path):
            return None
        raise
    if detect_format(path) is not form:
        raise NotAStoreError(f"{path} is not a {path.suffix} store, despite its name.")
    if store.record.complete:
        return store
    if not any(map(len, store.splits.values())):
        return None
    form.check_writable(path)
    return store


def _without_sources(tensors: tuple[TensorRecord, ...]) -> tuple[TensorRecord, ...]:
    """Leave out what older stores lack, and what follows from the model and the data."""
    return tuple(
        msgspec.structs.replace(
            tensor,
            sources=msgspec.UNSET,
            unit_axis=msgspec.UNSET,
            reduction=tensor.reduction and tensor.reduction.plan,
        )
        for tensor in tensors
    )


def check_same_dump(store: Store, record: StoreRecord, codec: Codec | None) -> None:
    """Refuse to resume a store that another dump started; ``record`` is that of this one.

    Everything that may change a value is compared: the model, the splits, what is kept and how,
    the runtime and how it runs, and the versions of all.
    """
    started = {
        name: msgspec.structs.replace(
            split,
            rows=split.taken,
            committed=(),
            complete=False,
            fingerprint=None,
            skipped=(),
            checksums=None,
            units=msgspec.UNSET,
            narrowed=msgspec.UNSET,
        )
        for name, split in store.record.splits.items()
    }
    flatness = store.record.flatness
    stored = msgspec.structs.replace(
        store.record,
        splits=started,
        # These follow from the model's files, but for the last digits.
        weights=None,
        magnitudes=(),
        flatness=None if flatness is None else FlatnessRecord(flatness.settings),
        # A store merged from parts is that of the whole dump.
        parts=msgspec.UNSET,
        tensors=_without_sources(store.record.tensors),
    )
    record = msgspec.structs.replace(record, tensors=_without_sources(record.tensors))
    if stored.part is not msgspec.UNSET and record.part is not msgspec.UNSET:
        difference = find_other_data(stored.part, record.part)
        if difference is not None:
            raise DataError(
                f"{store.path} was started with other data: {difference}. Restore the data, or "
                f"{advise_beginning_anew(store.path)}."
            )
        # Older stores have no sketches.
        part = msgspec.structs.replace(record.part, sketches=stored.part.sketches)
        record = msgspec.structs.replace(record, part=part)
    before, now = (each.runtime and each.runtime.batch_size for each in (stored, record))
    if before and now and before != now:
        raise UsageError(
            f"{store.path} was started with batches of {before}, and the last digits of values can "
            f"depend on it: leave out `batch_size={now}`, or {advise_beginning_anew(store.path)}."
        )
    differences = describe_differences(stored, record, "in the store", "now")
    if differences is not None:
        raise UsageError(
            f"{store.path} was started by another dump and cannot be resumed by this one: "
            f"{differences}. Pass the options and files that it was started with, or "
            f"{advise_beginning_anew(store.path)}."
        )
    codecs = {each for split in store.splits.values() for each in codecs_of(split).values()}
    if codec is not None and codecs - {codec}:
        words = f"codec{'s' * (len(codecs) > 1)} {' and '.join(sorted(codecs))}"
        raise UsageError(
            f"{store.path} was started with the {words}, which `codec={codec!r}` cannot change. "
            "Omit `codec` to continue with the compression that each array has, or "
            f"{advise_beginning_anew(store.path)}."
        )


def count_measured(split: Split) -> int:
    """Count the committed rows that statistics of units cover, if they are measured: else all."""
    if not split.store.record.units or split.record.complete:
        return len(split)
    return split.record.units.rows if split.record.units else 0


class Past:
    """The committed rows of a split, which its source has to yield again, bit for bit."""

    def __init__(self, split: Split, checks: SampleChecks, observer: Observer) -> None:
        record = split.record
        self.split = split
        self.rows = len(split)
        self.measured = count_measured(split)
        # Over all rows that were compared, for the fingerprint of the split.
        self.digests = start_digests(split.store.record, labels=record.labels)
        self._checks = checks
        self._observer = observer
        # Rows that were compared, and the samples between them that could not be read.
        self.done = 0
        self.skipped: list[SkippedSample] = []
        keys = [IDS, *map(input_key, range(len(split.store.record.inputs)))]
        keys += [LABELS] if record.labels else []
        self._stored = {key: RowCursor(split.array(key)) for key in keys}
        self._sums = RowCursor(split.statistics())

    @property
    def samples(self) -> int:
        """Samples that were compared or skipped."""
        return self.done + len(self.skipped)

    def compare(self, block: Block) -> None:
        """Compare the next rows, and raise DataError at the first that differs."""
        count = len(block.ids)
        arrays: dict[str, Rows] = {IDS: np.array(block.ids, object)}
        arrays |= {input_key(i): values for i, values in enumerate(block.inputs)}
        if block.labels is not None:
            arrays[LABELS] = block.labels
        for key, rows in self._stored.items():
            differ = compare_rows(rows.take(count), arrays[key])
            if differ.any():
                row = int(np.argmax(differ))
                raise DataError(
                    f"{self.split.path}, split {self.split.name!r}: row {self.done + row} "
                    f"({printable(block.ids[row])}) does not have the {key.split('/')[0]} that the "
                    "dump was started with, so it cannot be resumed. Restore the data, or "
                    f"{advise_beginning_anew(self.split.path)}."
                )
        self.skipped += [SkippedSample(*sample) for sample in block.skipped]
        update_digests(self.digests, block.inputs, block.labels)
        store = self.split.store
        splits = 1 if store.record.part is not msgspec.UNSET else len(store.splits)
        facts = examine_samples(block.inputs, count, splits)
        self._checks.add(self.split.name, block.ids, facts, self._sums.take(count))
        self.done += count
        self._observer.progress(self.split.name, self.done, self.split.record.rows)
