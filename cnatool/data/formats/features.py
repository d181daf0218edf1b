"""Tables in which every feature of a sample is a column of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import list_names
from cnatool.data.images.batch import DecodedBatch
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import polars as pl

    from cnatool.data.formats.columns import RowLocator
    from cnatool.data.images.batch import Each
    from cnatool.data.source import ArraySelection, InputSpec

# Columns that number the rows and are no part of a sample; the empty name is what pandas writes in
# a .csv, the last one what it writes in Parquet.
_ROW_NUMBERS = ("", "id", "index", "__index_level_0__")
_LABELS = ("y", "label", "labels", "target", "class")


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Columns of numbers side by side."""

    spec: InputSpec
    names: tuple[str, ...]

    def values(self, frame: pl.DataFrame, place: RowLocator, each: Each) -> DecodedBatch:
        """Give an array (rows, *shape)."""
        columns = frame.select(self.names).get_columns()
        faults: dict[int, str] = {}
        for name, column in zip(self.names, columns, strict=True):
            if len(faults) == len(frame):
                break
            for row in column.is_null().arg_true().to_list() if column.null_count() else ():
                faults.setdefault(
                    row,
                    f"{place.where(row, name)} is empty: fill it with a number, leave the row out, "
                    "or name the columns to use with --input INPUT=COLUMN,COLUMN.",
                )
        cells = np.empty((len(frame), len(columns)), self.spec.dtype)
        # Columns of one type at a time: one by one, 200,000 of them would take a minute.
        places: dict[pl.DataType, list[int]] = {}
        for number, column in enumerate(columns):
            places.setdefault(column.dtype, []).append(number)
        for numbers in places.values():
            alike = frame.select([self.names[number] for number in numbers])
            if faults:
                alike = alike.fill_null(strategy="zero")
            cells[:, numbers] = alike.to_numpy()
        values = cells.reshape(len(frame), *self.spec.shape)
        return DecodedBatch(values, values, faults)


def find_label_column(path: Path, names: Sequence[str], wanted: ArraySelection) -> str | None:
    """Find the column of labels.

    Raises
    ------
    DataError
        If the one that the user named is not there, or several are called so.
    """
    if wanted.labels is not None:
        if wanted.labels not in names:
            raise missing_column_error(path, "--labels", wanted.labels, names)
        return wanted.labels
    found = [name for name in names if name.strip().lower() in _LABELS]
    if len(found) > 1 and not wanted.ignore_labels:
        raise DataError(
            f"{path} holds {' and '.join(found)}, and which are the labels is in doubt: say it "
            "with --labels NAME."
        )
    return found[0] if found else None


def list_feature_columns(names: Iterable[str], taken: set[str | None]) -> tuple[str, ...]:
    """Name the columns that are part of a sample where the user names none."""
    return tuple(
        name for name in names if name not in taken and name.strip().lower() not in _ROW_NUMBERS
    )


def missing_column_error(path: Path, option: str, name: str, names: Sequence[str]) -> DataError:
    """Say that a table has no column that an option names."""
    return DataError(f"{option} {name}: {path} has no such column, but {list_names(names)}.")
