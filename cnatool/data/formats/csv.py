"""CSV and TSV: the numbers of a row are one sample, except columns of labels and splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from cnatool.data.formats.csv_text import open_text, scan_text, table_error
from cnatool.data.formats.table import (
    TABLE_ERRORS,
    PolarsFile,
    TableSource,
    check_same_columns,
    check_split_column,
    find_label_column,
    list_feature_columns,
    missing_column_error,
    read_labels,
)
from cnatool.data.formats.table_columns import bad_cell, stack_columns
from cnatool.data.formats.wide_csv import ColumnCounts, WideTable, parse_numbers
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import InputSpec
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cnatool.data.formats.table import TableFile
    from cnatool.data.formats.table_columns import Column, RowLocator
    from cnatool.data.images.batch import DecodedBatch, Each
    from cnatool.data.selection import ArraySelection

_BATCH = 4_096
# Tables with at least this many columns are read row by row.
WIDE = 1_000
_COMMA = r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$"
_POINT = r"^[+-]?\d*\.\d+(?:[eE][+-]?\d+)?$"


@dataclass(frozen=True, slots=True)
class _CellColumns:
    """Columns of numbers side by side; read as text, so that a wrong one can be named."""

    spec: InputSpec
    names: tuple[str, ...]
    comma: bool = False

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        kind = pl.Int64 if self.spec.dtype.kind == "i" else pl.Float64

        def fault(row: int, at: int) -> str:
            name = self.names[at]
            return bad_cell(locator.where(row, name), frame[name][row])

        columns = [parse_numbers(frame[name], kind, comma=self.comma) for name in self.names]
        return stack_columns(columns, self.spec, fault)


def open_csv(paths: Sequence[Path], selection: ArraySelection = SINGLE_INPUT) -> TableSource:
    """Open a table with a header line, in one file or several."""
    tables = [_open_table(path) for path in paths]
    path, names = tables[0].path, tables[0].names
    check_same_columns([(table.path, table.names) for table in tables])
    label = find_label_column(path, names, selection)
    check_split_column(path, selection, names)
    selected = _select_columns(path, names, selection, {label, selection.split_column})
    used = list(dict.fromkeys(name for _, columns, _ in selected for name in columns))
    try:
        comma = _has_decimal_commas(tables, used)
        counts = [table.count_numbers(used, comma=comma) for table in tables]
        whole = _find_whole(path, used, counts)
        specs = [
            InputSpec(name, np.dtype(np.int64 if whole.issuperset(columns) else float), shape)
            for name, columns, shape in selected
        ]
        inputs = [
            tables[0].make_column(number, spec, columns, comma=comma)
            for number, (spec, (_, columns, _)) in enumerate(zip(specs, selected, strict=True))
        ]
        parts = tuple(
            table.make_part(count.rows, inputs) for table, count in zip(tables, counts, strict=True)
        )
        labels = None
        if label is not None and not selection.ignore_labels:
            labels = read_labels(parts, label)
    except TABLE_ERRORS as error:
        raise table_error(path, error) from error
    skip = selection.images.skip_unreadable
    return TableSource(parts, tuple(inputs), labels, selection.split_column, skip, in_order=True)


class _Table(Protocol):
    """A text table in one file, whose columns are all text."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def names(self) -> list[str]:
        """Names of the columns."""

    def matches(self, patterns: Sequence[str], names: Sequence[str]) -> list[bool]:
        """Test for each regular expression whether a cell of some columns matches it."""

    def count_numbers(self, names: Sequence[str], *, comma: bool) -> ColumnCounts:
        """Count the rows, and the numbers in some columns."""

    def make_column(
        self, number: int, spec: InputSpec, names: Sequence[str], *, comma: bool
    ) -> Column:
        """Describe how columns become an input."""

    def make_part(self, rows: int, inputs: Sequence[Column]) -> TableFile:
        """Return this file as a part of a source."""


