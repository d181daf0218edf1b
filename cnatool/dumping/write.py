"""Writing the blocks of a dump into its store, and what is left after a failure."""

from __future__ import annotations

import time
import warnings
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.observer import Silent
from cnatool._util.text import count_text, printable
from cnatool.dumping.fitted_reductions import component_arrays
from cnatool.dumping.label_range import LabelRange
from cnatool.dumping.narrowing_notes import describe_narrowing, describe_overflows
from cnatool.dumping.unit_measure import UnitMeasure
from cnatool.errors import CnatoolError, StoreInUseError, StoreWarning
from cnatool.records.differences import describe_differences
from cnatool.records.store import SkippedSample
from cnatool.store.reader import open_silently
from cnatool.store.replace import ReplacedStore, count_committed_rows, discard
from cnatool.store.write_errors import report_write_errors
from cnatool.store.writer import SplitWriter, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cnatool._util.observer import Observer
    from cnatool.dumping.model_record import MeasuredWeights
    from cnatool.dumping.plan import DumpPlan
    from cnatool.dumping.prepare import PreparedDump
    from cnatool.dumping.run import ProcessedBlock
    from cnatool.records.store import StoreRecord

# A larger share of skipped samples is pointed out.
_FEW_SKIPPED = 0.1
# Seconds of work that an interrupted dump loses.
_COMMIT_SECONDS = 60.0


def write_dump(prepared: PreparedDump, record: StoreRecord, weights: MeasuredWeights) -> None:
    """Write all blocks into the store that ``record`` describes, and the norms of the weights.

    After a failure, the store that a new one replaces is restored or kept.
    """
    plan, observer = prepared.plan, prepared.plan.observer
    if plan.starts_anew:
        _note_other_model(plan)
        with report_write_errors(plan.path, 0):
            discard(plan.path)
    replaced = None if plan.past is not None else ReplacedStore(plan.path)
    labels = LabelRange(record, plan.label_offset if plan.part is None else None)
    try:
        with closing(_open_writer(plan, record)) as writer:
            # An interrupted dump shows all splits: they are there, empty, before the first row.
            splits = {name: _open_split(writer, name, prepared) for name in plan.sources}
            for name, split in splits.items():
                past = prepared.pasts.get(name)
                units = UnitMeasure.begin(record, past)
                if units is not None and not split.complete:
                    split.measure_units(units)
                observer.progress(name, past.done if past else 0, plan.rows[name])
                with closing(prepared.blocks_of(name)) as blocks:
                    _write_split(writer, split, blocks, prepared, labels, weights, units)
    except StoreInUseError:
        # Another process has taken the store over, and what is at the path is its own.
        raise
    except BaseException:
        if replaced is not None:
            observer.note(_keep_or_restore(plan, replaced))
        raise
    if replaced is not None:
        replaced.remove()
    classes = next((source.classes for source in plan.sources.values() if source.classes), None)
    for line in (*labels.notes(classes), *prepared.checks.notes()):
        observer.note(line)
    note_narrowing(writer.record, plan.path, observer)


def note_narrowing(record: StoreRecord, path: Path, observer: Observer) -> None:
    """Note what narrowing cost; warn of values that are lost, also where nobody reads notes."""
    for line in describe_narrowing(record):
        observer.note(line)
    for line in describe_overflows(record):
        observer.note(line)
        if isinstance(observer, Silent):
            warnings.warn(f"{path}: {line}.", StoreWarning, stacklevel=2)


def _note_other_model(plan: DumpPlan) -> None:
    """Note that a store without rows, which is begun anew, was begun for another model."""
    try:
        begun = open_silently(plan.path).record.model
    except CnatoolError:
        return
    if begun is not None and describe_differences(begun, plan.record.model, "", ""):
        plan.observer.note(
            f"{plan.path} was started for a different model ({printable(begun.name)}) and has no "
            "rows: it is replaced"
        )


def _keep_or_restore(plan: DumpPlan, replaced: ReplacedStore) -> str:
    """Keep the replaced store beside an unfinished one, or restore it; return a note about it."""
    if count_committed_rows(plan.path) != 0:
        kept = replaced.keep()
        return describe_unfinished(plan) + (f". The old store is {kept}" if kept else "")
    hidden = replaced.restore()
    text = f"nothing was finished, so there is no new {plan.path}"
    if hidden is None:
        return text
    return (
        f"{text}. The old one is now called {hidden}, and gets its name back when {plan.path} is "
        "next written"
    )


