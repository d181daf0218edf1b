"""Merging the parts of a dump to one store, by reference or by copying their rows."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.local_paths import real_path
from cnatool._util.observer import Observer, Silent
from cnatool._util.text import count_text
from cnatool._util.urls import parse_path
from cnatool.errors import UsageError
from cnatool.records.differences import describe_differences, find_replaced_object
from cnatool.records.narrowing import merge_narrowing
from cnatool.records.parts import PartReference, find_other_data
from cnatool.records.weights import FlatnessRecord
from cnatool.store.codec_choice import codecs_of
from cnatool.store.components import find_other_components, read_all_components
from cnatool.store.format_table import format_by_name
from cnatool.store.integrity import attribute_digest
from cnatool.store.missing_rows import explain_missing_rows
from cnatool.store.new_store import place_new_store
from cnatool.store.reader import open_store
from cnatool.store.references import relative_path
from cnatool.store.shared_samples import describe_shared_samples
from cnatool.store.unit_state import UnitState, merge_states, read_unit_state
from cnatool.store.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cnatool.records.choices import Codec
    from cnatool.records.narrowing import NarrowingRecord
    from cnatool.records.parts import PartRecord
    from cnatool.records.references import InputsReference
    from cnatool.records.store import StoreRecord
    from cnatool.store.store import Split, Store


@dataclass(frozen=True, slots=True)
class _Part:
    """What is kept of a part while all are compared."""

    path: Path
    record: PartRecord
    rows: Mapping[str, int]  # by split
    sha256: str  # of its attribute
    inputs: Mapping[str, InputsReference]  # by split
    narrowed: Mapping[str, Mapping[str, NarrowingRecord] | msgspec.UnsetType]  # by split

    def __str__(self) -> str:
        return f"{self.path} ({self.record})"


def merge(
    parts: Iterable[str | Path],
    store: str | Path,
    *,
    copy: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Store:
    """Combine all parts of a dump into one store.

    By default the new store refers to its parts by paths relative to its own folder, so move it
    together with them; merging then takes no more time or space for many rows than for few. A copy
    contains all rows and equals the store that one process would have written: in Zarr byte for
    byte, unless that process would have committed early because 8,192 rows took it more than a
    minute. Chunks are copied as they are encoded, except in arrays where a chunk spans two parts.

    Parameters
    ----------
    parts : iterable of str or Path
        The finished parts of one dump, in any order.
    store : str or Path
        Path of the new store: a name in ``.zarr``, ``.h5`` or ``.hdf5``.
    copy : bool
        Copy the rows; the parts can be deleted afterwards.
    overwrite : bool
        Replace an existing store.
    observer : Observer, optional
        Receives the progress of a copy.

    Returns
    -------
    Store
        The new store, open for reading.

    Raises
    ------
    UsageError
        If a part is missing, given twice, unfinished, or from another dump.
    NotAStoreError
        If a path is not a store, or the new store cannot be created at its path.
    StoreDamagedError
        If a part is damaged.
    StoreInUseError
        If another process is writing the new store.
    StoreWriteError
        If it cannot be written.
    """
    path = parse_path(store)
    observer = observer or Silent()
    found, record = _read_parts(list(map(parse_path, parts)))
    for part in found:
        if real_path(part.path).is_relative_to(real_path(path)):
            raise UsageError(f"{path} would replace {part}, a part of it. Name another path.")
    with place_new_store(path, overwrite=overwrite, observer=observer) as new:
        if copy:
            _copy_parts(found, record, path, new, observer)
        else:
            merged = _refer_to_parts(found, record, path)
            StoreWriter(path, merged, under=new).close()
    if not copy:
        observer.note(
            f"{path} refers to its {count_text(len(found), 'part')}: keep "
            f"{'it' if len(found) == 1 else 'them'}, and move all together"
        )
    new_store = open_store(path)
    for line in describe_shared_samples(new_store):
        observer.note(line)
    return new_store


def _read_parts(paths: Sequence[Path]) -> tuple[list[_Part], StoreRecord]:
    """Read the attributes of all parts, in their order; return that of the first as well."""
    if not paths:
        raise UsageError("there are no parts to merge: name all parts of a dump.")
    found: dict[int, _Part] = {}
    reference: tuple[Path, StoreRecord] | None = None
    first: StoreRecord | None = None
    for path in paths:
        store = open_store(path)
        part = _describe_part(store)
        plan = _comparable(store.record)
        if reference is None:
            reference = path, plan
        _check_same_dump(part, plan, *reference)
        _check_same_division(next(iter(found.values()), part), part)
        number = part.record.number
        if number in found:
            raise UsageError(
                f"{found[number].path} and {path} are both {part.record}. Leave one of them out."
                if found[number].path != path
                else f"{path} is named twice. Name each part once."
            )
        found[number] = part
        if number == 1:
            first = store.record
    ordered = [found[number] for number in sorted(found)]
    _check_complete(ordered)
    assert first is not None  # no part is missing
    _check_same_components(ordered, first)
    return ordered, first


def _describe_part(store: Store) -> _Part:
    part = store.record.part
    if part is msgspec.UNSET:
        merged = store.parts is not None
        raise UsageError(
            f"{store.path} is {'merged already' if merged else 'no part of a dump'}. Merge stores "
            "that were dumped with `part=NUMBER/COUNT`."
        )
    if not store.record.complete:
        raise UsageError(explain_missing_rows(store))
    return _Part(
        store.path,
        part,
        {name: len(split) for name, split in store.splits.items()},
        attribute_digest(store.attribute()),
        {
            name: split.record.inputs_from
            for name, split in store.splits.items()
            if split.record.inputs_from is not None
        },
        {name: split.record.narrowed for name, split in store.splits.items()},
    )


def _comparable(record: StoreRecord) -> StoreRecord:
    """Leave out of an attribute what may differ between the parts of a dump."""
    splits = {
        name: msgspec.structs.replace(
            split,
            rows=0,
            committed=(),
            complete=False,
            fingerprint=None,
            checksums=None,
            inputs_from=None,
            units=msgspec.UNSET,
            narrowed=msgspec.UNSET,
        )
        for name, split in record.splits.items()
    }
    flatness = record.flatness
    return msgspec.structs.replace(
        record,
        splits=splits,
        weights=None,
        magnitudes=(),
        flatness=None if flatness is None else FlatnessRecord(flatness.settings),
        part=msgspec.UNSET,
        # Components are compared on their own, and distortions differ in their last digits.
        tensors=tuple(
            msgspec.structs.replace(t, reduction=t.reduction and t.reduction.plan)
            for t in record.tensors
        ),
    )


def _check_same_components(parts: Sequence[_Part], record: StoreRecord) -> None:
    """Make sure that all parts were projected to the same principal components."""
    if not any(t.reduction and t.reduction.components for t in record.tensors):
        return
    first = open_store(parts[0].path)
    for part in parts[1:]:
        name = find_other_components(first, open_store(part.path))
        if name is not None:
            raise UsageError(
                f"{part.path} and {parts[0].path} have different principal components of {name!r}: "
                "they were computed on machines, or with versions of libraries, that round "
                "differently, which rotates components of almost equal variance. Dump all parts "
                "on machines of the same kind, or use fewer components."
            )


def _check_same_dump(part: _Part, plan: StoreRecord, other: Path, other_plan: StoreRecord) -> None:
    differences = describe_differences(other_plan, plan, f"in {other}", f"in {part.path}")
    if differences is not None:
        if (url := find_replaced_object(other_plan, plan)) is not None:
            raise UsageError(
                f"{url} was replaced between {other} and {part.path}. Dump again the parts that "
                "were made from the old one."
            )
        advice = ""
        if plan.runtime is not None and other_plan.runtime is not None:
            if plan.runtime.threads != other_plan.runtime.threads:
                advice = ", and the same `threads` for all, on machines with any processors"
            elif plan.runtime.batch_size != other_plan.runtime.batch_size:
                advice = ", and the same `batch_size` for all"
        raise UsageError(
            f"{part.path} and {other} are not parts of one dump: {differences}. Dump the one that "
            f"differs again, with the model, data, options and versions of the others{advice}."
        )


def _check_same_data(part: _Part, other: _Part) -> None:
    difference = find_other_data(part.record, other.record)
    if difference is not None:
        raise UsageError(
            f"{part.path} and {other.path} are not parts of one dump: {difference}. Dump the one "
            "that differs again, from the data of the others."
        )


def _check_same_division(first: _Part, part: _Part) -> None:
    """Make sure that two parts divide the same rows into as many parts."""
    if (part.record.count, part.record.rows) != (first.record.count, first.record.rows):
        whole = [
            " and ".join(f"{rows:,} rows of {name}" for name, rows in each.record.rows.items())
            for each in (first, part)
        ]
        raise UsageError(
            f"{first.path} is {first.record} ({whole[0]}), and {part.path} is {part.record} "
            f"({whole[1]}): they do not divide the same rows. Merge the parts of one dump."
        )


def _check_complete(parts: Sequence[_Part]) -> None:
    """Make sure that parts, in order, are all parts of one dump, without gaps in its rows."""
    first = parts[0]
    for part in parts[1:]:
        _check_same_data(part, first)
    count = first.record.count
    missing = sorted({*range(1, count + 1)} - {part.record.number for part in parts})
    if missing:
        advice = (
            f"Dump it with `part={missing[0]}/{count}`"
            if len(missing) == 1
            else f"Dump each with its own number, such as `part={missing[0]}/{count}`"
        )
        raise UsageError(
            f"of {count} parts, {count_text(len(missing), 'part')} "
            f"{'is' if len(missing) == 1 else 'are'} missing: {_ranges_text(missing)}. {advice}, "
            "and name all parts."
        )
    done: Counter[str] = Counter()
    for part in parts:
        for name, rows in part.rows.items():
            if part.record.first[name] != done[name]:
                raise UsageError(
                    f"{part} begins at row {part.record.first[name]:,} of {name}, and the parts "
                    f"before it end at {done[name]:,}. Dump all parts with one version of cnatool."
                )
            done[name] += rows


def _ranges_text(numbers: Sequence[int]) -> str:
    """Write ascending numbers as Slurm takes them for an array of jobs, as in ``2-6,9``."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _refer_to_parts(parts: Sequence[_Part], record: StoreRecord, path: Path) -> StoreRecord:
    """Describe a store at ``path`` that refers to its parts."""
    whole = parts[0].record.rows
    return msgspec.structs.replace(
        record,
        splits={
            name: msgspec.structs.replace(
                split,
                rows=whole[name],
                committed=((0, whole[name]),),
                fingerprint=None,
                checksums=None,
                inputs_from=_move_reference(parts, name, path),
                objects=split.objects,
                # The parts have them.
                units=msgspec.UNSET,
                narrowed=merge_narrowing(part.narrowed[name] for part in parts),
            )
            for name, split in record.splits.items()
        },
        part=msgspec.UNSET,
        parts=tuple(
            PartReference(
                relative_path(path, part.path, advice="Pass `copy=True` to copy the rows."),
                part.sha256,
                dict(part.rows),
            )
            for part in parts
        ),
    )


