"""Text tables: encoding, separator of cells, and line breaks."""

from __future__ import annotations

import codecs
import hashlib
import tempfile
from functools import cache
from pathlib import Path

import polars as pl

from cnatool.errors import DataError
from cnatool.text import one_line

__all__ = ["scan_table"]

# A line of a table; what is longer is some other file.
_MAX_LINE = 1 << 22
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
    text = _in_utf8(path)
    separator = _separator(text, path)
    frame = pl.scan_csv(text, infer_schema=False, separator=separator, glob=False)
    names = frame.collect_schema().names()
    if len(names) > 1:
        blank = pl.all_horizontal(pl.all().is_null())
        if frame.select(blank.any()).collect(engine="streaming").item():
            frame = frame.filter(~blank)
    return frame, separator


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


def _separator(text: Path, path: Path) -> str:
    with text.open("rb") as file:
        head = file.readline(_MAX_LINE)
    if len(head) == _MAX_LINE:
        raise DataError(f"{path} starts with a line of over {_MAX_LINE} bytes: it is no table.")
    return max(",;\t", key=lambda mark: head.count(mark.encode()))
