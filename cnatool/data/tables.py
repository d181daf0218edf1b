"""CSV: the numbers of a row are one sample, but for the columns of labels and splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cnatool.data.columns import TABLE_DAMAGE, ColumnSource, Labels, Part, Place, named_labels
from cnatool.data.developing import Developed
from cnatool.data.features import feature_columns, label_column, missing_column
from cnatool.data.source import ONE_INPUT, InputSpec, Wanted
from cnatool.errors import DataError
from cnatool.text import one_line, printable

if TYPE_CHECKING:
    from pathlib import Path

    from cnatool.data.developing import Each

__all__ = ["open_csv"]

_BATCH = 4_096
# A line of a table; what is longer is some other file.
_MAX_HEADER = 1 << 22


@dataclass(frozen=True, slots=True)
class _Cells:
    """Columns of numbers side by side; read as text, so that a wrong one can be named."""

    spec: InputSpec
    names: tuple[str, ...]

    def values(self, frame: pl.DataFrame, place: Place, each: Each) -> Developed:
        kind = pl.Int64 if self.spec.dtype.kind == "i" else pl.Float64
        cells = np.empty((len(frame), len(self.names)), self.spec.dtype)
        faults: dict[int, str] = {}
        for i, name in enumerate(self.names):
            column = _numbers(frame[name], kind)
            for row in column.is_null().arg_true().to_list():
                value = frame[name][row]
                faults.setdefault(
                    row,
                    f"{place.where(row, name)} is {'empty' if value is None else repr(value)}: "
                    "fill it with a number, leave the row out, or name the columns to use with "
                    "--input INPUT=COLUMN,COLUMN.",
                )
            cells[:, i] = column.fill_null(0).to_numpy()
        values = cells.reshape(len(frame), *self.spec.shape)
        return Developed(values, values, faults)


def open_csv(path: Path, wanted: Wanted = ONE_INPUT) -> ColumnSource:
    """Open a table with a line of names at its head.

    Parameters
    ----------
    path : Path
        Cells separated by commas, semicolons or tabs. A column called y, label, labels, target or
        class holds the labels; one called id or index, or without a name, is left out.
    wanted : Wanted
        Which columns are samples. A model's only input takes all that are left, side by side;
        ``arrays`` may name several for an input, with commas between them.

    Raises
    ------
    DataError
        If the file cannot be read, has no line of names, or a column is missing or holds text.
    """
    try:
        frame = pl.scan_csv(
            path,
            infer_schema=False,
            separator=_separator(path),
            glob=False,
        )
        names = frame.collect_schema().names()
        rows = int(frame.select(pl.len()).collect(engine="streaming").item())
    except TABLE_DAMAGE as error:
        raise _unreadable(path, error) from error
    if not rows:
        raise DataError(f"{path} holds no samples below its line of names.")
    if all(_is_number(name) for name in names):
        raise DataError(
            f"{path} has no line of names at its head, where labels are found: put one before the "
            "first row."
        )
    part = Part(path, rows, frame)
    label = label_column(path, names, wanted)
    split = wanted.split_column
    if split is not None and split not in names:
        raise missing_column(path, "--split-column", split, names)
    chosen = _chosen(path, names, wanted, {label, split})
    try:
        whole = _whole(part, [name for given in chosen for name in given[1]])
        labels = None if label is None else _labels(part, label)
    except TABLE_DAMAGE as error:
        raise _unreadable(path, error) from error
    columns = tuple(
        _Cells(
            InputSpec(name, np.dtype(np.int64 if whole.issuperset(used) else float), shape), used
        )
        for name, used, shape in chosen
    )
    return ColumnSource(path.name, (part,), columns, labels, split, wanted.view.skip)


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path} cannot be read as a table ({printable(one_line(Exception(error)))}). Rows need as "
        "many cells as the line of names, in UTF-8."
    )


def _separator(path: Path) -> str:
    with path.open("rb") as file:
        head = file.readline(_MAX_HEADER)
    if len(head) == _MAX_HEADER:
        raise DataError(f"{path} starts with a line of over {_MAX_HEADER} bytes: it is no table.")
    return max(",;\t", key=lambda mark: head.count(mark.encode()))


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _chosen(
    path: Path, names: list[str], wanted: Wanted, taken: set[str | None]
) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Give the name of each input, its columns, and the shape of one sample."""
    if len(wanted.inputs) == 1 and not wanted.arrays:
        rest = feature_columns(names, taken)
        if not rest:
            raise DataError(f"{path} has no column of numbers besides labels.")
        return [("columns", rest, (len(rest),))]
    chosen: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
    for given in wanted.inputs:
        words = wanted.arrays.get(given, given)
        used = (words,) if words in names else tuple(words.split(","))
        for name in used:
            if name not in names:
                raise missing_column(path, "--input", name, names)
        chosen.append((given, used, () if len(used) == 1 else (len(used),)))
    return chosen


def _numbers(column: pl.Series, kind: type[pl.Int64 | pl.Float64]) -> pl.Series:
    return column.str.strip_chars().cast(kind, strict=False)


def _whole(part: Part, names: list[str]) -> set[str]:
    """Say which columns hold whole numbers only; refuse those that hold none at all."""
    names = list(dict.fromkeys(names))
    whole, numbers = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    # Batch by batch: an aggregation over all rows at once would hold much of the file.
    for frame in part.frame.select(names).collect_batches(chunk_size=_BATCH, maintain_order=True):
        for name in names:
            found = _numbers(frame[name], pl.Float64)
            numbers[name] += len(found) - found.null_count()
            found = _numbers(frame[name], pl.Int64)
            whole[name] += len(found) - found.null_count()
    for name, count in numbers.items():
        if not count:
            raise DataError(
                f"{part.path}, column {name!r}, holds no numbers: name the columns to use with "
                "--input INPUT=COLUMN,COLUMN, or that of the labels with --labels NAME."
            )
    return {name for name, count in whole.items() if count == part.rows}


def _labels(part: Part, name: str) -> Labels:
    whole = part.frame.select(
        (pl.col(name).cast(pl.Int64, strict=False).is_not_null() | pl.col(name).is_null()).all()
    )
    return Labels(name) if whole.collect(engine="streaming").item() else named_labels([part], name)
