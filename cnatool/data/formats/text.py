"""Texts: lines of a file, files of a folder, fields of JSON lines, arrays of strings.

Texts become tokens, or go to models that take strings; see `cnatool.data.text_batch`. Columns of
tables are in `cnatool.data.formats.text_table`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from cnatool.data.labels import LABELS_ADVICE, encode_labels
from cnatool.data.read_errors import read_error
from cnatool.data.scratch_files import local_copy
from cnatool.data.source import Block, SampleError, SourceDefaults, row_ranges
from cnatool.data.text_batch import TYPICAL, describe_text, find_fault, make_arrays
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.labels import LabelEncoding
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import InputSpec, Source
    from cnatool.records.ragged import Rows


class TextRows(NamedTuple):
    """Some rows of texts.

    Attributes
    ----------
    texts : list of list of bytes
        For each input, its texts as they are; empty for those that cannot be read.
    labels : ndarray of int64, Ragged or None
        One for each row, or a list for each.
    faults : dict of int to str
        Why rows cannot be read.
    """

    texts: list[list[bytes]]
    labels: Rows | None
    faults: dict[int, str]


class TextReader(Protocol):
    """What texts are read from."""

    @property
    def rows(self) -> int:
        """Number of texts."""

    @property
    def longest_id(self) -> str:
        """The longest id."""

    def ids(self, start: int, stop: int) -> list[str]:
        """List the ids of some rows."""

    def where(self, row: int) -> str:
        """Name a row for messages."""

    def read(self, ranges: Sequence[tuple[int, int]]) -> Iterator[TextRows]:
        """Read ranges of rows that follow each other."""


@dataclass(frozen=True, slots=True)
class TextSource(SourceDefaults):
    """A source of texts, one per input."""

    name: str
    inputs: tuple[InputSpec, ...]
    reader: TextReader
    labelled: bool = False
    classes: tuple[str, ...] | None = None
    numbered_by_name: bool = False
    skip: bool = False
    outline: str = ""
    notes: tuple[str, ...] = ()
    empty_classes: tuple[str, ...] = ()
    label_lists: bool = False

    @property
    def rows(self) -> int:
        """Number of texts."""
        return self.reader.rows

    @property
    def id_bytes(self) -> int:
        """Length of the longest id."""
        return len(self.reader.longest_id.encode())

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` texts from ``start`` on, ``limit`` in all."""
        ranges = list(row_ranges(self.rows, rows, limit, start))
        for (first, stop), part in zip(ranges, self.reader.read(ranges), strict=True):
            faults = _check_texts(self.reader, first, part)
            if faults and not self.skip:
                raise SampleError(faults[min(faults)])
            arrays = [
                make_arrays(spec, texts)
                for spec, texts in zip(self.inputs, part.texts, strict=True)
            ]
            stored, for_model = zip(*arrays, strict=True)
            same = all(one is other for one, other in arrays)
            ids = self.reader.ids(first, stop)
            yield Block(ids, stored, part.labels, () if same else for_model, faults)


def _check_texts(reader: TextReader, first: int, part: TextRows) -> dict[int, str]:
    """Describe the rows that cannot be read or are no texts, and empty the latter."""
    faults = dict(part.faults)
    for texts in part.texts:
        for row, text in enumerate(texts):
            fault = find_fault(text)
            if fault is not None:
                faults.setdefault(row, f"{reader.where(first + row)} {fault}")
                texts[row] = b""
    return faults


def make_text_source(
    name: str,
    reader: TextReader,
    selection: ArraySelection,
    columns: Sequence[str],
    kind: type[TextSource] = TextSource,
    **properties: Any,
) -> TextSource:
    """Make a source of texts, described by the first of them."""
    if not reader.rows:
        raise DataError(f"{name} holds no texts.")
    first = next(reader.read([(0, min(TYPICAL, reader.rows))]))
    specs = tuple(
        describe_text(column, shape, texts)
        for column, shape, texts in zip(columns, selection.text_forms(), first.texts, strict=True)
    )
    skip = selection.images.skip_unreadable
    return kind(name, specs, reader, skip=skip, **properties)


