"""Tables whose rows are samples: columns streamed through polars, a bounded frame at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from cnatool._util.text import suggest_name
from cnatool.data.file_names import describe_files, list_sizes
from cnatool.data.formats.table_columns import Column, LabelColumn, RowLocator
from cnatool.data.images.batch import collect_model_arrays, decode_threads
from cnatool.data.labels import MAX_CLASSES, check_class_count, encode_labels
from cnatool.data.read_errors import read_error
from cnatool.data.source import Block, InputSpec, SampleError, SourceDefaults, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.formats.table_sequences import LabelListColumn
    from cnatool.data.selection import ArraySelection

# What polars raises over a damaged file. A panic is no Exception there.
TABLE_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
# More different values than this make no column of splits.
_MAX_SPLITS = 64
# Columns that number the rows and are no part of a sample; the empty name is what pandas writes in
# a .csv, the last one what it writes in Parquet.
_ROW_NUMBERS = ("", "id", "index", "__index_level_0__")
_LABELS = ("y", "label", "labels", "target", "class")


class TableFile(Protocol):
    """One file of a table."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    def frames(
        self, names: Sequence[str], rows: int, start: int, limit: int
    ) -> Iterator[pl.DataFrame]:
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
    """

    path: Path
    rows: int
    frame: pl.LazyFrame

    def frames(
        self, names: Sequence[str], rows: int, start: int, limit: int
    ) -> Iterator[pl.DataFrame]:
        """Yield frames of some columns from row ``start`` on, of about ``rows`` rows each."""
        scan = self.frame.select(names).slice(start, limit)
        return scan.collect_batches(chunk_size=rows, maintain_order=True)

    def schema(self) -> pl.Schema:
        """Return the names and types of the columns."""
        return self.frame.collect_schema()

    def head(self, names: Sequence[str], count: int) -> pl.DataFrame:
        """Read the first rows of some columns."""
        return self.frame.select(names).head(count).collect()

    def distinct(self, name: str, most: int) -> Iterable[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""
        values = self.frame.select(pl.col(name).cast(pl.String).unique().drop_nulls())
        distinct: Iterable[str] = values.head(most + 1).collect(engine="streaming")[name]
        return distinct


@dataclass(frozen=True, slots=True)
class TableSource(SourceDefaults):
    """Rows of one table, in one file or several; ids are row numbers, after the file's name."""

    parts: tuple[TableFile, ...]
    columns: tuple[Column, ...]
    labels: LabelColumn | LabelListColumn | None
    split_column: str | None = None
    skip: bool = False
    # Whether rows are found only by reading all before them.
    in_order: bool = False

    @property
    def outline(self) -> str:
        """Sizes of the files, if rows are found only by reading all before them."""
        return list_sizes(self._paths) if self.in_order else ""

    @property
    def name(self) -> str:
        """Name of the file, or of the first of several."""
        return describe_files(self._paths)

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(part.rows for part in self.parts)

    @property
    def id_bytes(self) -> int:
        """Length of the longest id."""
        return max(
            len(self._locator(end - 1).id(0).encode())
            for part, end in zip(self.parts, self._ends, strict=True)
            if part.rows
        )

    @property
    def _paths(self) -> tuple[Path, ...]:
        return tuple(part.path for part in self.parts)

    @property
    def _ends(self) -> tuple[int, ...]:
        return tuple(accumulate(part.rows for part in self.parts))

    def _locator(self, start: int) -> RowLocator:
        return RowLocator(self._paths, self._ends, start)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs that the columns become."""
        return tuple(column.spec for column in self.columns)

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.labels is not None

    @property
    def label_lists(self) -> bool:
        """Whether a row has a list of labels."""
        return self.labels is not None and self.labels.lists

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if the file has them."""
        return None if self.labels is None else self.labels.classes

    @property
    def numbered_by_name(self) -> bool:
        """Whether class numbers follow from the values of the column of labels."""
        return self.labels is not None and self.labels.numbers is not None

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples from ``start`` on, ``limit`` samples in all."""
        ranges = list(row_ranges(self.rows, rows, limit, start))
        names = [name for column in self.columns for name in column.names]
        names += [self.labels.name] if self.labels else []
        frames = self._frames(names, rows, start, ranges[-1][1] if ranges else start)
        with decode_threads(skip=self.skip) as each:
            for first, stop in ranges:
                frame = next(frames, None)
                if frame is None or len(frame) < stop - first:
                    where = self.name if len(self.parts) > 1 else self.parts[0].path
                    raise DataError(
                        f"{where} ends before row {stop} of {self.rows}. Get a complete copy."
                    )
                locator = self._locator(first)
                inputs = [column.decode(frame, locator, each) for column in self.columns]
                faults = {row: text for i in reversed(inputs) for row, text in i.faults.items()}
                labels = None
                if self.labels is not None:
                    labels, wrong = self.labels.decode(frame, locator)
                    faults |= wrong
                if faults and not self.skip:
                    raise SampleError(faults[min(faults)])
                yield Block(
                    [locator.id(row) for row in range(len(frame))],
                    tuple(batch.stored for batch in inputs),
                    labels,
                    collect_model_arrays(inputs),
                    faults,
                )

    def split_rows(self) -> list[tuple[str, NDArray[np.int64]]]:
        """List each value of the split column, in order of its first row, with its rows."""
        name = self.split_column
        assert name is not None
        frames = self._frames([name], 1 << 16, 0, self.rows)
        return group_rows(
            f"{self.name}, column {name!r},",
            (frame[name].cast(pl.String) for frame in frames),
            lambda row: self._locator(row).where(0, name),
        )

    def _frames(self, names: list[str], rows: int, start: int, end: int) -> Iterator[pl.DataFrame]:
        """Yield rows ``start`` to ``end`` in frames of ``rows`` rows; read each file once."""
        held: pl.DataFrame | None = None
        for part in self.parts:
            if end <= 0:
                break
            first, most = max(0, start), end - max(0, start)
            start, end = start - part.rows, end - part.rows
            if start >= 0:
                continue
            try:
                for piece in part.frames(list(dict.fromkeys(names)), rows, first, most):
                    held = piece if held is None else held.vstack(piece)
                    while len(held) >= rows:
                        yield held.head(rows)
                        held = held.slice(rows)
            except TABLE_ERRORS as error:
                raise read_error(part.path, error, problem="is damaged") from error
        if held is not None and len(held):
            yield held


def group_rows(
    column: str, pieces: Iterable[pl.Series], where: Callable[[int], str]
) -> list[tuple[str, NDArray[np.int64]]]:
    """List each value of a column of splits, in order of its first row, with its rows.

    Parameters
    ----------
    column : str
        Its name for messages.
    pieces : iterable of polars.Series
        Its values as text, in order.
    where : callable
        Names a value for messages, by its row.

    Raises
    ------
    DataError
        If a value is missing, or there are too many different ones.
    """
    found: dict[str, list[NDArray[np.int64]]] = {}
    start = 0
    for values in pieces:
        if values.null_count():
            raise DataError(f"{where(start + int(values.is_null().arg_true()[0]))} names no split.")
        for value in values.unique(maintain_order=True):
            rows = np.flatnonzero((values == value).to_numpy()) + start
            found.setdefault(value, []).append(rows)
        if len(found) > _MAX_SPLITS:
            raise DataError(
                f"{column} has more than {_MAX_SPLITS} different values, too many for splits."
            )
        start += len(values)
    return [(value, np.concatenate(rows)) for value, rows in found.items()]


def check_same_columns(columns: Sequence[tuple[Path, Any]]) -> None:
    """Refuse files with different columns, which cannot be parts of one table."""
    [(path, first), *others] = columns
    for other, names in others:
        if names != first:
            raise DataError(
                f"{path} and {other} have different columns, so they are not parts of one table: "
                "give one of them, or each as a split of its own."
            )


def check_split_column(path: Path, selection: ArraySelection, names: Sequence[str]) -> None:
    """Refuse a table without the column of splits that the user chose."""
    split = selection.split_column
    if split is not None and split not in names:
        raise missing_column_error(path, "`split_column`", split, names)


def read_labels(parts: Sequence[TableFile], name: str) -> LabelColumn:
    """Read the different values of a column of text or floats, and decide what they mean."""
    values: set[str] = set()
    for part in parts:
        values.update(part.distinct(name, MAX_CLASSES))
        check_class_count(f"{part.path}, column {name!r},", values)
    encoding = encode_labels(values, f"{parts[0].path}, column {name!r},")
    return LabelColumn(name, encoding.classes, encoding.numbers)


def find_label_column(path: Path, names: Sequence[str], selection: ArraySelection) -> str | None:
    """Find the column of labels: the one that the user chose, or the only one called so."""
    if selection.labels is not None:
        if selection.labels not in names:
            raise missing_column_error(path, "`labels`", selection.labels, names)
        return selection.labels
    matches = [name for name in names if name.strip().lower() in _LABELS]
    if len(matches) > 1 and not selection.ignore_labels:
        raise DataError(
            f"{path} holds {' and '.join(matches)}, each of which could be the labels: choose one "
            "with `labels=NAME`."
        )
    return matches[0] if matches else None


def list_feature_columns(names: Iterable[str], others: set[str | None]) -> tuple[str, ...]:
    """List the columns that are part of a sample by default: all but row numbers and ``others``."""
    return tuple(
        name for name in names if name not in others and name.strip().lower() not in _ROW_NUMBERS
    )


def missing_column_error(path: Path, option: str, name: str, names: Sequence[str]) -> DataError:
    """Return the error that a table lacks a column that the user chose."""
    return DataError(f"{option} {name}: {path} has no such column. {suggest_name(name, names)}")
