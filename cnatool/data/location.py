"""The location of the samples of one split: a path, several files, or an array inside a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnatool._util.local_paths import check_local
from cnatool._util.urls import ObjectURL, parse_path
from cnatool.errors import DataError
from cnatool.store.object_path import open_bucket


@dataclass(frozen=True, slots=True)
class Location:
    """The location of samples."""

    path: Path  # A file, or a folder
    array: str | None = None  # the name that follows ``::``, of an array inside the file or folder
    files: tuple[Path, ...] = ()  # the files of the folder that are meant; empty if all are

    def files_ending_in(self, *endings: str) -> tuple[Path, ...]:
        """List the visible files that have one of some endings, sorted by name."""
        if self.files:
            files = list(self.files)
        elif self.path.is_dir():
            files = sorted(self.path.iterdir())
        else:
            files = [self.path]
        return tuple(
            file
            for file in files
            if file.name.lower().endswith(endings) and file.name[0] != "." and file.is_file()
        )

    def __str__(self) -> str:
        return str(self.path) if self.array is None else f"{self.path}::{self.array}"


def locate(text: str | Path) -> Location:
    """Split a text into an existing path and, behind ``::``, the name of an array inside it."""
    if not str(text):
        raise DataError("`data` is empty: name a file or a folder, or . for the current folder.")
    before, colons, inside = str(text).partition("::")
    array = inside if colons else None
    if isinstance(url := parse_path(before), ObjectURL):
        return Location(open_bucket(url), array)
    path = Path(text)
    try:
        exists = path.exists()
        if exists:
            array = None
        elif array is not None:
            path = Path(before)
            exists = bool(before) and path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{text} cannot be read ({error}).") from error
    if not exists:
        check_local(text)
        raise DataError(f"no such file or folder: {path}")
    return Location(path, array)
