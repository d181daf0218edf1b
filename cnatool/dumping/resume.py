"""Going on with a dump that was cut off: what is there, and whether it is of this very dump."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.text import printable
from cnatool.dumping.sample_checks import examine_samples
from cnatool.errors import DataError, NotAStoreError, UsageError
from cnatool.records.choices import Codec
from cnatool.records.layout import IDS, LABELS, input_key
from cnatool.records.run import FileRecord, ModelRecord
from cnatool.records.store import SkippedSample, SplitRecord, StoreRecord
from cnatool.records.weights import FlatnessRecord
from cnatool.store.format_table import detect_format, format_by_name
from cnatool.store.integrity import start_digests, update_digests
from cnatool.store.reader import open_store
from cnatool.store.shared_inputs import RowCursor, compare_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.data.source import Block
    from cnatool.dumping.plan import Plan
    from cnatool.dumping.sample_checks import SampleChecks
    from cnatool.store.store import Split, Store

# Differences that a message lists.
_LISTED = 3


def resumable(path: Path, inputs: str | Path | None = None) -> Store | None:
    """Open the store that a dump goes on with; None where it begins from the start.

    It does where nothing is there, or a store in which no row is safe: there is nothing to lose.
    ``inputs`` is the store that has its raw inputs.
    """
    if path.is_symlink():
        raise NotAStoreError(f"{path} is a link. Name the store that it leads to.")
    if not path.exists():
        return None
    form = format_by_name(path)
    try:
        store = open_store(path, () if inputs is None else inputs)
    except NotAStoreError:
        # The first commit was not reached.
        if form.is_replaceable(path):
            return None
        raise
    if detect_format(path) is not form:
        raise NotAStoreError(f"{path} is no {path.suffix} store, whatever its name says.")
    if is_complete(store):
        return store
    if not any(map(len, store.splits.values())):
        return None
    form.check_writable(path)
    return store


def is_complete(store: Store) -> bool:
    """Say whether every row of a store is there."""
    return bool(store.splits) and all(s.record.complete for s in store.splits.values())


def codec_of(store: Store) -> Codec | None:
    """Say how a store is compressed; None where nothing of it is."""
    arrays = (split.statistics() for split in store.splits.values() if split.record.rows)
    return next((array.codec for array in arrays), None)


def check_same(store: Store, plan: Plan, codec: Codec) -> None:
    """Make sure that a store was begun by the dump that is to go on with it.

    Whatever may change a value is compared: the model, the data's splits, what is kept and how, the
    runtime and how it runs, and the versions of all.
    """
    splits = {
        name: SplitRecord(
            rows=plan.rows[name],
            committed=(),
            complete=False,
            labels=source.labelled,
            source=source.name,
            classes=source.classes,
            available=source.rows,
            skips=plan.skips,
            inputs_from=None if plan.shared is None else plan.shared.reference(name),
        )
        for name, source in plan.sources.items()
    }
    begun = {
        name: msgspec.structs.replace(
            r,
            rows=r.taken,
            committed=(),
            complete=False,
            fingerprint=None,
            skipped=(),
            checksums=None,
        )
        for name, r in store.record.splits.items()
    }
    flatness = store.record.flatness
    there = msgspec.structs.replace(
        store.record,
        splits=begun,
        # These follow from the model's files and from how they are measured, but for last digits.
        weights=None,
        magnitudes=(),
        flatness=None if flatness is None else FlatnessRecord(flatness.settings),
    )
    found = list(
        _differences(
            "",
            _Compared(there, codec_of(store)),
            _Compared(msgspec.structs.replace(plan.record, splits=splits), codec),
        )
    )
    if found:
        more = f" ({len(found) - _LISTED} more differ)" if len(found) > _LISTED else ""
        raise UsageError(
            f"{store.path} was begun by another dump and cannot be resumed by this one: "
            f"{'; '.join(found[:_LISTED])}{more}. Give the options and files that it was begun "
            "with, or begin anew with --overwrite."
        )


class _Compared(msgspec.Struct, frozen=True):
    """All of two dumps that must be the same."""

    record: StoreRecord
    codec: Codec | None


def _differences(where: str, there: Any, now: Any) -> Iterator[str]:
    """Give what differs between two values, part by part, with both values."""
    if there == now:
        return
    if isinstance(there, msgspec.Struct) and type(there) is type(now):
        for name in there.__struct_fields__:
            # A model's file may have got another name.
            if name == "name" and isinstance(there, ModelRecord | FileRecord):
                continue
            word = "" if name == "record" else f" {name.replace('_', ' ')}"
            yield from _differences(where + word, getattr(there, name), getattr(now, name))
    elif isinstance(there, dict) and list(there) == list(now):
        for key, value in there.items():
            yield from _differences(f"{where} {key!r}", value, now[key])
    elif isinstance(there, tuple) and isinstance(now, tuple) and _alike(there, now):
        for first, second in zip(there, now, strict=True):
            yield from _differences(f"{where} {_title(first)!r}", first, second)
    else:
        yield printable(f"{where.strip()} {_text(there)} in the store and {_text(now)} now")


def _alike(there: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Say whether two tuples list the same things, which may differ in themselves."""
    parts = [isinstance(part, msgspec.Struct) for part in (*there, *now)]
    files = [isinstance(part, FileRecord) for part in (*there, *now)]
    same = list(map(_title, there)) == list(map(_title, now)) or all(files)
    return all(parts) and len(there) == len(now) and same


