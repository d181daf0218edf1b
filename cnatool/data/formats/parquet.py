"""Parquet, as data hubs and data frames write it: one file, or several of one table."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from cnatool._util.text import printable
from cnatool.data.formats.bucket_parquet import BucketParquet
from cnatool.data.formats.parquet_footer import read_footer
from cnatool.data.formats.sound_column import SoundColumn, holds_sound, open_sound_column
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
from cnatool.data.formats.table_columns import (
    Column,
    FeatureColumns,
    ImageColumn,
    LabelColumn,
    NumberColumn,
    RowLocator,
    find_image,
)
from cnatool.data.formats.table_sequences import LabelListColumn, SequenceColumn, describe_sequences
from cnatool.data.images.batch import FIRST_READABLE, describe_image, read_first_image
from cnatool.data.labels import LABELS_ADVICE
from cnatool.data.read_errors import read_error
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import InputSpec, check_sample
from cnatool.errors import CnatoolError, DataError
from cnatool.store.object_path import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TypeAlias

    from cnatool.data.formats.parquet_footer import Footer
    from cnatool.data.selection import ArraySelection

    _ParquetFile: TypeAlias = PolarsFile | BucketParquet

# Rows of sound whose length is looked at.
_HEARD = 16


def open_parquet(paths: Sequence[Path], selection: ArraySelection = SINGLE_INPUT) -> TableSource:
    """Open a table in one Parquet file or several."""
    parts = [open_file(path) for path in paths]
    path, schema = parts[0].path, parts[0].schema()
    check_same_columns([(part.path, part.schema()) for part in parts])
    part = next((part for part in parts if part.rows), None)
    if part is None:
        raise DataError(f"{path} holds no samples.")
    selection = selection.among(str(path), schema.names())
    selected, label = _select_columns(path, schema, selection)
    names = list(dict.fromkeys(name for _, used in selected for name in used))
    skip = selection.images.skip_unreadable
    first = _read_head(part, names, skip=skip)
    typical = _typical_row(first) if skip else first
    columns = tuple(
        _make_features(part.path, title, typical.select(used).get_columns())
        if title is not None
        else _make_sequences(part, used[0])
        if name in selection.any_length and _differ_in_length(parts, used[0], schema)
        else _make_column(part, typical[used[0]], selection)
        for name, (title, used) in zip(selection.inputs, selected, strict=True)
    )
    labels = None
    if label is not None and not selection.ignore_labels:
        labels = make_labels(parts, label, schema[label])
    check_split_column(path, selection, schema.names())
    return TableSource(tuple(parts), columns, labels, selection.split_column, skip)


def _select_columns(
    path: Path, schema: pl.Schema, selection: ArraySelection
) -> tuple[list[tuple[str | None, tuple[str, ...]]], str | None]:
    """Select the columns of each input, with a title if they are features, and of the labels."""
    names = schema.names()
    if _are_features(schema, selection):
        label = find_label_column(path, names, selection)
        rest = list_feature_columns(names, {label, selection.split_column})
        if rest and not any(schema[n].is_nested() or schema[n] == pl.Binary for n in rest):
            return [("columns", rest)], label
    lists = {
        name: tuple(words.split(","))
        for name, words in selection.arrays.items()
        if "," in words and words not in names
    }
    for used in lists.values():
        for name in used:
            if name not in names:
                raise missing_column_error(path, "`inputs`", name, names)
    single = tuple(name for name in selection.inputs if name not in lists)
    arrays = selection.arrays if not lists else {n: selection.arrays.get(n, n) for n in single}
    chosen, label = replace(selection, inputs=single, arrays=arrays).select(
        str(path), names, "column"
    )
    columns = dict(zip(single, chosen, strict=True))
    if lists and label is None:
        label = find_label_column(path, names, selection)
    return [
        (name, lists[name]) if name in lists else (None, (columns[name],))
        for name in selection.inputs
    ], label


def _are_features(schema: pl.Schema, selection: ArraySelection) -> bool:
    """Whether the only input of a model may be all columns, as none has a name of samples."""
    return (
        len(selection.inputs) == 1
        and not selection.arrays
        and not set(selection.input_names()[0]).intersection(schema.names())
    )


def _typical_row(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the first row with lists as long as most have: what differs from it is damaged."""
    lengths = list(zip(*(_lengths(column) for column in frame.iter_columns()), strict=True))
    [(most_common, _)] = Counter(lengths).most_common(1)
    return frame[lengths.index(most_common)]


