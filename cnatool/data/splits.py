"""Opening the samples of each split: by names, by a column, or held out at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, cast

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool._util.text import count_text
from cnatool.data.detect import find_format, open_source
from cnatool.data.find_splits import (
    SPLIT_ORDER,
    check_shards,
    check_split_name,
    find_splits,
    sort_splits,
)
from cnatool.data.labels import NO_LABELS
from cnatool.data.relabel import RelabelledSource, unify_classes
from cnatool.data.scratch_files import describe_copies
from cnatool.data.selection import PLAIN_IMAGES, PLAIN_SOUND
from cnatool.data.source import SampleError
from cnatool.data.split_names import SPLIT_NAMES, list_missing_shards
from cnatool.data.wrappers import (
    BucketSource,
    FirstRows,
    ReadableSamples,
    RowSubset,
    StrictSource,
    count_unreadable,
)
from cnatool.errors import DataError, UsageError
from cnatool.store.object_path import track_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cnatool.data.location import Location
    from cnatool.data.selection import ArraySelection, ImageOptions, SoundOptions
    from cnatool.data.source import Source
    from cnatool.data.tokenize import TokenInput
    from cnatool.records.store import SourceObject


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How to read data, as chosen by the user.

    Attributes
    ----------
    format : str or None
        Name of the format.
    labels : str or None
        Name of the array or column of labels, or ``none`` to ignore labels.
    label_offset : int
        Added to every label.
    split_column : str or None
        Name of the column of splits.
    holdout : float or None
        Share of the samples to hold out as a split of their own.
    seed : int
        Seed of the choice of these samples.
    images : ImageOptions
    sound : SoundOptions
    tokens : TokenInput or None
        The input that takes the ids of the tokens of texts, and the tokenizer.
    limit : int or None
        The first samples of each split, behind which none is read.
    """

    format: str | None = None
    labels: str | None = None
    label_offset: int = 0
    split_column: str | None = None
    holdout: float | None = None
    seed: int = 0
    images: ImageOptions = PLAIN_IMAGES
    sound: SoundOptions = PLAIN_SOUND
    tokens: TokenInput | None = None
    limit: int | None = None


def open_splits(
    data: str | Path | None,
    named: Mapping[str, str | Path],
    selection: ArraySelection,
    options: ReaderOptions,
    warn: Callable[[str], None],
) -> dict[str, Source]:
    """Open the samples of each split."""
    _check_options(options, texts=selection.takes_texts)
    ignore_labels = options.labels == NO_LABELS
    selection = replace(
        selection,
        labels=None if ignore_labels else options.labels,
        ignore_labels=ignore_labels,
        split_column=options.split_column,
        images=options.images,
        sound=options.sound,
    )
    places = find_splits(data, named, options.format, texts=selection.takes_texts)
    for name, place in places.items():
        if place.path.is_file() and (missing := list_missing_shards([place.path.name])):
            warn(
                f"{place} is one of {len(missing) + 1} files of split {name}; only this one is read"
            )
        elif place.path.is_dir() and place.array is None and not place.files:
            check_shards(place.path, name, [file.name for file in place.path.iterdir()])
        for text in describe_copies(place):
            warn(text)
    sources: dict[str, Source] = {}
    objects: dict[str, tuple[SourceObject, ...]] = {}
    try:
        for name, place in places.items():
            with track_objects(place.path) as read:
                sources[name] = open_source(place, selection, options.format)
            objects[name] = tuple(read)
    except SampleError as error:
        if options.images.skip_unreadable:
            raise
        raise count_unreadable(
            error, lambda: _open_skipping(data, named, selection, options).values()
        ) from error
    for source in sources.values():
        for text in source.notes:
            warn(text)
    for text in _describe_shared_files(places, sources):
        warn(text)
    sources = unify_classes(sources, warn)
    if options.split_column is not None:
        sources = _split_by_column(sources, options.split_column)
        # There was one split before.
        objects = dict.fromkeys(sources, *objects.values())
    sources = {
        name: BucketSource(source, objects[name]) if objects[name] else source
        for name, source in sources.items()
    }
    if ignore_labels or options.label_offset:
        sources = {
            name: RelabelledSource(source, options.label_offset, keep=not ignore_labels)
            for name, source in sources.items()
        }
    if options.holdout is not None:
        sources = _hold_out(sources, options.holdout, options.seed)
    if options.limit is not None:
        sources = {name: FirstRows(source, options.limit) for name, source in sources.items()}
    if options.images != PLAIN_IMAGES:
        # Imported on use: it loads Pillow, for which arrays should not wait.
        from cnatool.data.images.arrays import transform_source

        sources = {n: transform_source(source, options.images) for n, source in sources.items()}
    skip = options.images.skip_unreadable
    if options.tokens is not None:
        from cnatool.data.tokenize import tokenize_source

        sources = {n: tokenize_source(s, options.tokens, skip=skip) for n, s in sources.items()}
    if skip:
        return {name: ReadableSamples(source) for name, source in sources.items()}

    def reopen(name: str) -> Source:
        return _open_skipping(data, named, selection, options)[name]

    return {name: StrictSource(source, partial(reopen, name)) for name, source in sources.items()}


