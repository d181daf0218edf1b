"""Columns of lists that differ in length, such as the tokens of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cnatool._util.text import count_text
from cnatool.data.images.batch import DecodedBatch
from cnatool.data.source import InputSpec, check_sample
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.data.formats.table_columns import RowLocator
    from cnatool.data.images.batch import Each
    from cnatool.records.ragged import Rows


@dataclass(frozen=True, slots=True)
class SequenceColumn:
    """A column of lists of any length, of numbers or of lists that are equally long in every row.

    The lists are the first axis of a sample.
    """

    spec: InputSpec

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return (self.spec.name,)

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        """Decode to rows of varying length; those with faults have none."""
        column, name = frame[self.spec.name], self.spec.name
        lengths = list_lengths(column)
        faults = {
            row: f"{locator.where(row, name)} {'is missing' if lengths[row] < 0 else 'is empty'}: "
            "a sample has at least one value. Leave the row out."
            for row in np.flatnonzero(lengths <= 0).tolist()
        }
        values = _explode(column.filter(pl.Series(lengths > 0)))
        places = np.repeat(np.arange(len(lengths)), np.maximum(lengths, 0))
        for size in self.spec.shape[1:]:
            sizes = list_lengths(values)
            for at in np.flatnonzero(sizes != size).tolist():
                text = "a missing list" if sizes[at] < 0 else f"{count_text(sizes[at], 'value')}"
                faults.setdefault(
                    int(places[at]),
                    f"{locator.where(int(places[at]), name)} has {text} in a list where the first "
                    f"row has {size}: samples may differ in length along their first axis only.",
                )
            # A list of another length belongs to a row with a fault.
            kept = sizes == size
            if not kept.all():
                values, places = values.filter(pl.Series(kept)), places[kept]
            values, places = _explode(values), np.repeat(places, size)
        for at in values.is_null().arg_true().to_list() if values.null_count() else ():
            faults.setdefault(
                int(places[at]),
                f"{locator.where(int(places[at]), name)} has a missing value: fill it, or leave "
                "the row out.",
            )
        if faults:
            good: NDArray[np.bool_] = ~np.isin(places, list(faults))
            values = values.filter(pl.Series(good))
            lengths = np.where(np.isin(np.arange(len(lengths)), list(faults)), 0, lengths)
        array = np.ascontiguousarray(values.to_numpy()).astype(self.spec.dtype, copy=False)
        rows = Ragged.from_lengths(array.reshape(-1, *self.spec.shape[1:]), lengths)
        return DecodedBatch(rows, rows, faults)


@dataclass(frozen=True, slots=True)
class LabelListColumn:
    """A column with a list of labels in each row, such as one for each token.

    Attributes
    ----------
    name : str
    classes : tuple of str or None
        Names of the class numbers.
    """

    name: str
    classes: tuple[str, ...] | None = None

    @property
    def numbers(self) -> None:
        """None: the lists hold class numbers."""
        return

    @property
    def lists(self) -> bool:
        """True."""
        return True

    def decode(self, frame: pl.DataFrame, locator: RowLocator) -> tuple[Rows, dict[int, str]]:
        """Decode the labels of a frame; describe those that are none, by row."""
        column = frame[self.name]
        lengths = list_lengths(column)
        faults = {
            row: f"{locator.where(row, self.name)} has no list of labels: correct the row, or "
            "leave it out."
            for row in np.flatnonzero(lengths < 0).tolist()
        }
        given = _explode(column.filter(pl.Series(lengths > 0)))
        places = np.repeat(np.arange(len(lengths)), np.maximum(lengths, 0))
        numbers = given.cast(pl.Int64, strict=False)
        for at in numbers.is_null().arg_true().to_list():
            faults.setdefault(
                int(places[at]),
                f"{locator.where(int(places[at]), self.name)} has the label {given[at]!r} in its "
                "list. Labels are whole numbers of 64 bits: correct the row, or leave it out.",
            )
        values = np.ascontiguousarray(numbers.fill_null(0).to_numpy())
        return Ragged.from_lengths(values, np.maximum(lengths, 0)), faults


def describe_sequences(where: str, name: str, first: pl.Series) -> InputSpec:
    """Describe lists of any length by the first rows of their column."""
    lengths = list_lengths(first)
    filled = first.filter(pl.Series(lengths > 0))
    if not len(filled):
        raise DataError(f"{where} has no values in its first rows: leave rows without any out.")
    inner, shape = _explode(filled), [int(np.median(lengths[lengths > 0]))]
    while isinstance(inner.dtype, pl.List | pl.Array):
        sizes = list_lengths(inner)
        shape.append(int(sizes[0]))
        inner = _explode(inner.filter(pl.Series(sizes == sizes[0])))
    if not inner.dtype.is_numeric() and inner.dtype != pl.Boolean:
        raise DataError(f"{where} holds lists of {inner.dtype}: samples are lists of numbers.")
    dtype = inner.head(0).to_numpy().dtype
    check_sample(where, dtype, tuple(shape))
    return InputSpec(name, dtype, tuple(shape), ragged_axis=0)


def list_lengths(column: pl.Series) -> NDArray[np.int64]:
    """Count the values of each list, -1 of a missing one."""
    if isinstance(column.dtype, pl.Array):
        return np.where(column.is_null().to_numpy(), -1, column.dtype.size).astype(np.int64)
    return column.list.len().cast(pl.Int64).fill_null(-1).to_numpy().copy()


def _explode(column: pl.Series) -> pl.Series:
    return column.explode(empty_as_null=False, keep_nulls=True)
