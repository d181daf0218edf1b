"""The dump: a batch at a time, samples are read, preprocessed, run through the model, stored."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool.dumping.flatness import with_flatness
from cnatool.dumping.model_record import with_magnitudes, with_weights
from cnatool.dumping.options import DumpOptions, check_options
from cnatool.dumping.prepare import begun_dump, decided_dump
from cnatool.dumping.resume import is_complete
from cnatool.dumping.write import unfinished_text, write_dump
from cnatool.errors import StoreDamagedError, UsageError
from cnatool.store.format_table import format_by_name
from cnatool.store.hdf5.journal import recover
from cnatool.store.lock import lock_store
from cnatool.store.reader import open_store
from cnatool.store.replace import count_committed_rows, recover_replaced
from cnatool.store.write_errors import report_write_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from numpy.typing import ArrayLike

    from cnatool._util.observer import Observer
    from cnatool.dumping.preflight import Preflight
    from cnatool.dumping.prepare import Decided
    from cnatool.records.choices import (
        Codec,
        Colour,
        Interpolation,
        Kept,
        KeptInputs,
        Narrowing,
        OnError,
    )
    from cnatool.records.weights import Flatness
    from cnatool.store.store import Store


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
    preprocess: str | Path | None = None,
    resize: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    interpolation: Interpolation | None = None,
    colour: Colour | None = None,
    scale: float | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    layout: str | None = None,
    format: str | None = None,
    labels: str | None = None,
    label_offset: int = 0,
    split_column: str | None = None,
    holdout: float | None = None,
    seed: int = 0,
    on_error: OnError = "stop",
    follow_links: bool = False,
    keep_inputs: KeptInputs | None = None,
    inputs_from: str | Path | None = None,
    inputs: Mapping[str, str] | None = None,
    constants: Mapping[str, ArrayLike] | None = None,
    custom_ops: Sequence[str | Path] = (),
    initial_model: str | Path | None = None,
    flatness: Flatness | bool = False,
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
        ``all``, ``layers``, or names and globs; what a name or glob behind a ``!`` matches is left
        out. The model's outputs are stored unless one of these matches them.
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
    preprocess : str or Path, optional
        A file that says how samples are prepared, in the form of docs/preprocessing.md, or what
        model hubs keep: ``preprocessor_config.json`` of transformers, ``config.json`` of timm. The
        options that follow replace what it says.
    resize : int or (int, int), optional
        Resize pictures: the shorter side to a length, or to a height and width.
    crop : int or (int, int), optional
        Then take the middle: a square, or a height and width.
    interpolation : {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}, optional
        Pillow's filter to resize with; bilinear by default.
    colour : {"as-is", "rgb", "bgr", "grey"}, optional
        What the channels of pictures are turned into.
    scale, mean, std : float, sequence of float, sequence of float
        The model receives ``(x * scale - mean) / std``; by default 8-bit pictures are divided by
        255 and anything else stays as it is.
    layout : str, optional
        How to arrange a sample for the model, where shapes leave it open: ``[FROM->]TO`` with
        ``chw``, ``hwc``, ``flat``, ``flat-chw``, ``flat-hwc``.
    format : str, optional
        What the data are, where their looks leave a choice: ``npz``, ``parquet``, ``pictures``, …
    labels : str, optional
        Name of the array or column of labels, where it is not a usual one; ``none`` leaves labels
        out.
    label_offset : int
        What is added to every label: -1 for labels that start at 1.
    split_column : str, optional
        Name of the column of a table that says which split each row is of.
    holdout : float, optional
        Share of the training samples, or of the only ones, to hold out as the split ``test``, or
        ``val`` where there is a test split already.
    seed : int
        Of the draw of samples held out.
    on_error : {"stop", "skip"}
        What happens at a sample that cannot be read: the dump stops, or the sample gets no row and
        the store says why.
    follow_links : bool
        Whether symbolic links may lead out of a folder of pictures.
    keep_inputs : {"values", "levels"}, optional
        What is stored of pictures as raw input: their values, or how often each of the 256 levels
        occurs, from which α's entropy follows and which pictures of any size have. By default
        levels where files of pictures are resized, cropped or recoloured, and else values.
    inputs_from : str or Path, optional
        A finished store of the same data, as of another network: its ids and raw inputs are
        compared with the samples, bit for bit, and the new store refers to it instead of holding
        them once more. Labels may be others.
    inputs : mapping of str to str, optional
        For each input of the model, the array or column of the data that feeds it, where their
        names differ.
    constants : mapping of str to array_like, optional
        Inputs that are the same for every sample. A number fills the input's declared shape.
    custom_ops : sequence of str or Path
        Libraries of custom operators. They run as part of this process: name only what you trust.
    initial_model : str or Path, optional
        The same network before training, an ONNX file: the store then holds how far the weights
        moved.
    flatness : Flatness or bool
        Measure how much noise on its weights the network bears before accuracy on its first
        training samples falls by 0.1; a `Flatness` says how.
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
        preprocess=preprocess,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        colour=colour,
        scale=scale,
        mean=mean,
        std=std,
        layout=layout,
        format=format,
        labels=labels,
        label_offset=label_offset,
        split_column=split_column,
        holdout=holdout,
        seed=seed,
        on_error=on_error,
        follow_links=follow_links,
        keep_inputs=keep_inputs,
        inputs_from=inputs_from,
        inputs=inputs,
        constants=constants,
        custom_ops=custom_ops,
        initial_model=initial_model,
        flatness=flatness,
        codec=codec,
        overwrite=overwrite,
        resume=resume,
        verbose=verbose,
        observer=observer,
    )
    check_options(options)
    path = _store_path(model, store)
    # Before anything is looked at: what is found stays so until the dump is done.
    with lock_store(path):
        left = recover_replaced(path, resumes=resume)
        if left is not None and observer is not None:
            observer.note(left)
        try:
            decided = decided_dump(model, data, path, options)
        except KeyboardInterrupt:
            if observer is not None and resume and count_committed_rows(path):
                observer.note(
                    f"{path} is as it was: {count_committed_rows(path)} rows are safe in it"
                )
            raise
        try:
            return _dumped(decided, verbose)
        except BaseException:
            if decided.past is not None and not is_complete(decided.past):
                decided.observer.note(unfinished_text(decided))
            raise


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
    decided = decided_dump(model, data, _store_path(model, store), options)
    with begun_dump(decided, announced=False) as begun:
        return begun.preflight


def _store_path(model: str | Path, store: str | Path | None) -> Path:
    path = Path(store) if store is not None else Path(f"{Path(model).stem}.zarr")
    format_by_name(path)  # what is no name of a store is refused before anything is done with it
    return path


def _dumped(decided: Decided, verbose: bool) -> Store:
    path, observer = decided.path, decided.observer
    if decided.past is not None and is_complete(decided.past):
        if path.is_file():
            # A dump that was killed at its very end leaves the journal of its last commit. One that
            # is another's was warned of when the store was opened.
            with suppress(StoreDamagedError), report_write_errors(path, 0):
                recover(path)
        observer.note(f"{path} is complete: there is nothing left to do")
        return decided.past
    with begun_dump(decided) as begun:
        found = begun.preflight
        if not found.fits:
            raise UsageError(found.refusal)
        for line in found.lines():
            observer.note(line)
        if decided.past is None:
            decided = _measured(decided)
        write_dump(decided, begun)
    if verbose:
        observer.note(str(begun.stages))
    return open_store(path)


def _measured(decided: Decided) -> Decided:
    """Measure what the store tells of the model itself."""
    plan, initial, observer = decided.plan, decided.initial, decided.observer
    plan = replace(plan, record=with_magnitudes(plan))
    plan = replace(plan, record=with_weights(plan, initial, observer))
    plan = replace(plan, record=with_flatness(plan, initial, observer))
    return replace(decided, plan=plan)