def _lengths(column: pl.Series) -> list[int]:
    """Count the values of each row, in all: 1 of a plain one, -1 if it is missing."""
    if isinstance(column.dtype, pl.List | pl.Array):
        nested = isinstance(column.dtype.inner, pl.List | pl.Array)
        return [
            -1 if row is None else sum(_lengths(row), 0) if nested else len(row) for row in column
        ]
    return [-1 if missing else 1 for missing in column.is_null()]


def open_file(path: Path) -> _ParquetFile:
    """Open one Parquet file, on a disk or in a bucket."""
    try:
        if isinstance(path, ObjectPath):
            return BucketParquet(path)
        # A name is no pattern.
        frame = pl.scan_parquet(path, glob=False)
        rows = int(frame.select(pl.len()).collect().item())
    except TABLE_ERRORS as error:
        raise _unreadable(path, error) from error
    return PolarsFile(path, rows, frame)


def _read_head(part: _ParquetFile, names: Sequence[str], *, skip: bool) -> pl.DataFrame:
    """Read the first row, or several to find a readable one."""
    try:
        return part.head(names, FIRST_READABLE if skip else 1)
    except TABLE_ERRORS as error:
        raise _unreadable(part.path, error) from error


def _unreadable(path: Path, error: BaseException) -> CnatoolError:
    return read_error(path, error, problem="cannot be read as Parquet")


def _make_column(part: _ParquetFile, first: pl.Series, selection: ArraySelection) -> Column:
    where = f"{part.path}, column {first.name!r},"
    kind = first.dtype
    fields = {field.name for field in kind.fields} if isinstance(kind, pl.Struct) else set()
    if "bytes" in fields or kind == pl.Binary:
        return _make_files(part, first.name, selection)
    name, shape = first.name, []
    while isinstance(first.dtype, pl.List | pl.Array) and len(first) and first[0] is not None:
        shape.append(len(first[0]))
        first = first.head(1).explode(empty_as_null=True, keep_nulls=True)
    if not first.dtype.is_numeric() and first.dtype != pl.Boolean:
        raise DataError(
            f"{where} holds {first.dtype}: samples are numbers, lists of numbers that are equally "
            "long in every row, or encoded images or sound files."
        )
    dtype = first.head(0).to_numpy().dtype
    check_sample(where, dtype, tuple(shape))
    return NumberColumn(InputSpec(name, dtype, tuple(shape)))


def _make_sequences(part: _ParquetFile, name: str) -> SequenceColumn:
    first = _read_head(part, [name], skip=True)[name]
    return SequenceColumn(describe_sequences(f"{part.path}, column {name!r},", name, first))


def _differ_in_length(parts: Sequence[_ParquetFile], name: str, schema: pl.Schema) -> bool:
    """Whether the lists of a column differ in length, by the first of them and the metadata."""
    if not isinstance(schema[name], pl.List):
        return False
    whole = [part for part in parts if part.rows]
    shapes = set()
    for row in _read_head(whole[0], [name], skip=True)[name]:
        values = row
        shape = [0 if row is None else len(row)]
        while isinstance(values, pl.Series) and isinstance(values.dtype, pl.List | pl.Array):
            values = values[0] if len(values) else None
            shape.append(0 if values is None else len(values))
        shapes.add(tuple(shape))
    if len({shape[0] for shape in shapes if shape[0]}) > 1:
        return True
    size = max(map(math.prod, shapes))
    # Rows that are missing have an entry each, as those with one value.
    return any(_read_footer(part).count_values(name) != part.rows * size for part in whole)


