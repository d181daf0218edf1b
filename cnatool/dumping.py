"""The dump: a batch at a time, samples are read, preprocessed, run through the model, stored."""

from __future__ import annotations

import math
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np

from cnatool._version import __version__
from cnatool.backend.choice import Narrowing, chosen_tensors, stored_outputs
from cnatool.backend.exposed import ExposedModel
from cnatool.backend.network import open_network
from cnatool.backend.schedule import scheduled
from cnatool.backend.session import OPTIMIZATION, RUNTIME_VERSION, provider_name
from cnatool.data.preprocess import PreprocessOptions
from cnatool.errors import DataError, UsageError
from cnatool.feeding import Feed, opened_sources
from cnatool.pipeline import computed, prefetched
from cnatool.store.layout import split_arrays
from cnatool.store.reader import open_store
from cnatool.store.records import ArrayRecord, Kept, RuntimeRecord, StoreRecord
from cnatool.store.writer import Replaced, SplitWriter, StoreWriter, check_free
from cnatool.text import bytes_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.exposed import Results
    from cnatool.backend.schedule import Schedule
    from cnatool.data.source import Block, Source
    from cnatool.store.reader import Store
    from cnatool.store.records import TensorRecord

__all__ = ["Observer", "dump"]

# LZ4 seldom halves activations, and pictures of mostly background shrink to a tenth: what would not
# fit even then is refused, not tried.
_BEST_RATIO = 2
_PICTURES = 10


class Observer(Protocol):
    """Is told what a dump decides and how far it is."""

    def note(self, text: str) -> None:
        """Something was decided that the caller may want to know."""

    def progress(self, split: str, done: int, rows: int) -> None:
        """``done`` of ``rows`` samples of a split have been through the model."""


class _Silent:
    def note(self, text: str) -> None:
        pass

    def progress(self, split: str, done: int, rows: int) -> None:
        pass


