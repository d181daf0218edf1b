"""Which splits there are, and what belongs to each: by names, by a column, or by drawing lots."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from cnatool.data.find import chosen_format, idx_files, open_source
from cnatool.data.location import Location, located
from cnatool.data.selected import Selected
from cnatool.data.skipping import Readable, Stopping, count_unreadable
from cnatool.data.source import PLAIN, SampleError, is_picture
from cnatool.errors import DataError, UsageError
from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cnatool.data.source import Source, View, Wanted

__all__ = ["Reading", "find_splits", "open_splits"]

_ORDER = ("train", "val", "test")
# What a split is called, in the names of files and folders and in columns.
_SAME = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
# MNIST's files call the test split t10k.
_IDX_STEMS = {"train-": "train", "val-": "val", "test-": "test", "t10k-": "test"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# train.parquet, train-00000-of-00002.parquet, train_000.tar.gz
_SHARD = re.compile(
    rf"(?P<split>{'|'.join(_SAME)})([-_.]\d+([-_.]of[-_.]\d+)?)?(?P<ending>\.parquet|\.tar(\.gz)?|\.tgz)"
)
_WHOLE = re.compile(
    rf"(?P<split>{'|'.join(_SAME)})\.(npz|npy|csv|tsv|safetensors|h5|hdf5|zarr|zarr\.zip)"
)
_CIFAR = {
    "train": re.compile(r"train\.bin|data_batch_\d\.bin"),
    "test": re.compile(r"test(_batch)?\.bin"),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How the user wants data read, beyond what is found by looking.

    Attributes
    ----------
    form : str or None
        Name of the format.
    labels, split_column : str or None
        Names of the array of labels and of the column of splits.
    holdout : float or None
        Share of the samples to hold out as a split of its own.
    seed : int
        Of the draw of these samples.
    view : View
        What becomes of samples before they are given.
    """

    form: str | None = None
    labels: str | None = None
    split_column: str | None = None
    holdout: float | None = None
    seed: int = 0
    view: View = PLAIN


def open_splits(
    data: str | Path | None,
    named: Mapping[str, str | Path],
    wanted: Wanted,
    reading: Reading,
    warn: Callable[[str], None],
) -> dict[str, Source]:
    """Open the samples of each split.

    Parameters
    ----------
    data : str, Path or None
        One source, or a folder with the parts of several splits.
    named : mapping of str to path
        Split names and their sources, instead of ``data``.
    wanted : Wanted
        Which arrays become the model's inputs, where a file holds several.
    reading : Reading
    warn : callable
        Told where samples are in two splits.

    Raises
    ------
    UsageError
        If options cannot be meant.
    DataError
        If a source cannot be read.
    """
    _check(reading)
    wanted = replace(
        wanted,
        labels=reading.labels,
        split_column=reading.split_column,
        view=reading.view,
    )
    places = find_splits(None if data is None else data, named, reading.form)
    try:
        sources = {name: open_source(place, wanted, reading.form) for name, place in places.items()}
    except SampleError as error:
        if reading.view.skip:
            raise
        raise count_unreadable(
            error, lambda: _open_skipping(data, named, wanted, reading).values()
        ) from error
    for text in (*_left_alone(sources), *_shared(places, sources)):
        warn(text)
    if reading.split_column is not None:
        sources = _by_column(sources, reading.split_column)
    if reading.holdout is not None:
        sources = _held_out(sources, reading.holdout, reading.seed)
    if reading.view != PLAIN:
        # It needs Pillow, for which arrays should not wait.
        from cnatool.data.viewed import viewed

        sources = {name: viewed(source, reading.view) for name, source in sources.items()}
    if reading.view.skip:
        return {name: Readable(source) for name, source in sources.items()}

    def reopened(name: str) -> Source:
        return _open_skipping(data, named, wanted, reading)[name]

    return {name: Stopping(source, partial(reopened, name)) for name, source in sources.items()}


def _open_skipping(
    data: str | Path | None,
    named: Mapping[str, str | Path],
    wanted: Wanted,
    reading: Reading,
) -> dict[str, Source]:
    """Open splits once more, such that their blocks list what cannot be read."""
    skipping = replace(reading, view=replace(reading.view, skip=True))
    found = open_splits(data, named, wanted, skipping, lambda _: None)
    return {name: cast("Readable", source).source for name, source in found.items()}


def find_splits(
    data: str | Path | None, named: Mapping[str, str | Path], form: str | None = None
) -> dict[str, Location]:
    """Say which splits there are and where.

    Parameters
    ----------
    data : str, Path or None
        DATA: one split called ``all``, or a folder with parts called train, val (valid,
        validation) and test: sub-folders, files, numbered files, or the files of MNIST and CIFAR.
    named : mapping of str to path
        From ``--split NAME=PATH``, instead of DATA.
    form : str, optional
        Name of a format; parts in others are left alone.

    Returns
    -------
    dict of str to Location
        Each for `open_source`; train, val and test first, others in the given order.

    Raises
    ------
    UsageError
        If both or neither are given, or a name is not made of letters, digits, ``_`` and ``-``.
    DataError
        If there is nothing at a path, or a folder holds a part twice.
    """
    if named and data is not None:
        raise UsageError(
            "DATA and --split were both given: name every split with --split NAME=PATH."
        )
    if named:
        for name in named:
            _check_name(name)
        return _in_order({name: located(part) for name, part in named.items()})
    if data is None:
        raise UsageError("there is no data to read: give DATA, or --split NAME=PATH.")
    place = located(data)
    if not place.path.is_dir() or place.array is not None:
        return {"all": place}
    try:
        return _in_order(_parts(place.path, form)) or {"all": place}
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror or error}).") from error