def _open_skipping(
    data: str | Path | None,
    named: Mapping[str, str | Path],
    selection: ArraySelection,
    options: ReaderOptions,
) -> dict[str, Source]:
    """Open the splits again so that their blocks list the samples that cannot be read."""
    skipping = replace(options, images=replace(options.images, skip_unreadable=True))
    sources = open_splits(data, named, selection, skipping, lambda _: None)
    return {name: cast("ReadableSamples", source).source for name, source in sources.items()}


def _check_options(options: ReaderOptions, *, texts: bool) -> None:
    if options.holdout is not None and not 0 < options.holdout < 1:
        raise UsageError(f"`holdout={options.holdout}`: a share of the samples, between 0 and 1.")
    if options.seed < 0:
        raise UsageError(f"`seed={options.seed}`: 0 or more.")
    if options.format is not None:
        find_format(options.format, texts=texts)


def _split_by_column(sources: Mapping[str, Source], column: str) -> dict[str, Source]:
    from cnatool.data.formats.table import TableSource
    from cnatool.data.formats.text_json import JsonSource

    if len(sources) > 1:
        raise UsageError(
            f"`split_column={column}`: the data have the splits {', '.join(sources)} already; give "
            "one file."
        )
    [source] = sources.values()
    if not isinstance(source, TableSource | JsonSource):
        raise UsageError(
            f"`split_column={column}`: {source.name} is not a .parquet, .csv or .jsonl file."
        )
    parts: dict[str, Source] = {}
    for value, rows in source.split_rows():
        name = SPLIT_NAMES.get(value.strip().lower(), value)
        check_split_name(name)
        if name in parts:
            raise DataError(
                f"{source.name}, column {column!r}, calls the split {name} by two names: use one."
            )
        parts[name] = RowSubset(source, f"{source.name} where {column} is {value}", rows)
    return sort_splits(parts)


def _hold_out(sources: Mapping[str, Source], share: float, seed: int) -> dict[str, Source]:
    """Divide the training samples, or the only ones, into the rest and a new test or val."""
    divided = "train" if "train" in sources else next(iter(sources))
    if "train" not in sources and len(sources) > 1:
        raise UsageError(f"`holdout`: none of the splits {', '.join(sources)} is called train.")
    new = "val" if "test" in sources else "test"
    if new in sources:
        raise UsageError("`holdout`: the data have the splits train, val and test already.")
    source = sources[divided]
    count = round(share * source.rows)
    if not 0 < count < source.rows:
        raise UsageError(
            f"`holdout={share}`: of {count_text(source.rows, 'sample')} that leaves a split with "
            "none."
        )
    order = np.random.default_rng(seed).permutation(source.rows)
    held_out = f"{share:g} of {source.name} held out, seed {seed}"
    parts = {
        **sources,
        "train": RowSubset(source, f"the rest of {held_out}", np.sort(order[count:])),
        new: RowSubset(source, held_out, np.sort(order[:count])),
    }
    if divided not in SPLIT_ORDER:
        del parts[divided]
    return sort_splits(parts)


def _describe_shared_files(
    places: Mapping[str, Location], sources: Mapping[str, Source]
) -> list[str]:
    """Describe splits that share samples because they are read from the same files."""
    counts = {name: _count_by_file(place, sources[name]) for name, place in places.items()}
    texts = []
    for first, second in combinations(places, 2):
        ours, theirs = counts[first], counts[second]
        shared = sum(min(ours[file], theirs[file]) for file in ours.keys() & theirs.keys())
        if shared:
            texts.append(
                f"splits {first} and {second} share {count_text(shared, 'sample')}, which are "
                "read from the same files: their scores are not independent"
            )
    return texts


def _count_by_file(place: Location, source: Source) -> dict[tuple[Path, str | None], int]:
    """Count the samples of each file."""
    if place.files_ending_in(".parquet", ".csv", ".tsv"):
        from cnatool.data.formats.table import TableSource

        if isinstance(source, TableSource):
            return {(real_path(part.path), None): part.rows for part in source.parts}
    if place.files:
        # The rows of each are not known, only that other files are different.
        return {(real_path(file), None): source.rows for file in place.files}
    return {(real_path(place.path), place.array): source.rows}
