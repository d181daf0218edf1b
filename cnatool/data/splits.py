"""Which splits there are, and what belongs to each: by names, by a column, or by drawing lots."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool._util.text import list_names, printable
from cnatool.data.detect import find_format, find_idx_files, open_source
from cnatool.data.labels import NO_LABELS
from cnatool.data.location import Location, locate
from cnatool.data.relabel import RelabelledSource, unify_classes
from cnatool.data.source import (
    LABEL_TABLES,
    PLAIN_IMAGES,
    SampleError,
    holds_images,
    is_ignored,
    is_image,
)
from cnatool.data.split_names import SPLIT_NAMES, SplitName, list_missing_shards, parse_split_name
from cnatool.data.wrappers import ReadableSamples, RowSubset, StrictSource, count_unreadable
from cnatool.errors import DataError, UsageError
from cnatool.store.format_table import holds_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cnatool.data.source import ArraySelection, ImageOptions, Source

_ORDER = ("train", "val", "test")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Endings of files that hold samples; those of one row are one format.
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
# Formats of which several files are one split.
_SEVERAL = (".parquet", ".tar", ".csv")
# How deep the only sub-folder of the only sub-folder is looked into.
_DEEPEST = 3
_CIFAR = {
    "train": re.compile(r"train\.bin|data_batch_\d\.bin"),
    "test": re.compile(r"test(_batch)?\.bin"),
}


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How the user wants data read, beyond what is found by looking.

    Attributes
    ----------
    form : str or None
        Name of the format.
    labels, split_column : str or None
        Names of the array of labels, or ``none`` to leave labels out, and of the column of splits.
    label_offset : int
        What is added to every label.
    holdout : float or None
        Share of the samples to hold out as a split of its own.
    seed : int
        Of the draw of these samples.
    view : View
        What becomes of samples before they are given.
    """

    format: str | None = None
    labels: str | None = None
    label_offset: int = 0
    split_column: str | None = None
    holdout: float | None = None
    seed: int = 0
    images: ImageOptions = PLAIN_IMAGES


def open_splits(
    data: str | Path | None,
    named: Mapping[str, str | Path],
    wanted: ArraySelection,
    reading: ReaderOptions,
    warn: Callable[[str], None],
) -> dict[str, Source]:
    """Open the samples of each split."""
    _check(reading)
    wanted = replace(
        wanted,
        labels=None if reading.labels == NO_LABELS else reading.labels,
        ignore_labels=reading.labels == NO_LABELS,
        split_column=reading.split_column,
        images=reading.images,
    )
    places = find_splits(None if data is None else data, named, reading.format)
    for name, place in places.items():
        if place.path.is_file() and (missing := list_missing_shards([place.path.name])):
            warn(
                f"{place} is one of {len(missing) + 1} files of split {name}; only this one is read"
            )
        elif place.path.is_dir() and place.array is None and not place.files:
            _check_whole(place.path, name, [file.name for file in place.path.iterdir()])
    try:
        sources = {
            name: open_source(place, wanted, reading.format) for name, place in places.items()
        }
    except SampleError as error:
        if reading.images.skip_unreadable:
            raise
        raise count_unreadable(
            error, lambda: _open_skipping(data, named, wanted, reading).values()
        ) from error
    for text in (*_left_alone(sources), *_shared(places, sources)):
        warn(text)
    sources = unify_classes(sources, warn)
    if reading.split_column is not None:
        sources = _by_column(sources, reading.split_column)
    if reading.labels == NO_LABELS or reading.label_offset:
        sources = {
            name: RelabelledSource(source, reading.label_offset, keeps=reading.labels != NO_LABELS)
            for name, source in sources.items()
        }
    if reading.holdout is not None:
        sources = _held_out(sources, reading.holdout, reading.seed)
    if reading.images != PLAIN_IMAGES:
        # It needs Pillow, for which arrays should not wait.
        from cnatool.data.images.arrays import transform_source

        sources = {
            name: transform_source(source, reading.images) for name, source in sources.items()
        }
    if reading.images.skip_unreadable:
        return {name: ReadableSamples(source) for name, source in sources.items()}

    def reopened(name: str) -> Source:
        return _open_skipping(data, named, wanted, reading)[name]

    return {name: StrictSource(source, partial(reopened, name)) for name, source in sources.items()}


