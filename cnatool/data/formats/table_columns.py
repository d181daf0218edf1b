"""Columns of a table as inputs and labels, from one bounded frame of polars at a time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from cnatool._util.text import count_text
from cnatool.data.file_names import IMAGES, row_id
from cnatool.data.images.batch import DecodedBatch, decode_batch
from cnatool.data.images.decode import bytes_opener
from cnatool.data.source import InputSpec, SampleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.file_names import FileKind
    from cnatool.data.images.batch import Each
    from cnatool.data.images.decode import Opener
    from cnatool.data.selection import ImageOptions
    from cnatool.records.ragged import Rows


@dataclass(frozen=True, slots=True)
class RowLocator:
    """Where the rows of a frame lie in the files of a table.

    Attributes
    ----------
    paths : tuple of Path
    ends : tuple of int
        The number of rows up to the end of each file.
    start : int
        The first row of the frame.
    """

    paths: tuple[Path, ...]
    ends: tuple[int, ...]
    start: int

    def _locate(self, row: int) -> tuple[Path, int]:
        number = bisect_right(self.ends, self.start + row)
        before = self.ends[number - 1] if number else 0
        return self.paths[number], self.start + row - before

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return row_id(self.paths, *self._locate(row))

    def where(self, row: int, column: str) -> str:
        """Name a value for a message."""
        path, number = self._locate(row)
        return f"{path}, column {column!r}, row {number},"


class Column(Protocol):
    """How columns become one input."""

    @property
    def spec(self) -> InputSpec:
        """The input."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        """Decode the rows of a frame."""


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of numbers, or of lists of numbers that are equally long in every row."""

    spec: InputSpec

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return (self.spec.name,)

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        """Decode to (rows, *shape)."""
        shape = self.spec.shape
        faults: dict[int, str] = {}
        rows = np.arange(len(frame))
        column = frame[self.spec.name]
        while wrong := _find_misfits(column, shape):
            faults |= {
                int(rows[row]): f"{locator.where(int(rows[row]), self.spec.name)} {text}"
                for row, text in wrong.items()
            }
            good = np.setdiff1d(np.arange(len(rows)), list(wrong))
            rows, column = rows[good], column[good.tolist()]
        for _ in shape:
            column = column.explode(empty_as_null=True, keep_nulls=True)
        values = np.ascontiguousarray(column.to_numpy()).reshape(len(rows), *shape)
        if faults:
            scattered: NDArray[Any] = np.zeros((len(frame), *shape), values.dtype)
            scattered[rows] = values
            values = scattered
        return DecodedBatch(values, values, faults)


