"""A dump in this process: samples are read, run through the model, and stored, block by block."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnatool._util.cluster_workers import absolute_path
from cnatool.dumping.fitted_reductions import fit_reductions
from cnatool.dumping.model_record import measure_beside, measure_model
from cnatool.dumping.parts_folder import discard_unfinished, find_unfinished
from cnatool.dumping.plan import plan_dump
from cnatool.dumping.prepare import prepare_dump
from cnatool.dumping.write import describe_unfinished, write_dump
from cnatool.errors import StoreDamagedError, StoreInUseError, UsageError
from cnatool.store.hdf5.journal import recover
from cnatool.store.lock import lock_store
from cnatool.store.reader import open_store
from cnatool.store.replace import count_committed_rows, recover_replaced
from cnatool.store.write_errors import report_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnatool.dumping.options import DumpOptions
    from cnatool.dumping.parts_folder import PartsFolder
    from cnatool.dumping.plan import DumpPlan
    from cnatool.dumping.preflight import Preflight
    from cnatool.store.store import Store


def dump_here(
    model: str | Path, data: str | Path | None, path: Path, options: DumpOptions
) -> Store:
    """Dump a model into the store at a path; parameters and errors as in `cnatool.dump`."""
    # Locked first, so that nothing at the path changes until the dump is done.
    with lock_store(path):
        _recover_replaced(path, options)
        with _note_interruption(path, options):
            left = _find_left_parts(path, options)
            plan = plan_dump(model, data, path, options)
        if plan.past is not None and plan.is_complete:
            return _return_complete(plan, plan.past)
        with _note_unfinished(plan):
            plan = fit_reductions(plan)
            with measure_beside(plan) as weights, prepare_dump(plan) as prepared:
                if not prepared.preflight.fits:
                    raise UsageError(prepared.preflight.refusal)
                for line in prepared.preflight.lines():
                    plan.observer.note(line)
                record = measure_model(plan) if plan.past is None else plan.record
                if left is not None:
                    discard_unfinished(left)
                write_dump(prepared, record, weights)
            if options.verbose:
                plan.observer.note(str(prepared.compression))
                plan.observer.note(str(prepared.stages))
            return open_store(path)


def estimate_here(
    model: str | Path, data: str | Path | None, path: Path, options: DumpOptions
) -> Preflight:
    """Estimate a dump in this process; parameters and errors as in `cnatool.preflight`."""
    _find_left_parts(path, options)
    plan = fit_reductions(plan_dump(model, data, path, options))
    with prepare_dump(plan, announce=False) as prepared:
        return prepared.preflight


def _find_left_parts(path: Path, options: DumpOptions) -> PartsFolder | None:
    """Find the parts that a cluster left and this dump overwrites; refuse to ignore others."""
    found = None if options.part_of is not None else find_unfinished(absolute_path(path))
    if found is None or found.is_merged or (found.is_older and not options.overwrite):
        return None
    found.check_discardable(overwrite=options.overwrite, way="`client` and `resume=True`")
    return found


def _recover_replaced(path: Path, options: DumpOptions) -> None:
    """Clean up after a dump that was killed while it replaced a store."""
    note = recover_replaced(path, resumes=options.resume)
    if note is not None and options.observer is not None:
        options.observer.note(note)


@contextmanager
def _note_interruption(path: Path, options: DumpOptions) -> Iterator[None]:
    """Note at Ctrl-C that the store to resume is unchanged."""
    try:
        yield
    except KeyboardInterrupt:
        if options.observer is not None and options.resume and count_committed_rows(path):
            options.observer.note(
                f"{path} is unchanged: {count_committed_rows(path):,} rows are safe in it"
            )
        raise


@contextmanager
def _note_unfinished(plan: DumpPlan) -> Iterator[None]:
    """Note after a failure how many rows a resumed store has."""
    try:
        yield
    except StoreInUseError:
        # Another process has taken the store over.
        raise
    except BaseException:
        if plan.past is not None:
            plan.observer.note(describe_unfinished(plan))
        raise


def _return_complete(plan: DumpPlan, past: Store) -> Store:
    """Return a complete store as it is."""
    if plan.path.is_file():
        # A dump that was killed at its very end leaves the journal of its last commit. A journal
        # of another store is left alone: opening the store has warned of it.
        with suppress(StoreDamagedError), report_write_errors(plan.path, 0):
            recover(plan.path)
    plan.observer.note(f"{plan.path} is complete: there is nothing left to do")
    return past