def _move_reference(parts: Sequence[_Part], split: str, path: Path) -> InputsReference | None:
    """Return the reference of all parts to raw inputs, as it is from another path."""
    references = [part.inputs.get(split) for part in parts]
    first = references[0]
    fingerprints = {None if each is None else each.fingerprint for each in references}
    if len(fingerprints) > 1:
        raise UsageError(
            f"the parts refer to different stores for the inputs of split {split!r}. Dump all with "
            "the same `inputs_from`."
        )
    if first is None:
        return None
    there = Path(os.path.normpath(real_path(parts[0].path).parent / first.store))
    way = relative_path(path, there, advice="Write the merged store there.")
    return msgspec.structs.replace(first, store=way)


def _copy_parts(
    parts: Sequence[_Part], record: StoreRecord, path: Path, new: Path, observer: Observer
) -> None:
    """Write a copy of all rows at ``new`` that will be at ``path``, one part after the other."""
    whole = parts[0].record.rows
    empty = msgspec.structs.replace(record, splits={}, part=msgspec.UNSET)
    codecs = _find_codecs(parts, record, path)
    id_bytes = _measure_ids(parts, record)
    with closing(StoreWriter(path, empty, under=new)) as writer:
        writer.add_common(read_all_components(open_store(parts[0].path)))
        # In one process all splits are there, empty, before the first row.
        splits = {
            name: writer.split(
                name,
                whole[name],
                source=split.source,
                labels=split.labels,
                classes=split.classes,
                available=split.available,
                id_bytes=id_bytes[name],
                codecs=codecs[name],
                inputs_from=_move_reference(parts, name, path),
                objects=split.objects,
            )
            for name, split in record.splits.items()
        }
        for name, split in splits.items():
            states: list[UnitState] = []
            for part in parts:
                if part.rows[name]:
                    rows = open_store(part.path).splits[name]
                    split.copy_part(rows)
                    states += filter(None, [read_unit_state(rows)])
                    observer.progress(name, split.rows, whole[name])
            if (state := merge_states(states)) is not None:
                split.measure_units(state)
            split.finish()


def _find_codecs(
    parts: Sequence[_Part], record: StoreRecord, path: Path
) -> dict[str, Mapping[str, Codec]]:
    """Look up how the arrays of each split are compressed, if the new store's format can do so."""
    known = format_by_name(path).codecs
    codecs: dict[str, Mapping[str, Codec]] = {}
    for name, split in _first_with_rows(parts, record):
        found = {} if split is None else codecs_of(split)
        codecs[name] = {key: codec for key, codec in found.items() if codec in known}
    return codecs


def _first_with_rows(
    parts: Sequence[_Part], record: StoreRecord
) -> Iterable[tuple[str, Split | None]]:
    for name in record.splits:
        part = next((part for part in parts if part.rows[name]), None)
        yield name, None if part is None else open_store(part.path).splits[name]


def _measure_ids(parts: Sequence[_Part], record: StoreRecord) -> dict[str, int]:
    """Measure the longest id of each split, in bytes."""
    longest = dict.fromkeys(record.splits, 0)
    for part in parts:
        for name, split in open_store(part.path).splits.items():
            for _, ids in split.ids.blocks():
                longest[name] = max(longest[name], *(len(str(text).encode()) for text in ids))
    return longest