def dump(
    model: str | Path,
    data: str | Path | None = None,
    store: str | Path | None = None,
    *,
    splits: Mapping[str, str | Path] | None = None,
    keep: Kept = "full",
    tensors: str | Sequence[str] = "all",
    dtype: Narrowing | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    tags: Mapping[str, str] | None = None,
    provider: str = "cpu",
    threads: int = 0,
    scale: float | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    layout: str | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Store:
    """Run an ONNX model over data and store every intermediate tensor.

    Parameters
    ----------
    model : str or Path
        An ONNX file.
    data : str or Path, optional
        Samples: an IDX images file, a ``.npz`` or ``.npy`` file, a folder of pictures by class,
        or a folder with ``train`` and ``test`` parts of any of these.
    store : str or Path, optional
        Where the store goes; by default the model's name with ``.zarr`` in the current folder.
    splits : mapping of str to path, optional
        Split names and their data, instead of ``data``.
    keep : {"full", "statistics"}
        Store whole activations, or only their sums over each sample.
    tensors : str or sequence of str
        ``all``, ``layers``, or names and globs.
    dtype : {"float32", "float16"}, optional
        Narrow floating activations to this type in the store.
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
    overwrite : bool
        Replace a store that is already there.
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
    model = Path(model)
    path = Path(store) if store is not None else Path(f"{model.stem}.zarr")
    observer = observer or _Silent()
    _check_options(keep=keep, dtype=dtype, batch_size=batch_size, limit=limit, tags=tags or {})
    check_free(path, overwrite=overwrite)
    _check_apart(path, [model, *([data] if data is not None else []), *(splits or {}).values()])
    provider = provider_name(provider)
    network = open_network(model)
    sources = opened_sources(data, splits or {})
    rows = {name: min(source.rows, limit or source.rows) for name, source in sources.items()}
    feed = Feed.planned(
        network,
        sources,
        PreprocessOptions(
            None if scale is None else float(scale),
            tuple(map(float, mean)),
            tuple(map(float, std)),
            layout,
        ),
    )
    observer.note(feed.note)
    for name, source in sources.items():
        observer.note(_split_text(name, source, rows[name]))

    probe = feed.probe(sources)
    if unscaled := feed.unscaled(probe):
        observer.note(unscaled)
    probed, skipped = network.probed(probe, provider=provider)
    patterns = [tensors] if isinstance(tensors, str) else tensors
    kept = chosen_tensors(network, probed, patterns, keep=keep, dtype=dtype)
    outputs = stored_outputs(network, probed)
    schedule = scheduled(
        network,
        probed,
        _held_bytes(kept, outputs, feed),
        batch=batch_size,
        provider=provider,
        threads=threads,
    )
    if network.feeds[0].batch is not None:
        observer.note(
            f"the model takes exactly {schedule.batch} sample{'s' * (schedule.batch > 1)} a run; "
            "exported with a dynamic batch axis it would run faster"
        )
    record = StoreRecord(
        schema="cnatool.store/1",
        created_by=f"cnatool {__version__}",
        inputs=tuple(
            ArrayRecord(spec.name, spec.dtype.name, spec.shape)
            for spec in next(iter(sources.values())).inputs
        ),
        outputs=tuple(ArrayRecord(t.name, t.dtype, t.shape) for t in outputs),
        tensors=kept,
        layers=network.layers.layers,
        statistics=("sum",),
        splits={},
        skipped=tuple(skipped),
        model=network.record,
        runtime=RuntimeRecord(
            name="onnxruntime",
            version=RUNTIME_VERSION,
            provider=provider,
            optimization=OPTIMIZATION,
            batch_size=schedule.batch,
        ),
        preprocessing=(feed.preprocessing,),
        tags=dict(tags or {}),
    )
    observer.note(_summary(record))
    observer.note(_checked_size(path, record, sources, rows))
    exposed = ExposedModel(
        network.graph,
        kept,
        outputs,
        {feed.preprocessing.input: feed.preprocessing.shape},
        provider=provider,
        threads=schedule.threads,
    )
    replaced = Replaced(path)
    parts: dict[str, SplitWriter] = {}
    try:
        writer = StoreWriter(path, record)
        # All splits are there, empty, before the first row: a dump that is cut off shows it.
        parts = {
            name: writer.split(
                name,
                rows[name],
                source=source.name,
                labels=source.labelled,
                classes=source.classes,
            )
            for name, source in sources.items()
        }
        for name, source in sources.items():
            observer.progress(name, 0, rows[name])
            _dump_split(parts[name], source, kept, rows[name], exposed, feed, schedule, observer)
    except BaseException:
        safe = sum(part.committed for part in parts.values())
        if safe:
            replaced.remove()
            observer.note(f"{path} is not finished: {safe} rows are safe in it")
        else:
            replaced.restore()
            observer.note(f"nothing was finished, so there is no new {path}")
        raise
    replaced.remove()
    return open_store(path)


def _dump_split(
    split: SplitWriter,
    source: Source,
    tensors: Sequence[TensorRecord],
    rows: int,
    exposed: ExposedModel,
    feed: Feed,
    schedule: Schedule,
    observer: Observer,
) -> None:
    stored = {tensor.number: tensor for tensor in tensors}

    def run(block: Block) -> tuple[Block, Results]:
        return block, exposed.run(feed.batches(block, schedule.batch), len(block.ids))

    done = 0
    blocks = prefetched(source.blocks(schedule.block, rows))
    with closing(blocks), closing(computed(run, blocks, schedule.runs)) as finished:
        for block, results in finished:
            split.append(
                ids=block.ids,
                inputs=block.inputs,
                labels=block.labels,
                outputs=results.outputs,
                activations={
                    number: _narrowed(stored[number], values)
                    for number, values in results.activations.items()
                },
                statistics={"sum": results.sums},
            )
            done += len(block.ids)
            observer.progress(split.name, done, rows)
    split.finish()


def _narrowed(tensor: TensorRecord, values: NDArray[Any]) -> NDArray[Any]:
    if tensor.stored == values.dtype.name:
        return values
    with np.errstate(over="raise"):
        try:
            return values.astype(tensor.stored)
        except FloatingPointError:
            largest = np.abs(values).max()
            raise DataError(
                f"tensor {tensor.name!r} reaches {largest:.6g}, which {tensor.stored} cannot hold. "
                f"Use --dtype float32, or leave the tensor out with --tensors."
            ) from None


def _held_bytes(
    tensors: Sequence[TensorRecord], outputs: Sequence[TensorRecord], feed: Feed
) -> int:
    """Count the bytes of one sample that are held until they are written."""
    held = [(t.shape, t.dtype) for t in (*outputs, *tensors) if t in outputs or t.stored]
    given = feed.preprocessing
    held += [(given.shape, given.dtype), (given.source_shape, given.source_dtype)]
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in held)


def _split_text(name: str, source: Source, rows: int) -> str:
    count = f"{rows} samples" if rows == source.rows else f"{rows} of {source.rows} samples"
    labels = "with labels" if source.labelled else "no labels found"
    return f"split {name}: {count} of {source.name}, {labels}"


def _summary(record: StoreRecord) -> str:
    layers = len(record.layers)
    left_out = f", {len(record.skipped)} left out (see inspect)" if record.skipped else ""
    tensors = len(record.tensors)
    return f"{tensors} tensor{'s' * (tensors != 1)}{left_out}, {layers} layer{'s' * (layers != 1)}"


def _checked_size(
    path: Path, record: StoreRecord, sources: Mapping[str, Source], rows: Mapping[str, int]
) -> str:
    """Say how large the store will be; refuse what cannot fit the disk."""
    size, least = 0, 0.0
    for name, source in sources.items():
        for array in split_arrays(record, labels=source.labelled):
            taken = rows[name] * array.row_bytes
            size += taken
            least += taken / (_BEST_RATIO if array.key.startswith("activations/") else _PICTURES)
    free = shutil.disk_usage(path.parent).free
    if least > free:
        ways = ["--keep statistics, "] if any(t.stored for t in record.tensors) else []
        raise UsageError(
            f"{path} would take up to {bytes_text(size)}, and {bytes_text(free)} are free. Use "
            f"{''.join(ways)}--tensors layers, --dtype float16 or --limit N, or another disk."
        )
    text = f"{sum(rows.values())} samples, up to {bytes_text(size)} before compression"
    return text if size <= free else f"{text}; only {bytes_text(free)} are free"


def _check_options(
    *,
    keep: str,
    dtype: str | None,
    batch_size: int | None,
    limit: int | None,
    tags: Mapping[str, str],
) -> None:
    """Refuse what the type checker would, before anything is written."""
    if keep not in get_args(Kept):
        raise UsageError(f"keep={keep!r}: full or statistics.")
    if dtype is not None and dtype not in get_args(Narrowing):
        raise UsageError(f"dtype={dtype!r}: float32 or float16.")
    for option, count in (("--batch-size", batch_size), ("--limit", limit)):
        if count is not None and count < 1:
            raise UsageError(f"{option} {count}: at least 1.")
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError(f"tag {key!r}: {value!r}: both must be text.")


def _check_apart(store: Path, sources: Sequence[str | Path]) -> None:
    """Refuse to replace a store by a dump of what lies inside it."""
    for source in map(Path, sources):
        if source.resolve().is_relative_to(store.resolve()):
            raise UsageError(f"{source} lies inside {store}, which this dump would replace.")
