"""Texts for models that take strings: columns of tables, arrays of strings, lines of a file.

Texts have no fixed length. Stored of a text are the counts of each byte of its UTF-8, from which
its entropy is computed, and a checksum.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cnatool.data.file_names import list_sizes
from cnatool.data.labels import LABELS_ADVICE, encode_labels
from cnatool.data.read_errors import read_error
from cnatool.data.scratch_files import local_copy
from cnatool.data.source import Block, InputSpec, SourceDefaults, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.labels import LabelEncoding
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Source

# 256 bytes, and the checksum.
_COUNTS = 257


class _Columns(Protocol):
    """Columns of equally many rows."""

    @property
    def names(self) -> list[str]:
        """Names of the columns."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    def read(self, name: str, start: int, stop: int) -> list[Any]:
        """Read some rows of a column."""


@dataclass(frozen=True, slots=True)
class _ArrayColumns:
    """Columns in memory."""

    columns: dict[str, NDArray[Any]]

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @property
    def rows(self) -> int:
        return min(len(values) for values in self.columns.values())

    def read(self, name: str, start: int, stop: int) -> list[Any]:
        return list(self.columns[name][start:stop])


@dataclass(frozen=True, slots=True)
class _PolarsColumns:
    """Columns of a table that polars reads."""

    frame: Any
    rows: int

    @property
    def names(self) -> list[str]:
        names: list[str] = self.frame.collect_schema().names()
        return names

    def read(self, name: str, start: int, stop: int) -> list[Any]:
        part = self.frame.select(name).slice(start, stop - start).collect()
        values: list[Any] = part.to_series().to_list()
        return values


@dataclass(frozen=True, slots=True)
class _TextSource(SourceDefaults):
    """A source of texts."""

    name: str
    inputs: tuple[InputSpec, ...]
    columns: _Columns
    names: tuple[str, ...]
    label: str | None
    encoding: LabelEncoding | None
    outline: str

    @property
    def rows(self) -> int:
        return self.columns.rows

    @property
    def id_bytes(self) -> int:
        return len(str(self.rows - 1))

    @property
    def labelled(self) -> bool:
        return self.label is not None

    @property
    def classes(self) -> tuple[str, ...] | None:
        return None if self.encoding is None else self.encoding.classes

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        for first, stop in row_ranges(self.rows, rows, limit, start):
            columns = [
                _to_strings(self.name, name, self.columns.read(name, first, stop), first)
                for name in self.names
            ]
            yield Block(
                [str(row) for row in range(first, stop)],
                tuple(map(_count_bytes, columns)),
                self._read_labels(first, stop),
                tuple(
                    texts.reshape(-1, *spec.for_model.shape)
                    for texts, spec in zip(columns, self.inputs, strict=True)
                ),
            )

    def _read_labels(self, start: int, stop: int) -> NDArray[np.int64] | None:
        if self.label is None or self.encoding is None:
            return None
        values = self.columns.read(self.label, start, stop)
        numbers = [self.encoding.numbers.get(str(value)) for value in values]
        if None in numbers:
            raise DataError(
                f"{self.name}, column {self.label!r}, row {start + numbers.index(None)}, has no "
                f"label: correct the row, or leave it out, or {LABELS_ADVICE}"
            )
        return np.array(numbers, np.int64)


