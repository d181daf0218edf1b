"""Arrays in a Zarr folder or zip file, version 2 or 3."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast
from zipfile import ZipFile

import numpy as np
import zarr
from zarr.storage import LocalStore

from cnatool._util.text import one_line, printable
from cnatool.data.formats.sliced_rows import (
    MAX_CHUNK,
    SlicedRows,
    check_chunked_array,
    make_sliced_source,
)
from cnatool.errors import DataError
from cnatool.store.zarr.blosc import install_checked_blosc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from cnatool.data.formats.rows import RowSource
    from cnatool.data.location import Location
    from cnatool.data.source import ArraySelection

install_checked_blosc()


# Filters and compressors that turn bytes into plain numbers. Others, pickle among them, are not
# run over what a stranger wrote.
_CODECS = frozenset(
    {
        *("blosc", "zlib", "gzip", "bz2", "lzma", "lz4", "zstd", "bytes", "transpose"),
        *("delta", "fixedscaleoffset", "quantize", "shuffle", "bitround", "packbits", "astype"),
        *("crc32", "crc32c", "adler32", "fletcher32", "sharding_indexed"),
    }
)
_MAX_MEMBERS = 10_000
# Of an array or a group, by which the folder of one is told from others.
_METADATA = ("zarr.json", ".zarray", ".zgroup")


def open_zarr(at: Location, wanted: ArraySelection) -> RowSource:
    """Open the arrays of a group: the root, or what follows ``::``."""
    words = [word for word in (at.array or "").split("/") if word]
    if ".." in words:
        raise DataError(f"{at}: '..' leads out of what is given.")
    try:
        found = zarr.open(_store(at), path="/".join(words), mode="r")
        if isinstance(found, zarr.Group):
            chosen, group = None, cast("zarr.Group | None", found)
        else:
            chosen = words[-1] if words else at.path.stem
            group = (
                zarr.open_group(_store(at), path="/".join(words[:-1]), mode="r") if words else None
            )
        held = {} if group is None else _arrays(group, at)
        if isinstance(found, zarr.Array):
            held[chosen or ""] = found
        return make_sliced_source(at.path.name, str(at), held, wanted, chosen, partial(_opened, at))
    except DataError:
        raise
    # Metadata are JSON, and zarr trips over what is missing or odd in it in any way.
    except Exception as error:
        raise _damaged(str(at), error) from error


def _store(at: Location) -> Any:
    if at.path.is_dir():
        return ZarrFolder(at.path)
    with ZipFile(at.path) as archive:
        sizes = [member.file_size for member in archive.infolist()]
    if max(sizes, default=0) > MAX_CHUNK:
        raise DataError(
            f"{at.path} holds a member of {max(sizes)} bytes; the limit is {MAX_CHUNK}."
        )
    return zarr.storage.ZipStore(at.path, mode="r", read_only=True)


def _damaged(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where} cannot be read as Zarr ({printable(one_line(error))}). Give a group or an array "
        "that is there, and get a whole copy of the data."
    )


def _arrays(group: zarr.Group, at: Location) -> dict[str, Any]:
    """Open the arrays of a group, one after the other.

    Of several that cannot be opened, zarr, asked for all at a time, writes tracebacks.
    """
    consolidated = group.metadata.consolidated_metadata
    names = _names_in(at.path, group.path) if consolidated is None else consolidated.metadata
    if len(names) > _MAX_MEMBERS:
        raise DataError(f"{at} holds over {_MAX_MEMBERS} arrays: name the array with ::.")
    found = ((name, group[name]) for name in names if "/" not in name)
    return {name: member for name, member in found if isinstance(member, zarr.Array)}


def _names_in(path: Path, inside: str) -> list[str]:
    """Name the arrays and groups in a group."""
    if path.is_dir():
        with os.scandir(path / inside) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir())
        return [n for n in folders if any((path / inside / n / m).is_file() for m in _METADATA)]
    with ZipFile(path) as archive:
        files = [PurePosixPath(name) for name in archive.namelist()]
    above = PurePosixPath(inside)
    metadata = {file.parent for file in files if file.name in _METADATA}
    return sorted(node.name for node in metadata if node.name and node.parent == above)


def _opened(at: Location, name: str, array: Any) -> SlicedRows:
    where = f"{at.path}, array {printable(name)!r},"
    check_chunked_array(where, array.dtype, array.shape, array.chunks)
    for codec in _names(array):
        if codec not in _CODECS:
            raise DataError(
                f"{where} is encoded with {printable(codec)}, which is not decoded: save it with a "
                "usual compressor, or none."
            )
    rows, *shape = array.shape
    stored = getattr(array, "shards", None) or array.chunks
    check_chunked_array(where, array.dtype, array.shape, stored)
    return SlicedRows(
        where, array.dtype, rows, tuple(shape), array.chunks[0], partial(_rows, array, where)
    )


def _names(array: Any) -> list[str]:
    """Give the names of all codecs, as the metadata have them."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            name = value.get("id", value.get("name"))
            if isinstance(name, str):
                found.append(name.removeprefix("numcodecs."))
            # Those inside a shard.
            for key in ("configuration", "codecs", "index_codecs"):
                walk(value.get(key))
        elif isinstance(value, list | tuple):
            for one in value:
                walk(one)

    metadata = array.metadata.to_dict()
    for key in ("codecs", "filters", "compressor"):
        walk(metadata.get(key))
    return found


def _rows(array: Any, where: str, start: int, stop: int) -> NDArray[Any]:
    try:
        return np.asarray(array[start:stop])
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{where} cannot be read from row {start} to {stop} ({printable(one_line(error))}). "
            "Get a whole copy of the data."
        ) from error


class ZarrFolder(LocalStore):
    """A folder of which only plain files are read, and no link is followed that leaves it.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DataError
        By every method that looks at a file, where it is none or lies elsewhere.
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
        """Read a file, or None where there is none."""
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file, or None where there is none."""
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of files."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        return await super().get_partial_values(prototype, wanted)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Give the names in a folder."""
        self._check(prefix)
        async for name in super().list_dir(prefix):
            yield name

    def _check(self, key: str) -> None:
        path = self.root / key
        real = os.path.realpath(path)
        if not os.path.join(real, "").startswith(self._inside):  # noqa: PTH118
            raise DataError(
                f"{path} is reached by a symbolic link that leaves {self.root}: copy what it leads "
                "to into the folder."
            )
        try:
            mode = os.stat(real).st_mode  # noqa: PTH116
        except OSError:
            return
        # Opening a pipe would wait for ever.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{path} is neither a file nor a folder: take it away.")
