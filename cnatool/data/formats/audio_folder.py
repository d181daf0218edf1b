"""Folders of sound files: a sub-folder for each class, or files without classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cnatool.data.audio.batch import open_reader
from cnatool.data.file_names import SOUNDS
from cnatool.data.formats.class_folders import list_classes
from cnatool.data.formats.sample_files import FileSource, find_file
from cnatool.data.images.batch import collect_model_arrays, decode_threads
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cnatool.data.audio.batch import SoundReader
    from cnatool.data.formats.sample_files import SampleFiles
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import InputSpec

# Files whose headers are read at once, for the typical length and for rates that differ: the first
# of all and those of as many classes.
_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class AudioFolder(FileSource):
    """Sound files in a fixed order."""

    reader: SoundReader
    skip: bool

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """One input, of amplitudes."""
        return (self.reader.spec,)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` sounds from ``start`` on, ``limit`` in all."""
        with decode_threads(skip=self.skip) as each:
            for names, labels in self.parts(rows, limit, start):
                batch = self.reader.decode(len(names), partial(_find, self.folder, names), each)
                arrays = collect_model_arrays([batch])
                yield Block(names, (batch.stored,), labels, arrays, batch.faults)


def open_audio_folder(folder: Path, selection: ArraySelection = SINGLE_INPUT) -> AudioFolder:
    """Open a folder whose sub-folders are classes, or one of sound files without classes.

    Sub-folders and files are listed as `list_classes` does. The headers of the first files are read
    here, and of the first file of each class; the others as they are decoded.
    """
    found = list_classes(folder, SOUNDS, links=selection.images.follow_links)
    return make_audio_source(folder, found, selection)


def make_audio_source(folder: Path, found: SampleFiles, selection: ArraySelection) -> AudioFolder:
    """Make a source, described by the first sound that can be read.

    The headers of the first file of each class are compared with it at once.
    """
    names = found.names()
    wanted = set(found.firsts[:_LOOKED_AT])
    looked_at = [
        row for row, name in enumerate(names) if row and (row < _LOOKED_AT or name in wanted)
    ]
    skip = selection.images.skip_unreadable
    find = partial(_find, folder, names)
    # The name of the input is part of stores.
    reader = open_reader("sound", find, len(names), looked_at, selection.sound, skip=skip)
    return AudioFolder(folder, found, reader, skip)


def _find(folder: Path, names: Sequence[str], row: int) -> tuple[str, Path]:
    path = find_file(folder, names, row)
    return str(path), path