def _open_skipping(
    data: str | Path | None,
    named: Mapping[str, str | Path],
    wanted: ArraySelection,
    reading: ReaderOptions,
) -> dict[str, Source]:
    """Open splits once more, such that their blocks list what cannot be read."""
    skipping = replace(reading, images=replace(reading.images, skip_unreadable=True))
    found = open_splits(data, named, wanted, skipping, lambda _: None)
    return {name: cast("ReadableSamples", source).source for name, source in found.items()}


def find_splits(
    data: str | Path | None, named: Mapping[str, str | Path], form: str | None = None
) -> dict[str, Location]:
    """Say which splits there are and where."""
    if named and data is not None:
        raise UsageError(
            "DATA and --split were both given: name every split with --split NAME=PATH."
        )
    if named:
        for name in named:
            _check_name(name)
        return _in_order({name: locate(part) for name, part in named.items()})
    if data is None:
        raise UsageError("there is no data to read: give DATA, or --split NAME=PATH.")
    place = locate(data)
    # What is in a store is not looked for: opening it says what it is.
    if not place.path.is_dir() or place.array is not None or holds_store(place.path):
        return {"all": place}
    try:
        return _in_order(_parts(place.path, form)) or {"all": place}
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror or error}).") from error


def _check(reading: ReaderOptions) -> None:
    if reading.holdout is not None and not 0 < reading.holdout < 1:
        raise UsageError(f"--holdout {reading.holdout}: a share of the samples, between 0 and 1.")
    if reading.seed < 0:
        raise UsageError(f"--seed {reading.seed}: 0 or more.")
    if reading.format is not None:
        find_format(reading.format)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a split cannot be called {name!r}: use 1 to 64 letters, digits, _ and -."
        )


def _in_order(parts: Mapping[str, Location]) -> dict[str, Location]:
    names = [name for name in _ORDER if name in parts]
    names += [name for name in parts if name not in _ORDER]
    return {name: parts[name] for name in names}


def _parts(folder: Path, form: str | None, depth: int = 0) -> dict[str, Location]:
    _check_links(folder)
    found = _files(folder, form) + _folders(folder)
    if not found:
        return _parts_below(folder, form, depth)
    if form is not None:
        fits = find_format(form).fits
        found = [(name, place) for name, place in found if fits(place)]
    parts: dict[str, Location] = {}
    for name, place in found:
        if name in parts:
            first, second = (_short(part) for part in (parts[name], place))
            raise DataError(
                f"{folder} holds the split {name} twice, as {first} and {second}: say which with "
                f"--split {name}=PATH."
            )
        parts[name] = place
    return parts


def _check_links(folder: Path) -> None:
    """Refuse broken links that may stand for samples, which would otherwise be left out."""
    with os.scandir(folder) as entries:
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


def _parts_below(folder: Path, form: str | None, depth: int) -> dict[str, Location]:
    """Look into a folder's only sub-folder: dataset hubs put files into data/ or default/."""
    with os.scandir(folder) as entries:
        below = [entry for entry in entries if not is_ignored(entry.name) and entry.is_dir()]
    if len(below) != 1 or depth == _DEEPEST or holds_images(below[0].path):
        return {}
    return _parts(Path(below[0].path), form, depth + 1)


def _folders(folder: Path) -> list[tuple[str, Location]]:
    """Parts that are sub-folders."""
    below = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not is_ignored(path.name) and _family(path.name) is None
    ]
    # Those that are called like IDX files hold them.
    below = [path for path in below if "idx" not in path.name.lower()]
    named = {path: parse_split_name(path.name) for path in below}
    splits = [names.split for names in named.values()]
    # Pictures in train/ and test/ and nowhere else: these are splits without classes.
    flat = None not in splits and len(set(splits)) == len(splits) > 1
    parts = [path for path in below if named[path].splits and (flat or not _is_class(path))]
    beside = [path for path in below if path not in parts and _holds_samples(path)]
    if parts:
        _check_names(folder, {path: named[path] for path in parts}, beside)
    return [(named[path].split or "", Location(path)) for path in parts]


