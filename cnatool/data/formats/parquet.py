"""Parquet, as dataset hubs and data frames write it: one file, or several of one table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from cnatool._util.text import one_line, printable
from cnatool.data.formats.columns import (
    TABLE_ERRORS,
    Column,
    ImageColumn,
    LabelColumn,
    NumberColumn,
    PolarsFile,
    RowLocator,
    TableSource,
    find_image,
    read_labels,
)
from cnatool.data.formats.features import (
    FeatureColumns,
    find_label_column,
    list_feature_columns,
    missing_column_error,
)
from cnatool.data.images.batch import FIRST_READABLE, describe_image, read_first_image
from cnatool.data.labels import LABELS_ADVICE
from cnatool.data.source import SINGLE_INPUT, ArraySelection, InputSpec, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cnatool.data.source import ImageOptions


def open_parquet(paths: Sequence[Path], wanted: ArraySelection = SINGLE_INPUT) -> TableSource:
    """Open a table in one Parquet file or several."""
    parts = [_part(path) for path in paths]
    path, schema = parts[0].path, parts[0].frame.collect_schema()
    for part in parts[1:]:
        if part.frame.collect_schema() != schema:
            raise DataError(
                f"{path} and {part.path} have different columns, so they are not parts of one "
                "table: give one of them, or each as a --split."
            )
    held = next((part for part in parts if part.rows), None)
    if held is None:
        raise DataError(f"{path} holds no samples.")
    chosen, label = _chosen(path, schema, wanted)
    names = list(dict.fromkeys(name for _, used in chosen for name in used))
    try:
        first = (
            held.frame.select(names)
            .head(FIRST_READABLE if wanted.images.skip_unreadable else 1)
            .collect()
        )
    except TABLE_ERRORS as error:
        raise _unreadable(path, error) from error
    if wanted.images.skip_unreadable:
        first = _typical(first)
    columns = tuple(
        _features(held.path, title, first.select(used).get_columns())
        if title is not None
        else _column(held, first[used[0]], wanted.images)
        for title, used in chosen
    )
    labels = None if label is None or wanted.ignore_labels else _labels(parts, label, schema[label])
    split = wanted.split_column
    if split is not None and split not in schema:
        raise missing_column_error(path, "--split-column", split, schema.names())
    name = path.name if len(parts) == 1 else f"{path.name} and {len(parts) - 1} more"
    return TableSource(name, tuple(parts), columns, labels, split, wanted.images.skip_unreadable)


def _chosen(
    path: Path, schema: pl.Schema, wanted: ArraySelection
) -> tuple[list[tuple[str | None, tuple[str, ...]]], str | None]:
    """Give the columns of each input, with a title where they are features, and the labels'."""
    names = schema.names()
    if _are_features(schema, wanted):
        label = find_label_column(path, names, wanted)
        rest = list_feature_columns(names, {label, wanted.split_column})
        if rest and not any(schema[n].is_nested() or schema[n] == pl.Binary for n in rest):
            return [("columns", rest)], label
    listed = {
        given: tuple(words.split(","))
        for given, words in wanted.arrays.items()
        if "," in words and words not in names
    }
    for used in listed.values():
        for name in used:
            if name not in names:
                raise missing_column_error(path, "--input", name, names)
    single = tuple(given for given in wanted.inputs if given not in listed)
    arrays = wanted.arrays if not listed else {n: wanted.arrays.get(n, n) for n in single}
    found, label = replace(wanted, inputs=single, arrays=arrays).chosen(str(path), names, "column")
    columns = dict(zip(single, found, strict=True))
    if listed and label is None:
        label = find_label_column(path, names, wanted)
    return [
        (given, listed[given]) if given in listed else (None, (columns[given],))
        for given in wanted.inputs
    ], label


def _are_features(schema: pl.Schema, wanted: ArraySelection) -> bool:
    """Whether a model's only input may be made of all columns: none has a name of samples."""
    return (
        len(wanted.inputs) == 1
        and not wanted.arrays
        and not set(wanted.names()[0]).intersection(schema.names())
    )


def _typical(frame: pl.DataFrame) -> pl.DataFrame:
    """Give the first row with lists as long as most have: what differs from it is damaged."""
    forms = list(zip(*(_lengths(column) for column in frame.iter_columns()), strict=True))
    [(form, _)] = Counter(forms).most_common(1)
    return frame[forms.index(form)]


def _lengths(column: pl.Series) -> list[int]:
    """Give how many values each row has in all: 1 of a plain one, -1 where it is missing."""
    if isinstance(column.dtype, pl.List | pl.Array):
        nested = isinstance(column.dtype.inner, pl.List | pl.Array)
        return [
            -1 if row is None else sum(_lengths(row), 0) if nested else len(row) for row in column
        ]
    return [-1 if missing else 1 for missing in column.is_null()]