def _find_misfits(column: pl.Series, shape: tuple[int, ...]) -> dict[int, str]:
    """Describe rows that are no lists of a shape: those of the outermost axis with any."""
    inner, rows = 1, len(column)
    misfits: dict[int, str] = {}
    for size in shape:
        if isinstance(column.dtype, pl.List):
            lengths = column.list.len().fill_null(-1).to_numpy()
            for at in np.flatnonzero(lengths != size).tolist():
                text = (
                    "is missing" if lengths[at] < 0 else f"has {count_text(lengths[at], 'value')}"
                )
                misfits.setdefault(
                    at // inner,
                    f"{text} where the first row has {size}: pad all lists to one length, "
                    "with a mask if the model takes one, or export it for any length.",
                )
            if misfits:
                return misfits
        column, inner = column.explode(empty_as_null=True, keep_nulls=True), inner * size
    if rows and column.null_count():
        for at in column.is_null().arg_true().to_list():
            misfits.setdefault(
                at // inner,
                "is missing, or has a missing value: fill it, or leave the row out.",
            )
    return misfits


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Columns of numbers side by side."""

    spec: InputSpec
    names: tuple[str, ...]

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        """Decode to (rows, *shape)."""
        columns = frame.select(self.names).get_columns()
        return stack_columns(
            columns, self.spec, lambda row, at: bad_cell(locator.where(row, self.names[at]), None)
        )


def stack_columns(
    columns: Sequence[pl.Series], spec: InputSpec, fault: Callable[[int, int], str]
) -> DecodedBatch:
    """Stack columns of numbers to (rows, *shape); ``fault`` describes a null by row and column."""
    rows = len(columns[0])
    faults: dict[int, str] = {}
    for at, column in enumerate(columns):
        if len(faults) == rows:
            break
        for row in column.is_null().arg_true().to_list() if column.null_count() else ():
            if row not in faults:
                faults[row] = fault(row, at)
    cells = np.empty((rows, len(columns)), spec.dtype)
    # All columns of one type at a time: one by one, 200,000 of them would take a minute.
    by_dtype: dict[pl.DataType, list[int]] = {}
    for at, column in enumerate(columns):
        by_dtype.setdefault(column.dtype, []).append(at)
    for numbers in by_dtype.values():
        frame = pl.DataFrame([columns[at].alias(str(at)) for at in numbers])
        if faults:
            frame = frame.fill_null(strategy="zero")
        cells[:, numbers] = frame.to_numpy()
    values = cells.reshape(rows, *spec.shape)
    return DecodedBatch(values, values, faults)


def bad_cell(where: str, text: str | None) -> str:
    """Return the message for a cell that is not a number."""
    return (
        f"{where} is {'empty' if text is None else repr(text)}: fill it with a number, leave the "
        "row out, or name the columns to use with `inputs={'INPUT': 'COLUMN,COLUMN'}`."
    )


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """A column of encoded images: bytes, or a struct with a field ``bytes``.

    Attributes
    ----------
    column : str
    spec : InputSpec
        From `describe_image` with the same ``options``.
    options : ImageOptions
    first : str
        The first image, for messages.
    """

    column: str
    spec: InputSpec
    options: ImageOptions
    first: str

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return (self.column,)

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        """Decode to (rows, H, W) or (rows, H, W, 3), or to levels."""
        find = partial(find_image, frame, self.column, locator)
        return decode_batch(self.spec, self.options, len(frame), find, each, self.first)


def find_image(frame: pl.DataFrame, name: str, locator: RowLocator, row: int) -> tuple[str, Opener]:
    """Find an image in a column: its name for messages, and what opens it."""
    where, content = find_bytes(frame, name, locator, row, IMAGES)
    return where, bytes_opener(content)


def find_bytes(
    frame: pl.DataFrame, name: str, locator: RowLocator, row: int, kind: FileKind
) -> tuple[str, bytes]:
    """Find a file in a column: its name for messages, and its bytes."""
    contents = frame[name]
    if isinstance(contents.dtype, pl.Struct):
        contents = contents.struct.field("bytes")
    where = locator.where(row, name)
    content: bytes | None = contents[row] if contents.dtype == pl.Binary else None
    if content is None:
        raise SampleError(
            f"{where} holds no bytes of {kind.article} {kind.noun}: save {kind.plural} themselves "
            "and not their paths, or leave the row out."
        )
    return where, content


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """A column of labels.

    Attributes
    ----------
    name : str
    classes : tuple of str or None
        Names of the class numbers.
    numbers : dict of str to int or None
        The class number of each value; None if the column holds class numbers.
    """

    name: str
    classes: tuple[str, ...] | None = None
    numbers: dict[str, int] | None = None

    @property
    def lists(self) -> bool:
        """False: a row has one label."""
        return False

    def decode(self, frame: pl.DataFrame, locator: RowLocator) -> tuple[Rows, dict[int, str]]:
        """Decode the labels of a frame; describe those that are none, by row."""
        column = frame[self.name]
        if self.numbers is None:
            # What is no whole number of 64 bits becomes null.
            numbers = column.cast(pl.Int64, strict=False)
        else:
            numbers = column.cast(pl.String).replace_strict(
                list(self.numbers),
                list(self.numbers.values()),
                default=None,
                return_dtype=pl.Int64,
            )
        faults = {}
        for row in numbers.is_null().arg_true().to_list():
            value = frame[self.name][row]
            faults[row] = (
                f"{locator.where(row, self.name)} has "
                + ("no label." if value is None else f"the label {value!r}.")
                + " Labels are whole numbers of 64 bits, or names of classes: correct the row, or "
                "leave it out."
            )
        return np.ascontiguousarray(numbers.fill_null(0).to_numpy()), faults
