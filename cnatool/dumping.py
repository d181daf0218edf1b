"""The dump: a batch at a time, samples are read, preprocessed, run through the model, stored."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_args

from cnatool.backend.choice import Narrowing
from cnatool.backend.measured import exposed_model
from cnatool.data.preprocess import PreprocessOptions
from cnatool.data.splits import Reading
from cnatool.errors import UsageError
from cnatool.forecast import Preflight, check_memory, estimated, first_blocks
from cnatool.notfinite import NotFinite
from cnatool.observing import Observer, Silent
from cnatool.planning import Choices, FeedChoices, Plan, RunChoices, planned
from cnatool.running import RanBlock, ran_blocks
from cnatool.store.reader import open_store
from cnatool.store.records import Kept, Statistic
from cnatool.store.replacing import Replaced, check_free
from cnatool.store.tree import Codec, format_of
from cnatool.store.writer import SplitWriter, StoreWriter, check_codec

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from typing import Unpack

    from numpy.typing import ArrayLike

    from cnatool.backend.exposed import ExposedModel
    from cnatool.store.reader import Store

__all__ = ["DumpOptions", "dump", "preflight"]


class DumpOptions(TypedDict, total=False):
    """The keyword arguments of `dump`, which `preflight` takes too."""

    splits: Mapping[str, str | Path] | None
    keep: Kept
    tensors: str | Sequence[str]
    dtype: Narrowing | None
    statistics: str | Sequence[str]
    batch_size: int | None
    limit: int | None
    tags: Mapping[str, str] | None
    provider: str
    threads: int
    scale: float | None
    mean: Sequence[float]
    std: Sequence[float]
    layout: str | None
    format: str | None
    labels: str | None
    split_column: str | None
    holdout: float | None
    seed: int
    inputs: Mapping[str, str] | None
    constants: Mapping[str, ArrayLike] | None
    custom_ops: Sequence[str | Path]
    codec: Codec | None
    overwrite: bool
    observer: Observer | None


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
    format: str | None = None,
    labels: str | None = None,
    split_column: str | None = None,
    holdout: float | None = None,
    seed: int = 0,
    inputs: Mapping[str, str] | None = None,
    constants: Mapping[str, ArrayLike] | None = None,
    custom_ops: Sequence[str | Path] = (),
    codec: Codec | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Store:
    """Run an ONNX model over data and store every intermediate tensor.

    Parameters
    ----------
    model : str or Path
        An ONNX file.
    data : str or Path, optional
        Samples in one of the formats of docs/data.md, or a folder with ``train`` and ``test`` parts
        in any of them. ``FILE.h5::NAME`` and ``FOLDER.zarr::NAME`` mean an array inside.
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
    format : str, optional
        What the data are, where their looks leave a choice: ``npz``, ``parquet``, ``pictures``, …
    labels : str, optional
        Name of the array or column of labels, where it is not a usual one.
    split_column : str, optional
        Name of the column of a table that says which split each row is of.
    holdout : float, optional
        Share of the training samples, or of the only ones, to hold out as the split ``test``, or
        ``val`` where there is a test split already.
    seed : int
        Of the draw of samples held out.
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
    observer : Observer, optional
        Told what was decided and how far the dump is.

    Returns
    -------
    Store
        The finished store, open for reading.

    Raises
    ------
    UsageError, DataError, ModelError, NotAStoreError
        If an argument, the data, the model or the path cannot be used.
    BackendError
        If the runtime fails.
    StoreWriteError
        If the disk is full or refuses.
    """
    with _begun(
        model,
        data,
        store,
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
        format=format,
        labels=labels,
        split_column=split_column,
        holdout=holdout,
        seed=seed,
        inputs=inputs,
        constants=constants,
        custom_ops=custom_ops,
        codec=codec,
        overwrite=overwrite,
        observer=observer,
    ) as begun:
        found = begun.preflight
        if not found.fits:
            raise UsageError(found.refusal)
        for line in found.lines():
            begun.observer.note(line)
        _finished(begun)
    return open_store(found.store)


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
    with _begun(model, data, store, **options) as begun:
        return begun.preflight


@dataclass(frozen=True, slots=True)
class _Begun:
    """A dump of which nothing is written yet: its first blocks are through the model."""

    plan: Plan
    codec: Codec | None
    exposed: ExposedModel
    preflight: Preflight
    observer: Observer
    split: str
    blocks: Iterator[RanBlock]

    def blocks_of(self, split: str) -> Generator[RanBlock]:
        """Give the blocks of a split, those that were already run among them."""
        if split == self.split:
            yield from self.blocks
            return
        with closing(ran_blocks(self.plan, self.exposed, split)) as ran:
            yield from ran


@contextmanager
def _begun(
    model: str | Path,
    data: str | Path | None,
    store: str | Path | None,
    **options: Unpack[DumpOptions],
) -> Generator[_Begun]:
    """Decide everything, run the first blocks, and judge by them what the rest will take."""
    model = Path(model)
    path = Path(store) if store is not None else Path(f"{model.stem}.zarr")
    observer = options.get("observer") or Silent()
    splits = options.get("splits") or {}
    _check_options(options)
    check_free(path, overwrite=options.get("overwrite", False))
    check_codec(path, options.get("codec"))
    _check_apart(path, [model, *([data] if data is not None else []), *splits.values()])
    plan = planned(model, data, splits, *_choices(options), observer.note)
    check_memory(plan)
    exposed = exposed_model(
        plan.network,
        plan.probed,
        plan.samples,
        plan.record.tensors,
        plan.outputs,
        plan.statistics,
        plan.run,
    )
    split = next((name for name, rows in plan.rows.items() if rows), next(iter(plan.rows)))
    with closing(ran_blocks(plan, exposed, split)) as ran:
        trial = first_blocks(ran, plan)
        codec = options.get("codec")
        found = estimated(plan, path, trial, codec or format_of(path).codecs[0])
        yield _Begun(plan, codec, exposed, found, observer, split, _in_turn(trial, ran))


def _in_turn(first: list[RanBlock], rest: Iterable[RanBlock]) -> Iterator[RanBlock]:
    """Give the blocks of a list, which lets go of them, and then the rest."""
    while first:
        yield first.pop(0)
    yield from rest


def _choices(options: DumpOptions) -> tuple[Choices, RunChoices, FeedChoices]:
    tensors = options.get("tensors", "all")
    scale = options.get("scale")
    return (
        Choices(
            keep=options.get("keep", "full"),
            tensors=(tensors,) if isinstance(tensors, str) else tuple(tensors),
            dtype=options.get("dtype"),
            statistics=_chosen_statistics(options.get("statistics", "sum")),
            limit=options.get("limit"),
            tags=dict(options.get("tags") or {}),
        ),
        RunChoices(
            batch_size=options.get("batch_size"),
            provider=options.get("provider", "cpu"),
            threads=options.get("threads", 0),
            custom_ops=tuple(map(Path, options.get("custom_ops", ()))),
        ),
        FeedChoices(
            preprocessing=PreprocessOptions(
                None if scale is None else float(scale),
                tuple(map(float, options.get("mean", ()))),
                tuple(map(float, options.get("std", ()))),
                options.get("layout"),
            ),
            arrays=dict(options.get("inputs") or {}),
            constants=dict(options.get("constants") or {}),
            reading=Reading(
                form=options.get("format"),
                labels=options.get("labels"),
                split_column=options.get("split_column"),
                holdout=options.get("holdout"),
                seed=options.get("seed", 0),
            ),
        ),
    )


def _finished(begun: _Begun) -> None:
    """Write a dump that was begun to its end."""
    path, plan, observer = begun.preflight.store, begun.plan, begun.observer
    broken = NotFinite(plan.record.tensors)
    replaced = Replaced(path)
    parts: dict[str, SplitWriter] = {}
    try:
        with closing(StoreWriter(path, plan.record, begun.codec)) as writer:
            # All splits are there, empty, before the first row: a dump that is cut off shows it.
            parts = {
                name: writer.split(
                    name,
                    plan.rows[name],
                    source=source.name,
                    labels=source.labelled,
                    classes=source.classes,
                    available=source.rows,
                    id_bytes=source.id_bytes,
                )
                for name, source in plan.sources.items()
            }
            for name, part in parts.items():
                observer.progress(name, 0, plan.rows[name])
                with closing(begun.blocks_of(name)) as blocks:
                    _write_split(part, plan.rows[name], blocks, broken, observer)
    except BaseException:
        safe = sum(part.committed for part in parts.values())
        if safe:
            kept = replaced.keep()
            observer.note(
                f"{path} is not finished: {safe} rows are safe in it"
                + (f". The store that it would have replaced is {kept}" if kept else "")
            )
        else:
            replaced.restore()
            observer.note(f"nothing was finished, so there is no new {path}")
        raise
    replaced.remove()
    for line in broken.notes():
        observer.note(line)


def _write_split(
    split: SplitWriter,
    rows: int,
    blocks: Iterable[RanBlock],
    broken: NotFinite,
    observer: Observer,
) -> None:
    done = 0
    for one in blocks:
        block, results = one.block, one.results
        split.append(
            ids=block.ids,
            inputs=block.inputs,
            labels=block.labels,
            outputs=results.outputs,
            activations=results.activations,
            statistics=results.statistics,
        )
        broken.add(split.name, block.ids, one.broken, results.statistics["sum"])
        done += len(block.ids)
        observer.progress(split.name, done, rows)
    split.finish()


def _check_options(options: DumpOptions) -> None:
    """Refuse what the type checker would, before anything is written."""
    keep, dtype = options.get("keep", "full"), options.get("dtype")
    if keep not in get_args(Kept):
        raise UsageError(f"keep={keep!r}: full or statistics.")
    if dtype is not None and dtype not in get_args(Narrowing):
        raise UsageError(f"dtype={dtype!r}: float32 or float16.")
    codec = options.get("codec")
    if codec is not None and codec not in get_args(Codec):
        raise UsageError(f"codec={codec!r}: {', '.join(get_args(Codec))}.")
    counts = (("--batch-size", options.get("batch_size")), ("--limit", options.get("limit")))
    for option, count in counts:
        if count is not None and count < 1:
            raise UsageError(f"{option} {count}: at least 1.")
    for key, value in (options.get("tags") or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError(f"tag {key!r}: {value!r}: both must be text.")


def _chosen_statistics(names: str | Sequence[str]) -> tuple[Statistic, ...]:
    known = get_args(Statistic)
    wanted = {names} if isinstance(names, str) else set(names)
    unknown = sorted(wanted - {"all", *known})
    if unknown:
        raise UsageError(f"--statistics {unknown[0]}: there are {', '.join(known)}, and all.")
    # Without sums there is nothing to score.
    return tuple(name for name in known if name in {"sum", *wanted} or "all" in wanted)


def _check_apart(store: Path, sources: Sequence[str | Path]) -> None:
    """Refuse to replace a store by a dump of what lies inside it."""
    for source in sources:
        # What follows :: is an array inside.
        if Path(str(source).partition("::")[0]).resolve().is_relative_to(store.resolve()):
            raise UsageError(f"{source} lies inside {store}, which this dump would replace.")
