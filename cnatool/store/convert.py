"""Conversion of a store to another file format."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.local_paths import real_path
from cnatool._util.observer import Observer, Silent
from cnatool._util.urls import parse_path
from cnatool.errors import UsageError
from cnatool.records.layout import split_arrays
from cnatool.store.components import read_all_components
from cnatool.store.missing_rows import explain_missing_rows
from cnatool.store.new_store import place_new_store
from cnatool.store.reader import open_store
from cnatool.store.references import make_reference
from cnatool.store.writer import StoreWriter, check_codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cnatool.records.choices import Codec
    from cnatool.store.store import Split, Store
    from cnatool.store.writer import SplitWriter


def convert(
    store: str | Path,
    target: str | Path,
    *,
    codec: Codec | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    copy_inputs: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Store:
    """Copy a store to a new one, whose name determines its format.

    Every array keeps its element type and, bit for bit, its values; the attribute keeps every
    field. If another store contains the raw inputs, the new store refers to it too, by a path
    relative to its own folder. Memory use does not grow with the size of the store.

    Parameters
    ----------
    store : str or Path
        A finished store of any format.
    target : str or Path
        Path of the new store: a name in ``.zarr``, ``.h5`` or ``.hdf5``.
    codec : {"none", "lz4", "zstd", "gzip"}, optional
        Compression of the arrays; by default ``lz4`` in Zarr and ``none`` in HDF5, which also
        supports ``gzip``.
    inputs : str, Path or iterable of these
        As in `cnatool.score`.
    copy_inputs : bool
        Copy raw inputs that are in another store, so that the new store does not refer to it.
    overwrite : bool
        Replace an existing store.
    observer : Observer, optional
        Receives the progress of the copy.

    Returns
    -------
    Store
        The new store, open for reading.

    Raises
    ------
    UsageError
        If the store is unfinished, or the format does not support the codec.
    NotAStoreError
        If there is no store, or the path of the target cannot be used.
    StoreDamagedError
        If the store is damaged.
    MetricError
        If it refers to raw inputs that are missing.
    StoreInUseError
        If another process is writing the target.
    StoreWriteError
        If the target cannot be written.
    """
    source, path = open_store(store, inputs), parse_path(target)
    observer = observer or Silent()
    check_codec(path, codec)
    held = [split.inputs_split().path for split in source.splits.values()]
    for used in (source.path, *held):
        if real_path(used).is_relative_to(real_path(path)):
            raise UsageError(
                f"{path} would replace {source.path} itself. Name another path."
                if used == source.path
                else f"{path} would replace {used}, which contains the inputs of {source.path}. "
                "Name another path."
            )
    if not source.record.complete:
        raise UsageError(explain_missing_rows(source))
    with place_new_store(path, overwrite=overwrite, observer=observer) as new:
        _copy(source, path, new, codec, observer, copy_inputs=copy_inputs)
    return open_store(path)


def _copy(
    source: Store,
    path: Path,
    new: Path,
    codec: Codec | None,
    observer: Observer,
    *,
    copy_inputs: bool,
) -> None:
    """Write a copy at ``new`` that will be at ``path``."""
    record = msgspec.structs.replace(source.record, splits={}, parts=msgspec.UNSET)
    with closing(StoreWriter(path, record, codec, under=new)) as writer:
        writer.add_common(read_all_components(source))
        parts: dict[str, SplitWriter] = {}
        # All splits are there before the first is complete, and with it the store.
        for name, split in source.splits.items():
            for spec in split_arrays(source.record, labels=split.record.labels):
                # Raise here if an array differs from the attribute, before space is allocated.
                split.array(spec.key)
            reference = None
            if split.record.inputs_from is not None and not copy_inputs:
                reference = make_reference(
                    path,
                    split.inputs_split(),
                    advice="Pass `copy_inputs=True` to copy the inputs.",
                )
            parts[name] = writer.split(
                name,
                split.record.rows,
                source=split.record.source,
                labels=split.record.labels,
                classes=split.record.classes,
                id_bytes=_id_bytes(split),
                inputs_from=reference,
                objects=split.record.objects,
            )
        for name, split in source.splits.items():
            parts[name].copy(split, _rows_progress(split, source, observer))
            observer.progress(name, split.record.rows, split.record.rows)


def _id_bytes(split: Split) -> int:
    ids = (str(name) for _, block in split.ids.blocks() for name in block)
    return max((len(name.encode()) for name in ids), default=0)


def _rows_progress(split: Split, store: Store, observer: Observer) -> Callable[[int], None]:
    """Make a function, for several threads, that reports copied bytes as samples."""
    rows = split.record.rows
    arrays = split_arrays(store.record, labels=split.record.labels)
    whole = max(1, rows * sum(array.row_bytes for array in arrays))
    done = 0
    lock = threading.Lock()

    def progress(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            # The caller reports the last sample once the rows are safe.
            observer.progress(split.name, min(rows * done // whole, rows - 1), rows)

    return progress
