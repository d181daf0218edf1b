"""Text tables: encoding, separator of cells, and line breaks."""

from __future__ import annotations

import codecs
import csv
import io
import re
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from cnatool._util.text import printable
from cnatool.data.read_errors import describe_error
from cnatool.data.scratch_files import local_copy
from cnatool.data.text_batch import describe_encoding
from cnatool.data.utf8 import marked_copy, utf8_copy
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Bytes of a line; what is longer is no table.
_MAX_LINE = 1 << 26
# What has more columns is no table, and no memory holds that many names.
_MAX_COLUMNS = 1 << 21
# How libraries say that a text is not UTF-8.
_UTF8 = re.compile(r"utf-?8", re.IGNORECASE)
# Characters of a row that a message quotes.
_QUOTED = 40


def table_error(path: Path, error: BaseException | str, advice: str = "") -> DataError:
    """Return the error that a file cannot be read as a table."""
    reason = error if isinstance(error, str) else describe_error(error)
    if _UTF8.search(reason) and (found := _find_undecodable(path)) is not None:
        return DataError(f"{path}, line {found}")
    # polars advises arguments of its own.
    reason = reason.partition("Consider setting")[0].strip()
    advice = advice or (
        "Rows need as many cells as the header line, in UTF-8 or UTF-16; a cell that contains "
        "the separator is enclosed in double quotes."
    )
    return DataError(f"{path} cannot be read as a table ({reason}). {advice}")


def _find_undecodable(path: Path) -> str | None:
    """Find the first line of a file that is not UTF-8, and describe where it is not."""
    try:
        with utf8_copy(local_copy(path)).open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    return f"{number:,}, {describe_encoding(line, error)}"
    except OSError:
        pass
    return None


def scan_table(path: Path) -> pl.LazyFrame:
    """Open a table with a header line."""
    return scan_text(open_text(path))


def scan_text(text: TableText) -> pl.LazyFrame:
    """Open a table in polars; all cells are text, and rows without a value are left out."""
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

        Raises a DataError if a quotation mark is never closed.
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
            advice = "Close it, or get a whole copy of the file."
            raise table_error(self.path, "a quotation mark is not closed", advice)

    def cells(self, line: bytes) -> list[str]:
        """Split a row.

        Raises a UnicodeDecodeError if it is not UTF-8, and a DataError if a quotation mark is
        neither at the edge of a cell nor doubled.
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
            raise table_error(
                self.path,
                f"misplaced quotation mark in the row that begins {printable(text[:_QUOTED])}",
                "Enclose a cell that contains quotation marks in quotation marks, and double those "
                "inside it.",
            ) from None
        return cells

    def header(self) -> list[str]:
        """Return the cells of the first row; raise a UnicodeDecodeError if it is not UTF-8."""
        return self.cells(next((line for line in self.lines() if line), b""))

    def names(self) -> list[str]:
        """List the names of columns; duplicate names are numbered as polars numbers them.

        Raises a DataError if a numbered name is also the name of another column.
        """
        seen: dict[str, int] = {}
        names: dict[str, None] = {}
        for name in self.header():
            number = seen[name] = seen.get(name, -1) + 1
            unique = f"{name}_duplicated_{number - 1}" if number else name
            if unique in names:
                reason = f"a column is called {unique!r}, as the second of two equal names would be"
                raise table_error(self.path, reason, "Rename one of them.")
            names[unique] = None
        return list(names)


def open_text(path: Path) -> TableText:
    """Open the text of a table."""
    text = utf8_copy(local_copy(path))
    return TableText(path, text, _find_separator(text, path))


def mark_undecodable(text: TableText) -> TableText:
    """Open a copy with marks in place of what is not UTF-8; the table itself without any."""
    copy = marked_copy(text.text)
    return text if copy is None else text._replace(text=copy)


def _find_separator(text: Path, path: Path) -> str:
    with text.open("rb") as file:
        head = file.readline(_MAX_LINE)
    if len(head) == _MAX_LINE:
        raise DataError(f"{path} starts with a line of over {_MAX_LINE} bytes: it is not a table.")
    mark = max(",;\t", key=lambda mark: head.count(mark.encode()))
    if head.count(mark.encode()) >= _MAX_COLUMNS:
        raise DataError(
            f"{path} starts with a line of over {_MAX_COLUMNS} cells: it is not a table."
        )
    return mark
