"""Which splits of which stores are scored together, and over which layers."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.local_paths import real_path
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.metrics.alpha import OutsideError
from cnatool.scoring.alpha import input_extent
from cnatool.scoring.layer_selection import scored_layers
from cnatool.scoring.train_test import TEST, TRAIN, UNNAMED
from cnatool.store.reader import open_store
from cnatool.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cnatool.metrics.convention import ConventionFields
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.store.store import Split


@dataclass(frozen=True, slots=True)
class ScoredParts:
    """One store with all its splits, or two with the training and the test split."""

    store: Store
    test_store: Store | None
    layers: list[ScoredLayer]
    splits: dict[str, tuple[Split, list[ScoredLayer]]]


def scored_parts(
    store: str | Path | Store,
    test: str | Path | Store | None,
    fields: ConventionFields,
    inputs: str | Path | Iterable[str | Path] = (),
) -> ScoredParts:
    """Open what is scored; parameters and errors are those of `cnatool.score`."""
    first = store if isinstance(store, Store) else open_store(store, inputs)
    second = test if isinstance(test, Store) or test is None else open_store(test, inputs)
    if second is not None and real_path(second.path) == real_path(first.path):
        raise UsageError(
            f"--test {second.path}: that is the store itself. Give the store that the test split "
            "was dumped to; where one store has both splits, leave --test out."
        )
    layers = scored_layers(first, fields)
    if second is None:
        splits = {name: (split, layers) for name, split in first.splits.items()}
    else:
        others = scored_layers(second, fields)
        _check_same_network(first, second)
        splits = {
            TRAIN: (_only_split(first, TRAIN), layers),
            TEST: (_only_split(second, TEST), others),
        }
    for split, _ in splits.values():
        # What another store should hold and does not is said before anything is computed.
        split.inputs_split()
    return ScoredParts(first, second, layers, splits)


@contextmanager
def range_advice(parts: ScoredParts) -> Iterator[None]:
    """Add to the error about a value outside the range which range takes all in."""
    try:
        yield
    except OutsideError as error:
        low, high = input_extent(split for split, _ in parts.splits.values())
        raise DataError(
            f"{error} The inputs of all splits go from {low:g} to {high:g}, which "
            f"--set range={_range_around(low, high)} takes in."
        ) from error


def _range_around(low: float, high: float) -> str:
    """Write a range that takes both in, to three digits of its width."""
    width = min(high - low, sys.float_info.max) or abs(high) or 1.0
    step = 10.0 ** (math.floor(math.log10(width)) - 2)
    first, last = math.floor(low / step), math.ceil(high / step)
    return f"{first * step:.12g}:{max(last, first + 1) * step:.12g}"


def _only_split(store: Store, name: str) -> Split:
    """Give the split of this name, or the one split of a store that was dumped without names."""
    if name in store.splits:
        return store.splits[name]
    if list(store.splits) == [UNNAMED]:
        return store.splits[UNNAMED]
    raise UsageError(
        f"{store.path} has the splits {', '.join(store.splits) or '(none)'}, and with --test it "
        f"should have one called {name!r}, or just {UNNAMED!r}."
    )


def _check_same_network(first: Store, second: Store) -> None:
    """Refuse to compare a training split of one network with a test split of another."""
    one, other = first.record, second.record
    files = [None if r.model is None else [f.sha256 for f in r.model.files] for r in (one, other)]
    classes = [
        {split.record.classes for split in store.splits.values()} for store in (first, second)
    ]
    for what, same in (
        ("models", None in files or files[0] == files[1]),
        ("layers", one.layers == other.layers),
        ("outputs", one.outputs == other.outputs),
        ("preprocessing", one.preprocessing == other.preprocessing),
        ("classes", classes[0] == classes[1]),
    ):
        if not same:
            raise MetricError(
                f"{first.path} and {second.path} cannot be compared: their {what} are not the same."
            )
