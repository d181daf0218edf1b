"""The splits in a folder, by the names of its files and sub-folders."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.text import list_names, printable
from cnatool.data.detect import find_format
from cnatool.data.file_names import LABEL_TABLES, SAMPLES, TEXTS, is_ignored, scan_folder
from cnatool.data.formats.idx import find_idx_files
from cnatool.data.location import Location, locate
from cnatool.data.read_errors import read_error
from cnatool.data.split_names import SplitName, list_missing_shards, parse_split_name
from cnatool.data.text_formats import TEXT_ENDINGS
from cnatool.errors import DataError, UsageError
from cnatool.store.format_table import holds_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeVar

    from cnatool.data.file_names import FileKind

    _T = TypeVar("_T")

SPLIT_ORDER = ("train", "val", "test")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Endings of files of samples; those of one row are one format.
_ENDINGS = (
    (".parquet",),
    (".tar", ".tar.gz", ".tgz"),
    (".csv", ".tsv"),
    (".npz",),
    (".npy",),
    (".safetensors",),
    (".h5", ".hdf5", ".hdf"),
    (".zarr", ".zarr.zip"),
)
# Formats in which several files may be one split.
_MULTI_FILE = (".parquet", ".tar", ".csv", ".txt", ".jsonl")
_EACH_FILE = ", or, if each file is a sample of its own, pass `format=texts`"
# How many levels of folders with a single sub-folder are searched.
_MAX_DEPTH = 3
_CIFAR = {
    "train": re.compile(r"train\.bin|data_batch_\d\.bin"),
    "test": re.compile(r"test(_batch)?\.bin"),
}


@dataclass(frozen=True, slots=True)
class _Sought:
    """What files of samples are searched for."""

    format_name: str | None  # the format that the user chose
    texts: bool
    endings: tuple[tuple[str, ...], ...]  # of files with many samples
    kind: FileKind  # of files that are a sample each

    def lies_in(self, folder: Path) -> bool:
        """Whether files that are samples lie directly in a folder."""
        return self.kind.lies_in(folder)

    def matches(self, location: Location) -> bool:
        """Whether a location is in the format that the user chose, if any."""
        if self.format_name is None:
            return True
        return find_format(self.format_name, texts=self.texts).matches(location)

    def ending(self, name: str) -> str | None:
        """Return the first ending of the format that a file's name has."""
        if is_ignored(name):
            return None
        return next((row[0] for row in self.endings if name.lower().endswith(row)), None)

    def stem(self, name: str) -> str:
        """Return the name of a file without the ending of its format."""
        endings = sorted((ending for row in self.endings for ending in row), key=len, reverse=True)
        ending = next(ending for ending in endings if name.lower().endswith(ending))
        return name[: -len(ending)]


def find_splits(
    data: str | Path | None,
    named: Mapping[str, str | Path],
    format_name: str | None = None,
    *,
    texts: bool = False,
) -> dict[str, Location]:
    """Find the location of each split, of texts or of other samples."""
    if named and data is not None:
        raise UsageError(
            "`data` and `splits` were both given: name every split with `splits={'NAME': PATH}`."
        )
    if named:
        for name in named:
            check_split_name(name)
        return sort_splits({name: locate(part) for name, part in named.items()})
    if data is None:
        raise UsageError("there is no data to read: give `data`, or `splits={'NAME': PATH}`.")
    location = locate(data)
    # A store is not searched: the error on opening it names it as one.
    if not location.path.is_dir() or location.array is not None or holds_store(location.path):
        return {"all": location}
    try:
        sought = (
            _Sought(format_name, texts, TEXT_ENDINGS, TEXTS)
            if texts
            else _Sought(format_name, texts, _ENDINGS, SAMPLES)
        )
        return sort_splits(_search(location.path, sought)) or {"all": location}
    except OSError as error:
        raise read_error(location, error, "") from error


def check_split_name(name: str) -> None:
    """Refuse a name that a split cannot have."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a split cannot be called {name!r}: use 1 to 64 letters, digits, _ and -."
        )


def check_shards(folder: Path, split: str, files: Sequence[str]) -> None:
    """Refuse an incomplete set of numbered files."""
    if missing := list_missing_shards(files):
        raise DataError(
            f"{folder} lacks {len(missing)} of the numbered files of split {split}, such as "
            f"{printable(missing[0])}: get them, or name a single file to read with "
            f"`splits={{{split!r}: PATH}}`."
        )


def sort_splits(parts: Mapping[str, _T]) -> dict[str, _T]:
    """Put train, val and test first, in this order."""
    names = [name for name in SPLIT_ORDER if name in parts]
    names += [name for name in parts if name not in SPLIT_ORDER]
    return {name: parts[name] for name in names}


def _search(folder: Path, sought: _Sought, depth: int = 0) -> dict[str, Location]:
    _check_links(folder)
    candidates = _find_files(folder, sought) + _find_folders(folder, sought)
    if not candidates:
        return _search_below(folder, sought, depth)
    candidates = [(name, location) for name, location in candidates if sought.matches(location)]
    parts: dict[str, Location] = {}
    for name, location in candidates:
        if name in parts:
            raise _duplicate_error(folder, name, _short_name(parts[name]), _short_name(location))
        parts[name] = location
    return parts


def _duplicate_error(folder: Path, name: str, first: str, second: str) -> DataError:
    return DataError(
        f"{folder} holds the split {name} twice, as {first} and {second}: choose one with "
        f"`splits={{{name!r}: PATH}}`."
    )


def _check_links(folder: Path) -> None:
    """Refuse broken links that may stand for samples, which would be silently left out."""
    with scan_folder(folder) as entries:
        links = sorted(entry.name for entry in entries if entry.is_symlink())
    for name in links:
        try:
            (folder / name).stat()
        except OSError as error:
            circular = error.errno == errno.ELOOP
            if circular or parse_split_name(name.partition(".")[0]).split is not None:
                where = "in a circle" if circular else "nowhere"
                raise DataError(
                    f"{folder / name} is a symbolic link that leads {where}: remove it, or point "
                    "it at the samples."
                ) from None


def _search_below(folder: Path, sought: _Sought, depth: int) -> dict[str, Location]:
    """Search a folder's only sub-folder: data hubs put files into data/ or default/."""
    with scan_folder(folder) as entries:
        below = [
            folder / entry.name
            for entry in entries
            if not is_ignored(entry.name) and entry.is_dir()
        ]
    if len(below) != 1 or depth == _MAX_DEPTH or sought.lies_in(below[0]):
        return {}
    return _search(below[0], sought, depth + 1)


