"""Texts for models that take strings: columns of tables, arrays of strings, lines of a file.

Of a text the store keeps how often each byte of its UTF-8 occurs, and a checksum of it, which is
what its entropy is computed from: texts have no length that an array could have.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cnatool._util.text import one_line, printable
from cnatool.data.labels import LABELS_ADVICE, encode_labels
from cnatool.data.source import Block, InputSpec, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.labels import LabelEncoding
    from cnatool.data.source import ArraySelection, Source

_COUNTED = 257


class _Columns(Protocol):
    """Columns of equally many rows."""

    @property
    def names(self) -> list[str]:
        """What they are called."""

    @property
    def rows(self) -> int:
        """How many."""

    def read(self, name: str, start: int, stop: int) -> list[Any]:
        """Read some rows of a column."""


@dataclass(frozen=True, slots=True)
class _Held:
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
class _Scanned:
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
class _Texts:
    """A source of texts."""

    name: str
    inputs: tuple[InputSpec, ...]
    columns: _Columns
    names: tuple[str, ...]
    label: str | None
    numbering: LabelEncoding | None

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
        return None if self.numbering is None else self.numbering.classes

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        for start, stop in row_ranges(self.rows, rows, limit):
            made = [
                _strings(self.name, name, self.columns.read(name, start, stop), start)
                for name in self.names
            ]
            yield Block(
                [str(row) for row in range(start, stop)],
                tuple(_counts(texts) for texts in made),
                self._labels(start, stop),
                tuple(
                    texts.reshape(-1, *spec.for_model.shape)
                    for texts, spec in zip(made, self.inputs, strict=True)
                ),
            )

    def _labels(self, start: int, stop: int) -> NDArray[np.int64] | None:
        if self.label is None or self.numbering is None:
            return None
        values = self.columns.read(self.label, start, stop)
        numbers = [self.numbering.numbers.get(str(value)) for value in values]
        if None in numbers:
            raise DataError(
                f"{self.name}, column {self.label!r}, row {start + numbers.index(None)}, has no "
                f"label: correct the row, or leave it out, or {LABELS_ADVICE}"
            )
        return np.array(numbers, np.int64)


def open_texts(path: Path, wanted: ArraySelection) -> Source:
    """Open texts for a model all of whose inputs that data feed are strings."""
    suffix = path.suffix.lower()
    if suffix == ".txt":
        lines = path.read_text("utf-8").splitlines()
        found: _Columns = _Held({wanted.inputs[0]: np.array(lines, object)})
        held = [wanted.inputs[0]]
    elif suffix in (".npz", ".npy"):
        columns = _arrays(path, wanted)
        found, held = _Held(columns), [n for n, v in columns.items() if v.dtype.kind in "US"]
    elif suffix in (".csv", ".tsv", ".parquet"):
        found, held = _table(path, suffix)
    else:
        raise DataError(
            f"{path}: the model takes texts, which are read from .csv, .tsv, .parquet, .npz, .npy "
            "and .txt files. Save them as one of these."
        )
    if not found.rows:
        raise DataError(f"{path} holds no texts.")
    names, label = _chosen(path, wanted, found.names, held)
    numbering = None
    if label is not None:
        values = {str(v) for v in found.read(label, 0, found.rows) if v is not None}
        numbering = encode_labels(values, f"{path}, column {label!r},", LABELS_ADVICE)
    specs = tuple(
        InputSpec(
            name,
            np.dtype(np.uint32),
            (_COUNTED,),
            levels=True,
            transformed=InputSpec(name, np.dtype(object), wanted.text_shapes[given]),
        )
        for name, given in zip(names, wanted.inputs, strict=True)
    )
    return _Texts(path.name, specs, found, tuple(names), label, numbering)


def _chosen(
    path: Path, wanted: ArraySelection, every: Sequence[str], held: Sequence[str]
) -> tuple[list[str], str | None]:
    """Choose columns by name; the only column of texts needs none."""
    labels = wanted.label_names(())
    texts = [name for name in held if name not in labels]
    known = {name for names in wanted.names() for name in names}
    if len(wanted.inputs) == len(texts) == 1 and known.isdisjoint(every) and not wanted.arrays:
        wanted = replace(wanted, arrays={wanted.inputs[0]: texts[0]})
    return wanted.chosen(str(path), every, "column")


def _arrays(path: Path, wanted: ArraySelection) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {wanted.inputs[0]: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read ({printable(one_line(error))}). Save texts as arrays of "
            "strings, as with numpy.array(texts, dtype='U')."
        ) from error


def _table(path: Path, suffix: str) -> tuple[_Columns, list[str]]:
    import polars as pl

    from cnatool.data.formats.csv_text import scan_table

    try:
        if suffix == ".parquet":
            frame = pl.scan_parquet(path, glob=False)
            held = [n for n, kind in frame.collect_schema().items() if kind == pl.String]
        else:
            frame = scan_table(path)[0]
            # A column in which anything is no number is one of texts.
            number = pl.all().str.strip_chars().cast(pl.Float64, strict=False).is_not_null()
            numbers = frame.select((number | pl.all().is_null()).all()).collect(engine="streaming")
            held = [name for name in numbers.columns if not numbers[name].item()]
        rows = frame.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read ({printable(one_line(error))}).") from error
    return _Scanned(frame, rows), held


def _strings(source: str, column: str, values: Sequence[Any], first_row: int) -> NDArray[Any]:
    texts = np.empty(len(values), object)
    for row, value in enumerate(values):
        one = np.asarray(value).reshape(-1)
        text = one[0] if one.size == 1 else None
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        if not isinstance(text, str):
            raise DataError(
                f"{source}, column {column!r}, row {first_row + row}: the model takes one text a "
                "sample, and this is none."
            )
        texts[row] = str(text)
    return texts


def _counts(texts: NDArray[Any]) -> NDArray[np.uint32]:
    """Count the bytes of each text's UTF-8; behind the counts stands its CRC-32."""
    counts = np.zeros((len(texts), _COUNTED), np.uint32)
    for row, text in zip(counts, texts, strict=True):
        # Of an empty text one byte, so that it has an entropy of 0.
        content = text.encode("utf-8", "replace") or b"\0"
        row[:-1] = np.bincount(np.frombuffer(content, np.uint8), minlength=_COUNTED - 1)
        row[-1] = zlib.crc32(content)
    return counts
