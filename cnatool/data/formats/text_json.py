"""JSON lines: a field of each object is a text, another its label."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import polars as pl

from cnatool._util.text import one_line, printable
from cnatool.data.file_names import describe_files
from cnatool.data.formats.table import (
    check_split_column,
    find_label_column,
    group_rows,
    list_feature_columns,
)
from cnatool.data.formats.text import TextRows, TextSource, make_text_source, select_columns
from cnatool.data.formats.text_lines import FileLines, LineFile, LineRows, index_files
from cnatool.data.labels import LABELS_ADVICE, check_class_count, encode_labels
from cnatool.data.text_batch import TYPICAL, describe_encoding
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.labels import LabelEncoding
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Source
    from cnatool.records.ragged import Rows

# Rows of labels that are read at a time.
_PASS = 1 << 14
# Characters of a value that a message shows.
_SHOWN = 40
# What a name has only as an escape.
_ESCAPED = re.compile(r'[\\"\x00-\x1f]')
_NO_LINES = FileLines(())
_KINDS = {dict: "an object", list: "an array", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class _Fields:
    """Some fields of the objects of a file."""

    names: tuple[str, ...]

    @cached_property
    def _places(self) -> dict[str, str]:
        """Attribute of a decoded row, by name of a field."""
        return {name: f"field{number}" for number, name in enumerate(dict.fromkeys(self.names))}

    @cached_property
    def _decoder(self) -> Any:
        """Decoder that skips the other fields; None if a name is one that msgspec does not take."""
        if any(_ESCAPED.search(name) for name in self.names):
            return None
        names = {place: name for name, place in self._places.items()}
        fields = [(place, msgspec.Raw, msgspec.UNSET) for place in names]
        return msgspec.json.Decoder(cast("Any", msgspec.defstruct("Row", fields, rename=names)))

    def decode(self, line: bytes) -> list[Any] | str:
        """Decode the fields of a line, UNSET where it lacks one; or describe why there are none."""
        if self._decoder is None:
            return self._decode_slowly(line)
        try:
            row = self._decoder.decode(line)
            values = [getattr(row, self._places[name]) for name in self.names]
            return [v if v is msgspec.UNSET else msgspec.json.decode(v) for v in values]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._decode_slowly(line)

    def _decode_slowly(self, line: bytes) -> list[Any] | str:
        """Decode what only Python reads, such as NaN; describe what it does not read either."""
        if not line.strip():
            return "is blank: remove it."
        try:
            row = json.loads(line)
        except UnicodeDecodeError as error:
            return describe_encoding(line, error)
        except (ValueError, RecursionError) as error:
            return f"is not JSON ({printable(one_line(error))}): correct it, or get a whole copy."
        if not isinstance(row, dict):
            return f"is not a JSON object, but {_KINDS.get(type(row), repr(type(row).__name__))}."
        return [row.get(name, msgspec.UNSET) for name in self.names]


@dataclass(frozen=True, slots=True)
class _JsonReader(LineRows):
    """Fields of JSON lines."""

    fields: _Fields
    columns: tuple[str, ...]
    label: str | None
    encoding: LabelEncoding | None
    lists: bool = False  # whether a label is a list of whole numbers

    def read(self, ranges: Sequence[tuple[int, int]]) -> Iterator[TextRows]:
        if not ranges:
            return
        lines = self.lines.read(ranges[0][0], ranges[-1][1])
        for start, stop in ranges:
            faults: dict[int, str] = {}
            texts: list[list[bytes]] = [[] for _ in self.columns]
            labels = np.zeros(stop - start, np.int64)
            lists: list[list[int]] = [[] for _ in range(stop - start)]
            for row in range(stop - start):
                values = self.fields.decode(next(lines))
                if isinstance(values, str):
                    faults[row] = f"{self.where(start + row)} {values}"
                    values = [""] * len(self.fields.names)
                for name, texts_of, value in zip(self.columns, texts, values, strict=False):
                    text, fault = _to_text(name, value)
                    texts_of.append(text)
                    if fault is not None:
                        faults.setdefault(row, f"{self.where(start + row)} {fault}")
                if self.lists and row not in faults:
                    if _is_label_list(values[-1]):
                        lists[row] = values[-1]
                    else:
                        faults[row] = (
                            f"{self.where(start + row)} has no list of whole numbers in its field "
                            f"{self.label!r}: correct it, or leave it out."
                        )
                if self.encoding is not None and row not in faults:
                    number = self._number(values[-1])
                    labels[row] = number or 0
                    if number is None:
                        faults[row] = (
                            f"{self.where(start + row)} has no label in its field {self.label!r}: "
                            "correct it, or leave it out."
                        )
            found: Rows | None = None if self.encoding is None else labels
            if self.lists:
                found = Ragged.join([np.array(each, np.int64) for each in lists])
            yield TextRows(texts, found, faults)

    def _number(self, value: Any) -> int | None:
        if self.encoding is None or value is None or value is msgspec.UNSET:
            return None
        return self.encoding.numbers.get(_label_text(value))


def _to_text(name: str, value: Any) -> tuple[bytes, str | None]:
    """Convert the value of a field to a text, or describe why it is none."""
    if isinstance(value, str):
        try:
            return value.encode(), None
        except UnicodeEncodeError as error:
            surrogate = f"\\u{ord(value[error.start]):04x}"
            return b"", (
                f"has in its field {name!r} half a character, {surrogate} without its other half: "
                "remove it."
            )
    if value is msgspec.UNSET:
        return b"", f"has no field {name!r}: add it, or leave the line out."
    kind = _KINDS.get(type(value)) or f"the number {value!r}"
    return b"", f"has in its field {name!r} {kind[:_SHOWN]} and no text."


def _is_label_list(value: Any) -> bool:
    """Whether a value is a list of whole numbers of 64 bits."""
    return isinstance(value, list) and all(
        isinstance(each, int) and not isinstance(each, bool) and abs(each) < 1 << 63
        for each in value
    )


def _label_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class JsonSource(TextSource):
    """JSON lines, of which a field may name the split of each."""

    lines: FileLines = _NO_LINES
    split_column: str | None = None

    def split_rows(self) -> list[tuple[str, NDArray[np.int64]]]:
        """List each value of the split column, in order of its first row, with its rows."""
        name = self.split_column
        assert name is not None
        return group_rows(
            f"{self.name}, field {name!r},",
            self._read_values(name),
            lambda row: f"{self.lines.where(row)} field {name!r},",
        )

    def _read_values(self, name: str) -> Iterator[pl.Series]:
        """Yield the values of a field as text, null where a line has none."""
        fields = _Fields((name,))
        for start in range(0, self.rows, _PASS):
            values: list[str | None] = []
            for line in self.lines.read(start, min(start + _PASS, self.rows)):
                value = fields.decode(line)
                if isinstance(value, str):
                    raise DataError(f"{self.lines.where(start + len(values))} {value}")
                missing = value[0] is None or value[0] is msgspec.UNSET
                values.append(None if missing else _label_text(value[0]))
            yield pl.Series(values, dtype=pl.String)


def open_json(paths: Sequence[Path], selection: ArraySelection) -> Source:
    """Open JSON lines, in one file or several; the fields are those of their first objects."""
    lines = index_files(paths, trim=True)
    skip = selection.images.skip_unreadable
    first = [(file.path, _read_first(file, skip=skip)) for file in lines.files if file.lines]
    if not first:
        raise DataError(f"{paths[0]} holds no texts.")
    path = first[0][0]
    # A field that files lack is missing in their lines, which says so if it is read.
    values = {name: value for _, row in reversed(first) for name, value in row.items()}
    names = list(dict.fromkeys(name for _, row in first for name in row))
    label = find_label_column(path, names, selection)
    split = selection.split_column
    check_split_column(path, selection, names)
    others = list_feature_columns(names, {label, split})
    texts = [name for name in others if all(isinstance(row.get(name), str) for _, row in first)]
    columns = select_columns(str(path), selection, names, texts)
    encoding, lists = None, False
    if label is not None and not selection.ignore_labels:
        lists = _is_label_list(values[label])
        encoding = None if lists else _read_labels(lines, path, label)
    labelled = lists or encoding is not None
    fields = _Fields((*columns, *([label] if labelled and label else [])))
    reader = _JsonReader(lines, fields, tuple(columns), label, encoding, lists)
    return make_text_source(
        describe_files(paths),
        reader,
        selection,
        columns,
        JsonSource,
        labelled=labelled,
        label_lists=lists,
        classes=None if encoding is None else encoding.classes,
        numbered_by_name=encoding is not None,
        outline=lines.outline,
        lines=lines,
        split_column=split,
    )


def _read_first(file: LineFile, *, skip: bool) -> dict[str, Any]:
    """Read the first object of a file, after lines that hold none if these are skipped."""
    fault = ""
    for number, line in enumerate(file.read(0, min(file.lines, TYPICAL if skip else 1)), 1):
        where = f"{file.path}, line {number},"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            fault = fault or (
                f"{where} is not JSON ({printable(one_line(error))}): JSON lines have an object in "
                "each line."
            )
            continue
        if isinstance(row, dict):
            return row
        fault = fault or (
            f"{where} is not a JSON object: JSON lines have an object in each line, as in "
            '{"text": "…", "label": 1}.'
        )
    raise DataError(fault)


def _read_labels(lines: FileLines, path: Path, label: str) -> LabelEncoding:
    """Read the different labels of all lines, and decide what they mean."""
    fields, found = _Fields((label,)), set[str]()
    where = f"{path}, field {label!r},"
    for start in range(0, lines.rows, _PASS):
        for line in lines.read(start, min(start + _PASS, lines.rows)):
            values = fields.decode(line)
            if isinstance(values, str) or values[0] is None or values[0] is msgspec.UNSET:
                continue
            if isinstance(values[0], list | dict):
                raise DataError(
                    f"{where} holds {_KINDS[type(values[0])]}: labels are whole numbers, lists of "
                    f"them in every line, or names of classes; {LABELS_ADVICE}"
                )
            found.add(_label_text(values[0]))
        check_class_count(where, found)
    return encode_labels(found, where)
