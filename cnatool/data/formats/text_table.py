"""Columns of texts in CSV, TSV and Parquet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from cnatool.data.formats.csv_text import (
    mark_undecodable,
    open_text,
    scan_text,
    table_error,
)
from cnatool.data.formats.parquet import make_labels, open_file
from cnatool.data.formats.table import (
    TABLE_ERRORS,
    PolarsFile,
    TableSource,
    check_same_columns,
    check_split_column,
    find_label_column,
    list_feature_columns,
    read_labels,
)
from cnatool.data.formats.text import select_columns
from cnatool.data.images.batch import DecodedBatch
from cnatool.data.read_errors import read_error
from cnatool.data.text_batch import TYPICAL, describe_text, find_fault, make_arrays
from cnatool.data.utf8 import MARK, restore_bytes
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cnatool.data.formats.bucket_parquet import BucketParquet
    from cnatool.data.formats.csv_text import TableText
    from cnatool.data.formats.table_columns import LabelColumn, RowLocator
    from cnatool.data.formats.table_sequences import LabelListColumn
    from cnatool.data.images.batch import Each
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import InputSpec


@dataclass(frozen=True, slots=True)
class _TextColumn:
    """A column of texts."""

    spec: InputSpec
    name: str
    # Whether marks stand for what is not UTF-8.
    marked: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        faults: dict[int, str] = {}
        texts = []
        for row, value in enumerate(frame[self.name].to_list()):
            fault = "is missing: fill it, or leave the row out."
            text = b""
            if value is not None:
                text = restore_bytes(value) if self.marked else value.encode()
                fault = find_fault(text) or ""
            if fault:
                faults[row], text = f"{locator.where(row, self.name)} {fault}", b""
            texts.append(text)
        return DecodedBatch(*make_arrays(self.spec, texts), faults)


def open_csv_texts(paths: Sequence[Path], selection: ArraySelection) -> TableSource:
    """Open columns of texts in a table with a header line."""
    try:
        texts = [open_text(path) for path in paths]
        try:
            return _open_tables(texts, selection, marked=False)
        except TABLE_ERRORS:
            marked = [mark_undecodable(text) for text in texts]
            if marked == texts:
                raise
            return _open_tables(marked, selection, marked=True)
    except (*TABLE_ERRORS, UnicodeDecodeError) as error:
        raise table_error(paths[0], error) from error


def _open_tables(
    tables: Sequence[TableText], selection: ArraySelection, *, marked: bool
) -> TableSource:
    """Open columns of texts; ``marked`` if marks stand for what is not UTF-8."""
    parts = []
    for table in tables:
        frame = scan_text(table)
        rows = int(frame.select(pl.len()).collect(engine="streaming").item())
        parts.append(PolarsFile(table.path, rows, frame))
    path, frame = parts[0].path, parts[0].frame
    for part in parts:
        if marked and any(MARK in name for name in part.schema().names()):
            raise DataError(f"{part.path}: its header line is not UTF-8. Save it in UTF-8.")
    check_same_columns([(part.path, part.schema().names()) for part in parts])
    # A column in which anything is no number is one of texts.
    number = pl.all().str.strip_chars().cast(pl.Float64, strict=False).is_not_null()
    numbers = frame.select((number | pl.all().is_null()).all()).collect(engine="streaming")
    texts = [name for name in numbers.columns if not numbers[name].item()]
    label = find_label_column(path, numbers.columns, selection)
    if marked:
        # What is no text names no class and no split either.
        others = [name for name in (label, selection.split_column) if name in numbers.columns]
        parts = [_blank_marks(part, others) for part in parts]
    labels = None
    if label is not None and not selection.ignore_labels:
        labels = read_labels(parts, label)
    return _make_source(
        parts, numbers.columns, texts, label, labels, selection, in_order=True, marked=marked
    )


def _blank_marks(part: PolarsFile, names: Sequence[str | None]) -> PolarsFile:
    """Leave cells of some columns empty that are not UTF-8."""
    cells = [pl.col(name) for name in names if name is not None]
    blank = [
        pl.when(cell.str.contains(MARK, literal=True)).then(None).otherwise(cell).name.keep()
        for cell in cells
    ]
    return replace(part, frame=part.frame.with_columns(blank))


def open_parquet_texts(paths: Sequence[Path], selection: ArraySelection) -> TableSource:
    """Open columns of texts in one Parquet file or several."""
    parts = [open_file(path) for path in paths]
    path, schema = parts[0].path, parts[0].schema()
    check_same_columns([(part.path, part.schema()) for part in parts])
    texts = [name for name, kind in schema.items() if kind == pl.String]
    label = find_label_column(path, schema.names(), selection)
    labels = None
    if label is not None and not selection.ignore_labels:
        labels = make_labels(parts, label, schema[label])
    return _make_source(parts, schema.names(), texts, label, labels, selection, in_order=False)


def _make_source(
    parts: Sequence[PolarsFile | BucketParquet],
    names: Sequence[str],
    texts: Sequence[str],
    label: str | None,
    labels: LabelColumn | LabelListColumn | None,
    selection: ArraySelection,
    *,
    in_order: bool,
    marked: bool = False,
) -> TableSource:
    part = next((part for part in parts if part.rows), None)
    if part is None:
        raise DataError(f"{parts[0].path} holds no texts.")
    path = part.path
    check_split_column(path, selection, names)
    others = {label, selection.split_column}
    candidates = [name for name in list_feature_columns(names, others) if name in texts]
    columns = select_columns(str(path), selection, names, candidates)
    for name in columns:
        if name not in texts and in_order is False:
            raise DataError(
                f"{path}, column {name!r}, holds {part.schema()[name]}, not texts: name the "
                "column of texts with `inputs={'INPUT': COLUMN}`."
            )
    try:
        head = part.head(columns, TYPICAL)
    except TABLE_ERRORS as error:
        raise read_error(path, error, problem="is damaged") from error
    specs = [
        describe_text(name, shape, [(text or "").encode() for text in head[name]])
        for name, shape in zip(columns, selection.text_forms(), strict=True)
    ]
    return TableSource(
        tuple(parts),
        tuple(_TextColumn(spec, name, marked) for spec, name in zip(specs, columns, strict=True)),
        labels,
        selection.split_column,
        selection.images.skip_unreadable,
        in_order,
    )
