"""Where the columns of a Parquet file lie, from the metadata at its end.

The metadata are a struct of Thrift's compact protocol. Polars reads them as well, but does not say
where a column begins, which is needed to read a part of an object.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cnatool.errors import DataError
from cnatool.store.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MAGIC = b"PAR1"
# Length of the metadata, and the magic number behind it.
_TAIL = 8
# Bytes at the end that are read at first: metadata are seldom longer.
_GUESS = 1 << 16
# Metadata of tens of thousands of columns in hundreds of groups are shorter.
_MOST = 1 << 28
_DEPTH = 16
# Columns closer than this are read together: a request costs as much as so many bytes.
_GAP = 1 << 20
# Fields of the structs, by their numbers in parquet.thrift.
_FILE_ROWS, _FILE_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_COLUMN_FILE, _COLUMN_METADATA = 1, 3
_PATH, _VALUES, _COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE = 3, 5, 7, 9, 11


class Chunk(NamedTuple):
    """One column of a group of rows: its bytes in the file, and how many values it has.

    Values are those of all lists; one that is empty or missing counts as one.
    """

    column: str
    start: int
    stop: int
    values: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows whose columns follow each other in the file."""

    rows: int
    chunks: tuple[Chunk, ...]

    def ranges(self, columns: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield the ranges of some columns, in order; those that are close as one."""
        wanted = {(chunk.start, chunk.stop) for chunk in self.chunks if chunk.column in columns}
        held: tuple[int, int] | None = None
        for start, stop in sorted(wanted):
            if held is not None and start - held[1] < _GAP:
                held = held[0], max(held[1], stop)
                continue
            if held is not None:
                yield held
            held = start, stop
        if held is not None:
            yield held


@dataclass(frozen=True, slots=True)
class Footer:
    """The metadata of a Parquet file."""

    start: int  # where they begin in the file
    content: bytes  # from there to its end
    groups: tuple[RowGroup, ...]

    def count_values(self, column: str) -> int:
        """Count the values of a column in all rows, those of lists one by one."""
        chunks = (chunk for group in self.groups for chunk in group.chunks)
        return sum(chunk.values for chunk in chunks if chunk.column == column)


def read_footer(path: Path) -> Footer:
    """Read the metadata of a Parquet file, of one in a bucket by one or two requests."""
    size = path.stat().st_size
    tail = _read_range(path, max(0, size - _GUESS), size) if size else b""
    if size < len(_MAGIC) + _TAIL or tail[-len(_MAGIC) :] != _MAGIC:
        raise _damaged(path, "it does not end like one")
    length = int.from_bytes(tail[-_TAIL : -len(_MAGIC)], "little")
    start = size - _TAIL - length
    if not len(_MAGIC) <= start or length > _MOST:
        raise _damaged(path, f"its metadata claim {length} bytes")
    if length + _TAIL > len(tail):
        tail = _read_range(path, start, size - len(tail)) + tail
    content = tail[len(tail) - length - _TAIL :]
    try:
        metadata = _Reader(content[:length]).struct()
        groups = tuple(_parse_group(group, start) for group in metadata[_FILE_GROUPS])
        if sum(group.rows for group in groups) != metadata[_FILE_ROWS]:
            raise ValueError("the rows of its groups are not those of the file")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise _damaged(path, "its metadata cannot be read") from error
    return Footer(start, content, groups)


def _read_range(path: Path, start: int, stop: int) -> bytes:
    if isinstance(path, ObjectPath):
        return bytes(path.read_range(start, stop))
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def _damaged(path: Path, text: str) -> DataError:
    return DataError(f"{path} cannot be read as Parquet ({text}). Get a complete copy of the file.")


def _parse_group(group: dict[int, Any], end: int) -> RowGroup:
    return RowGroup(
        _count(group[_GROUP_ROWS]),
        tuple(_parse_chunk(column, end) for column in group[_GROUP_COLUMNS]),
    )


def _parse_chunk(column: dict[int, Any], end: int) -> Chunk:
    if column.get(_COLUMN_FILE):
        raise ValueError("a column is in another file")
    metadata = column[_COLUMN_METADATA]
    # Dictionary pages lie before data pages, if there are any.
    start = _count(metadata[_DATA_PAGE])
    if metadata.get(_DICTIONARY_PAGE):
        start = min(start, _count(metadata[_DICTIONARY_PAGE]))
    stop = start + _count(metadata[_COMPRESSED])
    if stop > end:
        raise ValueError("a column reaches beyond the rows")
    return Chunk(metadata[_PATH][0].decode(), start, stop, _count(metadata[_VALUES]))


def _count(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} is not a size")
    return value


class _Reader:
    """Reads Thrift's compact protocol: structs as dictionaries by number of field."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEPTH:
            raise ValueError("structs are nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            kind, delta = header & 15, header >> 4
            number = number + delta if delta else self._signed()
            # Truth values are in the header.
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            [number] = struct.unpack("<d", self._bytes(8))
            return number
        if kind == 8:
            return self._bytes(self._unsigned())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"type {kind} does not occur in Parquet")

    def _list(self, depth: int) -> list[Any]:
        header = self._byte()
        count = header >> 4
        count = self._unsigned() if count == 15 else count
        # Each element has a byte at least.
        if count > len(self._content) - self._at:
            raise ValueError(f"a list of {count} elements does not fit")
        return [self._value(header & 15, depth + 1) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._content) - self._at:
            raise ValueError(f"{count} bytes do not fit")
        self._at += count
        return self._content[self._at - count : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number is too long")

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
