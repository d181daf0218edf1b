"""The dump: a batch at a time, samples are read, preprocessed, run through the model, stored."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool.backend.measured import exposed_model
from cnatool.dump_options import DumpOptions, check_apart, check_options, choices
from cnatool.errors import CnatoolError, NotAStoreError, UsageError
from cnatool.forecast import Preflight, check_memory, estimated, first_blocks
from cnatool.notfinite import NotFinite
from cnatool.observing import Observer, Silent
from cnatool.pipeline import Stages, prefetched
from cnatool.planning import Plan, planned
from cnatool.resuming import Past, check_same, codec_of, is_complete, resumable
from cnatool.running import RanBlock, ran_blocks
from cnatool.store.lock import locked
from cnatool.store.reader import open_store
from cnatool.store.replacing import Replaced, check_free, show_replaced
from cnatool.store.tree import Codec, format_of
from cnatool.store.writer import SplitWriter, StoreWriter, check_codec

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from typing import Unpack

    from numpy.typing import ArrayLike

    from cnatool.backend.choice import Narrowing
    from cnatool.backend.exposed import ExposedModel
    from cnatool.store.reader import Store
    from cnatool.store.records import Kept

__all__ = ["dump", "preflight"]


def dump(
    model: str | Path,
    data: str | Path | None = None,
    store: str | Path | None = None,
    *,
    splits: Mapping[str, str | Path] | None = None,
    keep: Kept = "full",
    tensors: str | Sequence[str] = "all",
    dtype: Narrowing | None = None,
    statistics: str | Sequence[str] = "sum",
    batch_size: int | None = None,
    limit: int | None = None,
    tags: Mapping[str, str] | None = None,
    provider: str = "cpu",
    threads: int = 0,
    scale: float | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    layout: str | None = None,
    inputs: Mapping[str, str] | None = None,
    constants: Mapping[str, ArrayLike] | None = None,
    custom_ops: Sequence[str | Path] = (),
    codec: Codec | None = None,
    overwrite: bool = False,
    resume: bool = False,
    verbose: bool = False,
    observer: Observer | None = None,
) -> Store:
    """Run an ONNX model over data and store every intermediate tensor.

    Parameters
    ----------
    model : str or Path
        An ONNX file.
    data : str or Path, optional
        Samples: an IDX images file, a ``.npz``, ``.npy`` or ``.parquet`` file, a folder of pictures
        by class, or a folder with ``train`` and ``test`` parts of any of these.
    store : str or Path, optional
        Where the store goes: a name in ``.zarr``, ``.h5`` or ``.hdf5``. By default the model's name
        with ``.zarr``, in the current folder.
    splits : mapping of str to path, optional
        Split names and their data, instead of ``data``.
    keep : {"full", "statistics"}
        Store whole activations, or only their sums over each sample.
    tensors : str or sequence of str
        ``all``, ``layers``, or names and globs.
    dtype : {"float32", "float16"}, optional
        Narrow floating activations to this type in the store.
    statistics : str or sequence of str
        What to compute of each tensor over each sample's elements: ``sum``, which is always there,
        ``abs_sum``, ``square_sum``, ``positive_sum``, ``nonzero_count``, ``min``, ``max``, or
        ``all``.
    batch_size : int, optional
        Samples of one run; by default as many as fit the processor's cache, 256 at most.
    limit : int, optional
        Samples to take of each split.
    tags : mapping of str to str, optional
        Words of your own, kept in the store.
    provider : str
        Where ONNX Runtime runs: ``cpu``, ``cuda``, …
    threads : int
        Threads that run the model; 0 for one a processor.
    scale, mean, std : float, sequence of float, sequence of float
        The model receives ``(x * scale - mean) / std``; by default 8-bit pictures are divided by
        255 and anything else stays as it is.
    layout : str, optional
        How to arrange a sample for the model, where shapes leave it open: ``[FROM->]TO`` with
        ``chw``, ``hwc``, ``flat``, ``flat-chw``, ``flat-hwc``.
    inputs : mapping of str to str, optional
        For each input of the model, the array or column of the data that feeds it, where their
        names differ.
    constants : mapping of str to array_like, optional
        Inputs that are the same for every sample. A number fills the input's declared shape.
    custom_ops : sequence of str or Path
        Libraries of custom operators. They run as part of this process: name only what you trust.
    codec : {"lz4", "zstd", "gzip", "none"}, optional
        How the store is compressed. In Zarr LZ4 by default, which is fast; Zstandard is smaller,
        gzip known to every reader. In HDF5 ``none`` by default, or ``gzip``.
    overwrite : bool
        Replace a store that is already there. If the dump is cut off, the old one is kept beside
        it as ``NAME.previous.zarr``.
    resume : bool
        Go on with a dump that was cut off, behind its committed rows; the result is that of one
        that never was. Model, data and options must be those that it was begun with; what
        ``batch_size``, ``threads`` and ``codec`` leave open is taken from it. Where there is
        nothing to go on with the dump begins at the start, and a complete store is left alone.
    verbose : bool
        Tell the observer at the end how busy reading, model and writing were.
    observer : Observer, optional
        Told what was decided and how far the dump is.

    Returns
    -------
    Store
        The finished store, open for reading.

    Raises
    ------
    UsageError, DataError, ModelError, NotAStoreError
        If an argument, the data, the model or the path cannot be used, or a store is to be resumed
        that another dump began.
    BackendError
        If the runtime fails.
    StoreInUseError
        If another process is writing the store.
    StoreWriteError
        If the disk is full or refuses.
    """
    options = DumpOptions(
        splits=splits,
        keep=keep,
        tensors=tensors,
        dtype=dtype,
        statistics=statistics,
        batch_size=batch_size,
        limit=limit,
        tags=tags,
        provider=provider,
        threads=threads,
        scale=scale,
        mean=mean,
        std=std,
        layout=layout,
        inputs=inputs,
        constants=constants,
        custom_ops=custom_ops,
        codec=codec,
        overwrite=overwrite,
        resume=resume,
        verbose=verbose,
        observer=observer,
    )
    check_options(options)
    path = _store_path(model, store)
    # Before anything is looked at: what is found stays so until the dump is done.
    with locked(path):
        decided = _decided(model, data, path, options)
        shown = show_replaced(path)
        if shown is not None:
            decided.observer.note(
                f"{path} was being replaced when its dump was killed. The store that it would have "
                f"replaced is {shown}"
            )
        if decided.past is not None and is_complete(decided.past):
            decided.observer.note(f"{path} is complete: there is nothing left to do")
            return decided.past
        try:
            with _begun(decided) as begun:
                found = begun.preflight
                if not found.fits:
                    raise UsageError(found.refusal)
                for line in found.lines():
                    decided.observer.note(line)
                _finished(decided, begun)
        except BaseException:
            if decided.past is not None:
                decided.observer.note(_unfinished(decided))
            raise
    if verbose:
        decided.observer.note(str(begun.stages))
    return open_store(path)


def preflight(
    model: str | Path,
    data: str | Path | None = None,
    store: str | Path | None = None,
    **options: Unpack[DumpOptions],
) -> Preflight:
    """Say what a dump would take of disk, time and memory, and write nothing.

    The first samples go through the model as they would in the dump.

    Parameters
    ----------
    model, data, store, options
        As of `dump`.

    Returns
    -------
    Preflight
        Its ``fits`` says whether `dump` would go on.

    Raises
    ------
    UsageError, DataError, ModelError, NotAStoreError, BackendError
        As `dump`.
    """
    check_options(options)
    with _begun(_decided(model, data, _store_path(model, store), options)) as begun:
        return begun.preflight


def _store_path(model: str | Path, store: str | Path | None) -> Path:
    return Path(store) if store is not None else Path(f"{Path(model).stem}.zarr")


@dataclass(frozen=True, slots=True)
class _Decided:
    """A dump of which nothing was run yet.

    ``past`` is the store that it goes on with, or None where it begins at the start.
    """

    path: Path
    plan: Plan
    codec: Codec
    resume: bool
    past: Store | None
    observer: Observer

    @property
    def begins_anew(self) -> bool:
        """Whether what may be at the path is a store without a row, which goes."""
        return self.resume and self.past is None

    @property
    def left(self) -> dict[str, int]:
        """Rows of each split that are still to be written."""
        splits = {} if self.past is None else self.past.splits
        return {n: r - (len(splits[n]) if n in splits else 0) for n, r in self.plan.rows.items()}


def _decided(
    model: str | Path, data: str | Path | None, path: Path, options: DumpOptions
) -> _Decided:
    """Decide everything about a dump, without running the model over its data."""
    observer = options.get("observer") or Silent()
    splits = options.get("splits") or {}
    resume = options.get("resume", False)
    past = resumable(path) if resume else None
    if past is None:
        # What is resumed and holds no row is begun anew.
        check_free(path, overwrite=resume or options.get("overwrite", False), resumes=True)
    check_codec(path, options.get("codec"))
    check_apart(path, [model, *([data] if data is not None else []), *splits.values()])
    plan = planned(
        Path(model),
        data,
        splits,
        *choices(options, past.record.runtime if past else None),
        observer.note,
    )
    check_memory(plan)
    codec = options.get("codec") or (past and codec_of(past)) or format_of(path).codecs[0]
    if past is not None:
        check_same(past, plan, codec)
    if past is not None and not is_complete(past):
        rows, there = sum(plan.rows.values()), sum(map(len, past.splits.values()))
        observer.note(f"resuming: {there:,} of {rows:,} rows are there")
    return _Decided(path, plan, codec, resume, past, observer)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A dump of which nothing is written yet: its first blocks are through the model."""

    plan: Plan
    exposed: ExposedModel
    preflight: Preflight
    broken: NotFinite
    stages: Stages
    pasts: Mapping[str, Past]
    split: str
    blocks: Iterator[RanBlock]

    def blocks_of(self, split: str) -> Generator[RanBlock]:
        """Give the blocks of a split, those that were already run among them."""
        past = self.pasts.get(split)
        if split == self.split:
            yield from self.blocks
            return
        with closing(ran_blocks(self.plan, self.exposed, split, self.stages, past)) as ran:
            yield from ran


