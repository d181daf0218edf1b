"""CSV: the numbers of a row are one sample, but for the columns of labels and splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from cnatool._util.text import one_line, printable
from cnatool.data.formats.columns import (
    TABLE_ERRORS,
    PolarsFile,
    RowLocator,
    TableSource,
    read_labels,
)
from cnatool.data.formats.csv_text import open_text, scan_text
from cnatool.data.formats.features import (
    find_label_column,
    list_feature_columns,
    missing_column_error,
)
from cnatool.data.formats.wide_csv import Measured, WideTable, parsed_numbers, wrong_cell
from cnatool.data.images.batch import DecodedBatch
from cnatool.data.source import SINGLE_INPUT, ArraySelection, InputSpec
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cnatool.data.formats.columns import Column, TableFile
    from cnatool.data.images.batch import Each

_BATCH = 4_096
# Tables with at least this many columns are read row by row.
WIDE = 1_000
_COMMA = r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$"
_POINT = r"^[+-]?\d*\.\d+(?:[eE][+-]?\d+)?$"


@dataclass(frozen=True, slots=True)
class _Cells:
    """Columns of numbers side by side; read as text, so that a wrong one can be named."""

    spec: InputSpec
    names: tuple[str, ...]
    comma: bool = False

    def values(self, frame: pl.DataFrame, place: RowLocator, each: Each) -> DecodedBatch:
        kind = pl.Int64 if self.spec.dtype.kind == "i" else pl.Float64
        cells = np.empty((len(frame), len(self.names)), self.spec.dtype)
        faults: dict[int, str] = {}
        for i, name in enumerate(self.names):
            column = parsed_numbers(frame[name], kind, comma=self.comma)
            for row in column.is_null().arg_true().to_list() if column.null_count() else ():
                faults.setdefault(row, wrong_cell(place.where(row, name), frame[name][row]))
            cells[:, i] = column.fill_null(0).to_numpy()
        values = cells.reshape(len(frame), *self.spec.shape)
        return DecodedBatch(values, values, faults)


def open_csv(paths: Sequence[Path], wanted: ArraySelection = SINGLE_INPUT) -> TableSource:
    """Open a table with a line of names at its head, in one file or several."""
    tables = [_table(path) for path in paths]
    path, names = tables[0].path, tables[0].names
    for table in tables[1:]:
        if table.names != names:
            raise DataError(
                f"{path} and {table.path} have different columns, so they are not parts of one "
                "table: give one of them, or each as a --split."
            )
    label = find_label_column(path, names, wanted)
    split = wanted.split_column
    if split is not None and split not in names:
        raise missing_column_error(path, "--split-column", split, names)
    chosen = _chosen(path, names, wanted, {label, split})
    used = list(dict.fromkeys(name for given in chosen for name in given[1]))
    try:
        comma = _has_decimal_commas(tables, used)
        found = [table.measure(used, comma=comma) for table in tables]
        whole = _whole(path, used, found)
        specs = [
            InputSpec(name, np.dtype(np.int64 if whole.issuperset(columns) else float), shape)
            for name, columns, shape in chosen
        ]
        inputs = [
            tables[0].cells(number, spec, columns, comma=comma)
            for number, (spec, (_, columns, _)) in enumerate(zip(specs, chosen, strict=True))
        ]
        parts = tuple(
            table.part(each.rows, inputs) for table, each in zip(tables, found, strict=True)
        )
        labels = None if label is None or wanted.ignore_labels else read_labels(parts, label)
    except TABLE_ERRORS as error:
        raise _unreadable(path, error) from error
    name = path.name if len(parts) == 1 else f"{path.name} and {len(parts) - 1} more"
    return TableSource(name, parts, tuple(inputs), labels, split, wanted.images.skip_unreadable)


class _Table(Protocol):
    """A text table in one file, whose columns are all text."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def names(self) -> list[str]:
        """Names of its columns."""

    def matches(self, patterns: Sequence[str], names: Sequence[str]) -> list[bool]:
        """Test for each regular expression whether a cell of some columns matches it."""

    def measure(self, names: Sequence[str], *, comma: bool) -> Measured:
        """Count the rows, and the numbers in some columns."""

    def cells(self, number: int, spec: InputSpec, names: Sequence[str], *, comma: bool) -> Column:
        """Describe how columns become an input."""

    def part(self, rows: int, inputs: Sequence[Column]) -> TableFile:
        """Return the part of a source that this file is."""


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
        found = self.frame.select(
            pl.any_horizontal(cells.str.contains(pattern)).any().alias(str(i))
            for i, pattern in enumerate(patterns)
        ).collect(engine="streaming")
        return list(map(bool, found.row(0)))

    def measure(self, names: Sequence[str], *, comma: bool) -> Measured:
        rows = 0
        numbers, whole = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
        # Batch by batch: an aggregation over all rows at once would hold much of the file.
        scan = self.frame.select(names)
        for frame in scan.collect_batches(chunk_size=_BATCH, maintain_order=True):
            rows += len(frame)
            for i, column in enumerate(frame.iter_columns()):
                for kind, counts in ((pl.Float64, numbers), (pl.Int64, whole)):
                    found = parsed_numbers(column, kind, comma=comma)
                    counts[i] += len(found) - found.null_count()
        return Measured(rows, numbers, whole == rows)

    def cells(self, number: int, spec: InputSpec, names: Sequence[str], *, comma: bool) -> Column:
        return _Cells(spec, tuple(names), comma)

    def part(self, rows: int, inputs: Sequence[Column]) -> TableFile:
        return PolarsFile(self.path, rows, self.frame)