def _part(path: Path) -> PolarsFile:
    try:
        # Of a file that is cut, nothing is to be guessed; and a name is no pattern.
        frame = pl.scan_parquet(path, glob=False)
        rows = int(frame.select(pl.len()).collect().item())
    except TABLE_ERRORS as error:
        raise _unreadable(path, error) from error
    return PolarsFile(path, rows, frame)


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path} cannot be read as Parquet ({printable(one_line(Exception(error)))}). Get a whole "
        "copy of the file."
    )


def _column(part: PolarsFile, first: pl.Series, view: ImageOptions) -> Column:
    where = f"{part.path}, column {first.name!r},"
    kind = first.dtype
    fields = {field.name for field in kind.fields} if isinstance(kind, pl.Struct) else set()
    if "bytes" in fields or kind == pl.Binary:
        return _pictures(part, first.name, view)
    name, shape = first.name, []
    while isinstance(first.dtype, pl.List | pl.Array) and len(first) and first[0] is not None:
        shape.append(len(first[0]))
        first = first.head(1).explode(empty_as_null=True, keep_nulls=True)
    if not first.dtype.is_numeric() and first.dtype != pl.Boolean:
        raise DataError(
            f"{where} holds {first.dtype}: samples are numbers, lists of numbers that are equally "
            "long in every row, or encoded pictures."
        )
    dtype = first.head(0).to_numpy().dtype
    check_sample(where, dtype, tuple(shape))
    return NumberColumn(InputSpec(name, dtype, tuple(shape)))


def _pictures(part: PolarsFile, name: str, view: ImageOptions) -> ImageColumn:
    try:
        frame = (
            part.frame.select(name).head(FIRST_READABLE if view.skip_unreadable else 1).collect()
        )
    except TABLE_ERRORS as error:
        raise _unreadable(part.path, error) from error
    found = partial(find_image, frame, name, RowLocator((part,), (part.rows,), 0))
    first, pixels = read_first_image(found, len(frame), view)
    return ImageColumn(name, describe_image(name, first, pixels, view), view, first)


def _features(path: Path, title: str, first: Sequence[pl.Series]) -> FeatureColumns:
    for column in first:
        if not column.dtype.is_numeric() and column.dtype != pl.Boolean:
            raise DataError(
                f"{path}, column {column.name!r}, holds {column.dtype} and no numbers: name the "
                "columns to use with --input INPUT=COLUMN,COLUMN, or that of the labels with "
                "--labels NAME."
            )
    kinds = {column.dtype: column for column in first}.values()
    dtype = np.result_type(*(column.head(0).to_numpy().dtype for column in kinds))
    check_sample(str(path), dtype, (len(first),))
    names = tuple(column.name for column in first)
    return FeatureColumns(InputSpec(title, dtype, (len(first),)), names)


def _labels(parts: Sequence[PolarsFile], name: str, kind: pl.DataType) -> LabelColumn:
    if kind.is_integer():
        return LabelColumn(name, _classes_of_all(parts, name))
    if kind.is_nested() or kind == pl.Binary or kind.is_temporal():
        raise DataError(
            f"{parts[0].path}, column {name!r}, is {kind}; labels are whole numbers or names of "
            f"classes: {LABELS_ADVICE}"
        )
    try:
        return read_labels(parts, name)
    except TABLE_ERRORS as error:
        raise _unreadable(parts[0].path, error) from error


def _classes_of_all(parts: Sequence[PolarsFile], name: str) -> tuple[str, ...] | None:
    """Give the names of classes that the files agree on."""
    found = [(part.path, names) for part in parts if (names := _class_names(part.path, name))]
    if not found:
        return None
    first, classes = found[0]
    for path, names in found[1:]:
        if names != classes:
            number = next(
                (i for i, (a, b) in enumerate(zip(classes, names, strict=False)) if a != b),
                min(len(classes), len(names)),
            )
            one, other = (repr(c[number]) if number < len(c) else "none" for c in (classes, names))
            raise DataError(
                f"{first} and {path} name the classes of column {name!r} differently (class "
                f"{number}: {printable(one)} and {printable(other)}), so that one label would mean "
                "two classes: save both with the same ClassLabel feature."
            )
    return classes


def _class_names(path: Path, column: str) -> tuple[str, ...] | None:
    """Give the names of classes where the metadata has them, as dataset hubs write them."""
    try:
        found: Any = json.loads(pl.read_parquet_metadata(path).get("huggingface", "null"))
        names = found["info"]["features"][column]["names"]
    # It describes the file and is not needed to read it, so whatever is odd in it is left alone.
    except (*TABLE_ERRORS, ValueError, TypeError, KeyError, RecursionError):
        return None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
