"""Columns of a table that hold sound files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cnatool.data.audio.batch import open_reader
from cnatool.data.audio.containers import looks_like_sound
from cnatool.data.file_names import SOUNDS
from cnatool.data.formats.table_columns import RowLocator, find_bytes
from cnatool.data.source import SampleError

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from cnatool.data.audio.batch import SoundReader
    from cnatool.data.images.batch import DecodedBatch, Each
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import InputSpec


@dataclass(frozen=True, slots=True)
class SoundColumn:
    """A column of sound files: bytes, or a struct with a field ``bytes``."""

    column: str
    reader: SoundReader

    @property
    def spec(self) -> InputSpec:
        """One input, of amplitudes."""
        return self.reader.spec

    @property
    def names(self) -> tuple[str, ...]:
        """One column."""
        return (self.column,)

    def decode(self, frame: pl.DataFrame, locator: RowLocator, each: Each) -> DecodedBatch:
        """Decode to amplitudes (n,) that differ in length, and to what the model receives."""
        find = partial(find_bytes, frame, self.column, locator, kind=SOUNDS)
        return self.reader.decode(len(frame), find, each)


def holds_sound(frame: pl.DataFrame, name: str, path: Path, rows: int) -> bool:
    """Whether the first file in a column is a sound."""
    for row in range(len(frame)):
        try:
            _, content = find_bytes(frame, name, RowLocator((path,), (rows,), 0), row, SOUNDS)
        except SampleError:
            continue
        return looks_like_sound(content[:12])
    return False


def open_sound_column(
    frame: pl.DataFrame, name: str, path: Path, rows: int, selection: ArraySelection
) -> SoundColumn:
    """Describe the sounds of a column by its first rows."""
    find = partial(find_bytes, frame, name, RowLocator((path,), (rows,), 0), kind=SOUNDS)
    skip = selection.images.skip_unreadable
    looked_at = range(1, len(frame))
    return SoundColumn(
        name, open_reader(name, find, len(frame), looked_at, selection.sound, skip=skip)
    )
