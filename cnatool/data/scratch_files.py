"""Temporary files of data that cannot be read where they are."""

from __future__ import annotations

import atexit
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING

from cnatool._util.text import bytes_text
from cnatool._util.threads import prefetch
from cnatool.errors import CnatoolError, DataError
from cnatool.store.object_path import ObjectPath
from cnatool.store.scratch import ScratchFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cnatool.data.location import Location

# Bytes that are read from an object by one request.
_PIECE = 1 << 23
# Formats that their libraries, or several passes, read from a local file only.
_COPIED = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".h5", ".hdf5", ".hdf", ".zarr.zip")

_numbers = count()
# By the object and its version.
_copies: dict[tuple[str, tuple[str, ...]], SparseFile] = {}
_copying = Lock()


@cache
def _folder() -> ScratchFolder:
    """Make a folder that is removed when the process ends."""
    folder = ScratchFolder()
    atexit.register(folder.remove)
    return folder


def remove_scratch_files() -> None:
    """Remove temporary files, for a process that exits without running exit handlers."""
    if _folder.cache_info().currsize:
        _folder().remove()


def scratch_path(name: str) -> Path:
    """Return the path of a new temporary file of a name, alone in its folder."""
    folder = _folder().path / str(next(_numbers))
    folder.mkdir()
    return folder / name


class SparseFile:
    """A temporary file with some ranges of an object in their places; deleted when unused."""

    def __init__(self, path: ObjectPath) -> None:
        self._object = path
        self.path = scratch_path(path.name)
        with _report_full_disk(path), self.path.open("wb") as file:
            file.truncate(path.stat().st_size)

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read ranges of the object, the next ones ahead."""
        pieces = [
            (begin, min(begin + _PIECE, stop))
            for start, stop in ranges
            for begin in range(start, stop, _PIECE)
        ]
        with (
            closing(prefetch(self._object.read_range(*piece) for piece in pieces)) as contents,
            _report_full_disk(self._object),
            self.path.open("r+b") as file,
        ):
            for (begin, _), content in zip(pieces, contents, strict=True):
                file.seek(begin)
                file.write(content)

    def put(self, start: int, content: bytes) -> None:
        """Write a range that was read before."""
        with _report_full_disk(self._object), self.path.open("r+b") as file:
            file.seek(start)
            file.write(content)

    def __del__(self) -> None:
        """Delete the file; who has it open can go on reading."""
        with suppress(Exception):
            self.path.unlink()
            self.path.parent.rmdir()


def local_copy(path: Path) -> Path:
    """Return a local file with the content of a path: itself, or a copy of an object."""
    if not isinstance(path, ObjectPath):
        return path
    info = path.view.use(path.key)
    content = str(path), tuple(info.version.values())
    with _copying:
        if content not in _copies:
            copy = SparseFile(path)
            copy.fetch([(0, info.size)])
            _copies[content] = copy
        return _copies[content].path


def describe_copies(location: Location) -> Iterator[str]:
    """Describe which objects of a location will be copied to this machine."""
    for path in location.files or (location.path,):
        if isinstance(path, ObjectPath) and path.name.lower().endswith(_COPIED) and path.is_file():
            yield (
                f"{path} ({bytes_text(path.stat().st_size)}) is copied to {_folder().path.parent} "
                "while it is used: files of this format cannot be read from a bucket by ranges"
            )


@contextmanager
def _report_full_disk(path: ObjectPath) -> Iterator[None]:
    try:
        yield
    except CnatoolError:
        raise
    except OSError as error:
        raise DataError(
            f"{path} cannot be copied to {_folder().path.parent} ({error.strerror}). Free space "
            "there, or set TMPDIR to a folder with enough."
        ) from error