def _title(part: Any) -> object:
    """Give what tells one of several records from the others."""
    fields = (getattr(part, name, None) for name in ("name", "input", "number"))
    return next((field for field in fields if field is not None), part)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        words = [
            f"{key}={given}" if isinstance(given, str) else key for key, given in value.items()
        ]
    elif isinstance(value, tuple):
        words = [str(_title(part)) for part in value]
    else:
        value = value.name if isinstance(value, ModelRecord) else value
        return "none" if value is None else str(value)
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return (", ".join(words[:_LISTED]) + more) or "none"


class Past:
    """The committed rows of a split, which its source has to yield again, bit for bit."""

    def __init__(self, split: Split, checks: SampleChecks, observer: Observer) -> None:
        record = split.record
        self.split = split
        self.rows = len(split)
        # Of all rows that were compared, for the split's fingerprint.
        self.digests = start_digests(split.store.record, labels=record.labels)
        self._checks = checks
        self._observer = observer
        # Rows that were compared, and the samples among them that could not be read.
        self.done = 0
        self.skipped: list[SkippedSample] = []
        data = [IDS, *map(input_key, range(len(split.store.record.inputs)))]
        data += [LABELS] if record.labels else []
        self._stored = {key: RowCursor(split.array(key)) for key in data}
        self._sums = RowCursor(split.statistics())

    @property
    def samples(self) -> int:
        """Samples that were compared, those that could not be read among them."""
        return self.done + len(self.skipped)

    def compare(self, block: Block) -> None:
        """Compare the next rows.

        Raises
        ------
        DataError
            If they are not those of the store; the message names the first that is not.
        """
        count = len(block.ids)
        given: dict[str, NDArray[Any]] = {IDS: np.array(block.ids, object)}
        given |= {input_key(i): values for i, values in enumerate(block.inputs)}
        if block.labels is not None:
            given[LABELS] = block.labels
        for key, rows in self._stored.items():
            differ = compare_rows(rows.take(count), given[key])
            if differ.any():
                row = int(np.argmax(differ))
                raise DataError(
                    f"{self.split.path}, split {self.split.name!r}: row {self.done + row} "
                    f"({printable(block.ids[row])}) has not the {key.split('/')[0]} that the dump "
                    "was begun with, so that it cannot be resumed. Bring the data back, or begin "
                    "anew with --overwrite."
                )
        self.skipped += [SkippedSample(*one) for one in block.skipped]
        update_digests(self.digests, block.inputs, block.labels)
        facts = examine_samples(block.inputs, count)
        self._checks.add(self.split.name, block.ids, facts, self._sums.take(count))
        self.done += count
        self._observer.progress(self.split.name, self.done, self.split.record.rows)
