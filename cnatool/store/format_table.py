"""The table of file formats, and detection of a path's format: by its content, then its name."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from cnatool._util.local_paths import real_path
from cnatool._util.text import quote_for_shell
from cnatool._util.urls import ObjectURL
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.store.hdf5.journal import find_journal_fault, follow_link
from cnatool.store.signature import is_hdf5
from cnatool.store.unfinished_parts import explain_unfinished_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cnatool.store.format import Format, LocalFormat, ReadableFormat

# Each format is imported on first use: both libraries are slow to load.


def _zarr() -> LocalFormat:
    from cnatool.store.zarr.tree import ZarrTree

    return ZarrTree


def _zipped_zarr() -> ReadableFormat:
    from cnatool.store.zarr.zip import ZippedTree

    return ZippedTree


def _zarr_in_bucket() -> Format:
    from cnatool.store.zarr.object_tree import ObjectTree

    return ObjectTree


def _hdf5() -> LocalFormat:
    from cnatool.store.hdf5.tree import HDF5Tree

    return HDF5Tree


# By the ending of a store's name.
_FORMATS: dict[str, Callable[[], LocalFormat]] = {".zarr": _zarr, ".h5": _hdf5, ".hdf5": _hdf5}


def format_by_name(path: Path) -> Format:
    """Return the format of a new store by its name."""
    if isinstance(path, ObjectURL):
        return _format_of_url(path, advice="Name a store in .zarr there, or a local path")
    return local_format_by_name(path)


def local_format_by_name(path: Path) -> LocalFormat:
    """Return the format of a new store on a local disk by its name."""
    if path.name.endswith(".zarr.zip"):
        raise NotAStoreError(
            f"{path}: a zipped store is read-only. Write {path.with_suffix('')} and zip that."
        )
    try:
        return _FORMATS[path.suffix]()
    except KeyError:
        *most, last = _FORMATS
        raise NotAStoreError(
            f"{path}: the name of a store must end in {', '.join(most)} or {last}."
        ) from None


def _format_of_url(url: ObjectURL, *, advice: str) -> Format:
    if not url.key:
        raise NotAStoreError(f"{url} is a bucket. Name a store in it: {url}/STORE.zarr.")
    if url.suffix == ".zarr":
        return _zarr_in_bucket()
    if url.suffix in _FORMATS or url.name.endswith(".zarr.zip"):
        raise NotAStoreError(
            f"{url}: only a Zarr store can be in a bucket, not a file of many arrays. {advice}."
        )
    raise NotAStoreError(f"{url}: the name of a store in a bucket must end in .zarr.")


def hidden_path(path: Path) -> Path:
    """Return the hidden path of a store while a new one is written in its place."""
    return path.with_name(f".{path.name}.replaced")


def detect_format(path: Path) -> ReadableFormat:
    """Detect the format of a path: of a file by its content, then by its name."""
    if isinstance(path, ObjectURL):
        if path.suffix not in _FORMATS and not path.name.endswith(".zarr.zip"):
            from cnatool.store.object_search import make_folder_error

            raise make_folder_error(path)
        return _format_of_url(
            path, advice="Download it and name the copy, or name a store in .zarr there"
        )
    if not path.exists():
        aside = hidden_path(path)
        if aside.exists():
            raise NotAStoreError(
                f"{path}: no such file or folder. A killed process left the old store as {aside}: "
                f"rename it to {path.name}."
            )
        if path.is_symlink():
            raise NotAStoreError(f"{path} is a link to {path.readlink()}, which does not exist.")
        raise NotAStoreError(explain_unfinished_parts(path) or f"{path}: no such file or folder.")
    if path.is_dir():
        return _zarr()
    if not path.is_file():
        raise NotAStoreError(f"{path} is not a store: it is neither a file nor a folder.")
    if is_hdf5(path):
        return _hdf5()
    if zipfile.is_zipfile(path) or path.name.endswith(".zarr.zip"):
        return _zipped_zarr()
    if path.suffix.lower() == ".onnx":
        raise NotAStoreError(
            f"{path} is a model, and this takes a store of what it computes on samples. Write one "
            f"first: `cnatool dump {quote_for_shell(path)} DATA -o STORE.zarr`."
        )
    return format_by_name(path)


def is_store(path: Path) -> bool:
    """Whether a path is a store, or should be one by its name."""
    named = path.name.endswith((*_FORMATS, ".zarr.zip"))
    return named or path.is_dir() or (path.is_file() and is_hdf5(path))


def holds_store(path: Path) -> bool:
    """Whether a path contains a store rather than other Zarr or HDF5 data."""
    if isinstance(path, ObjectURL):
        if path.suffix != ".zarr":
            return False
    elif not (path.is_dir() and (path / "zarr.json").is_file()):
        # A pipe cannot be read twice.
        zipped = path.name.endswith(".zarr.zip")
        if not (path.is_file() and (zipped or is_hdf5(path))):
            return False
    try:
        return detect_format(path).open(path).attribute() is not None
    except (NotAStoreError, StoreDamagedError):
        return False


def find_store_around(path: Path) -> Path | None:
    """Return the store at a path, or around it; None if there is none."""
    return next((p for p in (path, *real_path(path).parents) if holds_store(p)), None)


def find_metadata_faults(path: Path) -> Iterator[tuple[str, str]]:
    """Find faults of a store's files that reading its arrays does not reveal."""
    if isinstance(path, ObjectURL):
        from cnatool.store.zarr.object_tree import ObjectTree

        yield from ObjectTree.open(path).find_metadata_faults()
    elif path.is_dir():
        from cnatool.store.zarr.metadata import find_metadata_faults

        yield from find_metadata_faults(path)
    elif (problem := find_journal_fault(follow_link(path))) is not None:
        yield "journal", problem
