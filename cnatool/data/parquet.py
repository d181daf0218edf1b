"""Parquet: columns of numbers or of lists of numbers, streamed through polars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from cnatool.data.source import (
    LABEL_NAMES,
    ONE_INPUT,
    Block,
    InputSpec,
    Wanted,
    check_sample,
    spans,
)
from cnatool.errors import DataError
from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ParquetSource", "open_parquet"]


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """A source whose inputs are columns; ids are row numbers."""

    path: Path
    rows: int
    inputs: tuple[InputSpec, ...]
    label: str | None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def id_bytes(self) -> int:
        """Bytes of the largest row number."""
        return len(str(self.rows))

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.label is not None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """None: a column of numbers does not name its values."""
        return None

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` samples in order, ``limit`` samples in all.

        Raises
        ------
        DataError
            Where the file turns out to be damaged, or a row differs from the first in shape.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        ranges = list(spans(self.rows, rows, limit))
        columns = [spec.name for spec in self.inputs] + ([self.label] if self.label else [])
        frames = _frames(self.path, columns, rows)
        for start, stop in ranges:
            frame = next(frames, None)
            if frame is None or len(frame) < stop - start:
                raise DataError(f"{self.path} ends before row {stop} of {self.rows}.")
            frame = frame.head(stop - start)
            inputs = tuple(self._values(frame, spec, start) for spec in self.inputs)
            labels = None if self.label is None else _labels(frame[self.label], self.path, start)
            yield Block([str(row) for row in range(start, stop)], inputs, labels)

    def _values(self, frame: pl.DataFrame, spec: InputSpec, start: int) -> NDArray[Any]:
        flat = frame[spec.name]
        where = f"{self.path}, column {spec.name!r},"
        for size in spec.shape:
            lengths = flat.list.len() if isinstance(flat.dtype, pl.List) else None
            if lengths is not None and not (lengths == size).all():
                raise DataError(
                    f"{where} has rows of different lengths after row {start}: pad them to one."
                )
            flat = flat.explode(empty_as_null=True, keep_nulls=True)
        if flat.null_count():
            raise DataError(f"{where} has nulls after row {start}: fill them, or leave rows out.")
        return np.ascontiguousarray(flat.to_numpy()).reshape(len(frame), *spec.shape)


def open_parquet(path: Path, wanted: Wanted = ONE_INPUT) -> ParquetSource:
    """Open a Parquet file.

    Parameters
    ----------
    path : Path
        Columns of numbers, or of lists of numbers that are equally long in every row; optionally
        a column of integer labels called y, label or labels.
    wanted : Wanted
        Which columns are samples. A model's only input may be called x, inputs, images or data.

    Raises
    ------
    DataError
        If the file cannot be read, or a column is missing or holds no plain numbers.
    """
    try:
        scan = pl.scan_parquet(path)
        schema = scan.collect_schema()
        rows = int(scan.select(pl.len()).collect().item())
        first = scan.head(1).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({printable(str(error))[:200]})."
        ) from error
    if not rows:
        raise DataError(f"{path} holds no samples.")
    specs = []
    for names in wanted.names():
        found = [name for name in names if name in schema]
        if len(found) != 1:
            held = ", ".join(printable(name) for name in list(schema)[:20])
            raise DataError(
                f"{path} needs one column called {' or '.join(names)} and holds {held}: say which "
                "column is which with --input INPUT=COLUMN."
            )
        specs.append(_spec(path, found[0], first[found[0]]))
    inputs = {spec.name for spec in specs}
    label = next((name for name in LABEL_NAMES if name in schema and name not in inputs), None)
    if label is not None and not schema[label].is_integer():
        raise DataError(
            f"{path}, column {label!r}, is {schema[label]}; labels are integers. Save them as "
            "class numbers."
        )
    return ParquetSource(path, rows, tuple(specs), label)


def _spec(path: Path, name: str, first: pl.Series) -> InputSpec:
    shape = []
    while isinstance(first.dtype, pl.List | pl.Array) and len(first) and first[0] is not None:
        shape.append(len(first[0]))
        first = first.head(1).explode(empty_as_null=True, keep_nulls=True)
    if not first.dtype.is_numeric() and first.dtype != pl.Boolean:
        raise DataError(
            f"{path}, column {name!r}, holds {first.dtype}: samples are numbers, or lists of "
            "numbers that are equally long in every row."
        )
    dtype = first.head(0).to_numpy().dtype
    check_sample(f"{path}, column {name!r},", dtype, tuple(shape))
    return InputSpec(name, dtype, tuple(shape))


def _frames(path: Path, columns: list[str], rows: int) -> Iterator[pl.DataFrame]:
    """Give frames of exactly ``rows`` rows, the last one shorter, reading the file once."""
    scan = pl.scan_parquet(path).select(list(dict.fromkeys(columns)))
    held: pl.DataFrame | None = None
    try:
        for part in scan.collect_batches(chunk_size=rows, maintain_order=True):
            held = part if held is None else held.vstack(part)
            while len(held) >= rows:
                yield held.head(rows)
                held = held.slice(rows)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is damaged ({printable(str(error))[:200]}).") from error
    if held is not None and len(held):
        yield held


def _labels(column: pl.Series, path: Path, start: int) -> NDArray[np.int64]:
    if column.null_count():
        raise DataError(f"{path}, column {column.name!r}, has nulls after row {start}.")
    try:
        values: NDArray[np.int64] = column.cast(pl.Int64).to_numpy()
    except pl.exceptions.InvalidOperationError:
        raise DataError(
            f"{path}, column {column.name!r}, has a label of {column.max()!r} after row {start}, "
            "which does not fit 64-bit signed integers: renumber the classes."
        ) from None
    return np.ascontiguousarray(values)