def _read_footer(part: _ParquetFile) -> Footer:
    return part.footer if isinstance(part, BucketParquet) else read_footer(part.path)


def _make_files(
    part: _ParquetFile, name: str, selection: ArraySelection
) -> ImageColumn | SoundColumn:
    options = selection.images
    frame = _read_head(part, [name], skip=options.skip_unreadable)
    if holds_sound(frame, name, part.path, part.rows):
        # Lengths differ, so that a few rows tell more than the first.
        frame = frame if len(frame) > 1 else part.head([name], _HEARD)
        return open_sound_column(frame, name, part.path, part.rows, selection)
    find = partial(find_image, frame, name, RowLocator((part.path,), (part.rows,), 0))
    first, pixels = read_first_image(find, len(frame), options)
    return ImageColumn(name, describe_image(name, first, pixels, options), options, first)


def _make_features(path: Path, title: str, first: Sequence[pl.Series]) -> FeatureColumns:
    for column in first:
        if not column.dtype.is_numeric() and column.dtype != pl.Boolean:
            raise DataError(
                f"{path}, column {column.name!r}, holds {column.dtype}, not numbers: name the "
                "columns to use with `inputs={'INPUT': 'COLUMN,COLUMN'}`, or that of the labels "
                "with `labels=NAME`."
            )
    kinds = {column.dtype: column for column in first}.values()
    dtype = np.result_type(*(column.head(0).to_numpy().dtype for column in kinds))
    check_sample(str(path), dtype, (len(first),))
    names = tuple(column.name for column in first)
    return FeatureColumns(InputSpec(title, dtype, (len(first),)), names)


def make_labels(
    parts: Sequence[_ParquetFile], name: str, kind: pl.DataType
) -> LabelColumn | LabelListColumn:
    """Read what the values of a column of labels mean."""
    if kind.is_integer():
        return LabelColumn(name, _read_common_classes(parts, name))
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else None
    if isinstance(inner, pl.DataType) and inner.is_integer():
        return LabelListColumn(name, _read_common_classes(parts, name))
    if kind.is_nested() or kind == pl.Binary or kind.is_temporal():
        raise DataError(
            f"{parts[0].path}, column {name!r}, is {kind}; labels are whole numbers, lists of "
            f"them, or names of classes: {LABELS_ADVICE}"
        )
    try:
        return read_labels(parts, name)
    except TABLE_ERRORS as error:
        raise _unreadable(parts[0].path, error) from error


def _read_common_classes(parts: Sequence[_ParquetFile], name: str) -> tuple[str, ...] | None:
    """Read the names of classes, on which all files must agree."""
    named = [(part.path, names) for part in parts if (names := _read_classes(part, name))]
    if not named:
        return None
    first, classes = named[0]
    for path, names in named[1:]:
        if names != classes:
            number = next(
                (i for i, (a, b) in enumerate(zip(classes, names, strict=False)) if a != b),
                min(len(classes), len(names)),
            )
            ours, theirs = (
                repr(c[number]) if number < len(c) else "none" for c in (classes, names)
            )
            raise DataError(
                f"{first} and {path} name the classes of column {name!r} differently (class "
                f"{number}: {printable(ours)} and {printable(theirs)}), so that one label would "
                "mean two classes: save both with the same ClassLabel feature."
            )
    return classes


def _read_classes(part: _ParquetFile, column: str) -> tuple[str, ...] | None:
    """Read the names of classes from the metadata, as data hubs write them."""
    try:
        file = part.metadata if isinstance(part, BucketParquet) else part.path
        metadata: Any = json.loads(pl.read_parquet_metadata(file).get("huggingface", "null"))
        feature = metadata["info"]["features"][column]
        names = feature.get("feature", feature)["names"]
    # It describes the file and is not needed to read it, so whatever is odd in it is ignored.
    except (*TABLE_ERRORS, AttributeError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
