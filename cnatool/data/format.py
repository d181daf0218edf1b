"""A format of samples: how it is recognised, and what opens it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnatool.data.file_names import is_ignored, scan_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cnatool.data.location import Location
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Source


@dataclass(frozen=True, slots=True)
class Format:
    """A format of samples."""

    name: str  # for the option `format`
    description: str  # what it is, for messages
    # Whether a location looks like the format, by names and a few bytes at most
    matches: Callable[[Location], bool]
    # Module and function of `cnatool.data.formats` that open it. The module is imported on use:
    # arrays should not wait for Pillow.
    reader: str
    # What the function takes first, from the location; an `ArraySelection` comes second
    argument: Callable[[Location], Any]
    labels: bool = False  # whether the array of labels can be chosen
    labels_from: str = ""  # where labels are read from otherwise, for messages
    arrays: bool = False  # whether ``::`` can choose an array
    folder: bool = False  # whether it is a folder of many files, which is read from a disk only

    def open(self, location: Location, selection: ArraySelection) -> Source:
        """Open the samples at a location."""
        module, function = self.reader.split(".")
        reader = getattr(import_module(f"cnatool.data.formats.{module}"), function)
        source: Source = reader(self.argument(location), selection)
        return source


def list_folders(folder: Path) -> list[Path]:
    """List the visible sub-folders of a folder."""
    with scan_folder(folder) as entries:
        return [
            folder / entry.name
            for entry in entries
            if entry.is_dir() and not is_ignored(entry.name)
        ]


def has_suffix(*endings: str) -> Callable[[Location], bool]:
    """Make a test for files that all have one of some endings."""

    def matches(location: Location) -> bool:
        files = location.files or ((location.path,) if location.path.is_file() else ())
        return bool(files) and all(file.name.lower().endswith(endings) for file in files)

    return matches


def holds_files(*endings: str) -> Callable[[Location], bool]:
    """Make a test for a file or folder with files that have one of some endings."""
    return lambda location: bool(location.files_ending_in(*endings))


def path_of(location: Location) -> Path:
    """Return the file or folder."""
    return location.path


def itself(location: Location) -> Location:
    """Return the location."""
    return location


def files_of(*endings: str) -> Callable[[Location], tuple[Path, ...]]:
    """Make a function that lists the files with one of some endings."""
    return lambda location: location.files_ending_in(*endings) or (location.path,)
