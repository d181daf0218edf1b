"""A dump on a Dask cluster: workers dump its parts, and the client merges them to one store."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from cnatool._util.cluster import Cluster, Later, Task, describe_workers
from cnatool._util.cluster_workers import absolute_path
from cnatool._util.observer import Observer, Silent
from cnatool._util.text import count_text
from cnatool._util.urls import ObjectURL, is_url
from cnatool.dumping.cluster_progress import ClusterProgress, Findings, PartObserver
from cnatool.dumping.options import DumpOptions
from cnatool.dumping.parts_folder import (
    PartSettings,
    PartsFolder,
    TakenAwayError,
    Ticket,
    choose_folder,
    discard_unfinished,
    find_unfinished,
    list_left_folders,
    list_parts,
    remove_parts,
)
from cnatool.dumping.process import dump_here
from cnatool.dumping.results import ClusterEstimate
from cnatool.dumping.shared_folder import SharedFolder
from cnatool.dumping.survey import ClusterJob, Survey, survey_dump
from cnatool.dumping.write import describe_safe_rows, note_narrowing
from cnatool.errors import StoreInUseError, UsageError
from cnatool.store.format_table import format_by_name
from cnatool.store.lock import lock_store
from cnatool.store.merge import merge
from cnatool.store.object_access import make_access_check
from cnatool.store.object_lock import holds_lock
from cnatool.store.reader import open_store
from cnatool.store.replace import check_free
from cnatool.store.shared_samples import describe_shared_samples
from cnatool.store.write_errors import advise_beginning_anew, make_taken_over_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cnatool.dumping.preflight import Preflight
    from cnatool.store.store import Store

# Parts of each worker: the last ones end at about the same time.
_PARTS_PER_WORKER = 4


def dump_on_cluster(
    model: str | Path, data: str | Path | None, store: Path, options: DumpOptions
) -> Store:
    """Dump a model on the cluster of ``options.client``.

    Parameters and errors are those of `cnatool.dump`. The parts lie in a folder beside the store,
    which refers to them; an HDF5 store gets a copy of all rows instead.
    """
    observer = options.observer or Silent()
    path = absolute_path(store)
    with lock_store(path):
        opened = _open_dump(model, data, path, options, observer)
        if opened.survey.preflight is None:
            observer.note(f"{store} is complete: there is nothing left to do")
            return open_store(store)
        if opened.found is None and (unfinished := find_unfinished(path)) is not None:
            discard_unfinished(unfinished)
        folder = _plan_folder(opened, options)
        if opened.found is None:
            for other in list_left_folders(path):
                observer.note(f"{other} has parts of an earlier store: it is left unchanged")
        left = _estimate(opened, folder)
        for line in left.lines():
            observer.note(line)
        if not left.fits:
            raise UsageError(left.refusal)
        with _note_unfinished(store, folder, opened.survey, observer):
            folder.begin()
            _dump_parts(opened, folder, observer)
    return _merge(store, folder, observer)


def preflight_on_cluster(
    model: str | Path, data: str | Path | None, store: Path, options: DumpOptions
) -> Preflight:
    """Estimate a dump on the cluster of ``options.client``, for a worker and for all."""
    observer = options.observer or Silent()
    opened = _open_dump(model, data, absolute_path(store), options, observer)
    if opened.survey.preflight is None:
        raise UsageError(f"{store} is complete: there is nothing left to do.")
    return _estimate(opened, _plan_folder(opened, options))


class _OpenedDump(NamedTuple):
    """A dump on a cluster before its parts begin."""

    job: ClusterJob
    cluster: Cluster
    survey: Survey
    found: PartsFolder | None  # the parts that are resumed


def _open_dump(
    model: str | Path,
    data: str | Path | None,
    path: Path,
    options: DumpOptions,
    observer: Observer,
) -> _OpenedDump:
    """Check what is at a path, and let a worker plan the dump; write nothing."""
    job = ClusterJob.from_options(model, data, path, options)
    found = _find_folder(path, options, observer)
    cluster = _open_cluster(job, options, observer)
    if found is not None:
        observer.note(
            f"continues the {count_text(found.settings.parts, 'part')} in {found.path.name} with "
            "the settings that they were started with, "
            f"{count_text(found.settings.threads, 'thread')} each"
        )
    survey = _survey(cluster, job, options, found)
    for line in survey.notes:
        observer.note(line)
    return _OpenedDump(job, cluster, survey, found)


def _find_folder(store: Path, options: DumpOptions, observer: Observer) -> PartsFolder | None:
    """Find the parts that are resumed, or make sure that new ones can be written."""
    unfinished = find_unfinished(store)
    if unfinished is not None and unfinished.is_merged:
        unfinished.finish(keep=True)
        unfinished = None
    if options.resume:
        if unfinished is None or unfinished.is_older:
            _check_complete(store)
            if unfinished is not None:
                observer.note(
                    f"{unfinished.path} has parts of an unfinished dump that is older than "
                    f"{store}: delete them, or rename {store} to continue them"
                )
            return None
        _check_settings(unfinished, options)
        return unfinished
    check_free(store, overwrite=options.overwrite, resumes=True)
    if unfinished is not None:
        unfinished.check_discardable(overwrite=options.overwrite, way="`resume=True`")
    return None


def _check_complete(store: Path) -> None:
    """Refuse to continue on a cluster a store that one process began."""
    if format_by_name(store).exists(store) and not open_store(store).record.complete:
        raise UsageError(
            f"{store} was begun by one process. Continue it without `client`, or "
            f"{advise_beginning_anew(store)}."
        )


def _check_settings(folder: PartsFolder, options: DumpOptions) -> None:
    for name in ("parts", "threads"):
        asked, begun = getattr(options, name), getattr(folder.settings, name)
        if asked and asked != begun:
            raise UsageError(
                f"`{name}={asked}`: {folder.path} was begun with `{name}={begun}`. Leave `{name}` "
                f"out, or {advise_beginning_anew(folder.path)}."
            )


def _open_cluster(job: ClusterJob, options: DumpOptions, observer: Observer) -> Cluster:
    files = [path for path in job.places if not is_url(path)]
    missing = next((path for path in files if not os.path.lexists(path)), None)
    if missing is not None:
        # A worker would say the same, after others were started.
        raise UsageError(f"{missing}: no such file or folder.")
    probe = SharedFolder.beside(job.store)
    cluster = Cluster(
        options.client,
        observer.note,
        paths=files,
        probe=probe,
        check=make_access_check(job.places),
        again="the same command with `resume=True`",
    )
    observer.note(f"on a cluster of {describe_workers(cluster)}")
    return cluster


def _survey(
    cluster: Cluster, job: ClusterJob, options: DumpOptions, found: PartsFolder | None
) -> Survey:
    """Let a worker plan the whole dump and run its first blocks."""
    threads = cluster.threads if found is None else found.settings.threads
    asked = {"threads": threads, **job.options, "verbose": options.verbose}
    # Unless it is complete, the store itself is not written before the end.
    exists = format_by_name(job.store).exists
    complete = options.resume and found is None and exists(job.store)
    asked["resume" if complete else "overwrite"] = True
    if complete:
        asked["threads"] = options.threads
    survey: Survey = cluster.call(
        survey_dump, job.model, job.data, job.store, asked, name="the plan of the dump"
    )
    if survey.stateful:
        raise UsageError(
            "`client`: the model draws random numbers or has custom operators, so its results may "
            "depend on the runs before. Dump it without `client`."
        )
    return survey


def _plan_folder(opened: _OpenedDump, options: DumpOptions) -> PartsFolder:
    """Return the folder of the parts that are resumed, or plan the parts of a new dump."""
    if opened.found is not None:
        return opened.found
    cluster, store = opened.cluster, opened.job.store
    wanted = min(_PARTS_PER_WORKER * len(cluster.workers), max(1, opened.survey.batches))
    settings = PartSettings(
        options.parts or wanted, options.threads or cluster.threads, options.overwrite
    )
    return PartsFolder(choose_folder(store), store, settings)


def _estimate(opened: _OpenedDump, folder: PartsFolder) -> Preflight:
    """Estimate what is left of a dump for each worker and for all."""
    cluster, survey = opened.cluster, opened.survey
    one = survey.preflight
    assert one is not None
    total = sum(survey.rows.values())
    committed = sum(map(folder.committed, folder.numbers))
    left, workers = (total - committed) / max(1, total), len(cluster.workers)
    # The rows of an HDF5 store are copied while its parts are there.
    disk = one.disk_bytes * (left + (_is_copied(folder.store)))
    return replace(
        one,
        store=folder.store,
        samples={name: round(rows * left) for name, rows in survey.rows.items()},
        disk_bytes=int(disk),
        seconds=one.seconds * left / workers,
        memory_bytes=one.memory_bytes * workers,
        committed=committed,
        cluster=ClusterEstimate(
            workers=workers,
            parts=folder.settings.parts,
            threads=folder.settings.threads,
            disk_bytes=int(one.disk_bytes * left / workers),
            memory_bytes=one.memory_bytes,
        ),
    )


def _is_copied(store: Path) -> bool:
    """Whether a store gets a copy of all rows: one in a single file does."""
    return store.suffix != ".zarr"


def _dump_parts(opened: _OpenedDump, folder: PartsFolder, observer: Observer) -> None:
    """Dump all parts, and note what their workers found."""
    job, cluster, survey, _ = opened
    count = folder.settings.parts
    options = {**job.options, "threads": folder.settings.threads, "resume": True}
    progress = ClusterProgress(folder, sum(survey.rows.values()), observer)
    findings = Findings()

    def begin(number: int) -> tuple[Any, ...]:
        if not _is_locked(job.store):
            raise make_taken_over_error(job.store)
        part = {**options, "part": (number, count)}
        ticket = folder.issue_ticket(number)
        return job.model, job.data, folder.part(number), part, ticket, progress.topic

    tasks = [
        Task(f"part {number} of {count}", partial(begin, number), partial(folder.committed, number))
        for number in range(1, count + 1)
    ]
    try:
        with (
            cluster.receive(progress.topic, progress.update),
            closing(cluster.run(dump_part, tasks, progress.show)) as results,
        ):
            for task, found in results:
                if found is None:
                    raise make_taken_over_error(job.store)
                findings.add(task.name, found)
    except BaseException:
        if _is_locked(job.store):
            folder.withdraw_tickets()
        raise
    progress.finish()
    for line in findings.notes():
        observer.note(line)


def dump_part(
    model: str,
    data: str | None,
    path: Path,
    options: Mapping[str, Any],
    ticket: Ticket,
    topic: str,
) -> tuple[str, ...] | Later | None:
    """Dump a part on a worker, or go on with it; return what is noted about its values.

    None if another attempt has the right to write it.
    """
    observer = PartObserver(ticket, topic)
    try:
        dump_here(model, data, path, DumpOptions(**options, observer=observer))
    except StoreInUseError as error:
        # A worker that is cut off, or whose lock a server still holds.
        return Later(error)
    except TakenAwayError:
        return None
    return tuple(observer.notes) if observer.began else ()


def _is_locked(store: Path) -> bool:
    """Whether this process still has the right to write a store: in a bucket it may lose it."""
    return not isinstance(store, ObjectURL) or holds_lock(store)


@contextmanager
def _note_unfinished(
    store: Path, folder: PartsFolder, survey: Survey, observer: Observer
) -> Iterator[None]:
    """Note after a failure how many rows are safe."""
    try:
        yield
    except StoreInUseError:
        # Another process has taken the dump over.
        raise
    except BaseException:
        rows = sum(survey.rows.values())
        observer.note(describe_safe_rows(store, folder.count_safe(), rows, folder.path.name))
        raise


def _merge(store: Path, folder: PartsFolder, observer: Observer) -> Store:
    """Merge all parts to the store; those of a store that it replaces are deleted."""
    copy, replaces = _is_copied(store), folder.settings.replaces
    old = list_parts(store) if replaces else []
    silent = None if not copy else observer
    merged = merge(folder.parts(), store, copy=copy, overwrite=replaces, observer=silent)
    if not copy:
        observer.note(
            f"{store} refers to its {count_text(folder.settings.parts, 'part')} in "
            f"{folder.path.name}: keep them, and move both together"
        )
        for line in describe_shared_samples(merged):
            observer.note(line)
    note_narrowing(merged.record, store, observer)
    remove_parts(old)
    folder.finish(keep=not copy)
    return merged
