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

from cnatool.errors import DataError
from cnatool.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TableText", "open_text", "remove_copies", "scan_table", "scan_text"]

# A line of a table; what is longer is some other file.
_MAX_LINE = 1 << 26
_PIECE = 1 << 20
# By the bytes that such a file starts with; the longer mark first.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def scan_table(path: Path) -> tuple[pl.LazyFrame, str]:
    """Open a table with a line of names at its head.

    Parameters
    ----------
    path : Path
        In UTF-8, UTF-16 or UTF-32; cells are separated by commas, semicolons or tabs. Lines
        without a value, as at the end of some files, are no rows.

    Returns
    -------
    polars.LazyFrame
        All cells as text.
    str
        What separates them.

    Raises
    ------
    DataError
        If the first line is too long for a table, or the text is cut.
    polars.exceptions.PolarsError
        If the table cannot be read.
    """
    text = open_text(path)
    return scan_text(text), text.separator


def scan_text(text: TableText) -> pl.LazyFrame:
    """Open a table for polars; all cells are text, and rows without a value are left out.

    Raises
    ------
    polars.exceptions.PolarsError
        If the table cannot be read.
    """
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
        """Give the rows, the names first, without line ends; quoted cells may hold line breaks.

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
        """
        text = line.decode()
        if '"' not in text:
            return text.split(self.separator)
        # A cell may be as long as its row.
        csv.field_size_limit(len(text) + 1)
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=self.separator))

    def header(self) -> list[str]:
        """Give the cells of the first row.

        Raises
        ------
        UnicodeDecodeError
            If they are not UTF-8.
        """
        return self.cells(next((line for line in self.lines() if line), b""))

    def names(self) -> list[str]:
        """Give the names of the columns; where several have one name, numbered as by polars.

        Raises
        ------
        UnicodeDecodeError
            If they are not UTF-8.
        """
        found = self.header()
        seen: dict[str, int] = {}
        names = []
        for name in found:
            number = seen[name] = seen.get(name, -1) + 1
            names.append(f"{name}_duplicated_{number - 1}" if number else name)
        return names


def open_text(path: Path) -> TableText:
    """Open the text of a table.

    Raises
    ------
    DataError
        If the first line is too long for a table, or the text is cut.
    """
    text = _in_utf8(path)
    return TableText(path, text, _separator(text, path))


def _in_utf8(path: Path) -> Path:
    """Give the path of the same text in UTF-8: a copy for the time of this process, if needed."""
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
    """Copy a text into UTF-8; once for each content that a file has."""
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
    """Remove the copies of texts: for a process that ends without running what exits run."""
    if _copies.cache_info().currsize:
        _copies().cleanup()


def _separator(text: Path, path: Path) -> str:
    with text.open("rb") as file:
        head = file.readline(_MAX_LINE)
    if len(head) == _MAX_LINE:
        raise DataError(f"{path} starts with a line of over {_MAX_LINE} bytes: it is no table.")
    return max(",;\t", key=lambda mark: head.count(mark.encode()))
