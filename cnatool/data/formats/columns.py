"""Samples that are rows of a table: columns streamed through polars, a bounded frame at a time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from cnatool._util.text import one_line, printable
from cnatool.data.images.batch import (
    DecodedBatch,
    collect_model_arrays,
    decode_batch,
    decode_threads,
)
from cnatool.data.images.decode import bytes_opener
from cnatool.data.labels import LABELS_ADVICE, MAX_CLASSES, encode_labels
from cnatool.data.source import Block, InputSpec, SampleError, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.images.batch import Each
    from cnatool.data.images.decode import Opener
    from cnatool.data.source import ImageOptions

# What polars raises over a damaged file. A panic is no Exception there.
TABLE_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)

# Where a column cannot be labels.


class TableFile(Protocol):
    """One file of a table."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def rows(self) -> int:
        """How many it has."""

    def frames(self, names: Sequence[str], rows: int, limit: int) -> Iterator[pl.DataFrame]:
        """Yield frames of some columns in order, of about ``rows`` rows, ``limit`` in all."""

    def distinct(self, name: str, most: int) -> Iterable[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""


@dataclass(frozen=True, slots=True)
class PolarsFile:
    """One file of a table that polars reads.

    Attributes
    ----------
    path : Path
    rows : int
    frame : polars.LazyFrame
        Its rows, not read yet.
    """

    path: Path
    rows: int
    frame: pl.LazyFrame

    def frames(self, names: Sequence[str], rows: int, limit: int) -> Iterator[pl.DataFrame]:
        """Yield frames of some columns in order, of about ``rows`` rows, ``limit`` in all."""
        scan = self.frame.select(names).head(limit)
        return scan.collect_batches(chunk_size=rows, maintain_order=True)

    def distinct(self, name: str, most: int) -> Iterable[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""
        values = self.frame.select(pl.col(name).cast(pl.String).unique().drop_nulls())
        found: Iterable[str] = values.head(most + 1).collect(engine="streaming")[name]
        return found


@dataclass(frozen=True, slots=True)
class RowLocator:
    """Where in the files of a table the rows of a frame lie."""

    parts: tuple[TableFile, ...]
    ends: tuple[int, ...]
    start: int

    def _found(self, row: int) -> tuple[Path, int]:
        number = bisect_right(self.ends, self.start + row)
        before = self.ends[number - 1] if number else 0
        return self.parts[number].path, self.start + row - before

    def id(self, row: int) -> str:
        """Give the id of a row: its number, after the name of its file if there are several."""
        path, number = self._found(row)
        return str(number) if len(self.parts) == 1 else f"{path.name}:{number}"

    def where(self, row: int, column: str) -> str:
        """Name a value for a message."""
        path, number = self._found(row)
        return f"{path}, column {column!r}, row {number},"


class Column(Protocol):
    """How columns become one input."""

    @property
    def spec(self) -> InputSpec:
        """The input."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""

    def values(self, frame: pl.DataFrame, place: RowLocator, each: Each) -> DecodedBatch:
        """Give the input's rows, and why some cannot be read."""


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of numbers, or of lists of numbers that are equally long in every row."""

    spec: InputSpec

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return (self.spec.name,)

    def values(self, frame: pl.DataFrame, place: RowLocator, each: Each) -> DecodedBatch:
        """Give arrays (rows, *shape)."""
        shape = self.spec.shape
        faults: dict[int, str] = {}
        rows = np.arange(len(frame))
        column = frame[self.spec.name]
        while wrong := _misfits(column, shape):
            faults |= {
                int(rows[row]): f"{place.where(int(rows[row]), self.spec.name)} {text}"
                for row, text in wrong.items()
            }
            good = np.setdiff1d(np.arange(len(rows)), list(wrong))
            rows, column = rows[good], column[good.tolist()]
        for _ in shape:
            column = column.explode(empty_as_null=True, keep_nulls=True)
        values = np.ascontiguousarray(column.to_numpy()).reshape(len(rows), *shape)
        if faults:
            values = scatter_rows(values, rows, len(frame))
        return DecodedBatch(values, values, faults)


def _misfits(column: pl.Series, shape: tuple[int, ...]) -> dict[int, str]:
    """Say what is wrong with rows that do not hold lists of a shape; those seen at one look."""
    inner, rows = 1, len(column)
    found: dict[int, str] = {}
    for size in shape:
        if isinstance(column.dtype, pl.List):
            lengths = column.list.len().fill_null(-1).to_numpy()
            for at in np.flatnonzero(lengths != size).tolist():
                text = "is missing" if lengths[at] < 0 else f"has {lengths[at]} values"
                found.setdefault(
                    at // inner,
                    f"{text} where the first row has {size}: pad all lists to one length, "
                    "with a mask if the model takes one.",
                )
            if found:
                return found
        column, inner = column.explode(empty_as_null=True, keep_nulls=True), inner * size
    if rows and column.null_count():
        for at in column.is_null().arg_true().to_list():
            found.setdefault(
                at // inner,
                "is missing, or has a value that is: fill it, or leave the row out.",
            )
    return found


def scatter_rows(values: NDArray[Any], rows: NDArray[np.intp], count: int) -> NDArray[Any]:
    """Give an array of ``count`` rows that has values in some of them and zeros elsewhere."""
    out: NDArray[Any] = np.zeros((count, *values.shape[1:]), values.dtype)
    out[rows] = values
    return out


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """A column of encoded pictures: bytes, or a struct with a field ``bytes``.

    Attributes
    ----------
    column : str
    spec : InputSpec
        From `picture_spec`.
    view : View
        What that was made with.
    first : str
        The first picture, for messages.
    """

    column: str
    spec: InputSpec
    view: ImageOptions
    first: str

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return (self.column,)

    def values(self, frame: pl.DataFrame, place: RowLocator, each: Each) -> DecodedBatch:
        """Give arrays (rows, H, W) or (rows, H, W, 3), or of levels."""
        found = partial(find_image, frame, self.column, place)
        return decode_batch(self.spec, self.view, len(frame), found, each, self.first)


def find_image(frame: pl.DataFrame, name: str, place: RowLocator, row: int) -> tuple[str, Opener]:
    """Find the picture of a column in a row: its name for messages, and what opens it."""
    contents = frame[name]
    if isinstance(contents.dtype, pl.Struct):
        contents = contents.struct.field("bytes")
    where = place.where(row, name)
    content = contents[row] if contents.dtype == pl.Binary else None
    if content is None:
        raise SampleError(
            f"{where} holds no bytes of a picture: save pictures themselves and not their paths, "
            "or leave the row out."
        )
    return where, bytes_opener(content)


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """A column of labels.

    Attributes
    ----------
    name : str
    classes : tuple of str or None
        Names of the numbers.
    numbers : dict of str to int or None
        The number of each value, from `read_labels`; None where the column holds whole numbers.
    """

    name: str
    classes: tuple[str, ...] | None = None
    numbers: dict[str, int] | None = None

    def values(
        self, frame: pl.DataFrame, place: RowLocator
    ) -> tuple[NDArray[np.int64], dict[int, str]]:
        """Give the labels of a frame, and what is wrong with some of them."""
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
                f"{place.where(row, self.name)} has "
                + ("no label." if value is None else f"the label {value!r}.")
                + " Labels are whole numbers of 64 bits, or names of classes: correct the row, or "
                "leave it out."
            )
        return np.ascontiguousarray(numbers.fill_null(0).to_numpy()), faults


def read_labels(parts: Sequence[TableFile], name: str) -> LabelColumn:
    """Read the different values of a column of text or floats, and decide what they mean."""
    found: set[str] = set()
    for part in parts:
        found.update(part.distinct(name, MAX_CLASSES))
        if len(found) > MAX_CLASSES:
            raise DataError(
                f"{part.path}, column {name!r}, has over {MAX_CLASSES} different values, which are "
                f"no labels: {LABELS_ADVICE}"
            )
    numbering = encode_labels(found, f"{parts[0].path}, column {name!r},", LABELS_ADVICE)
    return LabelColumn(name, numbering.classes, numbering.numbers)


@dataclass(frozen=True, slots=True)
class TableSource:
    """Rows of one table, in one file or several; ids are row numbers, after the file's name."""

    name: str
    parts: tuple[TableFile, ...]
    columns: tuple[Column, ...]
    labels: LabelColumn | None
    split_column: str | None = None
    skip: bool = False

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(part.rows for part in self.parts)

    @property
    def id_bytes(self) -> int:
        """Bytes of the longest id."""
        return max(
            len(place.id(0).encode())
            for part, end in zip(self.parts, self._ends, strict=True)
            if part.rows
            for place in (RowLocator(self.parts, self._ends, end - 1),)
        )

    @property
    def _ends(self) -> tuple[int, ...]:
        return tuple(accumulate(part.rows for part in self.parts))

    @property
    def _where(self) -> str:
        return self.name if len(self.parts) > 1 else str(self.parts[0].path)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What the columns become."""
        return tuple(column.spec for column in self.columns)

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.labels is not None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels, where the file has them."""
        return None if self.labels is None else self.labels.classes

    @property
    def counted(self) -> bool:
        """Whether classes are numbered by their names alone."""
        return self.labels is not None and self.labels.numbers is not None

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` samples in order, ``limit`` samples in all.

        Raises
        ------
        DataError
            Where a file turns out to be damaged, or a row differs from the first.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        ranges = list(row_ranges(self.rows, rows, limit))
        ends = self._ends
        names = [name for column in self.columns for name in column.names]
        names += [self.labels.name] if self.labels else []
        frames = self._frames(names, rows, ranges[-1][1] if ranges else 0)
        with decode_threads(skip=self.skip) as each:
            for start, stop in ranges:
                frame = next(frames, None)
                if frame is None or len(frame) < stop - start:
                    raise DataError(
                        f"{self._where} ends before row {stop} of {self.rows}. Get a whole copy."
                    )
                place = RowLocator(self.parts, ends, start)
                inputs = [column.values(frame, place, each) for column in self.columns]
                faults = {row: text for one in reversed(inputs) for row, text in one.faults.items()}
                labels = None
                if self.labels is not None:
                    labels, wrong = self.labels.values(frame, place)
                    faults |= wrong
                if faults and not self.skip:
                    raise SampleError(faults[min(faults)])
                yield Block(
                    [place.id(row) for row in range(len(frame))],
                    tuple(one.stored for one in inputs),
                    labels,
                    collect_model_arrays(inputs),
                    faults,
                )

    def split_values(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Give each value of the split column, in order of its first row, with its rows."""
        assert self.split_column is not None
        found: dict[str, list[NDArray[np.int64]]] = {}
        start = 0
        for frame in self._frames([self.split_column], 1 << 16, self.rows):
            column = frame[self.split_column].cast(pl.String)
            place = RowLocator(self.parts, self._ends, start)
            if column.null_count():
                row = int(column.is_null().arg_true()[0])
                raise DataError(f"{place.where(row, self.split_column)} says no split.")
            for value in column.unique(maintain_order=True):
                rows = np.flatnonzero((column == value).to_numpy()) + start
                found.setdefault(value, []).append(rows)
            if len(found) > 64:
                raise DataError(
                    f"{self.name}, column {self.split_column!r}, has over 64 different values: "
                    "that is no column of splits."
                )
            start += len(frame)
        return [(value, np.concatenate(rows)) for value, rows in found.items()]

    def _frames(self, names: list[str], rows: int, limit: int) -> Iterator[pl.DataFrame]:
        """Give frames of exactly ``rows`` rows, the last one shorter, reading each file once."""
        held: pl.DataFrame | None = None
        for part in self.parts:
            if limit <= 0:
                break
            most, limit = limit, limit - part.rows
            try:
                for piece in part.frames(list(dict.fromkeys(names)), rows, most):
                    held = piece if held is None else held.vstack(piece)
                    while len(held) >= rows:
                        yield held.head(rows)
                        held = held.slice(rows)
            except TABLE_ERRORS as error:
                raise DataError(
                    f"{part.path} is damaged ({printable(one_line(Exception(error)))}). Get a "
                    "whole copy of the file."
                ) from error
        if held is not None and len(held):
            yield held
