"""Text tables of many columns, whose cells are parsed as one array for all columns.

polars spends some 100 µs on each column of a table, however short: minutes for 200,000 columns.
Here it parses the cells of several rows as one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from cnatool.data.formats.csv_text import table_error
from cnatool.data.formats.table_columns import bad_cell
from cnatool.data.images.batch import DecodedBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.formats.csv_text import TableText
    from cnatool.data.formats.table_columns import Column, RowLocator
    from cnatool.data.images.batch import Each
    from cnatool.data.source import InputSpec

# Cells parsed at a time.
_CELLS = 1 << 20


def parse_numbers(cells: pl.Series, kind: type[pl.Int64 | pl.Float64], *, comma: bool) -> pl.Series:
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


@dataclass(frozen=True, slots=True)
class ColumnCounts:
    """Counts of numbers in columns of text.

    Attributes
    ----------
    rows : int
    numbers : numpy.ndarray of int, (columns,)
        How many cells are numbers.
    whole : numpy.ndarray of bool, (columns,)
        Whether all cells are whole numbers.
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
        matches = [False] * len(patterns)
        # The patterns are for decimal commas.
        if self.text.separator == "," or not any(b"," in line for line in self._lines()):
            return matches
        places = self._places(names)
        for rows, cells in self._blocks():
            selected = np.arange(len(cells)).reshape(rows, -1)[:, places].ravel()
            stripped = cells.gather(selected).str.strip_chars()
            for i, pattern in enumerate(patterns):
                matches[i] = matches[i] or bool(stripped.str.contains(pattern).any())
        return matches

    def count_numbers(self, names: Sequence[str], *, comma: bool) -> ColumnCounts:
        """Count the rows, and the numbers in some columns."""
        columns = len(self.names)
        total, numbers, whole = 0, np.zeros(columns, np.int64), np.ones(columns, bool)
        for rows, cells in self._blocks():
            total += rows
            numbers += _is_number(cells, pl.Float64, rows, comma=comma).sum(0)
            if whole.any():
                whole &= _is_number(cells, pl.Int64, rows, comma=comma).all(0)
        places = self._places(names)
        return ColumnCounts(total, numbers[places], whole[places])

    def make_column(
        self, number: int, spec: InputSpec, names: Sequence[str], *, comma: bool
    ) -> WideColumns:
        """Describe how columns become an input."""
        return WideColumns(number, spec, tuple(names), self._places(names), comma)

    def make_part(self, rows: int, inputs: Sequence[Column]) -> WideFile:
        """Return this file as a part of a source."""
        wide = tuple(column for column in inputs if isinstance(column, WideColumns))
        return WideFile(self.path, rows, self, wide)

    def _places(self, names: Sequence[str]) -> NDArray[np.intp]:
        place = {name: number for number, name in enumerate(self.names)}
        return np.array([place[name] for name in names], np.intp)

    def frames(
        self,
        columns: Sequence[str],
        inputs: Sequence[WideColumns],
        rows: int,
        start: int,
        limit: int,
    ) -> Iterator[pl.DataFrame]:
        """Yield frames of up to ``rows`` rows, in order: columns of text, then of each input."""
        places = {name: self.names.index(name) for name in columns}
        for count, cells in self._blocks(rows, start, start + limit):
            series = [
                cells.gather_every(len(self.names), place).alias(name)
                for name, place in places.items()
            ]
            for column in inputs:
                series += column.parse(count, cells)
            yield pl.DataFrame(series)

    def distinct(self, name: str, most: int) -> set[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""
        place, values = self.names.index(name), set[str]()
        for line in self._lines():
            cells = self._split_row(line)
            if place < len(cells) and cells[place]:
                values.add(cells[place])
            if len(values) > most:
                break
        return values

    def _blocks(
        self, most: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Any]:
        """Yield the number of rows of each block, and its cells as one column of text."""
        lines = islice(self._lines(), start, stop)
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
            rows = list(map(self._split_row, lines))
            lengths = list(map(len, rows))
            cells = pl.Series([cell or None for row in rows for cell in row], dtype=pl.String)
        else:
            try:
                texts = pl.Series([line.decode() for line in lines], dtype=pl.String)
            except UnicodeDecodeError as error:
                raise table_error(self.path, error) from error
            lengths = [line.count(separator.encode()) + 1 for line in lines]
            cells = texts.str.split(separator).explode()
            # An empty cell is null, as in tables that polars reads.
            cells = cells.set(cells == "", None) if (cells == "").any() else cells
        if max(lengths) > columns:
            reason = f"a row has {max(lengths)} cells, {columns} have names"
            raise table_error(self.path, reason)
        if min(lengths) == columns:
            return cells
        # Cells that short rows lack are null.
        present = (np.arange(columns) < np.array(lengths)[:, None]).ravel()
        places = pl.Series(np.cumsum(present) - 1).set(pl.Series(~present), None)
        return cells.to_frame("cells").select(pl.col("cells").gather(places)).to_series()

    def _split_row(self, line: bytes) -> list[str]:
        try:
            return self.text.cells(line)
        except UnicodeDecodeError as error:
            raise table_error(self.path, error) from error


def _is_number(
    cells: pl.Series, kind: type[pl.Int64 | pl.Float64], rows: int, *, comma: bool
) -> NDArray[np.bool_]:
    numbers: NDArray[np.bool_] = parse_numbers(cells, kind, comma=comma).is_not_null().to_numpy()
    return numbers.reshape(rows, -1)


@dataclass(frozen=True, slots=True)
class WideColumns:
    """Columns of numbers side by side, of a table with many.

    Attributes
    ----------
    number : int
        Of the input.
    spec : InputSpec
    columns : tuple of str
        Names of the columns.
    places : numpy.ndarray of int, (columns,)
        Places of the columns in the table.
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

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        """Decode to (rows, *shape)."""
        values_name, wrong_name, text_name = self.names
        values = np.ascontiguousarray(frame[values_name].to_numpy())
        values = values.reshape(len(frame), *self.spec.shape)
        wrong = frame[wrong_name]
        faults = {
            row: bad_cell(locator.where(row, self.columns[wrong[row]]), frame[text_name][row])
            for row in wrong.is_not_null().arg_true().to_list()
        }
        return DecodedBatch(values, values, faults)

    def parse(self, rows: int, cells: pl.Series) -> list[pl.Series]:
        """Parse the cells of some rows into the columns of a frame."""
        kind = pl.Int64 if self.spec.dtype.kind == "i" else pl.Float64
        numbers = parse_numbers(cells, kind, comma=self.comma)
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
class WideFile:
    """One file of a table with many columns.

    Attributes
    ----------
    path : Path
    rows : int
    table : WideTable
    inputs : tuple of WideColumns
    """

    path: Path
    rows: int
    table: WideTable
    inputs: tuple[WideColumns, ...] = ()

    def frames(
        self, names: Sequence[str], rows: int, start: int, limit: int
    ) -> Iterator[pl.DataFrame]:
        """Yield frames of up to ``rows`` rows from ``start`` on, ``limit`` in all."""
        inputs = [column for column in self.inputs if not set(column.names).isdisjoint(names)]
        parsed = {name for column in inputs for name in column.names}
        columns = [name for name in names if name not in parsed]
        return self.table.frames(columns, inputs, rows, start, limit)

    def distinct(self, name: str, most: int) -> set[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""
        return self.table.distinct(name, most)
