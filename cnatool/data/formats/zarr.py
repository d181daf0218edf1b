"""Arrays in a Zarr folder or zip file, version 2 or 3."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
import zarr
from zarr.storage import LocalStore

from cnatool._util.text import printable
from cnatool.data.formats.bfloat16_rows import BFloat16Rows
from cnatool.data.formats.ragged_rows import PAIR
from cnatool.data.formats.sliced_rows import (
    MAX_CHUNK,
    SlicedRows,
    check_chunked_array,
    make_sliced_source,
)
from cnatool.data.read_errors import read_error
from cnatool.data.scratch_files import local_copy
from cnatool.errors import DataError
from cnatool.store.zarr.blosc import install_checked_blosc
from cnatool.store.zarr.metadata import holds_bfloat16
from cnatool.store.zarr.zip_store import ReadOnlyZipStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from cnatool.data.formats.row_source import RowSource
    from cnatool.data.location import Location
    from cnatool.data.selection import ArraySelection

install_checked_blosc()

# Filters and compressors that turn bytes into plain numbers. Others, such as pickle, are not run on
# untrusted data.
_CODECS = frozenset(
    {
        *("blosc", "zlib", "gzip", "bz2", "lzma", "lz4", "zstd", "bytes", "transpose"),
        *("delta", "fixedscaleoffset", "quantize", "shuffle", "bitround", "packbits", "astype"),
        *("crc32", "crc32c", "adler32", "fletcher32", "sharding_indexed"),
    }
)
_MAX_MEMBERS = 10_000
# Files that mark the folder of an array or a group.
_METADATA = ("zarr.json", ".zarray", ".zgroup")


def open_zarr(location: Location, selection: ArraySelection) -> RowSource:
    """Open the arrays of a group: the root, or what follows ``::``."""
    copy = local_copy(location.path)
    words = [word for word in (location.array or "").split("/") if word]
    if ".." in words:
        raise DataError(f"{location}: '..' leads out of the path in front of ::.")
    try:
        arrays, chosen = _find_arrays(_open_store(copy, location), copy, location, words)
        name = location.path.name
        return make_sliced_source(
            name, str(location), arrays, selection, chosen, partial(_open_rows, location)
        )
    except DataError:
        raise
    # Metadata are JSON, and zarr fails on what is missing or odd in it in any way.
    except Exception as error:
        advice = "Name a group or an array that exists, and get a whole copy of the data."
        raise read_error(location, error, advice, problem="cannot be read as Zarr") from error


def _find_arrays(
    store: Any, copy: Path, location: Location, words: list[str]
) -> tuple[dict[str, Any], str | None]:
    """Open the arrays of a group by name, and name the one that is meant, if it is one."""
    path = "/".join(words)
    if words and _is_pair(copy, path):
        # In a store, no metadata say that these two are in a group.
        return {
            part: zarr.open_array(store, path=f"{path}/{part}", mode="r") for part in PAIR
        }, None
    node = zarr.open(store, path=path, mode="r")
    if isinstance(node, zarr.Group):
        return _open_arrays(node, location), None
    arrays: dict[str, Any] = {}
    if words:
        group = zarr.open_group(store, path="/".join(words[:-1]), mode="r")
        arrays = _open_arrays(group, location)
    chosen = words[-1] if words else location.path.stem
    return arrays | {chosen: node}, chosen


def _is_pair(path: Path, inside: str) -> bool:
    """Whether a folder holds samples of any length, as values and offsets."""
    if path.is_dir() and not (path / inside).is_dir():
        return False
    return set(PAIR) <= {*_list_nodes(path, inside)}


def _open_store(path: Path, location: Location) -> Any:
    if path.is_dir():
        return ZarrFolder(path)
    store = ReadOnlyZipStore(path)
    sizes = [member.file_size for member in store.archive.infolist()]
    if max(sizes, default=0) > MAX_CHUNK:
        raise DataError(
            f"{location.path} holds a member of {max(sizes)} bytes; the limit is {MAX_CHUNK}."
        )
    return store


def _open_arrays(group: zarr.Group, location: Location) -> dict[str, Any]:
    """Open the arrays of a group, one after the other.

    When it opens all at once, zarr writes tracebacks of those that cannot be opened.
    """
    consolidated = group.metadata.consolidated_metadata
    names = (
        _list_nodes(location.path, group.path) if consolidated is None else consolidated.metadata
    )
    if len(names) > _MAX_MEMBERS:
        raise DataError(f"{location} holds over {_MAX_MEMBERS} arrays: name the array with ::.")
    nodes = {name: group[name] for name in names if "/" not in name}
    for name, node in list(nodes.items()):
        if isinstance(node, zarr.Group) and _is_pair(location.path, node.path):
            nodes |= {f"{name}/{part}": node[part] for part in PAIR}
    return {name: node for name, node in nodes.items() if isinstance(node, zarr.Array)}


def _list_nodes(path: Path, inside: str) -> list[str]:
    """List the names of the arrays and groups in a group."""
    if path.is_dir():
        with os.scandir(path / inside) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir())
        return [n for n in folders if any((path / inside / n / m).is_file() for m in _METADATA)]
    with ZipFile(path) as archive:
        files = [PurePosixPath(name) for name in archive.namelist()]
    above = PurePosixPath(inside)
    metadata = {file.parent for file in files if file.name in _METADATA}
    return sorted(node.name for node in metadata if node.name and node.parent == above)


def _open_rows(location: Location, name: str, array: Any) -> SlicedRows | BFloat16Rows:
    where = f"{location.path}, array {printable(name)!r},"
    check_chunked_array(where, array.dtype, array.shape, array.chunks)
    for codec in _list_codecs(array):
        if codec not in _CODECS:
            raise DataError(
                f"{where} is encoded with {printable(codec)}, which is not supported: save it with "
                "a common compressor, or none."
            )
    rows, *shape = array.shape
    stored = getattr(array, "shards", None) or array.chunks
    check_chunked_array(where, array.dtype, array.shape, stored)
    fetch = partial(_fetch, array, where)
    opened = SlicedRows(where, array.dtype, rows, tuple(shape), array.chunks[0], fetch)
    return BFloat16Rows(opened) if holds_bfloat16(array.dtype.name, array.attrs) else opened


def _list_codecs(array: Any) -> list[str]:
    """List the names of all codecs in the metadata, those inside of shards included."""
    names: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            name = value.get("id", value.get("name"))
            if isinstance(name, str):
                names.append(name.removeprefix("numcodecs."))
            for key in ("configuration", "codecs", "index_codecs"):
                walk(value.get(key))
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)

    metadata = array.metadata.to_dict()
    for key in ("codecs", "filters", "compressor"):
        walk(metadata.get(key))
    return names


def _fetch(array: Any, where: str, start: int, stop: int) -> NDArray[Any]:
    try:
        return np.asarray(array[start:stop])
    except DataError:
        raise
    except Exception as error:
        problem = f"cannot be read from row {start} to {stop}"
        raise read_error(
            where, error, "Get a complete copy of the data.", problem=problem
        ) from error


class ZarrFolder(LocalStore):
    """A folder in which only plain files are read, and no link that leaves it is followed.

    Every method that looks at a file raises a DataError if it is something else or lies elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_only=True)
        self._inside = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file; None if it does not exist."""
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file; None if it does not exist."""
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of files."""
        ranges = list(key_ranges)
        for key, _ in ranges:
            self._check(key)
        return await super().get_partial_values(prototype, ranges)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List the names in a folder."""
        self._check(prefix)
        async for name in super().list_dir(prefix):
            yield name

    def _check(self, key: str) -> None:
        path = self.root / key
        real = os.path.realpath(path)
        if not os.path.join(real, "").startswith(self._inside):  # noqa: PTH118
            raise DataError(
                f"{path} lies behind a symbolic link to a place outside {self.root}: copy the "
                "target of the link into the folder."
            )
        try:
            mode = os.stat(real).st_mode  # noqa: PTH116
        except OSError:
            return
        # Opening a pipe would wait forever.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{path} is neither a file nor a folder: remove it.")
