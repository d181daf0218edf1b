"""Text tables: encoding, separator of cells, and line breaks."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from cnatool._util.text import one_line, printable
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A line of a table; what is longer is some other file.
_MAX_LINE = 1 << 26
# Columns of a table; what has more is some other file, and no memory holds that many names.
_MAX_COLUMNS = 1 << 21
_PIECE = 1 << 20
# Characters of a row that a message quotes.
_SHOWN = 40
# By the bytes that such a file starts with; the longer mark first.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def scan_table(path: Path) -> tuple[pl.LazyFrame, str]:
    """Open a table with a line of names at its head."""
    text = open_text(path)
    return scan_text(text), text.separator


def scan_text(text: TableText) -> pl.LazyFrame:
    """Open a table for polars; all cells are text, and rows without a value are left out."""
    frame = pl.scan_csv(text.text, infer_schema=False, separator=text.separator, glob=False)
    names = frame.collect_schema().names()
    if len(names) > 1:
        blank = pl.all_horizontal(pl.all().is_null())
        if frame.select(blank.any()).collect(engine="streaming").item():
            frame = frame.filter(~blank)
    return frame


class TableText(NamedTuple):
    """The text of a table.

    Attributes
    ----------
    path : Path
        The file, for messages.
    text : Path
        The same text in UTF-8.
    separator : str
        What separates cells.
    """

    path: Path
    text: Path
    separator: str

    def lines(self) -> Iterator[bytes]:
        """Yield the rows, column names first, without line ends; quoted cells may hold line breaks.

        Raises
        ------
        DataError
            If a quotation mark is never closed.
        """
        held: list[bytes] = []
        marks = length = 0
        with self.text.open("rb") as file:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            for line in file:
                if not held and b'"' not in line:
                    yield line.rstrip(b"\r\n")
                    continue
                held.append(line)
                marks += line.count(b'"')
                length += len(line)
                if marks % 2 == 0:
                    yield b"".join(held).rstrip(b"\r\n")
                    held, marks, length = [], 0, 0
                elif length > _MAX_LINE:
                    break
        if held:
            raise DataError(
                f"{self.path} cannot be read as a table (a quotation mark is not closed). Close "
                "it, or get a whole copy of the file."
            )

    def cells(self, line: bytes) -> list[str]:
        """Split a row.

        Raises
        ------
        UnicodeDecodeError
            If it is not UTF-8.
        DataError
            If a quotation mark is neither at the edge of a cell nor doubled.
        """
        text = line.decode()
        if '"' not in text:
            return text.split(self.separator)
        # A cell may be as long as its row. The limit is the whole process's: never lower it.
        csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.separator, strict=True)
        try:
            # Stray marks may make several rows look like one.
            (cells,) = reader
        except (csv.Error, ValueError):
            raise DataError(
                f"{self.path} cannot be read as a table (misplaced quotation mark in the row that "
                f"begins {printable(text[:_SHOWN])}). Enclose a cell that contains quotation "
                "marks in quotation marks, and double those inside it."
            ) from None
        return cells

    def header(self) -> list[str]:
        """Return the cells of the first row.

        Raises
        ------
        UnicodeDecodeError
            If they are not UTF-8.
        """
        return self.cells(next((line for line in self.lines() if line), b""))

    def names(self) -> list[str]:
        """Name the columns; duplicate names are numbered as polars numbers them.

        Raises
        ------
        UnicodeDecodeError
            If they are not UTF-8.
        DataError
            If a numbered name is also the name of another column.
        """
        seen: dict[str, int] = {}
        names: dict[str, None] = {}
        for name in self.header():
            number = seen[name] = seen.get(name, -1) + 1
            unique = f"{name}_duplicated_{number - 1}" if number else name
            if unique in names:
                raise DataError(
                    f"{self.path} cannot be read as a table: a column is called {unique!r}, as "
                    "the second of two equal names would be. Rename one of them."
                )
            names[unique] = None
        return list(names)


def open_text(path: Path) -> TableText:
    """Open the text of a table."""
    text = _in_utf8(path)
    return TableText(path, text, _separator(text, path))


def _in_utf8(path: Path) -> Path:
    """Return the path of the text in UTF-8: the file itself, or a temporary copy."""
    with path.open("rb") as file:
        start = file.read(4)
        encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), None)
        if encoding is None:
            return path
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _copied(path, encoding, digest)


@cache
def _copied(path: Path, encoding: str, digest: str) -> Path:
    """Copy a text to UTF-8, once for each content of the file."""
    folder = Path(_copies().name)
    copy = folder / f"{len(list(folder.iterdir()))}.csv"
    try:
        with (
            path.open(encoding=encoding, newline="") as file,
            copy.open("w", encoding="utf-8", newline="") as out,
        ):
            while piece := file.read(_PIECE):
                out.write(piece)
    except UnicodeError as error:
        raise DataError(
            f"{path} starts as {encoding.upper()} and is not, or is cut short ({one_line(error)}). "
            "Get a whole copy of the file, or save it in UTF-8."
        ) from error
    return copy


@cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="cnatool-", ignore_cleanup_errors=True)


def remove_copies() -> None:
    """Remove temporary copies, for a process that exits without running exit handlers."""
    if _copies.cache_info().currsize:
        _copies().cleanup()


def _separator(text: Path, path: Path) -> str:
    with text.open("rb") as file:
        head = file.readline(_MAX_LINE)
    if len(head) == _MAX_LINE:
        raise DataError(f"{path} starts with a line of over {_MAX_LINE} bytes: it is no table.")
    mark = max(",;\t", key=lambda mark: head.count(mark.encode()))
    if head.count(mark.encode()) >= _MAX_COLUMNS:
        raise DataError(f"{path} starts with a line of over {_MAX_COLUMNS} cells: it is no table.")
    return mark
