"""The splits of one or two stores that are scored together, and their layers."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnatool._util.local_paths import real_path
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.metrics.bins import OutsideError
from cnatool.scoring.alpha import describe_alpha_codec, find_input_range
from cnatool.scoring.alpha_input import describe_alpha_input, select_alpha_input
from cnatool.scoring.layer_selection import select_layers
from cnatool.scoring.results import LayerResult, ModelResult
from cnatool.scoring.train_test import TEST, TRAIN, UNNAMED
from cnatool.store.missing_rows import check_has_rows, describe_missing_rows
from cnatool.store.reader import open_store
from cnatool.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cnatool.metrics.convention import Convention, ConventionFields
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.store.store import Split


@dataclass(frozen=True, slots=True)
class SelectedSplits:
    """One store with all its splits, or two with the training and the test split.

    Splits of a second store come with its own layers.
    """

    store: Store
    test_store: Store | None
    layers: list[ScoredLayer]
    splits: dict[str, tuple[Split, list[ScoredLayer]]]

    def unfinished_notes(self) -> tuple[str, ...]:
        """Return a note for each store that lacks rows."""
        stores = [self.store] if self.test_store is None else [self.store, self.test_store]
        return tuple(filter(None, map(describe_missing_rows, stores)))

    def header(self, convention: Convention) -> dict[str, Any]:
        """Return the fields of `ScoreHeader`, without the name of the schema."""
        record = self.store.record
        return {
            "store": str(self.store.path),
            "test_store": None if self.test_store is None else str(self.test_store.path),
            "model": record.model and ModelResult(record.model.name, record.model.files[0].sha256),
            "tags": record.tags,
            "convention": convention,
            "alpha_input": describe_alpha_input(record, convention.fields),
            "alpha_codec": describe_alpha_codec(convention.fields),
            "layers": layer_results(self.layers),
        }


def layer_results(layers: Iterable[ScoredLayer]) -> tuple[LayerResult, ...]:
    """Describe layers for a result, numbered from 1."""
    return tuple(
        LayerResult(number, layer.tensor.name, layer.operator, layer.depth)
        for number, layer in enumerate(layers, start=1)
    )


def select_splits(
    store: str | Path | Store,
    test: str | Path | Store | None,
    fields: ConventionFields,
    inputs: str | Path | Iterable[str | Path] = (),
) -> SelectedSplits:
    """Open stores, and select their splits and layers; parameters as in `cnatool.score`."""
    first = store if isinstance(store, Store) else open_store(store, inputs)
    second = test if isinstance(test, Store) or test is None else open_store(test, inputs)
    if second is not None and real_path(second.path) == real_path(first.path):
        raise UsageError(
            f"`test={str(second.path)!r}` is the store itself. Name the store that the test split "
            "was dumped to; if one store has both splits, omit `test`."
        )
    for opened in [first] if second is None else [first, second]:
        check_has_rows(opened)
    layers = select_layers(first, fields)
    if second is None:
        splits = {name: (split, layers) for name, split in first.splits.items()}
    else:
        others = select_layers(second, fields)
        _check_same_network(first, second)
        splits = {
            TRAIN: (_only_split(first, TRAIN), layers),
            TEST: (_only_split(second, TEST), others),
        }
    for split, _ in splits.values():
        # Raise where another store should hold the inputs and does not, or the store has no text
        # that the convention asks for, before any computation.
        split.inputs_split()
        select_alpha_input(split.store.record, fields)
    return SelectedSplits(first, second, layers, splits)


@contextmanager
def suggest_range(selected: SelectedSplits, fields: ConventionFields) -> Iterator[None]:
    """Append the range that includes all values to the error about one outside the range."""
    try:
        yield
    except OutsideError as error:
        low, high = find_input_range((split for split, _ in selected.splits.values()), fields)
        raise DataError(
            f"{error} The inputs of all splits go from {low:g} to {high:g}, which "
            f"`overrides={{{error.field!r}: '{_range_around(low, high)}'}}` includes."
        ) from error


def _range_around(low: float, high: float) -> str:
    """Format a range that includes both, to three digits of its width."""
    width = min(high - low, sys.float_info.max) or abs(high) or 1.0
    step = 10.0 ** (math.floor(math.log10(width)) - 2)
    first, last = math.floor(low / step), math.ceil(high / step)
    return f"{first * step:.12g}:{max(last, first + 1) * step:.12g}"


def _only_split(store: Store, name: str) -> Split:
    """Return the split of this name, or the only one of a store without names of splits."""
    if name in store.splits:
        return store.splits[name]
    if list(store.splits) == [UNNAMED]:
        return store.splits[UNNAMED]
    raise UsageError(
        f"{store.path} has the splits {', '.join(store.splits) or '(none)'}; with `test` it needs "
        f"one called {name!r}, or only {UNNAMED!r}."
    )


def _check_same_network(first: Store, second: Store) -> None:
    """Refuse to compare a training split of one network with a test split of another."""
    records = first.record, second.record
    files = [None if r.model is None else [f.sha256 for f in r.model.files] for r in records]
    classes = [
        {split.record.classes for split in store.splits.values()} for store in (first, second)
    ]
    for what, same in (
        ("models", None in files or files[0] == files[1]),
        ("layers", records[0].layers == records[1].layers),
        ("outputs", records[0].outputs == records[1].outputs),
        ("preprocessing", records[0].preprocessing == records[1].preprocessing),
        ("classes", classes[0] == classes[1]),
    ):
        if not same:
            raise MetricError(
                f"{first.path} and {second.path} cannot be compared: their {what} differ."
            )
