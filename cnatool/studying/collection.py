"""Many stores → one row each: scored one after the other, or taken from scores that were kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from cnatool.errors import CnatoolError, DataError, MetricError, UsageError
from cnatool.metrics.convention import convention as named_convention
from cnatool.results import ConventionResult
from cnatool.scored_pairs import TRAIN
from cnatool.scoring import score
from cnatool.store.reader import named_stores, open_store
from cnatool.studying.cache import ScoreCache, score_key
from cnatool.studying.columns import measured
from cnatool.studying.finding import find_stores, paired_store, store_ids
from cnatool.studying.results import NotScored, UndefinedMeasure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cnatool.observing import Observer
    from cnatool.results import ScoreResult
    from cnatool.store.reader import Store

__all__ = ["Collection", "ScoredNetwork", "collect", "nothing_scored"]

_NETWORKS = "networks"
_SCORES = "scores"
# A study is of the numbers themselves; how sure each is would take most of the time.
_NO_INTERVALS: Mapping[str, object] = MappingProxyType(
    {"resamples": 0, "area_resamples": 0, "permutations": 0}
)


@dataclass(frozen=True, slots=True)
class ScoredNetwork:
    """One network: where it is from, and its numbers.

    Attributes
    ----------
    id, path : str
        Its name within the study, and its store.
    test_path : str or None
        The store of its test split, where that is another one.
    model : str or None
        SHA-256 of the model's file.
    convention : str
        The convention of its numbers, with what was overridden.
    tags : dict of str to str
        The store's tags.
    values : dict of str to float or None
        Every measure by column; None where it is undefined.
    reasons : dict of str to str
        Why a measure is undefined, by column.
    score : ScoreResult
        All that the numbers are from; what was kept may name the stores by other paths.
    fingerprints : dict of str to str or None
        Of the samples of each split.
    """

    id: str
    path: str
    test_path: str | None
    model: str | None
    convention: str
    tags: dict[str, str]
    values: dict[str, float | None]
    reasons: dict[str, str]
    score: ScoreResult
    fingerprints: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Collection:
    """The networks of a study that came from stores.

    Attributes
    ----------
    convention : ConventionResult
        What all of them were scored by.
    networks : list of ScoredNetwork
        In the order of the stores.
    not_scored : list of NotScored
        The stores that have no row.
    reused : int
        Networks whose scores had been kept.
    """

    convention: ConventionResult
    networks: list[ScoredNetwork]
    not_scored: list[NotScored]
    reused: int

    def undefined(self) -> list[UndefinedMeasure]:
        """Count the networks that lack a measure, by measure and reason."""
        counts = Counter(pair for one in self.networks for pair in one.reasons.items())
        return [UndefinedMeasure(*pair, number) for pair, number in counts.items()]


def collect(
    places: Iterable[str | Path],
    *,
    folder: Path | None,
    test: str | Path | None,
    convention: str,
    overrides: Mapping[str, object],
    output: str | None,
    observer: Observer,
    inputs: str | Path | Iterable[str | Path] = (),
) -> Collection:
    """Score the stores at some places, one at a time.

    Parameters
    ----------
    places : iterable of str or Path
        Stores, and folders of stores.
    folder : Path or None
        In its folder ``scores`` scores are kept, as soon as each is there, and taken from.
    test : str, Path or None
        A folder that holds the test split's stores, under the same names.
    convention, overrides, output
        As of `cnatool.score`.
    observer : Observer
        Told of the progress through the networks.
    inputs : str, Path or iterable of these
        As of `cnatool.score`.

    Raises
    ------
    UsageError
        If the convention, a field or the folder of the test split does not exist.
    StoreWriteError
        If a score cannot be kept.
    """
    if test is not None and not Path(test).is_dir():
        raise UsageError(f"--test {test}: this is no folder of stores.")
    cache = None if folder is None else ScoreCache(folder / _SCORES)
    _, typed = named_convention(convention, overrides)
    without = {**_NO_INTERVALS, **overrides}
    fields, _ = named_convention(convention, without)
    described = ConventionResult(convention, typed, fields)
    stores, not_scored = find_stores(places)
    networks = []
    reused = 0
    named = named_stores(inputs)
    for done, (path, name) in enumerate(zip(stores, store_ids(stores), strict=True), start=1):
        try:
            first = _finished(path, named)
            second = None if test is None else _finished(paired_store(path, Path(test)), named)
            key = score_key(first, second, described, output)
            found = None if cache is None or key is None else cache.get(key)
            if found is None:
                kept = score(first, second, convention=convention, overrides=without, output=output)
            else:
                kept, reused = found, reused + 1
        except (CnatoolError, OSError) as error:
            not_scored.append(NotScored(str(path), str(error)))
        else:
            if cache is not None and key is not None and found is None:
                cache.put(key, kept)
            networks.append(_network(name, first, second, kept, str(described)))
        observer.progress(_NETWORKS, done, len(stores))
    if cache is not None and cache.damaged:
        many = len(cache.damaged)
        observer.note(
            f"{many} kept score{'s' * (many > 1)} did not match the checksum and "
            f"{'were' if many > 1 else 'was'} computed again (the first: {cache.damaged[0]})"
        )
    return Collection(described, networks, not_scored, reused)


def nothing_scored(not_scored: Sequence[NotScored]) -> DataError:
    """Give the error that says that no network could be scored, with the first reason."""
    why = ""
    if not_scored:
        first, *more = not_scored
        others = f" And {len(more)} more." if more else ""
        why = f" {first.path}: {first.reason.removeprefix(f'{first.path}: ')}{others}"
    return DataError(f"no network could be scored.{why}")


def _finished(path: Path, inputs: tuple[Path, ...]) -> Store:
    """Open a store that has all of its rows."""
    store = open_store(path, inputs)
    if not store.splits:
        raise MetricError(f"{path} has no split yet: its dump has not committed a row.")
    for name, split in store.splits.items():
        if not split.record.complete:
            raise MetricError(
                f"{path} is not finished: split {name} has {len(split)} of {split.record.rows} "
                "rows. The same dump with --resume goes on."
            )
    return store


def _network(
    name: str, store: Store, test: Store | None, scored: ScoreResult, convention: str
) -> ScoredNetwork:
    numbers = list(measured(scored))
    return ScoredNetwork(
        id=name,
        # What was kept may have been scored under another name.
        path=str(store.path),
        test_path=None if test is None else str(test.path),
        model=None if scored.model is None else scored.model.sha256,
        convention=convention,
        tags=dict(store.record.tags),
        values={column: value for column, value, _ in numbers},
        reasons={column: reason for column, _, reason in numbers if reason is not None},
        score=scored,
        fingerprints=_fingerprints(store, test, scored),
    )


def _fingerprints(store: Store, test: Store | None, scored: ScoreResult) -> dict[str, str | None]:
    found = {}
    for name in scored.splits:
        splits = (store if test is None or name == TRAIN else test).splits
        # With a second store, one that was dumped without names has but one split.
        split = splits[name] if name in splits else next(iter(splits.values()))
        found[name] = split.record.fingerprint
    return found
