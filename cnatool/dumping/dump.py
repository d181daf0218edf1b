"""A dump, in this process or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.urls import parse_path
from cnatool.dumping.keywords import keywords_of
from cnatool.dumping.options import DumpOptions
from cnatool.dumping.parts import part_path
from cnatool.dumping.process import dump_here, estimate_here
from cnatool.store.format_table import format_by_name

if TYPE_CHECKING:
    from cnatool.dumping.preflight import Preflight
    from cnatool.store.store import Store


@keywords_of(DumpOptions)
def dump(
    model: str | Path, data: str | Path | None, store: str | Path | None, options: DumpOptions
) -> Store:
    """Run an ONNX model over data and store every intermediate tensor.

    Parameters
    ----------
    model : str or Path
        An ONNX file.
    data : str or Path, optional
        Samples in one of the formats of docs/data.md, or a folder with ``train`` and ``test`` parts
        in any of them. ``FILE.h5::NAME`` and ``FOLDER.zarr::NAME`` name an array inside. Samples
        and the model may be in a bucket, such as ``s3://bucket/data/``.
    store : str or Path, optional
        Path of the store, ending in ``.zarr``, ``.h5`` or ``.hdf5``. By default the model's name
        with ``.zarr``, in the current folder, and with the number of the part if there is one.
    {options}

    Returns
    -------
    Store
        The finished store, open for reading.

    Raises
    ------
    UsageError, DataError, ModelError, NotAStoreError
        If an argument, the data, the model or the path cannot be used, or if the store to be
        resumed was started by a different dump.
    BackendError
        If the runtime fails.
    StoreInUseError
        If another process is writing the store.
    StoreWriteError
        If the disk is full or cannot be written to.
    """
    path = store_path(model, store, options)
    if options.client is not None:
        from cnatool.dumping.cluster import dump_on_cluster

        return dump_on_cluster(model, data, path, options)
    return dump_here(model, data, path, options)


@keywords_of(DumpOptions)
def preflight(
    model: str | Path, data: str | Path | None, store: str | Path | None, options: DumpOptions
) -> Preflight:
    """Estimate the disk space, time and memory that a dump needs, without writing anything.

    The first samples are run through the model as they would be in the dump.

    Parameters
    ----------
    model, data, store, **options
        As in `dump`.

    Returns
    -------
    Preflight
        ``fits`` is true if the disk has room for the store.

    Raises
    ------
    UsageError, DataError, ModelError, NotAStoreError, BackendError
        As `dump`.
    """
    path = store_path(model, store, options)
    if options.client is not None:
        from cnatool.dumping.cluster import preflight_on_cluster

        return preflight_on_cluster(model, data, path, options)
    return estimate_here(model, data, path, options)


def store_path(model: str | Path, store: str | Path | None, options: DumpOptions) -> Path:
    """Return where the store of a dump goes."""
    path = parse_path(f"{Path(model).stem}.zarr" if store is None else store)
    if store is None and options.part_of is not None:
        path = part_path(path, *options.part_of)
    format_by_name(path)  # refuses names without an extension of stores
    return path