def _holds_samples(folder: Path) -> bool:
    """Tell whether a folder looks as if samples were in it: pictures, by class or not, or files."""
    with os.scandir(folder) as entries:
        held = [entry for entry in entries if not is_ignored(entry.name)]
    return any(
        holds_images(entry.path)
        if entry.is_dir()
        else is_image(entry.name) or _family(entry.name) not in (None, ".csv")
        for entry in held
    )


def _files(folder: Path, form: str | None) -> list[tuple[str, Location]]:
    """Parts that are files, or several files; each in the order of their names."""
    families: dict[str, list[Path]] = {}
    found = []
    shards: dict[str, list[Path]] = {}
    fits = None if form is None else find_format(form).fits
    for file in sorted(folder.iterdir()):
        family = _family(file.name)
        there = file.is_file() or family == ".zarr"
        meant = fits is None or fits(Location(file))
        if family and there and meant and _is_samples(file):
            families.setdefault(family, []).append(file)
        for name, pattern in _CIFAR.items():
            if pattern.fullmatch(file.name) and file.is_file():
                shards.setdefault(name, []).append(file)
    idx = {parse_split_name(stem): file for stem, file in find_idx_files(folder).items()}
    found += [(names.split, [file]) for names, file in idx.items() if names.split]
    found += list(shards.items())
    loose = []
    for family, files in families.items():
        named = {file: parse_split_name(_stem(file.name)) for file in files}
        if not any(names.splits for names in named.values()):
            loose += [] if family == ".csv" else files
            continue
        _check_names(folder, named, [file for file, names in named.items() if not names.splits])
        found += _grouped(folder, named, several=family in _SEVERAL)
    if found and loose:
        _check_names(folder, {}, loose)
    return [
        (name, Location(files[0]) if len(files) == 1 else Location(folder, None, tuple(files)))
        for name, files in found
    ]


def _grouped(
    folder: Path, named: Mapping[Path, SplitName], *, several: bool
) -> list[tuple[str, list[Path]]]:
    """Give the files of each split; those of one must be called alike but for numbers."""
    groups: dict[str, list[Path]] = {}
    for file, names in named.items():
        groups.setdefault(names.split or "", []).append(file)
    if not several:
        return [(name, [file]) for name, files in groups.items() for file in files]
    for name, files in groups.items():
        _check_whole(folder, name, [file.name for file in files])
        other = next((file for file in files if named[file].rest != named[files[0]].rest), None)
        if other is not None:
            raise DataError(
                f"{folder} holds the split {name} twice, as {printable(files[0].name)} and "
                f"{printable(other.name)}: say which with --split {name}=PATH."
            )
    return list(groups.items())


def _check_whole(folder: Path, split: str, files: Sequence[str]) -> None:
    """Refuse an incomplete set of numbered files."""
    if missing := list_missing_shards(files):
        raise DataError(
            f"{folder} lacks {len(missing)} of the numbered files of split {split}, as "
            f"{printable(missing[0])}: get the others, or name one file that is to be read alone "
            f"with --split {split}=PATH."
        )


def _check_names(folder: Path, named: Mapping[Path, SplitName], unnamed: Sequence[Path]) -> None:
    """Refuse names of two splits at once, and of none beside those of some."""
    for path, names in named.items():
        if len(names.splits) > 1:
            both = " and ".join(sorted(names.splits))
            raise DataError(
                f"{path} names the splits {both}: say which it is with --split NAME=PATH for "
                "each split."
            )
    if unnamed:
        raise DataError(
            f"{folder} holds files or folders that are named after splits, and beside them "
            f"{list_names(path.name for path in unnamed)}, whose name says no split: name those "
            "that you want with --split NAME=PATH."
        )


def _is_samples(file: Path) -> bool:
    """Tell files of samples from those that hold the labels of others."""
    return file.name.lower() not in LABEL_TABLES and not (
        file.name.endswith("_labels.npy")
        and file.with_name(file.name.replace("_labels.npy", ".npy")).is_file()
    )


