"""A dump on a Dask cluster: workers dump its parts, and the client merges them to one store."""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnatool._util.cluster import Cluster, Later, Task, describe_workers, report
from cnatool._util.observer import Observer, Silent
from cnatool._util.text import count_text
from cnatool.dumping.options import DumpOptions
from cnatool.dumping.parts_folder import (
    PartSettings,
    PartsFolder,
    Ticket,
    choose_folder,
    count_rows,
    discard_unfinished,
    find_unfinished,
    list_parts,
    remove_parts,
)
from cnatool.dumping.plan import plan_dump
from cnatool.dumping.prepare import prepare_dump
from cnatool.dumping.process import dump_here
from cnatool.dumping.results import ClusterEstimate
from cnatool.errors import NotAStoreError, StoreInUseError, UsageError
from cnatool.store.lock import lock_store
from cnatool.store.merge import merge
from cnatool.store.reader import open_store
from cnatool.store.replace import check_free

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cnatool.dumping.preflight import Preflight
    from cnatool.store.store import Store

# Parts of each worker: the last ones end at about the same time.
_PARTS_PER_WORKER = 4
# Seconds between two reports of a worker.
_REPORT_SECONDS = 0.5
# What follows :: is the name of an array inside a file.
_INSIDE = "::"
_PROGRESS = "all parts"
_NUMBERS = re.compile(r"[\d.,]+")


@dataclass(frozen=True, slots=True)
class _Job:
    """A dump as workers see it: with absolute paths."""

    model: str
    data: str | None
    store: Path
    options: Mapping[str, Any]

    @classmethod
    def from_options(
        cls, model: str | Path, data: str | Path | None, store: Path, options: DumpOptions
    ) -> _Job:
        """Take over the options of a dump that are not about the cluster."""
        kept: dict[str, Any] = {
            option.name: getattr(options, option.name)
            for option in fields(options)
            if option.name not in ("client", "parts", "observer", "overwrite", "resume", "verbose")
            and getattr(options, option.name) is not option.default
        }
        for name in ("preprocess", "inputs_from", "initial_model"):
            if name in kept:
                kept[name] = _absolute(kept[name])
        if "splits" in kept:
            kept["splits"] = {name: _absolute(path) for name, path in kept["splits"].items()}
        if "custom_ops" in kept:
            kept["custom_ops"] = [_absolute(path) for path in kept["custom_ops"]]
        return cls(_absolute(model), None if data is None else _absolute(data), store, kept)

    @property
    def paths(self) -> list[Path]:
        """The files and folders that it reads."""
        names = ("preprocess", "inputs_from", "initial_model")
        texts = [self.model, self.data, *(self.options.get(name) for name in names)]
        texts += [*self.options.get("splits", {}).values(), *self.options.get("custom_ops", ())]
        return [Path(str(text).partition(_INSIDE)[0]) for text in texts if text is not None]


def _absolute(path: str | Path) -> str:
    file, inside, name = str(path).partition(_INSIDE)
    return os.path.abspath(file) + inside + name  # noqa: PTH100


@dataclass(frozen=True, slots=True)
class Survey:
    """What a worker finds out about a whole dump."""

    preflight: Preflight | None  # None for a complete store
    notes: tuple[str, ...]
    rows: dict[str, int]  # of each split
    batches: int
    stateful: bool


def dump_on_cluster(
    model: str | Path, data: str | Path | None, store: Path, options: DumpOptions
) -> Store:
    """Dump a model on the cluster of ``options.client``.

    Parameters and errors are those of `cnatool.dump`. The parts lie in a folder beside the store,
    which refers to them; an HDF5 store gets a copy of all rows instead.
    """
    observer = options.observer or Silent()
    path = Path(os.path.abspath(store))  # noqa: PTH100
    job = _Job.from_options(model, data, path, options)
    with lock_store(path):
        found = _find_folder(path, options)
        cluster = _open_cluster(job, options, observer)
        survey = _survey(cluster, job, options, found)
        for line in survey.notes:
            observer.note(line)
        if survey.preflight is None:
            observer.note(f"{store} is complete: there is nothing left to do")
            return open_store(store)
        folder = found or _plan_folder(path, cluster, survey, options)
        left = _estimate(cluster, folder, survey)
        for line in left.lines():
            observer.note(line)
        if not left.fits:
            raise UsageError(left.refusal)
        folder.begin()
        with _note_unfinished(store, folder, survey, observer):
            _dump_parts(cluster, job, folder, survey, observer)
    return _merge(store, folder, options, observer)


