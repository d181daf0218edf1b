"""Files of which each line is a text."""

from __future__ import annotations

import codecs
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import bytes_text
from cnatool.data.file_names import describe_files, list_sizes, row_id
from cnatool.data.formats.text import TextRows, make_text_source
from cnatool.data.read_errors import read_error
from cnatool.data.scratch_files import local_copy
from cnatool.data.source import COPY_ADVICE, MAX_SAMPLE_BYTES
from cnatool.data.utf8 import utf8_copy
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Source

_PIECE = 1 << 20
# Lines whose places in the file are known are this many apart: 8 bytes for 1,024 lines.
_STEP = 1 << 10
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file of lines, any of which can be read.

    Attributes
    ----------
    path : Path
        The file, for messages.
    text : Path
        The same lines in UTF-8, on a disk.
    lines : int
    marks : ndarray of int64
        Where in ``text`` lines 0, 1024, … begin.
    """

    path: Path
    text: Path
    lines: int
    marks: NDArray[np.int64]

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Read some lines, without their ends."""
        if start >= stop:
            return
        try:
            with self.text.open("rb") as file:
                file.seek(int(self.marks[start // _STEP]))
                for number in range(start - start % _STEP, stop):
                    line = file.readline(MAX_SAMPLE_BYTES + 1)
                    if not line:
                        raise DataError(
                            f"{self.path} ends before line {number + 1:,} of {self.lines:,}. "
                            f"{COPY_ADVICE}"
                        )
                    if len(line) > MAX_SAMPLE_BYTES:
                        raise DataError(
                            f"{self.path}, line {number + 1:,}, has more than "
                            f"{bytes_text(MAX_SAMPLE_BYTES)}: it is not a text file."
                        )
                    if number >= start:
                        # One end: a text may end in blanks.
                        yield line.removesuffix(b"\n").removesuffix(b"\r")
        except OSError as error:
            raise read_error(self.path, error) from error


def index_lines(path: Path, *, trim: bool = False) -> LineFile:
    """Find the lines of a file: a line ends with a line feed, or with the file.

    Blank lines are lines too; with ``trim``, those at the end of the file are none.
    """
    text = utf8_copy(local_copy(path))
    marks: list[NDArray[np.int64]] = []
    lines = place = 0
    filled = tail = 0  # lines and bytes up to the last one that is not blank
    with text.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            place = len(codecs.BOM_UTF8)
        marks.append(np.array([place], np.int64))
        file.seek(place)
        start, last = place, b"\n"
        while piece := file.read(_PIECE):
            ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == 10) + 1
            numbers = lines + 1 + np.arange(len(ends))
            marks.append((place + ends)[numbers % _STEP == 0])
            stripped = len(piece.rstrip(_SPACE))
            if stripped:
                filled = lines + int(np.searchsorted(ends, stripped, side="left")) + 1
                tail = place + stripped
            lines, place, last = lines + len(ends), place + len(piece), piece[-1:]
    lines += last != b"\n" and place > start
    if trim:
        lines = filled if tail else 0
    return LineFile(path, text, int(lines), np.concatenate(marks))


@dataclass(frozen=True, slots=True)
class FileLines:
    """Lines of several files behind one another."""

    files: tuple[LineFile, ...]

    @property
    def rows(self) -> int:
        """Number of lines."""
        return self._ends[-1]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(file.path for file in self.files)

    @property
    def outline(self) -> str:
        """Sizes of the files."""
        return list_sizes([file.text for file in self.files])

    @property
    def longest_id(self) -> str:
        """The longest id."""
        ids = [self.id(end - 1) for f, end in zip(self.files, self._ends, strict=True) if f.lines]
        return max(ids, key=lambda text: len(text.encode()))

    @property
    def _ends(self) -> tuple[int, ...]:
        return tuple(accumulate(file.lines for file in self.files))

    def _locate(self, row: int) -> tuple[Path, int]:
        number = bisect_right(self._ends, row)
        return self.files[number].path, row - (self._ends[number - 1] if number else 0)

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return row_id(self.paths, *self._locate(row))

    def where(self, row: int) -> str:
        """Name a row for messages, by its line."""
        path, number = self._locate(row)
        return f"{path}, line {number + 1:,},"

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Read some lines."""
        for file in self.files:
            yield from file.read(max(0, start), min(stop, file.lines))
            start, stop = start - file.lines, stop - file.lines


@dataclass(frozen=True, slots=True)
class LineRows:
    """What readers of texts have in common whose rows are lines of files."""

    lines: FileLines

    @property
    def rows(self) -> int:
        """Number of lines."""
        return self.lines.rows

    @property
    def longest_id(self) -> str:
        """The longest id."""
        return self.lines.longest_id

    def ids(self, start: int, stop: int) -> list[str]:
        """List the ids of some rows."""
        return [self.lines.id(row) for row in range(start, stop)]

    def where(self, row: int) -> str:
        """Name a row for messages, by its line."""
        return self.lines.where(row)


class _LineReader(LineRows):
    """Texts that are lines."""

    __slots__ = ()

    def read(self, ranges: Sequence[tuple[int, int]]) -> Iterator[TextRows]:
        if not ranges:
            return
        lines = self.lines.read(ranges[0][0], ranges[-1][1])
        for start, stop in ranges:
            yield TextRows([[next(lines) for _ in range(start, stop)]], None, {})


def index_files(paths: Sequence[Path], *, trim: bool = False) -> FileLines:
    """Find the lines of several files."""
    files = []
    for path in paths:
        try:
            files.append(index_lines(path, trim=trim))
        except OSError as error:
            raise read_error(path, error) from error
    return FileLines(tuple(files))


def open_lines(paths: Sequence[Path], selection: ArraySelection) -> Source:
    """Open files of which each line is a text; a blank line is an empty one."""
    lines = index_files(paths)
    name = selection.inputs[0]
    if len(selection.inputs) > 1:
        raise DataError(
            f"{paths[0]} holds one text per line, and the model takes {len(selection.inputs)} "
            f"({', '.join(selection.inputs)}): give a table with a column for each."
        )
    if not lines.rows:
        raise DataError(f"{paths[0]} holds no texts.")
    reader, outline = _LineReader(lines), lines.outline
    return make_text_source(describe_files(paths), reader, selection, [name], outline=outline)
