"""CSV: the numbers of a row are one sample, but for the columns of labels and splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from cnatool.data.columns import TABLE_DAMAGE, ColumnSource, Part, Place, read_labels
from cnatool.data.csv_text import scan_table
from cnatool.data.developing import Developed
from cnatool.data.features import feature_columns, label_column, missing_column
from cnatool.data.source import ONE_INPUT, InputSpec, Wanted
from cnatool.errors import DataError
from cnatool.text import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cnatool.data.developing import Each

__all__ = ["open_csv"]

_BATCH = 4_096
_COMMA = r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$"
_POINT = r"^[+-]?\d*\.\d+(?:[eE][+-]?\d+)?$"


@dataclass(frozen=True, slots=True)
class _Cells:
    """Columns of numbers side by side; read as text, so that a wrong one can be named."""

    spec: InputSpec
    names: tuple[str, ...]
    comma: bool = False

    def values(self, frame: pl.DataFrame, place: Place, each: Each) -> Developed:
        kind = pl.Int64 if self.spec.dtype.kind == "i" else pl.Float64
        cells = np.empty((len(frame), len(self.names)), self.spec.dtype)
        faults: dict[int, str] = {}
        for i, name in enumerate(self.names):
            column = _numbers(frame[name], kind, self.comma)
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


def open_csv(paths: Sequence[Path], wanted: Wanted = ONE_INPUT) -> ColumnSource:
    """Open a table with a line of names at its head, in one file or several.

    Parameters
    ----------
    paths : sequence of Path
        Cells separated by commas, semicolons or tabs; where they are separated by one of the latter
        two, numbers may have decimal commas. A column called y, label, labels, target or class
        holds the labels; one called id or index, or without a name, is left out.
    wanted : Wanted
        Which columns are samples. A model's only input takes all that are left, side by side;
        ``arrays`` may name several for an input, with commas between them.

    Raises
    ------
    DataError
        If a file cannot be read, has no line of names, files differ in their columns, or a column
        is missing or holds text.
    """
    parts, separators = zip(*map(_part, paths), strict=True)
    path, names = parts[0].path, parts[0].frame.collect_schema().names()
    for part in parts[1:]:
        if part.frame.collect_schema().names() != names:
            raise DataError(
                f"{path} and {part.path} have different columns, so they are not parts of one "
                "table: give one of them, or each as a --split."
            )
    label = label_column(path, names, wanted)
    split = wanted.split_column
    if split is not None and split not in names:
        raise missing_column(path, "--split-column", split, names)
    chosen = _chosen(path, names, wanted, {label, split})
    used_names = [name for given in chosen for name in given[1]]
    try:
        comma = "," not in separators and _has_decimal_commas(parts, used_names)
        whole = _whole(parts, used_names, comma)
        labels = None if label is None or wanted.unlabelled else read_labels(parts, label)
    except TABLE_DAMAGE as error:
        raise _unreadable(path, error) from error
    columns = tuple(
        _Cells(
            InputSpec(name, np.dtype(np.int64 if whole.issuperset(used) else float), shape),
            used,
            comma,
        )
        for name, used, shape in chosen
    )
    name = path.name if len(parts) == 1 else f"{path.name} and {len(parts) - 1} more"
    return ColumnSource(name, tuple(parts), columns, labels, split, wanted.view.skip)


def _part(path: Path) -> tuple[Part, str]:
    try:
        frame, separator = scan_table(path)
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
    return Part(path, rows, frame), separator


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"{path} cannot be read as a table ({printable(one_line(Exception(error)))}). Rows need as "
        "many cells as the line of names, in UTF-8 or UTF-16."
    )


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


def _numbers(column: pl.Series, kind: type[pl.Int64 | pl.Float64], comma: bool) -> pl.Series:
    column = column.str.strip_chars()
    if comma:
        column = column.str.replace(",", ".", literal=True)
    return column.cast(kind, strict=False)


def _has_decimal_commas(parts: Sequence[Part], names: list[str]) -> bool:
    """Tell whether numbers are written with decimal commas, which must then hold for all."""
    with_comma = with_point = False
    for part in parts:
        cells = pl.col(list(dict.fromkeys(names))).str.strip_chars()
        found = part.frame.select(
            pl.any_horizontal(cells.str.contains(_COMMA)).any().alias("comma"),
            pl.any_horizontal(cells.str.contains(_POINT)).any().alias("point"),
        ).collect(engine="streaming")
        with_comma |= bool(found["comma"].item())
        with_point |= bool(found["point"].item())
    if with_comma and with_point:
        raise DataError(
            f"{parts[0].path} holds numbers with a decimal comma and numbers with a decimal point, "
            "so that what either means is in doubt: write all in one way."
        )
    return with_comma


def _whole(parts: Sequence[Part], names: list[str], comma: bool) -> set[str]:
    """Say which columns hold whole numbers only; refuse those that hold none at all."""
    names = list(dict.fromkeys(names))
    whole, numbers = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    # Batch by batch: an aggregation over all rows at once would hold much of the file.
    for part in parts:
        scan = part.frame.select(names)
        for frame in scan.collect_batches(chunk_size=_BATCH, maintain_order=True):
            for name in names:
                found = _numbers(frame[name], pl.Float64, comma)
                numbers[name] += len(found) - found.null_count()
                found = _numbers(frame[name], pl.Int64, comma)
                whole[name] += len(found) - found.null_count()
    for name, count in numbers.items():
        if not count:
            raise DataError(
                f"{parts[0].path}, column {name!r}, holds no numbers: name the columns to use with "
                "--input INPUT=COLUMN,COLUMN, or that of the labels with --labels NAME."
            )
    return {name for name, count in whole.items() if count == sum(part.rows for part in parts)}