def select_columns(
    where: str, selection: ArraySelection, names: Sequence[str], texts: Sequence[str]
) -> list[str]:
    """Select the column of each input by name; the only column of ``texts`` may have any."""
    if selection.tokens is not None:
        column = selection.arrays.get(selection.tokens)
        arrays = {} if column is None else {"text": column}
        selection = replace(selection, inputs=("text",), arrays=arrays)
    known = {name for candidates in selection.input_names() for name in candidates}
    only = len(selection.inputs) == len(texts) == 1
    if only and known.isdisjoint(names) and not selection.arrays:
        selection = replace(selection, arrays={selection.inputs[0]: texts[0]})
    columns, _ = replace(selection, labels=None, ignore_labels=True).select(where, names, "column")
    return columns


@dataclass(frozen=True, slots=True)
class _ArrayReader:
    """Arrays of strings in memory."""

    path: Path
    texts: Mapping[str, NDArray[Any]]
    labels: tuple[str, NDArray[Any], LabelEncoding] | None

    @property
    def rows(self) -> int:
        return min(map(len, self.texts.values()))

    @property
    def longest_id(self) -> str:
        return str(self.rows - 1)

    def ids(self, start: int, stop: int) -> list[str]:
        return [str(row) for row in range(start, stop)]

    def where(self, row: int) -> str:
        return f"{self.path}, row {row},"

    def read(self, ranges: Sequence[tuple[int, int]]) -> Iterator[TextRows]:
        for start, stop in ranges:
            faults: dict[int, str] = {}
            texts = [
                self._to_texts(name, values[start:stop], start, faults)
                for name, values in self.texts.items()
            ]
            yield TextRows(texts, self._read_labels(start, stop, faults), faults)

    def _to_texts(
        self, name: str, values: NDArray[Any], start: int, faults: dict[int, str]
    ) -> list[bytes]:
        texts = []
        for row, value in enumerate(values):
            array = np.asarray(value).reshape(-1)
            text = array[0] if array.size == 1 else None
            if not isinstance(text, str | bytes):
                text = ""
                faults[row] = (
                    f"{self.path}, column {name!r}, row {start + row}: the model takes one text "
                    "per sample, and this is none."
                )
            texts.append(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return texts

    def _read_labels(
        self, start: int, stop: int, faults: dict[int, str]
    ) -> NDArray[np.int64] | None:
        if self.labels is None:
            return None
        name, values, encoding = self.labels
        numbers = [encoding.numbers.get(str(value)) for value in values[start:stop]]
        for row, number in enumerate(numbers):
            if number is None:
                faults[row] = (
                    f"{self.path}, column {name!r}, row {start + row}, has no label: correct the "
                    f"row, or leave it out, or {LABELS_ADVICE}"
                )
        return np.array([number or 0 for number in numbers], np.int64)


def open_arrays(path: Path, selection: ArraySelection) -> Source:
    """Open arrays of strings in a .npz archive or .npy file."""
    arrays = _load_arrays(path, selection)
    names = [name for name in selection.label_names(()) if name in arrays]
    texts = [n for n, values in arrays.items() if values.dtype.kind in "US" and n not in names]
    columns = select_columns(str(path), selection, list(arrays), texts)
    _, label = replace(selection, inputs=tuple(columns), arrays={}).select(str(path), arrays)
    labels = None
    if label is not None:
        values = arrays[label]
        encoding = encode_labels(set(map(str, values)), f"{path}, column {label!r},")
        labels = label, values, encoding
    reader = _ArrayReader(path, {name: arrays[name] for name in columns}, labels)
    return make_text_source(
        path.name,
        reader,
        selection,
        columns,
        labelled=labels is not None,
        classes=None if labels is None else labels[2].classes,
    )


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