def _table(path: Path) -> _Table:
    try:
        text = open_text(path)
        header, names = text.header(), text.names()
        if len(names) < WIDE:
            frame = scan_text(text)
            names = frame.collect_schema().names()
    except (*TABLE_ERRORS, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    # As written: a duplicate number is renamed, and no longer looks like a number.
    if all(map(_is_number, header)):
        raise DataError(
            f"{path} has no line of names at its head, where labels are found: put one before the "
            "first row."
        )
    if len(names) < WIDE:
        return _PolarsTable(path, text.separator, names, frame)
    return WideTable(text, names)


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path} cannot be read as a table ({printable(one_line(Exception(error)))}). Rows need as "
        "many cells as the line of names, in UTF-8 or UTF-16."
    )


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _chosen(
    path: Path, names: list[str], wanted: ArraySelection, taken: set[str | None]
) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Give the name of each input, its columns, and the shape of one sample."""
    if len(wanted.inputs) == 1 and not wanted.arrays:
        rest = list_feature_columns(names, taken)
        if not rest:
            raise DataError(f"{path} has no column of numbers besides labels.")
        return [("columns", rest, (len(rest),))]
    chosen: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
    for given in wanted.inputs:
        words = wanted.arrays.get(given, given)
        used = (words,) if words in names else tuple(words.split(","))
        for name in used:
            if name not in names:
                raise missing_column_error(path, "--input", name, names)
        chosen.append((given, used, () if len(used) == 1 else (len(used),)))
    return chosen


def _has_decimal_commas(tables: Sequence[_Table], names: Sequence[str]) -> bool:
    """Tell whether numbers are written with decimal commas, which must then hold for all."""
    with_comma = with_point = False
    for table in tables:
        comma, point = table.matches((_COMMA, _POINT), names)
        with_comma, with_point = with_comma or comma, with_point or point
    if with_comma and with_point:
        raise DataError(
            f"{tables[0].path} holds numbers with a decimal comma and numbers with a decimal "
            "point, so that what either means is in doubt: write all in one way."
        )
    return with_comma


def _whole(path: Path, names: Sequence[str], found: Sequence[Measured]) -> set[str]:
    """Say which columns hold whole numbers only; refuse those that hold none at all."""
    if not all(each.rows for each in found):
        raise DataError(f"{path} holds no samples below its line of names.")
    numbers = np.sum([each.numbers for each in found], axis=0)
    for name, count in zip(names, numbers, strict=True):
        if not count:
            raise DataError(
                f"{path}, column {name!r}, holds no numbers: name the columns to use with "
                "--input INPUT=COLUMN,COLUMN, or that of the labels with --labels NAME."
            )
    whole = np.logical_and.reduce([each.whole for each in found])
    return {name for name, are in zip(names, whole, strict=True) if are}