def preflight_on_cluster(
    model: str | Path, data: str | Path | None, store: Path, options: DumpOptions
) -> Preflight:
    """Estimate a dump on the cluster of ``options.client``, for a worker and for all."""
    observer = options.observer or Silent()
    path = Path(os.path.abspath(store))  # noqa: PTH100
    job = _Job.from_options(model, data, path, options)
    found = _find_folder(path, options)
    cluster = _open_cluster(job, options, observer)
    survey = _survey(cluster, job, options, found)
    for line in survey.notes:
        observer.note(line)
    if survey.preflight is None:
        raise UsageError(f"{store} is complete: there is nothing left to do.")
    return _estimate(cluster, found or _plan_folder(path, cluster, survey, options), survey)


def _find_folder(store: Path, options: DumpOptions) -> PartsFolder | None:
    """Find the parts that are resumed, or make sure that new ones can be written."""
    unfinished = find_unfinished(store)
    if options.resume:
        if unfinished is None and os.path.lexists(store):
            if any(not split.record.complete for split in open_store(store).splits.values()):
                raise UsageError(
                    f"{store} was begun by one process. Continue it without `client`, or begin "
                    "anew with `overwrite=True`."
                )
            return None
        if unfinished is not None:
            _check_settings(unfinished, options)
        return unfinished
    check_free(store, overwrite=options.overwrite, resumes=True)
    if unfinished is not None and not options.overwrite:
        raise NotAStoreError(
            f"{unfinished.path} has parts of an unfinished {store.name}. Pass `resume=True` to "
            "continue them, `overwrite=True` to begin anew, or name another path."
        )
    return None


def _check_settings(folder: PartsFolder, options: DumpOptions) -> None:
    for name in ("parts", "threads"):
        asked, begun = getattr(options, name), getattr(folder.settings, name)
        if asked and asked != begun:
            raise UsageError(
                f"`{name}={asked}`: {folder.path} was begun with `{name}={begun}`. Leave `{name}` "
                "out, or begin anew with `overwrite=True`."
            )


def _open_cluster(job: _Job, options: DumpOptions, observer: Observer) -> Cluster:
    missing = next((path for path in job.paths if not os.path.lexists(path)), None)
    if missing is not None:
        # A worker would say the same, after others were started.
        raise UsageError(f"{missing}: no such file or folder.")
    cluster = Cluster(options.client, observer.note, paths=job.paths, shared=job.store.parent)
    observer.note(f"on a cluster of {describe_workers(cluster)}")
    return cluster


def _survey(cluster: Cluster, job: _Job, options: DumpOptions, found: PartsFolder | None) -> Survey:
    """Let a worker plan the whole dump and run its first blocks."""
    threads = cluster.threads if found is None else found.settings.threads
    asked = {"threads": threads, **job.options, "verbose": options.verbose}
    # Unless it is complete, the store itself is not written before the end.
    complete = options.resume and found is None and job.store.exists()
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