@contextmanager
def _begun(decided: _Decided) -> Generator[_Begun]:
    """Run the first blocks, and judge by them what the rest will take."""
    plan, left = decided.plan, decided.left
    exposed = exposed_model(
        plan.network,
        plan.probed,
        plan.samples,
        plan.record.tensors,
        plan.outputs,
        plan.statistics,
        plan.run,
    )
    broken, stages = NotFinite(plan.record.tensors), Stages()
    past = {} if decided.past is None else decided.past.splits
    pasts = {name: Past(split, broken, decided.observer) for name, split in past.items()}
    if plan.schedule.stateful:
        # Results depend on the runs before: everything runs once more, in the same order.
        wanted = plan.rows
    else:
        wanted = left
        for name, one in pasts.items():
            if not left[name]:
                blocks = plan.sources[name].blocks(plan.schedule.block, plan.rows[name])
                with closing(prefetched(blocks)) as read:
                    for block in read:
                        one.take(block)
    split = next((name for name, rows in wanted.items() if rows), next(iter(plan.rows)))
    with closing(ran_blocks(plan, exposed, split, stages, pasts.get(split))) as ran:
        trial = first_blocks(ran, plan, sum(left.values()))
        found = estimated(plan, decided.path, trial, decided.codec, left)
        first = _in_turn(trial, ran)
        yield _Begun(plan, exposed, found, broken, stages, pasts, split, first)


