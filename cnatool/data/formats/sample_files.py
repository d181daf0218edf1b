"""Files of a folder that are samples, one each, and sources of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.data.source import SampleError, SourceDefaults, row_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """Files of a folder that are samples.

    Attributes
    ----------
    files : tuple of (str, int or None)
        Paths relative to the folder, in order, and their labels: all have one, or none.
    classes : tuple of str or None
        Names of the classes; None if the labels are numbers, or there are none.
    firsts : tuple of str
        The first file of each class, where folders are classes.
    notes : tuple of str
        What the user should know, such as files that are ignored.
    empty : tuple of str
        Sub-folders without a file, which are no classes.
    """

    files: tuple[tuple[str, int | None], ...]
    classes: tuple[str, ...] | None
    firsts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the files have labels."""
        return self.files[0][1] is not None

    @property
    def rows(self) -> int:
        """Number of files."""
        return len(self.files)

    @property
    def longest_id(self) -> str:
        """The longest path, in bytes of UTF-8."""
        return max((name for name, _ in self.files), key=lambda name: len(name.encode()))

    def names(self, start: int = 0, stop: int | None = None) -> list[str]:
        """List the paths of some files."""
        return [name for name, _ in self.files[start:stop]]

    def labels(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the labels of some files, (stop - start,); None if they have none."""
        labels = [label for _, label in self.files[start:stop] if label is not None]
        return np.array(labels, np.int64) if self.labelled else None


@dataclass(frozen=True, slots=True)
class FileSource(SourceDefaults):
    """What sources of files have in common; ids are paths relative to the folder."""

    folder: Path
    found: SampleFiles

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def rows(self) -> int:
        """Number of files."""
        return self.found.rows

    @property
    def id_bytes(self) -> int:
        """Length of the longest path."""
        return len(self.found.longest_id.encode())

    @property
    def labelled(self) -> bool:
        """Whether the files have labels."""
        return self.found.labelled

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if labels are no numbers."""
        return self.found.classes

    @property
    def numbered_by_name(self) -> bool:
        """Whether there are classes: their numbers follow from their names."""
        return self.found.labelled

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """Sub-folders without a file."""
        return self.found.empty

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, such as files that are ignored."""
        return self.found.notes

    def parts(
        self, rows: int, limit: int | None, start: int
    ) -> Iterator[tuple[list[str], NDArray[np.int64] | None]]:
        """Yield the paths and labels of each block, as in `Source.blocks`."""
        for first, stop in row_ranges(self.rows, rows, limit, start):
            yield self.found.names(first, stop), self.found.labels(first, stop)


def find_file(folder: Path, names: Sequence[str], row: int) -> Path:
    """Return the path of a sample; SampleError if it is no file."""
    path = folder / names[row]
    # Opening a pipe would block forever.
    if not path.is_file():
        raise SampleError(f"{path} is no file.")
    return path
