"""Where the samples of one split lie: a path, several files of it, or an array inside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnatool._util.local_paths import check_local
from cnatool.errors import DataError


@dataclass(frozen=True, slots=True)
class Location:
    """What the user gave, or a part of it.

    Attributes
    ----------
    path : Path
        A file, or a folder.
    array : str or None
        Name of what is meant inside it: what follows ``::``.
    files : tuple of Path
        Which files of the folder are meant, where these are not all.
    """

    path: Path
    array: str | None = None
    files: tuple[Path, ...] = ()

    def pieces(self, *endings: str) -> tuple[Path, ...]:
        """Give the files of this location that have one of these endings, in order of name."""
        if self.files:
            found = list(self.files)
        elif self.path.is_dir():
            found = sorted(self.path.iterdir())
        else:
            found = [self.path]
        return tuple(
            file
            for file in found
            if file.name.lower().endswith(endings) and file.name[0] != "." and file.is_file()
        )

    def __str__(self) -> str:
        return str(self.path) if self.array is None else f"{self.path}::{self.array}"


def locate(given: str | Path) -> Location:
    """Take a path apart from what is meant inside it.

    Raises
    ------
    DataError
        If there is nothing at the path, or no path.
    UsageError
        If it is a URL.
    """
    if not str(given):
        raise DataError("DATA is empty: name a file or a folder, or . for the current folder.")
    path, array = Path(given), None
    try:
        there = path.exists()
        if not there and "::" in str(given):
            before, _, array = str(given).partition("::")
            path = Path(before)
            there = bool(before) and path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{given} cannot be read ({error}).") from error
    if not there:
        check_local(given)
        raise DataError(f"no such file or folder: {path}")
    return Location(path, array)