def survey_dump(model: str, data: str | None, store: Path, options: Mapping[str, Any]) -> Survey:
    """Plan a whole dump and run its first blocks, on a worker."""
    observer = _PartObserver()
    plan = plan_dump(model, data, store, DumpOptions(**options, observer=observer))
    preflight = None
    if not plan.is_complete:
        with prepare_dump(plan, announce=False) as prepared:
            preflight = prepared.preflight
            if options["verbose"]:
                observer.note(str(prepared.compression))
    rows = dict(plan.rows)
    batch, stateful = plan.schedule.batch, plan.schedule.stateful
    batches = sum(-(-count // batch) for count in rows.values())
    return Survey(preflight, tuple(observer.notes), rows, batches, stateful)


def _plan_folder(
    store: Path, cluster: Cluster, survey: Survey, options: DumpOptions
) -> PartsFolder:
    """Plan the parts of a new dump; those that an overwritten one left are deleted."""
    unfinished = find_unfinished(store)
    if unfinished is not None:
        discard_unfinished(unfinished)
    many = options.parts or min(_PARTS_PER_WORKER * len(cluster.workers), max(1, survey.batches))
    settings = PartSettings(many, options.threads or cluster.threads)
    return PartsFolder(choose_folder(store), store, settings)


def _estimate(cluster: Cluster, folder: PartsFolder, survey: Survey) -> Preflight:
    """Estimate what is left of a dump for each worker and for all."""
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


def _dump_parts(
    cluster: Cluster, job: _Job, folder: PartsFolder, survey: Survey, observer: Observer
) -> None:
    """Dump all parts, and note what their workers found."""
    count = folder.settings.parts
    options = {**job.options, "threads": folder.settings.threads, "resume": True}
    progress = _Progress(folder, sum(survey.rows.values()), observer)
    findings = _Findings()

    def begin(number: int) -> tuple[Any, ...]:
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
                findings.add(task.name, found)
    except BaseException:
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
) -> tuple[str, ...] | Later:
    """Dump a part on a worker, or go on with it; return what is noted about its values."""
    observer = _PartObserver(ticket, topic)
    try:
        dump_here(model, data, path, DumpOptions(**options, observer=observer))
    except StoreInUseError as error:
        # A worker that is cut off, or whose lock a server still holds.
        return Later(error)
    return tuple(observer.notes) if observer.began else ()


class _PartObserver:
    """Reports the progress of a part, as long as its ticket is valid.

    Parameters
    ----------
    ticket : Ticket, optional
        The right to write the part.
    topic : str
        Where progress is reported.
    """

    def __init__(self, ticket: Ticket | None = None, topic: str = "") -> None:
        self._ticket = ticket
        self._topic = topic
        self._reported = 0.0
        self.began = False
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        """Check the ticket, and report progress at times."""
        if self._ticket is None:
            return
        self._ticket.check()
        # What was noted before is about the plan, which all parts share.
        self.notes.clear()
        self.began = True
        now = time.monotonic()
        if done == rows or now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            report(self._topic, [self._ticket.text, self._ticket.part, split, done])


class _Progress:
    """The rows that are done, over all parts."""

    def __init__(self, folder: PartsFolder, total: int, observer: Observer) -> None:
        self.topic = f"cnatool-{uuid.uuid4().hex}"
        self._total = total
        self._observer = observer
        self._shown = -1
        self._done: dict[tuple[str, str], int] = {}
        for part in folder.parts():
            for split, rows in count_rows(part).items():
                self._done[part.name, split] = rows

    def update(self, message: list[Any]) -> None:
        """Take over the report of a worker; runs in another thread."""
        _, part, split, done = message
        self._done[part, split] = done

    def show(self) -> None:
        """Show progress, if there is any."""
        done = min(self._total, sum([*self._done.values()]))
        if done not in (self._shown, self._total):
            self._shown = done
            self._observer.progress(_PROGRESS, done, self._total)

    def finish(self) -> None:
        """Show that all is done: the last reports of workers may be on their way."""
        self._observer.progress(_PROGRESS, self._total, self._total)


class _Findings:
    """What the workers note about the values of their parts, each kind once."""

    def __init__(self) -> None:
        # Texts that differ only in numbers and names of samples are of one kind.
        self._kinds: dict[str, dict[str, str]] = {}

    def add(self, part: str, notes: Iterable[str]) -> None:
        """Add the notes of a part."""
        for text in notes:
            kind = _NUMBERS.sub("", text.partition(", first ")[0])
            self._kinds.setdefault(kind, {})[part] = text

    def notes(self) -> Iterator[str]:
        """Yield a line for each kind, which says which part it is about unless that is all."""
        for texts in self._kinds.values():
            if len({*texts.values()}) == 1:
                yield next(iter(texts.values()))
                continue
            part, text = min(texts.items(), key=lambda item: int(item[0].split()[1]))
            yield f"{part}: {text} (likewise {count_text(len(texts) - 1, 'other part')})"


@contextmanager
def _note_unfinished(
    store: Path, folder: PartsFolder, survey: Survey, observer: Observer
) -> Iterator[None]:
    """Note after a failure how many rows are safe."""
    try:
        yield
    except BaseException:
        observer.note(
            f"{store} is not finished: {sum(map(folder.committed, folder.numbers))} of "
            f"{sum(survey.rows.values())} rows are safe in {folder.path.name}. The same command "
            "with `resume=True` continues from there"
        )
        raise


def _merge(store: Path, folder: PartsFolder, options: DumpOptions, observer: Observer) -> Store:
    """Merge all parts to the store; those of a store that it replaces are deleted."""
    copy = _is_copied(store)
    # Whatever is at the path is there with the user's consent, which an interrupted dump got.
    replaces = options.overwrite or options.resume
    old = list_parts(store) if replaces else []
    silent = None if not copy else observer
    merged = merge(folder.parts(), store, copy=copy, overwrite=replaces, observer=silent)
    if not copy:
        observer.note(
            f"{store} refers to its {count_text(folder.settings.parts, 'part')} in "
            f"{folder.path.name}: keep them, and move both together"
        )
    remove_parts(old)
    folder.finish(keep=not copy)
    return merged
