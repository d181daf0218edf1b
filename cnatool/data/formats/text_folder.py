"""Folders of text files, each of which is a sample: by class in sub-folders, or without classes."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.text import bytes_text
from cnatool.data.file_names import TEXTS
from cnatool.data.formats.class_folders import list_classes
from cnatool.data.formats.text import TextRows, make_text_source
from cnatool.data.read_errors import describe_error
from cnatool.data.source import MAX_SAMPLE_BYTES
from cnatool.data.utf8 import encoding_error, find_encoding
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cnatool.data.formats.sample_files import SampleFiles
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Source


@dataclass(frozen=True, slots=True)
class _FileReader:
    """Texts that are files."""

    folder: Path
    found: SampleFiles

    @property
    def rows(self) -> int:
        return self.found.rows

    @property
    def longest_id(self) -> str:
        return self.found.longest_id

    def ids(self, start: int, stop: int) -> list[str]:
        return self.found.names(start, stop)

    def where(self, row: int) -> str:
        return str(self.folder / self.found.files[row][0])

    def read(self, ranges: Sequence[tuple[int, int]]) -> Iterator[TextRows]:
        for start, stop in ranges:
            faults: dict[int, str] = {}
            texts = []
            for row, name in enumerate(self.found.names(start, stop)):
                try:
                    texts.append(_read_text(self.folder / name))
                except (DataError, OSError) as error:
                    texts.append(b"")
                    faults[row] = (
                        str(error)
                        if isinstance(error, DataError)
                        else f"{self.where(start + row)} cannot be read ({describe_error(error)})."
                    )
            yield TextRows([texts], self.found.labels(start, stop), faults)


def _read_text(path: Path) -> bytes:
    """Read a file as it is, but for a byte order mark and other encodings than UTF-8."""
    # Opening a pipe would block forever.
    if not path.is_file():
        raise DataError(f"{path} is no file.")
    if path.stat().st_size > MAX_SAMPLE_BYTES:
        raise DataError(
            f"{path} has more than {bytes_text(MAX_SAMPLE_BYTES)}, so it is not a text."
        )
    content = path.read_bytes()
    encoding = find_encoding(content[:4])
    if encoding is None:
        return content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode(encoding).encode()
    except UnicodeError as error:
        raise encoding_error(path, encoding, error) from error


def open_text_folder(folder: Path, selection: ArraySelection) -> Source:
    """Open a folder of text files; sub-folders are classes."""
    if len(selection.inputs) > 1:
        raise DataError(
            f"{folder} holds one text per file, and the model takes {len(selection.inputs)} "
            f"({', '.join(selection.inputs)}): give a table with a column for each."
        )
    found = list_classes(folder, TEXTS, links=selection.images.follow_links)
    labelled = found.labelled and not selection.ignore_labels
    return make_text_source(
        folder.name,
        _FileReader(folder, found),
        selection,
        selection.inputs,
        labelled=found.labelled,
        classes=found.classes,
        numbered_by_name=labelled,
        notes=found.notes,
        empty_classes=found.empty,
    )