def open_texts(path: Path, selection: ArraySelection) -> Source:
    """Open texts for a model all of whose inputs are strings."""
    suffix = path.suffix.lower()
    columns: _Columns
    if suffix == ".txt":
        lines = local_copy(path).read_text("utf-8").splitlines()
        columns = _ArrayColumns({selection.inputs[0]: np.array(lines, object)})
        texts = [selection.inputs[0]]
    elif suffix in (".npz", ".npy"):
        arrays = _load_arrays(path, selection)
        columns = _ArrayColumns(arrays)
        texts = [name for name, values in arrays.items() if values.dtype.kind in "US"]
    elif suffix in (".csv", ".tsv", ".parquet"):
        columns, texts = _scan_table(path, suffix)
    else:
        raise DataError(
            f"{path}: the model takes texts, which are read from .csv, .tsv, .parquet, .npz, .npy "
            "and .txt files. Save them as one of these."
        )
    if not columns.rows:
        raise DataError(f"{path} holds no texts.")
    names, label = _select_columns(path, selection, columns.names, texts)
    encoding = None
    if label is not None:
        values = {str(v) for v in columns.read(label, 0, columns.rows) if v is not None}
        encoding = encode_labels(values, f"{path}, column {label!r},")
    specs = tuple(
        InputSpec(
            name,
            np.dtype(np.uint32),
            (_COUNTS,),
            levels=True,
            transformed=InputSpec(name, np.dtype(object), selection.text_shapes[model_input]),
        )
        for name, model_input in zip(names, selection.inputs, strict=True)
    )
    outline = list_sizes([local_copy(path)]) if suffix in (".csv", ".tsv") else ""
    return _TextSource(path.name, specs, columns, tuple(names), label, encoding, outline)


def _select_columns(
    path: Path, selection: ArraySelection, names: Sequence[str], texts: Sequence[str]
) -> tuple[list[str], str | None]:
    """Select columns by name; the only column of texts may have any name."""
    labels = selection.label_names(())
    texts = [name for name in texts if name not in labels]
    known = {name for candidates in selection.input_names() for name in candidates}
    only = len(selection.inputs) == len(texts) == 1
    if only and known.isdisjoint(names) and not selection.arrays:
        selection = replace(selection, arrays={selection.inputs[0]: texts[0]})
    return selection.select(str(path), names, "column")


def _load_arrays(path: Path, selection: ArraySelection) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(local_copy(path), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {selection.inputs[0]: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        advice = "Save texts as arrays of strings, as with numpy.array(texts, dtype='U')."
        raise read_error(path, error, advice) from error


def _scan_table(path: Path, suffix: str) -> tuple[_Columns, list[str]]:
    """Open a table; list its columns of texts."""
    import polars as pl

    from cnatool.data.formats.csv_text import scan_table

    try:
        if suffix == ".parquet":
            frame = pl.scan_parquet(local_copy(path), glob=False)
            texts = [n for n, kind in frame.collect_schema().items() if kind == pl.String]
        else:
            frame = scan_table(path)
            # A column in which anything is no number is one of texts.
            number = pl.all().str.strip_chars().cast(pl.Float64, strict=False).is_not_null()
            numbers = frame.select((number | pl.all().is_null()).all()).collect(engine="streaming")
            texts = [name for name in numbers.columns if not numbers[name].item()]
        rows = frame.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise read_error(path, error, "") from error
    return _PolarsColumns(frame, rows), texts


def _to_strings(source: str, column: str, values: Sequence[Any], first_row: int) -> NDArray[Any]:
    texts = np.empty(len(values), object)
    for row, value in enumerate(values):
        array = np.asarray(value).reshape(-1)
        text = array[0] if array.size == 1 else None
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        if not isinstance(text, str):
            raise DataError(
                f"{source}, column {column!r}, row {first_row + row}: the model takes one text per "
                "sample, and this is none."
            )
        texts[row] = str(text)
    return texts


def _count_bytes(texts: NDArray[Any]) -> NDArray[np.uint32]:
    """Count the bytes of each text's UTF-8, (rows, 257); the last value is its CRC-32."""
    counts = np.zeros((len(texts), _COUNTS), np.uint32)
    for row, text in zip(counts, texts, strict=True):
        # One byte for an empty text, so that it has an entropy of 0.
        content = text.encode("utf-8", "replace") or b"\0"
        row[:-1] = np.bincount(np.frombuffer(content, np.uint8), minlength=_COUNTS - 1)
        row[-1] = zlib.crc32(content)
    return counts