def describe_unfinished(plan: DumpPlan) -> str:
    """Describe how much of an interrupted dump is in its store."""
    safe = count_committed_rows(plan.path)
    return describe_safe_rows(plan.path, safe, sum(plan.rows.values()), "it")


def describe_safe_rows(store: Path, safe: int | None, rows: int, where: str) -> str:
    """Describe how much of a dump is safe, in rows; None if they cannot be counted now."""
    if safe is None:
        return (
            f"{store} is not finished, and {where} cannot be read now to count the rows that are "
            "safe. Once it can be, the same command with `resume=True` continues after them"
        )
    return (
        f"{store} is not finished: {safe:,} of {count_text(rows, 'row')} are safe in {where}. The "
        "same command with `resume=True` continues from there"
    )


def _open_writer(plan: DumpPlan, record: StoreRecord) -> StoreWriter:
    if plan.past is not None:
        return StoreWriter.resume(plan.past)
    writer = StoreWriter(plan.path, record)
    try:
        writer.add_common(component_arrays(plan))
    except BaseException:
        writer.close()
        raise
    return writer


def _open_split(writer: StoreWriter, name: str, prepared: PreparedDump) -> SplitWriter:
    past = prepared.pasts.get(name)
    if past is not None:
        return writer.resume_split(past.split, past.digests)
    plan = prepared.plan
    source = plan.sources[name]
    return writer.split(
        name,
        plan.rows[name],
        source=source.name,
        labels=source.labelled,
        classes=source.classes,
        available=plan.whole.sources[name].rows,
        whole=plan.whole.rows[name],
        id_bytes=source.id_bytes,
        skips=plan.skips,
        codecs=prepared.compression.codecs[name],
        most=prepared.preflight.rows_in(_COMMIT_SECONDS),
        inputs_from=None if plan.shared is None else plan.shared.reference(name),
        objects=source.objects or msgspec.UNSET,
    )


def _write_split(
    writer: StoreWriter,
    split: SplitWriter,
    blocks: Iterable[ProcessedBlock],
    prepared: PreparedDump,
    labels: LabelRange,
    weights: MeasuredWeights,
    units: UnitMeasure | None,
) -> None:
    past, observer = prepared.pasts.get(split.name), prepared.plan.observer
    total, done = prepared.plan.rows[split.name], split.committed
    skipped: list[SkippedSample] = []

    def all_skipped() -> list[SkippedSample]:
        # Running the first block compares the earlier rows.
        return (past.skipped if past else []) + skipped

    for block in blocks:
        rows = block.rows
        start = time.perf_counter()
        skipped += [SkippedSample(*sample) for sample in block.skipped]
        split.set_skipped(all_skipped())
        weights.add_if_ready(writer)
        if len(rows):
            split.append(rows)
        prepared.stages.add("compressing and writing", time.perf_counter() - start)
        if units is not None and block.units is not None:
            # Only now: a commit has statistics of the blocks before.
            start = time.perf_counter()
            units.add(block.units)
            prepared.stages.add("measuring units", time.perf_counter() - start)
        labels.add(split.name, rows.labels)
        prepared.checks.add(split.name, rows.ids, block.facts, rows.statistics["sum"])
        done += len(rows)
        observer.progress(split.name, done + len(all_skipped()), total)
    if not split.complete:
        split.set_skipped(all_skipped())
        weights.add_before_finish(writer)
        split.finish()
    if all_skipped():
        observer.note(_describe_skipped(split.name, all_skipped(), total))


def _describe_skipped(split: str, skipped: Sequence[SkippedSample], rows: int) -> str:
    count = len(skipped)
    many = count > _FEW_SKIPPED * rows
    kept = f"only {rows - count:,} of {rows:,} samples are stored; " if many else ""
    return (
        f"{split}: {kept}{count_text(count, 'sample')} could not be read and "
        f"{'were' if count != 1 else 'was'} skipped{f' ({count / rows:.0%})' if many else ''}; the "
        f"first: {printable(skipped[0].reason)}"
    )
