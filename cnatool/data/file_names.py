"""Names of files and folders of samples: of which kind they are, and which are ignored."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnatool._util.urls import ObjectURL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class FileKind:
    """Files each of which is a sample, such as images."""

    noun: str
    article: str
    extensions: frozenset[str]

    @property
    def plural(self) -> str:
        """Several of them."""
        return f"{self.noun}s"

    def matches(self, name: str) -> bool:
        """Whether a file is of this kind by its extension."""
        return Path(name).suffix.lower() in self.extensions

    def lies_in(self, folder: Path) -> bool:
        """Whether files of this kind lie directly in a folder."""
        with scan_folder(folder) as entries:
            return any(self.matches(entry.name) and not is_ignored(entry.name) for entry in entries)


# Not beside the decoder, so that splits are found without Pillow.
IMAGES = FileKind(
    "image", "an", frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
)
TEXTS = FileKind("text", "a", frozenset({".txt"}))
SOUNDS = FileKind(
    "sound file", "a", frozenset({".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
)
# Files whose extension alone says that each is a sample, of whichever kind.
SAMPLES = FileKind("sample", "a", IMAGES.extensions | SOUNDS.extensions)

# Tables of file names and labels, beside images or sound files.
LABEL_TABLES = ("labels.csv", "metadata.csv")

# What operating systems and other programs leave in folders, in lower case.
_SYSTEM_FILES = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "#snapshot",
        "__pycache__",
        "system volume information",
        "$recycle.bin",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
    }
)

# Names become ids: undecodable bytes (lone surrogates) cannot be written, and control characters
# should not reach a terminal.
UNSAFE_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to the system, by its name."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


@contextmanager
def scan_folder(folder: Path) -> Iterator[Iterable[Any]]:
    """List a folder: on a disk its entries, which know what they are, in a bucket its paths."""
    if isinstance(folder, ObjectURL):
        yield folder.iterdir()
        return
    with os.scandir(folder) as entries:
        yield entries


def describe_files(paths: Sequence[Path]) -> str:
    """Name one file, or several as ``first.ext and N more``."""
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"


def row_id(paths: Sequence[Path], path: Path, row: object) -> str:
    """Return the number or key of a row, after the name of its file if there are several."""
    return str(row) if len(paths) == 1 else f"{path.name}:{row}"


def list_sizes(paths: Iterable[Path]) -> str:
    """List files with their sizes, a line each."""
    return "\n".join(f"{path.name} {path.stat().st_size}" for path in paths)
