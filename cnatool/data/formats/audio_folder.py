"""Folders of sound files: a sub-folder for each class, or files without classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cnatool.data.audio.batch import open_reader
from cnatool.data.file_names import SOUNDS
from cnatool.data.formats.class_folders import list_classes
from cnatool.data.images.batch import collect_model_arrays, decode_threads
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Block, SampleError, SourceDefaults, row_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cnatool.data.audio.batch import SoundReader
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import InputSpec

# Files whose headers are read at once, for the typical length and for rates that differ: the first
# of all and those of as many classes.
_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class AudioFolder(SourceDefaults):
    """Sound files in a fixed order; ids are paths relative to the folder.

    ``files`` are paths and labels.
    """

    folder: Path
    files: tuple[tuple[str, int | None], ...]
    reader: SoundReader
    classes: tuple[str, ...] | None
    skip: bool
    notes: tuple[str, ...] = ()
    numbered_by_name: bool = False
    empty_classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """One input, of amplitudes."""
        return (self.reader.spec,)

    @property
    def labelled(self) -> bool:
        """Whether the files have labels; all have, or none."""
        return self.files[0][1] is not None

    @property
    def rows(self) -> int:
        """Number of files."""
        return len(self.files)

    @property
    def id_bytes(self) -> int:
        """Length of the longest path."""
        return max(len(name.encode()) for name, _ in self.files)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` sounds from ``start`` on, ``limit`` in all."""
        with decode_threads(skip=self.skip) as each:
            for first, stop in row_ranges(self.rows, rows, limit, start):
                part = self.files[first:stop]
                names = [name for name, _ in part]
                labels = None
                if self.labelled:
                    labels = np.array([label for _, label in part], np.int64)
                batch = self.reader.decode(len(part), partial(_find, self.folder, names), each)
                arrays = collect_model_arrays([batch])
                yield Block(names, (batch.stored,), labels, arrays, batch.faults)


def open_audio_folder(folder: Path, selection: ArraySelection = SINGLE_INPUT) -> AudioFolder:
    """Open a folder whose sub-folders are classes, or one of sound files without classes.

    Sub-folders and files are listed as `list_classes` does. The headers of the first files are read
    here, and of the first file of each class; the others as they are decoded.
    """
    found = list_classes(folder, SOUNDS, links=selection.images.follow_links)
    return make_audio_source(
        folder,
        found.files,
        found.classes,
        selection,
        found.notes,
        firsts=found.firsts,
        numbered_by_name=found.labelled,
        empty_classes=found.empty,
    )


def make_audio_source(
    folder: Path,
    files: Sequence[tuple[str, int | None]],
    classes: tuple[str, ...] | None,
    selection: ArraySelection,
    notes: Sequence[str],
    *,
    firsts: Sequence[str] = (),
    numbered_by_name: bool = False,
    empty_classes: Sequence[str] = (),
) -> AudioFolder:
    """Make a source, described by the first sound that can be read.

    The headers of ``firsts`` are compared with it at once.
    """
    names = [name for name, _ in files]
    wanted = set(firsts[:_LOOKED_AT])
    looked_at = [
        row for row, name in enumerate(names) if row and (row < _LOOKED_AT or name in wanted)
    ]
    skip = selection.images.skip_unreadable
    find = partial(_find, folder, names)
    # The name of the input is part of stores.
    reader = open_reader("sound", find, len(files), looked_at, selection.sound, skip=skip)
    return AudioFolder(
        folder,
        tuple(files),
        reader,
        classes,
        skip,
        tuple(notes),
        numbered_by_name,
        tuple(empty_classes),
    )


def _find(folder: Path, names: Sequence[str], row: int) -> tuple[str, Path]:
    path = folder / names[row]
    # Opening a pipe would block forever.
    if not path.is_file():
        raise SampleError(f"{path} is no file.")
    return str(path), path
