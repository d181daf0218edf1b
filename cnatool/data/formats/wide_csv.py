"""Text tables of many columns, whose cells are parsed as one array for all columns.

polars spends some 100 µs on each column of a table, whatever it holds: minutes for 200,000 columns.
Here it parses the cells of several rows as one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from cnatool._util.text import one_line, printable
from cnatool.data.images.batch import DecodedBatch
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.formats.columns import Column, RowLocator
    from cnatool.data.formats.csv_text import TableText
    from cnatool.data.images.batch import Each
    from cnatool.data.source import InputSpec

# Cells parsed at a time.
_CELLS = 1 << 20


def parsed_numbers(
    cells: pl.Series, kind: type[pl.Int64 | pl.Float64], *, comma: bool
) -> pl.Series:
    """Parse cells of text; what is no number of the kind becomes null."""
    if not comma:
        # Few tables have spaces around numbers, and to strip them takes longer than to parse.
        numbers = cells.cast(kind, strict=False)
        if not numbers.null_count():
            return numbers
    cells = cells.str.strip_chars()
    if comma:
        cells = cells.str.replace(",", ".", literal=True)
    return cells.cast(kind, strict=False)


def wrong_cell(where: str, text: str | None) -> str:
    """Return the message for a cell that is not a number."""
    return (
        f"{where} is {'empty' if text is None else repr(text)}: fill it with a number, leave the "
        "row out, or name the columns to use with --input INPUT=COLUMN,COLUMN."
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """What columns of text hold.

    Attributes
    ----------
    rows : int
    numbers : numpy.ndarray of int, (columns,)
        How many cells of each are numbers.
    whole : numpy.ndarray of bool, (columns,)
        Whether all are whole numbers.
    """

    rows: int
    numbers: NDArray[np.int64]
    whole: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WideTable:
    """A text table that is read row by row.

    Attributes
    ----------
    text : TableText
    names : list of str
        Names of its columns.
    """

    text: TableText
    names: list[str]

    @property
    def path(self) -> Path:
        """The file."""
        return self.text.path

    def matches(self, patterns: Sequence[str], names: Sequence[str]) -> list[bool]:
        """Test for each regular expression whether a cell of some columns matches it."""
        found = [False] * len(patterns)
        # The patterns are for decimal commas.
        if self.text.separator == "," or not any(b"," in line for line in self._lines()):
            return found
        places = self._places(names)
        for rows, cells in self._blocks():
            taken = np.arange(len(cells)).reshape(rows, -1)[:, places].ravel()
            stripped = cells.gather(taken).str.strip_chars()
            for i, pattern in enumerate(patterns):
                found[i] = found[i] or bool(stripped.str.contains(pattern).any())
        return found

    def measure(self, names: Sequence[str], *, comma: bool) -> Measured:
        """Count the rows, and the numbers in some columns."""
        columns = len(self.names)
        total, numbers, whole = 0, np.zeros(columns, np.int64), np.ones(columns, bool)
        for rows, cells in self._blocks():
            total += rows
            numbers += _are(cells, pl.Float64, rows, comma=comma).sum(0)
            if whole.any():
                whole &= _are(cells, pl.Int64, rows, comma=comma).all(0)
        places = self._places(names)
        return Measured(total, numbers[places], whole[places])

    def cells(
        self, number: int, spec: InputSpec, names: Sequence[str], *, comma: bool
    ) -> WideCells:
        """Describe how columns become an input."""
        return WideCells(number, spec, tuple(names), self._places(names), comma)

    def part(self, rows: int, inputs: Sequence[Column]) -> WidePart:
        """Return the part of a source that this file is."""
        ours = tuple(each for each in inputs if isinstance(each, WideCells))
        return WidePart(self.path, rows, self, ours)

    def _places(self, names: Sequence[str]) -> NDArray[np.intp]:
        place = {name: number for number, name in enumerate(self.names)}
        return np.array([place[name] for name in names], np.intp)

    def frames(
        self, columns: Sequence[str], inputs: Sequence[WideCells], rows: int, limit: int
    ) -> Iterator[pl.DataFrame]:
        """Yield frames of up to ``rows`` rows, in order: columns of text, then of each input."""
        places = {name: self.names.index(name) for name in columns}
        for count, cells in self._blocks(rows, limit):
            made = [
                cells.gather_every(len(self.names), place).alias(name)
                for name, place in places.items()
            ]
            for each in inputs:
                made += each.parse(count, cells)
            yield pl.DataFrame(made)

    def distinct(self, name: str, most: int) -> set[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""
        place, found = self.names.index(name), set[str]()
        for line in self._lines():
            cells = self._row(line)
            if place < len(cells) and cells[place]:
                found.add(cells[place])
            if len(found) > most:
                break
        return found

    def _blocks(self, most: int | None = None, limit: int | None = None) -> Iterator[Any]:
        """Yield the number of rows of each block, and its cells as one column of text."""
        lines = islice(self._lines(), limit)
        size = max(1, _CELLS // len(self.names))
        while block := list(islice(lines, size if most is None else min(size, most))):
            yield len(block), self._split(block)

    def _lines(self) -> Iterator[bytes]:
        """Yield the rows below the names, except those without a value."""
        separator = self.text.separator.encode()
        lines = self.text.lines()
        next(line for line in lines if line)
        return (line for line in lines if line.strip(separator))

    def _split(self, lines: list[bytes]) -> pl.Series:
        columns, separator = len(self.names), self.text.separator
        if any(b'"' in line for line in lines):
            rows = list(map(self._row, lines))
            lengths = list(map(len, rows))
            cells = pl.Series([cell or None for row in rows for cell in row], dtype=pl.String)
        else:
            try:
                texts = pl.Series([line.decode() for line in lines], dtype=pl.String)
            except UnicodeDecodeError as error:
                raise self._unreadable(one_line(error)) from error
            lengths = [line.count(separator.encode()) + 1 for line in lines]
            cells = texts.str.split(separator).explode()
            # An empty cell is null, as in tables that polars reads.
            cells = cells.set(cells == "", None) if (cells == "").any() else cells
        if max(lengths) > columns:
            raise self._unreadable(f"a row has {max(lengths)} cells, {columns} have names")
        if min(lengths) == columns:
            return cells
        # Cells that short rows lack are null.
        there = (np.arange(columns) < np.array(lengths)[:, None]).ravel()
        places = pl.Series(np.cumsum(there) - 1).set(pl.Series(~there), None)
        return cells.to_frame("cells").select(pl.col("cells").gather(places)).to_series()

    def _row(self, line: bytes) -> list[str]:
        try:
            return self.text.cells(line)
        except UnicodeDecodeError as error:
            raise self._unreadable(one_line(error)) from error

    def _unreadable(self, reason: str) -> DataError:
        return DataError(
            f"{self.text.path} cannot be read as a table ({printable(reason)}). Rows need as many "
            "cells as the line of names, in UTF-8 or UTF-16."
        )


def _are(
    cells: pl.Series, kind: type[pl.Int64 | pl.Float64], rows: int, *, comma: bool
) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = parsed_numbers(cells, kind, comma=comma).is_not_null().to_numpy()
    return found.reshape(rows, -1)


@dataclass(frozen=True, slots=True)
class WideCells:
    """Columns of numbers side by side, of a table with many.

    Attributes
    ----------
    number : int
        Number of the input.
    spec : InputSpec
        The input.
    columns : tuple of str
        Names of the columns.
    places : numpy.ndarray of int, (columns,)
        Their places in the table.
    comma : bool
        Whether numbers have decimal commas.
    """

    number: int
    spec: InputSpec
    columns: tuple[str, ...]
    places: NDArray[np.intp]
    comma: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of a frame: values, the first wrong cell of each row, and its text."""
        return tuple(f"{kind} of input {self.number}\n" for kind in ("values", "wrong", "text"))

    def values(self, frame: pl.DataFrame, place: RowLocator, each: Each) -> DecodedBatch:
        """Give an array (rows, *shape)."""
        values_name, wrong_name, text_name = self.names
        values = np.ascontiguousarray(frame[values_name].to_numpy())
        values = values.reshape(len(frame), *self.spec.shape)
        wrong = frame[wrong_name]
        faults = {
            row: wrong_cell(place.where(row, self.columns[wrong[row]]), frame[text_name][row])
            for row in wrong.is_not_null().arg_true().to_list()
        }
        return DecodedBatch(values, values, faults)

    def parse(self, rows: int, cells: pl.Series) -> list[pl.Series]:
        """Parse the cells of some rows into the columns of a frame."""
        kind = pl.Int64 if self.spec.dtype.kind == "i" else pl.Float64
        numbers = parsed_numbers(cells, kind, comma=self.comma)
        values = numbers.fill_null(0).to_numpy().reshape(rows, -1)[:, self.places]
        wrong: list[int | None] = [None] * rows
        texts: list[str | None] = [None] * rows
        if numbers.null_count():
            missing = numbers.is_null().to_numpy().reshape(rows, -1)[:, self.places]
            for row in np.flatnonzero(missing.any(1)).tolist():
                wrong[row] = first = int(missing[row].argmax())
                texts[row] = cells[row * (len(cells) // rows) + int(self.places[first])]
        values_name, wrong_name, text_name = self.names
        return [
            pl.Series(values_name, values),
            pl.Series(wrong_name, wrong, pl.Int64),
            pl.Series(text_name, texts, pl.String),
        ]


@dataclass(frozen=True, slots=True)
class WidePart:
    """One file of a table with many columns.

    Attributes
    ----------
    path : Path
    rows : int
    table : WideTable
    inputs : tuple of WideCells
    """

    path: Path
    rows: int
    table: WideTable
    inputs: tuple[WideCells, ...] = ()

    def frames(self, names: Sequence[str], rows: int, limit: int) -> Iterator[pl.DataFrame]:
        """Yield frames of up to ``rows`` rows, ``limit`` in all."""
        inputs = [each for each in self.inputs if not set(each.names).isdisjoint(names)]
        made = {name for each in inputs for name in each.names}
        columns = [name for name in names if name not in made]
        return self.table.frames(columns, inputs, rows, limit)

    def distinct(self, name: str, most: int) -> set[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""
        return self.table.distinct(name, most)