def _check(reading: Reading) -> None:
    if reading.holdout is not None and not 0 < reading.holdout < 1:
        raise UsageError(f"--holdout {reading.holdout}: a share of the samples, between 0 and 1.")
    if reading.seed < 0:
        raise UsageError(f"--seed {reading.seed}: 0 or more.")
    if reading.form is not None:
        chosen_format(reading.form)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a split cannot be called {name!r}: use 1 to 64 letters, digits, _ and -."
        )


def _in_order(parts: Mapping[str, Location]) -> dict[str, Location]:
    names = [name for name in _ORDER if name in parts]
    names += [name for name in parts if name not in _ORDER]
    return {name: parts[name] for name in names}


def _parts(folder: Path, form: str | None) -> dict[str, Location]:
    found = _files(folder) + [
        (name, Location(folder / word))
        for word, name in _SAME.items()
        if (folder / word).is_dir() and not _is_class_folder(folder / word)
    ]
    if not found:
        return _parts_below(folder, form)
    if form is not None:
        fits = chosen_format(form).fits
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


def _parts_below(folder: Path, form: str | None) -> dict[str, Location]:
    """Look into a folder's only sub-folder: dataset hubs put files into one called data."""
    with os.scandir(folder) as entries:
        below = [entry for entry in entries if entry.name[0] != "." and entry.is_dir()]
    if len(below) == 1 and any(Path(below[0].path).glob("*.parquet")):
        return _parts(Path(below[0].path), form)
    return {}


def _files(folder: Path) -> list[tuple[str, Location]]:
    """Parts that are files, or numbered files; each in the order of their names."""
    found = [
        (_IDX_STEMS[stem], Location(file))
        for stem, file in idx_files(folder).items()
        if stem in _IDX_STEMS
    ]
    shards: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if whole := _WHOLE.fullmatch(file.name):
            found.append((_SAME[whole["split"]], Location(file)))
        if not file.is_file():
            continue
        if shard := _SHARD.fullmatch(file.name):
            key = (_SAME[shard["split"]], shard["ending"])
            shards.setdefault(key, []).append(file)
        for name, pattern in _CIFAR.items():
            if pattern.fullmatch(file.name):
                shards.setdefault((name, ".bin"), []).append(file)
    found += [
        (name, Location(files[0]) if len(files) == 1 else Location(folder, None, tuple(files)))
        for (name, _), files in shards.items()
    ]
    return found


def _short(place: Location) -> str:
    return place.path.name if not place.files else printable(place.files[0].name)


def _is_class_folder(folder: Path) -> bool:
    """Whether pictures lie directly in it: then "train" is a class (a railway's), not a split."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.is_dir() and entry.name[0] != "."]
    listed = any(name in ("labels.csv", "metadata.csv") for name in names)
    return not listed and any(map(is_picture, names))


def _by_column(sources: Mapping[str, Source], column: str) -> dict[str, Source]:
    from cnatool.data.columns import ColumnSource

    if len(sources) > 1:
        raise UsageError(
            f"--split-column {column}: the data have the splits {', '.join(sources)} already; give "
            "one file."
        )
    [source] = sources.values()
    if not isinstance(source, ColumnSource):
        raise UsageError(f"--split-column {column}: {source.name} is no .parquet or .csv file.")
    parts: dict[str, Source] = {}
    for value, rows in source.split_values():
        name = _SAME.get(value.lower(), value)
        _check_name(name)
        if name in parts:
            raise DataError(
                f"{source.name}, column {column!r}, calls the split {name} by two names: use one."
            )
        parts[name] = Selected(source, f"{source.name} where {column} is {value}", rows)
    names = [name for name in _ORDER if name in parts]
    return {name: parts[name] for name in (*names, *(set(parts) - set(names)))}


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
        "train": Selected(source, f"the rest of {drawn}", np.sort(order[count:])),
        new: Selected(source, drawn, np.sort(order[:count])),
    }
    return {name: parts[name] for name in _ORDER if name in parts} | {
        name: part for name, part in parts.items() if name not in (*_ORDER, given)
    }


def _left_alone(sources: Mapping[str, Source]) -> list[str]:
    texts = [getattr(source, "left_alone", "") for source in sources.values()]
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
    if place.pieces(".parquet"):
        from cnatool.data.columns import ColumnSource

        if isinstance(source, ColumnSource):
            return {(part.path.resolve(), None): part.rows for part in source.parts}
    return {(place.path.resolve(), place.array): source.rows}