def _family(name: str) -> str | None:
    """Give the first ending of a format that a file's name has."""
    if is_ignored(name):
        return None
    return next((row[0] for row in _ENDINGS if name.lower().endswith(row)), None)


def _stem(name: str) -> str:
    endings = sorted((ending for row in _ENDINGS for ending in row), key=len, reverse=True)
    ending = next(ending for ending in endings if name.lower().endswith(ending))
    return name[: -len(ending)]


def _short(place: Location) -> str:
    return place.path.name if not place.files else printable(place.files[0].name)


def _is_class(folder: Path) -> bool:
    """Whether pictures lie directly in it: then "train" is a class (a railway's), not a split."""
    listed_there = any((folder / name).is_file() for name in LABEL_TABLES)
    return not listed_there and holds_images(str(folder))


def _by_column(sources: Mapping[str, Source], column: str) -> dict[str, Source]:
    from cnatool.data.formats.columns import TableSource

    if len(sources) > 1:
        raise UsageError(
            f"--split-column {column}: the data have the splits {', '.join(sources)} already; give "
            "one file."
        )
    [source] = sources.values()
    if not isinstance(source, TableSource):
        raise UsageError(f"--split-column {column}: {source.name} is no .parquet or .csv file.")
    parts: dict[str, Source] = {}
    for value, rows in source.split_values():
        name = SPLIT_NAMES.get(value.strip().lower(), value)
        _check_name(name)
        if name in parts:
            raise DataError(
                f"{source.name}, column {column!r}, calls the split {name} by two names: use one."
            )
        parts[name] = RowSubset(source, f"{source.name} where {column} is {value}", rows)
    order = [name for name in _ORDER if name in parts]
    order += [name for name in parts if name not in _ORDER]
    return {name: parts[name] for name in order}


def _held_out(sources: Mapping[str, Source], share: float, seed: int) -> dict[str, Source]:
    """Part the training samples, or the only ones, in two: the rest, and a new test or val."""
    given = "train" if "train" in sources else next(iter(sources))
    if "train" not in sources and len(sources) > 1:
        raise UsageError(f"--holdout: which of {', '.join(sources)} to part is in doubt.")
    new = "val" if "test" in sources else "test"
    if new in sources:
        raise UsageError("--holdout: the data have the splits train, val and test already.")
    source = sources[given]
    count = round(share * source.rows)
    if not 0 < count < source.rows:
        raise UsageError(
            f"--holdout {share}: of {source.rows} samples that leaves a split with none."
        )
    order = np.random.default_rng(seed).permutation(source.rows)
    drawn = f"{share:g} of {source.name} held out, seed {seed}"
    parts = {
        **sources,
        "train": RowSubset(source, f"the rest of {drawn}", np.sort(order[count:])),
        new: RowSubset(source, drawn, np.sort(order[:count])),
    }
    return {name: parts[name] for name in _ORDER if name in parts} | {
        name: part for name, part in parts.items() if name not in (*_ORDER, given)
    }


def _left_alone(sources: Mapping[str, Source]) -> list[str]:
    texts = [getattr(source, "notes", "") for source in sources.values()]
    return [text for text in texts if text]


def _shared(places: Mapping[str, Location], sources: Mapping[str, Source]) -> list[str]:
    """Say which splits share samples because they are read from the same files."""
    origins = {name: _origins(place, sources[name]) for name, place in places.items()}
    texts = []
    for first, second in combinations(places, 2):
        ones, others = origins[first], origins[second]
        count = sum(min(ones[file], others[file]) for file in ones.keys() & others.keys())
        if count:
            texts.append(
                f"splits {first} and {second} share {count} samples, which are read from the same "
                "files for both: their scores are not independent"
            )
    return texts


def _origins(place: Location, source: Source) -> dict[tuple[Path, str | None], int]:
    """Count the samples of each file."""
    if place.pieces(".parquet") or place.pieces(".csv", ".tsv"):
        from cnatool.data.formats.columns import TableSource

        if isinstance(source, TableSource):
            return {(real_path(part.path), None): part.rows for part in source.parts}
    if place.files:
        # Their own rows are not known; what counts is that other files are others.
        return {(real_path(file), None): source.rows for file in place.files}
    return {(real_path(place.path), place.array): source.rows}
