"""A dump that was begun is written to its end, or as far as it comes."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from cnatool._util.text import printable
from cnatool.dumping.label_range import LabelRange
from cnatool.records.store import SkippedSample
from cnatool.store.replace import ReplacedStore, count_committed_rows, discard
from cnatool.store.write_errors import report_write_errors
from cnatool.store.writer import SplitWriter, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cnatool._util.observer import Observer
    from cnatool.dumping.prepare import Begun, Decided
    from cnatool.dumping.run import ProcessedBlock

# A larger share of skipped samples changes what the store stands for.
_FEW = 0.1
# About as much work is lost at most where a dump is cut off.
_COMMIT_SECONDS = 60.0


def write_dump(decided: Decided, begun: Begun) -> None:
    """Write a dump that was begun to its end.

    Where that fails and it did not go on with a store, what is left of the new one is told, and
    the one that it replaces is restored or kept.
    """
    path, plan, observer = decided.path, decided.plan, decided.observer
    if decided.begins_anew:
        with report_write_errors(path, 0):
            discard(path)
    replaced = None if decided.past is not None else ReplacedStore(path)
    labels = LabelRange(plan.record)
    try:
        with closing(_writer(decided)) as writer:
            # All splits are there, empty, before the first row: a dump that is cut off shows it.
            parts = {name: _part(writer, name, decided, begun) for name in plan.sources}
            for name, part in parts.items():
                past = begun.pasts.get(name)
                observer.progress(name, past.done if past else 0, plan.rows[name])
                with closing(begun.blocks_of(name)) as blocks:
                    _write_split(part, plan.rows[name], blocks, begun, labels, observer)
    except BaseException:
        if replaced is None:
            pass
        elif count_committed_rows(path) != 0:
            kept = replaced.keep()
            observer.note(unfinished_text(decided) + (f". The old store is {kept}" if kept else ""))
        else:
            hidden = replaced.restore()
            observer.note(
                f"nothing was finished, so there is no new {path}"
                + (
                    f". The old one is {hidden}, and gets its name back when {path} is next written"
                    if hidden
                    else ""
                )
            )
        raise
    if replaced is not None:
        replaced.remove()
    named = next((one.classes for one in plan.sources.values() if one.classes), None)
    for line in (*labels.notes(named), *begun.checks.notes()):
        observer.note(line)


def unfinished_text(decided: Decided) -> str:
    """Say how far the store of a dump that was cut off is."""
    safe = count_committed_rows(decided.path)
    return (
        f"{decided.path} is not finished: {'some' if safe is None else safe} of "
        f"{sum(decided.plan.rows.values())} rows are safe in it. The same command with --resume "
        "goes on from there"
    )


def _writer(decided: Decided) -> StoreWriter:
    if decided.past is None:
        return StoreWriter(decided.path, decided.plan.record, decided.codec)
    return StoreWriter.resume(decided.past, decided.codec)


def _part(writer: StoreWriter, name: str, decided: Decided, begun: Begun) -> SplitWriter:
    past = begun.pasts.get(name)
    if past is not None:
        return writer.resume_split(past.split, past.digests)
    source, shared = decided.plan.sources[name], decided.plan.shared
    return writer.split(
        name,
        decided.plan.rows[name],
        source=source.name,
        labels=source.labelled,
        classes=source.classes,
        available=source.rows,
        id_bytes=source.id_bytes,
        skips=decided.plan.skips,
        most=begun.preflight.rows_in(_COMMIT_SECONDS),
        inputs_from=None if shared is None else shared.reference(name),
    )


def _write_split(
    split: SplitWriter,
    total: int,
    blocks: Iterable[ProcessedBlock],
    begun: Begun,
    labels: LabelRange,
    observer: Observer,
) -> None:
    past = begun.pasts.get(split.name)
    skipped: list[SkippedSample] = []

    def missing() -> list[SkippedSample]:
        """Give all that were skipped up to here; earlier rows are compared by then."""
        return (past.skipped if past else []) + skipped

    done = split.committed
    for block in blocks:
        rows = block.rows
        start = time.perf_counter()
        skipped += [SkippedSample(*sample) for sample in block.skipped]
        split.set_skipped(missing())
        split.append(rows)
        begun.stages.add("compressing and writing", time.perf_counter() - start)
        labels.add(split.name, rows.labels)
        begun.checks.add(split.name, rows.ids, block.facts, rows.statistics["sum"])
        done += len(rows)
        observer.progress(split.name, done + len(missing()), total)
    if not split.complete:
        split.set_skipped(missing())
        split.finish()
    if missing():
        observer.note(_skipped_text(split.name, missing(), total))


def _skipped_text(split: str, skipped: Sequence[SkippedSample], rows: int) -> str:
    count = len(skipped)
    many = count > _FEW * rows
    kept = f"only {rows - count:,} of {rows:,} samples are stored; " if many else ""
    return (
        f"{split}: {kept}{count:,} sample{'s' * (count != 1)} could not be read and "
        f"{'were' if count != 1 else 'was'} skipped{f' ({count / rows:.0%})' if many else ''}; the "
        f"first: {printable(skipped[0].reason)}"
    )