def _in_turn(first: list[RanBlock], rest: Iterable[RanBlock]) -> Iterator[RanBlock]:
    """Give the blocks of a list, which lets go of them, and then the rest."""
    while first:
        yield first.pop(0)
    yield from rest


def _finished(decided: _Decided, begun: _Begun) -> None:
    """Write a dump that was begun to its end."""
    path, plan, observer = decided.path, decided.plan, decided.observer
    if decided.begins_anew:
        format_of(path).remove(path)
    replaced = None if decided.past is not None else Replaced(path)
    try:
        with closing(_writer(decided)) as writer:
            # All splits are there, empty, before the first row: a dump that is cut off shows it.
            parts = {name: _part(writer, name, decided, begun) for name in plan.sources}
            for name, part in parts.items():
                past = begun.pasts.get(name)
                observer.progress(name, past.done if past else 0, plan.rows[name])
                with closing(begun.blocks_of(name)) as blocks:
                    _write_split(part, plan.rows[name], blocks, begun, observer)
    except BaseException:
        if replaced is None:
            pass
        elif _safe_rows(path) != 0:
            kept = replaced.keep()
            observer.note(
                _unfinished(decided)
                + (f". The store that it would have replaced is {kept}" if kept else "")
            )
        else:
            replaced.restore()
            observer.note(f"nothing was finished, so there is no new {path}")
        raise
    if replaced is not None:
        replaced.remove()
    for line in begun.broken.notes():
        observer.note(line)


def _unfinished(decided: _Decided) -> str:
    safe = _safe_rows(decided.path)
    return (
        f"{decided.path} is not finished: {'some' if safe is None else safe} of "
        f"{sum(decided.plan.rows.values())} rows are safe in it. The same command with --resume "
        "goes on from there"
    )


def _safe_rows(path: Path) -> int | None:
    """Count the rows of a store that was cut off; None where it cannot be read.

    What a reader finds is what counts: an interruption may come just behind a commit.
    """
    try:
        return sum(map(len, open_store(path).splits.values()))
    except NotAStoreError:
        return 0
    except CnatoolError:
        return None


def _writer(decided: _Decided) -> StoreWriter:
    if decided.past is None:
        return StoreWriter(decided.path, decided.plan.record, decided.codec)
    return StoreWriter.resume(decided.past, decided.codec)


def _part(writer: StoreWriter, name: str, decided: _Decided, begun: _Begun) -> SplitWriter:
    past = begun.pasts.get(name)
    if past is not None:
        return writer.resumed_split(past.split, past.digests)
    source = decided.plan.sources[name]
    return writer.split(
        name,
        decided.plan.rows[name],
        source=source.name,
        labels=source.labelled,
        classes=source.classes,
        available=source.rows,
        id_bytes=source.id_bytes,
    )


def _write_split(
    split: SplitWriter, rows: int, blocks: Iterable[RanBlock], begun: _Begun, observer: Observer
) -> None:
    done = split.committed
    for one in blocks:
        block, results = one.block, one.results
        start = time.perf_counter()
        split.append(
            ids=block.ids,
            inputs=block.inputs,
            labels=block.labels,
            outputs=results.outputs,
            activations=results.activations,
            statistics=results.statistics,
        )
        begun.stages.add("compressing and writing", time.perf_counter() - start)
        begun.broken.add(split.name, block.ids, one.broken, results.statistics["sum"])
        done += len(block.ids)
        observer.progress(split.name, done, rows)
    if not split.complete:
        split.finish()
