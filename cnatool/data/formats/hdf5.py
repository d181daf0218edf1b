"""Datasets in an HDF5 file."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cnatool._util.text import list_names, printable
from cnatool.data.formats.bfloat16_rows import BFloat16Rows
from cnatool.data.formats.ragged_rows import PAIR, SequenceRows
from cnatool.data.formats.sliced_rows import (
    MAX_CHUNK,
    SlicedRows,
    check_chunked_array,
    check_sample_axis,
    make_sliced_source,
)
from cnatool.data.read_errors import read_error
from cnatool.data.scratch_files import local_copy
from cnatool.data.source import COPY_ADVICE, check_sample
from cnatool.errors import DataError
from cnatool.store.hdf5.element_types import is_bfloat16

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.formats.row_source import RowSource
    from cnatool.data.location import Location
    from cnatool.data.selection import ArraySelection

# What h5py raises over a damaged file.
_READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
_MAX_MEMBERS = 10_000
# Samples of any length that are looked at.
_FIRST = 64
# Of Fletcher-32, behind each chunk.
_CHECKSUM_BYTES = 4
# Of these, only the compressors gzip and LZF are ever left out, and change the size.
_KNOWN_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_LZF,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
}


def open_hdf5(location: Location, selection: ArraySelection) -> RowSource:
    """Open the datasets of a group: the file's root, or what follows ``::``."""
    copy = local_copy(location.path)
    try:
        with h5py.File(copy, "r") as file:
            member = file
            words = [word for word in (location.array or "").split("/") if word]
            for word in words:
                member = _open_member(member, word, location)
            is_group = isinstance(member, h5py.Group)
            group = member if is_group else member.parent
            if len(group) > _MAX_MEMBERS:
                raise DataError(f"{location} holds {len(group)} objects: name the array with ::.")
            datasets = {name: _open_dataset(group, name) for name in group}
            datasets |= _open_pairs(group)
            return make_sliced_source(
                location.path.name,
                str(location),
                {name: dataset for name, dataset in datasets.items() if dataset is not None},
                selection,
                None if is_group else words[-1],
                partial(
                    _open_rows, location.path, copy, "/".join(words if is_group else words[:-1])
                ),
            )
    except DataError:
        raise
    except _READ_ERRORS as error:
        raise read_error(location, error, problem="cannot be read as HDF5") from error


def _open_member(group: Any, word: str, location: Location) -> Any:
    if not isinstance(group, h5py.Group) or word not in group:
        available = list_names(group if isinstance(group, h5py.Group) else ())
        raise DataError(f"{location}: there is no {word!r}, but {available}.")
    if isinstance(group.get(word, getlink=True), h5py.ExternalLink):
        raise DataError(
            f"{location}: {word!r} leads into another file: copy the array into this one."
        )
    return group[word]


def _open_dataset(group: Any, name: str) -> Any:
    # A link into another file is not followed, and one that leads nowhere is ignored.
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return None
    # Any other member that cannot be opened is damaged, and may be the labels: raise the error.
    member = group.get(name) if isinstance(link, h5py.SoftLink) else group[name]
    return member if isinstance(member, h5py.Dataset) else None


def _open_pairs(group: Any) -> dict[str, Any]:
    """Open values and offsets in groups of a group."""
    pairs: dict[str, Any] = {}
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            inside = group[name]
            if isinstance(inside, h5py.Group) and set(PAIR) <= set(inside):
                pairs |= {f"{name}/{part}": _open_dataset(inside, part) for part in PAIR}
    return pairs


def _open_sequences(where: str, path: Path, inside: str, dataset: Any, base: Any) -> SequenceRows:
    """Open samples of any length, each stored by itself."""
    check_sample_axis(where, dataset.shape)
    if len(dataset.shape) != 1:
        raise DataError(
            f"{where} has lists of any length along {len(dataset.shape)} axes: only lists along "
            "one axis can be read."
        )
    rows = len(dataset)

    def fetch(start: int, stop: int) -> list[NDArray[Any]]:
        return list(_fetch(path, inside, where, start, stop))

    lengths = [len(sample) for sample in fetch(0, min(rows, _FIRST))]
    typical = max(1, int(np.median(lengths)))
    check_sample(where, base, (typical,))
    return SequenceRows(where, base, rows, (typical,), fetch)


def _open_rows(
    path: Path, copy: Path, prefix: str, name: str, dataset: Any
) -> SlicedRows | SequenceRows | BFloat16Rows:
    where = f"{path}, array {printable(name)!r},"
    if dataset.external or dataset.is_virtual:
        raise DataError(f"{where} keeps its values in other files: copy them into this one.")
    if dataset.shape is None:
        raise DataError(f"{where} is empty.")
    base = h5py.check_vlen_dtype(dataset.dtype)
    if base is not None and base is not str and np.dtype(base).kind in "biuf":
        return _open_sequences(where, copy, f"{prefix}/{name}", dataset, np.dtype(base))
    check_chunked_array(where, dataset.dtype, dataset.shape, dataset.chunks)
    if dataset.chunks is not None:
        _check_chunks(where, dataset, copy.stat().st_size)
    # Rows that are not in chunks follow each other in the file.
    chunk = dataset.chunks[0] if dataset.chunks else 1
    rows, *shape = dataset.shape
    fetch = partial(_fetch, copy, f"{prefix}/{name}", where)
    opened = SlicedRows(where, dataset.dtype, rows, tuple(shape), chunk, fetch)
    return BFloat16Rows(opened) if is_bfloat16(dataset) else opened


def _check_chunks(where: str, dataset: Any, size: int) -> None:
    """Refuse chunks that crash HDF5, which trusts the sizes that the file declares."""
    made = dataset.id.get_create_plist()
    filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
    checksum = _CHECKSUM_BYTES if h5py.h5z.FILTER_FLETCHER32 in filters else 0
    whole = dataset.id.get_type().get_size() * math.prod(dataset.chunks) + checksum
    # A compressor that does not make a chunk smaller is left out for it, as the mask tells.
    known = filters <= _KNOWN_FILTERS
    wrong: list[int] = []

    def look(chunk: Any) -> int | None:
        exact = not filters or (known and chunk.filter_mask)
        least, most = (whole, whole) if exact else (checksum + 1, MAX_CHUNK)
        offset = chunk.byte_offset
        if not (least <= chunk.size <= most and 0 <= offset <= size - chunk.size):
            wrong.append(chunk.chunk_offset[0])
            return 0
        return None

    # From HDF5 1.14 on.
    if hasattr(dataset.id, "chunk_iter"):
        dataset.id.chunk_iter(look)
    if wrong:
        raise DataError(
            f"{where} is damaged: the chunk at row {wrong[0]} has an impossible size or place. "
            f"{COPY_ADVICE}"
        )


def _fetch(path: Path, inside: str, where: str, start: int, stop: int) -> NDArray[Any]:
    try:
        with h5py.File(path, "r") as file:
            values: NDArray[Any] = np.asarray(file[inside][start:stop])
    except _READ_ERRORS as error:
        problem = f"cannot be read from row {start} to {stop}"
        raise read_error(where, error, problem=problem) from error
    return values