@dataclass(frozen=True, slots=True)
class _PolarsTable:
    """A table that polars reads, column by column."""

    path: Path
    separator: str
    names: list[str]
    frame: pl.LazyFrame

    def matches(self, patterns: Sequence[str], names: Sequence[str]) -> list[bool]:
        if self.separator == ",":
            # No number has a comma in it.
            return [False] * len(patterns)
        cells = pl.col(names).str.strip_chars()
        matches = self.frame.select(
            pl.any_horizontal(cells.str.contains(pattern)).any().alias(str(i))
            for i, pattern in enumerate(patterns)
        ).collect(engine="streaming")
        return list(map(bool, matches.row(0)))

    def count_numbers(self, names: Sequence[str], *, comma: bool) -> ColumnCounts:
        rows = 0
        numbers, whole = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
        # Batch by batch: an aggregation over all rows at once would hold much of the file.
        scan = self.frame.select(names)
        for frame in scan.collect_batches(chunk_size=_BATCH, maintain_order=True):
            rows += len(frame)
            for i, column in enumerate(frame.iter_columns()):
                for kind, counts in ((pl.Float64, numbers), (pl.Int64, whole)):
                    parsed = parse_numbers(column, kind, comma=comma)
                    counts[i] += len(parsed) - parsed.null_count()
        return ColumnCounts(rows, numbers, whole == rows)

    def make_column(
        self, number: int, spec: InputSpec, names: Sequence[str], *, comma: bool
    ) -> Column:
        return _CellColumns(spec, tuple(names), comma)

    def make_part(self, rows: int, inputs: Sequence[Column]) -> TableFile:
        return PolarsFile(self.path, rows, self.frame)


def _open_table(path: Path) -> _Table:
    try:
        text = open_text(path)
        header, names = text.header(), text.names()
        if len(names) < WIDE:
            frame = scan_text(text)
            names = frame.collect_schema().names()
    except (*TABLE_ERRORS, UnicodeDecodeError) as error:
        raise table_error(path, error) from error
    # As written: a duplicate number is renamed, and no longer looks like a number.
    if all(map(_is_number, header)):
        raise DataError(
            f"{path} has no header line, which says where labels are: put the names of the columns "
            "before the first row."
        )
    if len(names) < WIDE:
        return _PolarsTable(path, text.separator, names, frame)
    return WideTable(text, names)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _select_columns(
    path: Path, names: list[str], selection: ArraySelection, others: set[str | None]
) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Select the name of each input, its columns, and the shape of one sample."""
    selection = selection.among(str(path), names)
    if len(selection.inputs) == 1 and not selection.arrays:
        rest = list_feature_columns(names, others)
        if not rest:
            raise DataError(f"{path} has no column of numbers besides labels.")
        return [("columns", rest, (len(rest),))]
    selected: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
    for model_input in selection.inputs:
        words = selection.arrays.get(model_input, model_input)
        used = (words,) if words in names else tuple(words.split(","))
        for name in used:
            if name not in names:
                raise missing_column_error(path, "`inputs`", name, names)
        selected.append((model_input, used, () if len(used) == 1 else (len(used),)))
    return selected


def _has_decimal_commas(tables: Sequence[_Table], names: Sequence[str]) -> bool:
    """Whether numbers are written with decimal commas, which must then hold for all."""
    with_comma = with_point = False
    for table in tables:
        comma, point = table.matches((_COMMA, _POINT), names)
        with_comma, with_point = with_comma or comma, with_point or point
    if with_comma and with_point:
        raise DataError(
            f"{tables[0].path} holds numbers with a decimal comma and numbers with a decimal "
            "point, which is ambiguous: write all in one way."
        )
    return with_comma


def _find_whole(path: Path, names: Sequence[str], counts: Sequence[ColumnCounts]) -> set[str]:
    """Find the columns that hold whole numbers only; refuse those without numbers."""
    if not all(count.rows for count in counts):
        raise DataError(f"{path} holds no samples below its header line.")
    numbers = np.sum([count.numbers for count in counts], axis=0)
    for name, number in zip(names, numbers, strict=True):
        if not number:
            raise DataError(
                f"{path}, column {name!r}, holds no numbers: choose `split_column={name!r}` if it "
                f"names splits, `labels={name!r}` if it names classes, or the columns to use with "
                "`inputs={'INPUT': 'COLUMN,COLUMN'}`."
            )
    whole = np.logical_and.reduce([count.whole for count in counts])
    return {name for name, is_whole in zip(names, whole, strict=True) if is_whole}
