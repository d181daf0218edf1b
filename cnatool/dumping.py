"""The dump: a batch at a time, samples are read, preprocessed, run through the model, stored."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cnatool.backend.choice import Narrowing
from cnatool.backend.exposed import ExposedModel
from cnatool.data.preprocess import PreprocessOptions
from cnatool.errors import DataError, UsageError
from cnatool.observing import Observer, Silent
from cnatool.pipeline import computed, prefetched
from cnatool.planning import Choices, FeedChoices, Plan, RunChoices, planned
from cnatool.store.layout import split_arrays
from cnatool.store.reader import open_store
from cnatool.store.records import Kept
from cnatool.store.replacing import Replaced, check_free
from cnatool.store.tree import format_of
from cnatool.store.writer import SplitWriter, StoreWriter, check_codec
from cnatool.text import bytes_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.backend.exposed import Results
    from cnatool.data.source import Block
    from cnatool.store.reader import Store
    from cnatool.store.records import TensorRecord
    from cnatool.store.tree import Codec

__all__ = ["dump"]

# LZ4 seldom halves activations, and pictures of mostly background shrink to a tenth: what would not
# fit even then is refused, not tried.
_BEST_RATIO = 2
_PICTURES = 10


def dump(
    model: str | Path,
    data: str | Path | None = None,
    store: str | Path | None = None,
    *,
    splits: Mapping[str, str | Path] | None = None,
    keep: Kept = "full",
    tensors: str | Sequence[str] = "all",
    dtype: Narrowing | None = None,
    codec: Codec | None = None,
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
    overwrite: bool = False,
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
    codec : {"none", "lz4", "zstd", "gzip"}, optional
        How arrays are compressed; by default ``lz4`` in Zarr, ``none`` in HDF5, which offers
        ``gzip`` beside it.
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
    observer = observer or Silent()
    _check_options(keep=keep, dtype=dtype, batch_size=batch_size, limit=limit, tags=tags or {})
    check_free(path, overwrite=overwrite)
    check_codec(path, codec)
    _check_apart(path, [model, *([data] if data is not None else []), *(splits or {}).values()])
    plan = planned(
        model,
        data,
        splits or {},
        Choices(
            keep=keep,
            tensors=(tensors,) if isinstance(tensors, str) else tuple(tensors),
            dtype=dtype,
            limit=limit,
            tags=dict(tags or {}),
        ),
        RunChoices(
            batch_size=batch_size,
            provider=provider,
            threads=threads,
            custom_ops=tuple(map(Path, custom_ops)),
        ),
        FeedChoices(
            preprocessing=PreprocessOptions(
                None if scale is None else float(scale),
                tuple(map(float, mean)),
                tuple(map(float, std)),
                layout,
            ),
            arrays=dict(inputs or {}),
            constants=dict(constants or {}),
        ),
        observer.note,
    )
    observer.note(_checked_size(path, plan, codec or format_of(path).codecs[0]))
    exposed = ExposedModel(
        plan.network.graph, plan.record.tensors, plan.outputs, plan.feed.shapes, plan.run
    )
    replaced = Replaced(path)
    parts: dict[str, SplitWriter] = {}
    try:
        with closing(StoreWriter(path, plan.record, codec)) as writer:
            # All splits are there, empty, before the first row: a dump that is cut off shows it.
            parts = {
                name: writer.split(
                    name,
                    plan.rows[name],
                    source=source.name,
                    labels=source.labelled,
                    classes=source.classes,
                    id_bytes=source.id_bytes,
                )
                for name, source in plan.sources.items()
            }
            for name, part in parts.items():
                observer.progress(name, 0, plan.rows[name])
                _dump_split(part, plan, exposed, observer)
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
    return open_store(path)


def _dump_split(split: SplitWriter, plan: Plan, exposed: ExposedModel, observer: Observer) -> None:
    stored = {tensor.number: tensor for tensor in plan.record.tensors}
    schedule, rows = plan.schedule, plan.rows[split.name]

    def run(block: Block) -> tuple[Block, Results]:
        return block, exposed.run(plan.feed.batches(block, schedule.batch), len(block.ids))

    done = 0
    blocks = prefetched(plan.sources[split.name].blocks(schedule.block, rows))
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
                statistics=results.statistics,
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


def _checked_size(path: Path, plan: Plan, codec: Codec) -> str:
    """Say how large the store will be; refuse what cannot fit the disk."""
    size, least = 0, 0.0
    for name, source in plan.sources.items():
        for array in split_arrays(plan.record, labels=source.labelled):
            taken = plan.rows[name] * array.row_bytes
            size += taken
            ratio = _BEST_RATIO if array.key.startswith("activations/") else _PICTURES
            least += taken / (1 if codec == "none" else ratio)
    free = shutil.disk_usage(path.parent).free
    if least > free:
        ways = ["--keep statistics, "] if any(t.stored for t in plan.record.tensors) else []
        raise UsageError(
            f"{path} would take up to {bytes_text(size)}, and {bytes_text(free)} are free. Use "
            f"{''.join(ways)}--tensors layers, --dtype float16 or --limit N, or another disk."
        )
    text = f"{sum(plan.rows.values())} samples, up to {bytes_text(size)} before compression"
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