def _find_folders(folder: Path, sought: _Sought) -> list[tuple[str, Location]]:
    """Find splits that are sub-folders."""
    below = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not is_ignored(path.name) and sought.ending(path.name) is None
    ]
    # Folders named like IDX files contain them.
    below = [path for path in below if "idx" not in path.name.lower()]
    named = {path: parse_split_name(path.name) for path in below}
    splits = [names.split for names in named.values()]
    # Samples in train/ and test/ and nowhere else: these are splits without classes.
    flat = None not in splits and len(set(splits)) == len(splits) > 1
    parts = [path for path in below if named[path].splits and (flat or not _is_class(path, sought))]
    others = [path for path in below if path not in parts and _holds_samples(path, sought)]
    if parts:
        _check_names(folder, {path: named[path] for path in parts}, others)
    return [(named[path].split or "", Location(path)) for path in parts]


def _holds_samples(folder: Path, sought: _Sought) -> bool:
    """Whether a folder seems to hold samples: files of one each, or files of arrays."""
    with scan_folder(folder) as entries:
        visible = [entry for entry in entries if not is_ignored(entry.name)]
    return any(
        sought.lies_in(folder / entry.name)
        if entry.is_dir()
        else sought.kind.matches(entry.name) or sought.ending(entry.name) not in (None, ".csv")
        for entry in visible
    )


def _find_files(folder: Path, sought: _Sought) -> list[tuple[str, Location]]:
    """Find splits that are a file, or several files in the order of their names."""
    by_ending: dict[str, list[Path]] = {}
    cifar: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        ending = sought.ending(file.name)
        exists = file.is_file() or ending == ".zarr"
        if ending and exists and sought.matches(Location(file)) and _is_samples(file):
            by_ending.setdefault(ending, []).append(file)
        for name, pattern in _CIFAR.items():
            if pattern.fullmatch(file.name) and file.is_file():
                cifar.setdefault(name, []).append(file)
    idx = {parse_split_name(stem): file for stem, file in find_idx_files(folder).items()}
    splits = [(names.split, [file]) for names, file in idx.items() if names.split]
    splits += list(cifar.items())
    unnamed = []
    for ending, files in by_ending.items():
        named = {file: parse_split_name(sought.stem(file.name)) for file in files}
        if not any(names.splits for names in named.values()):
            unnamed += [] if ending in (".csv", ".txt") else files
            continue
        others = [file for file, names in named.items() if not names.splits]
        _check_names(folder, named, others, _EACH_FILE if ending == ".txt" else "")
        splits += _group_files(folder, named, several=ending in _MULTI_FILE)
    if splits and unnamed:
        _check_names(folder, {}, unnamed)
    return [
        (name, Location(files[0]) if len(files) == 1 else Location(folder, None, tuple(files)))
        for name, files in splits
    ]


def _group_files(
    folder: Path, named: Mapping[Path, SplitName], *, several: bool
) -> list[tuple[str, list[Path]]]:
    """Group files by split; the names of those of one split may differ in numbers only."""
    groups: dict[str, list[Path]] = {}
    for file, names in named.items():
        groups.setdefault(names.split or "", []).append(file)
    if not several:
        return [(name, [file]) for name, files in groups.items() for file in files]
    for name, files in groups.items():
        check_shards(folder, name, [file.name for file in files])
        other = next((file for file in files if named[file].rest != named[files[0]].rest), None)
        if other is not None:
            raise _duplicate_error(folder, name, printable(files[0].name), printable(other.name))
    return list(groups.items())


def _check_names(
    folder: Path, named: Mapping[Path, SplitName], unnamed: Sequence[Path], advice: str = ""
) -> None:
    """Refuse names of two splits at once, and files of no split beside those of some."""
    for path, names in named.items():
        if len(names.splits) > 1:
            raise DataError(
                f"{path} names the splits {' and '.join(sorted(names.splits))}: choose one with "
                "`splits={'NAME': PATH}` for each split."
            )
    if unnamed:
        raise DataError(
            f"{folder} holds files or folders that are named after splits, and also "
            f"{list_names(path.name for path in unnamed)}, whose name contains no split: name "
            f"those that you want with `splits={{'NAME': PATH}}`{advice}."
        )


def _is_samples(file: Path) -> bool:
    """Whether a file holds samples, and not the labels of those in another."""
    return file.name.lower() not in LABEL_TABLES and not (
        file.name.endswith("_labels.npy")
        and file.with_name(file.name.replace("_labels.npy", ".npy")).is_file()
    )


def _short_name(location: Location) -> str:
    return location.path.name if not location.files else printable(location.files[0].name)


def _is_class(folder: Path, sought: _Sought) -> bool:
    """Whether samples lie directly in a folder: then "train" is a class (a railway's), no split."""
    has_table = any((folder / name).is_file() for name in LABEL_TABLES)
    return not has_table and sought.lies_in(folder)
