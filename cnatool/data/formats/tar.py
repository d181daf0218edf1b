"""Members of a tar archive, one after the other, in bounded memory, and never unpacked."""

from __future__ import annotations

import re
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cnatool._util.text import printable
from cnatool.data.file_names import UNSAFE_CHARACTERS
from cnatool.data.formats.streamed_rows import READ_ERRORS, open_maybe_gzip
from cnatool.data.read_errors import read_error
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedIOBase
    from pathlib import Path

# Size of one member, and so of what tarfile reads at once: an extended header can be as long as it
# declares.
_MAX_MEMBER = 1 << 28
_BLOCK = 512
_NAME = re.compile(r"(?P<key>(?:.*/)?[^./][^./]*)\.(?P<field>[^/]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    where: str  # archive and name, for messages
    key: str  # the name before and after the first dot; the latter in lower case
    field: str
    size: int  # in bytes
    read: Callable[[], bytes]  # reads the content, until the next member is asked for


def read_members(path: Path) -> Iterator[Member]:
    """Yield the files of an archive in their order.

    Raises a DataError if the archive is damaged or cut short, or if a member is too large, is a
    link, or has a name that cannot be an id.
    """
    last = "its start"
    try:
        with _open(path) as file, tarfile.open(fileobj=cast("Any", file), mode="r:") as archive:
            while (info := archive.next()) is not None:
                # tarfile keeps them all; there may be millions.
                cast("Any", archive).members.clear()
                last = printable(info.name)[:200]
                where = f"{path}, member {last},"
                if info.isdir() or info.name.rsplit("/", 1)[-1].startswith("."):
                    continue
                if not info.isreg() or info.issparse():
                    raise DataError(
                        f"{where} is a link or not a regular file: pack the file itself."
                    )
                if info.size > _MAX_MEMBER:
                    raise DataError(
                        f"{where} has {info.size} bytes; the limit is {_MAX_MEMBER}. Split it up."
                    )
                name = _NAME.fullmatch(info.name.removeprefix("./"))
                if name is None or UNSAFE_CHARACTERS.search(info.name):
                    raise DataError(
                        f"{where} has no name of the form KEY.EXTENSION, such as 000017.png: "
                        "rename it."
                    )
                read = _reader(archive, info, where)
                yield Member(where, name["key"], name["field"].lower(), info.size, read)
            _check_end(file, archive.offset)
    except DataError:
        raise
    except (*READ_ERRORS, tarfile.TarError, ValueError, OverflowError) as error:
        raise read_error(path, error, problem=f"is cut short or damaged after {last}") from error


def _reader(archive: tarfile.TarFile, info: tarfile.TarInfo, where: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            file = archive.extractfile(info)
            return b"" if file is None else file.read()
        except (*READ_ERRORS, tarfile.TarError) as error:
            advice = "Get a complete copy of the archive."
            raise read_error(where, error, advice, problem="is cut short or damaged") from error

    return read


@contextmanager
def _open(path: Path) -> Iterator[_Bounded]:
    with open_maybe_gzip(path) as file:
        yield _Bounded(file)


class _Bounded:
    """A file that refuses to read more at once than a member may have."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_MEMBER + _BLOCK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _check_end(file: _Bounded, offset: int) -> None:
    """Refuse a broken header, at which tarfile stops as at the end of an archive."""
    file.seek(offset)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK or block.strip(b"\0"):
        raise tarfile.ReadError("a header is missing or damaged")
    # To the end of the file: gzip compares its checksum there.
    for _ in range(1 << 12):
        if not file.read(1 << 14):
            return
    raise tarfile.ReadError("something follows its end")
