"""Many stores → one row each: scored one after the other, or taken from scores that were kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cnatool._util.files import replace_atomically
from cnatool._version import __version__
from cnatool.errors import MetricError, StoreWriteError, UsageError
from cnatool.metrics.convention import NO_RESAMPLES, Convention
from cnatool.records.layout import split_arrays
from cnatool.scoring.results import ScoreResult
from cnatool.scoring.score import score_all
from cnatool.scoring.train_test import TRAIN
from cnatool.store.reader import as_paths, open_store
from cnatool.studying.columns import measured
from cnatool.studying.find import find_stores, paired_store, store_ids
from cnatool.studying.omissions import UNUSABLE, Omissions
from cnatool.studying.results import UndefinedMeasure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cnatool._util.observer import Observer
    from cnatool.store.store import Store
    from cnatool.studying.results import NotScored


_NETWORKS = "networks"
_SCORES = "scores"


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
    convention : Convention
        What all of them were scored by.
    ids : list of str
        Names of all stores, in the order of the places, those without a row included.
    networks : list of ScoredNetwork
        In the order of the stores.
    omissions : Omissions
        The stores that have no row.
    reused : int
        Networks whose scores had been kept.
    """

    convention: Convention
    ids: list[str]
    networks: list[ScoredNetwork]
    omissions: Omissions
    reused: int

    @property
    def not_scored(self) -> tuple[NotScored, ...]:
        """The stores that have no row, with the reasons."""
        return tuple(self.omissions.stores)

    def undefined(self) -> list[UndefinedMeasure]:
        """Count the networks that lack a measure, by measure and reason."""
        counts = Counter(pair for one in self.networks for pair in one.reasons.items())
        return [UndefinedMeasure(*pair, number) for pair, number in counts.items()]


def collect(
    places: Iterable[str | Path],
    *,
    folder: Path | None,
    test: str | Path | None,
    convention: Convention,
    output: str | None,
    observer: Observer,
    inputs: str | Path | Iterable[str | Path] = (),
    strict: bool = False,
    excluded: Callable[[Mapping[str, str]], str | None] | None = None,
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
    convention : Convention
        What to score by; intervals and p-values are left out unless overrides ask for them.
    output : str or None
        As of `cnatool.score`.
    observer : Observer
        Told of the progress through the networks.
    inputs : str, Path or iterable of these
        As of `cnatool.score`.
    strict : bool
        Raise the error of the first store that cannot be scored, rather than leave it out.
    excluded : callable, optional
        Gives the reason why a store with some tags is left out; None if it is not.

    Raises
    ------
    UsageError
        If the folder of the test split does not exist.
    StoreWriteError
        If a score cannot be kept.
    CnatoolError, OSError
        If a store cannot be scored, and `strict`.
    """
    if test is not None and not Path(test).is_dir():
        raise UsageError(f"--test {test}: this is no folder of stores.")
    cache = None if folder is None else ScoreCache(folder / _SCORES)
    # A score that is kept lists among its overrides what a study leaves out.
    without = Convention.named(convention.name, {**NO_RESAMPLES, **convention.overrides})
    convention = convention.without_resamples()
    omissions = Omissions(observer, strict=strict)
    stores, nothing = find_stores(places)
    omissions.extend(nothing)
    ids = store_ids(stores)
    networks: list[ScoredNetwork] = []
    reused = 0
    named = as_paths(inputs)
    for done, (path, name) in enumerate(zip(stores, ids, strict=True), start=1):
        key, kept, network = None, None, None
        with omissions.catching(path):
            first = _finished(path, named)
            reason = None if excluded is None else excluded(first.record.tags)
            if reason is not None:
                raise MetricError(f"{path}: {reason}.")
            second = None if test is None else _finished(paired_store(path, Path(test)), named)
            key = score_key(first, second, convention, output)
            kept = None if cache is None or key is None else cache.get(key)
            scored = kept or score_all(first, second, without, output=output).result()
            network = _network(name, first, second, scored, str(convention))
        if network is not None:
            networks.append(network)
            if kept is not None:
                reused += 1
            elif cache is not None and key is not None:
                cache.put(key, network.score)
        observer.progress(_NETWORKS, done, len(stores))
    if cache is not None and cache.damaged:
        many = len(cache.damaged)
        observer.note(
            f"{many} kept score{'s' * (many > 1)} did not match the checksum and "
            f"{'were' if many > 1 else 'was'} computed again (the first: {cache.damaged[0]})"
        )
    return Collection(convention, ids, networks, omissions, reused)


def known_tags(places: Iterable[str | Path]) -> dict[str, Mapping[str, str]]:
    """Read the tags of all stores that can be opened, by the stores' ids."""
    tags: dict[str, Mapping[str, str]] = {}
    paths, _ = find_stores(places)
    for name, path in zip(store_ids(paths), paths, strict=True):
        # What is wrong with a store is reported with its score.
        with suppress(*UNUSABLE):
            tags[name] = open_store(path).record.tags
    return tags


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


# Built on import: msgspec crashes the process where threads build the first decoder of a type.
_SCORE = msgspec.json.Decoder(ScoreResult)


def score_key(
    store: Store, test: Store | None, convention: Convention, output: str | None
) -> str | None:
    """Compute a key of everything that a score depends on.

    It covers the attributes of the stores (the checksums of all chunks, the fingerprints of inputs
    in other stores, the tensors, …), cnatool's version, every field of the convention, and the
    output. Times and sizes of files do not identify a store, so one without the checksums of all
    its arrays has no key.
    """
    stores = [store] if test is None else [store, test]
    if not all(map(_has_checksums, stores)):
        return None
    what: list[Any] = [__version__, [each.record for each in stores], convention, output]
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def _has_checksums(store: Store) -> bool:
    """Say whether a store's attribute has checksums of every array that is not empty."""
    for split in store.record.splits.values():
        held = split.inputs_from is None
        arrays = split_arrays(store.record, labels=split.labels, inputs=held)
        if {each.key for each in arrays if each.row_bytes} - (split.checksums or {}).keys():
            return False
    return True


class _Kept(msgspec.Struct, frozen=True):
    """A kept score: the score as JSON, and the SHA-256 of its key and that JSON."""

    sha256: str
    score: msgspec.Raw


_KEPT = msgspec.json.Decoder(_Kept)


class ScoreCache:
    """A folder with one JSON file per score, each with a checksum.

    Parameters
    ----------
    folder : Path
        Created when the first score is kept.

    Attributes
    ----------
    damaged : list of Path
        Files that did not match their checksums; their scores count as missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: list[Path] = []

    def get(self, key: str) -> ScoreResult | None:
        """Give the score with this key; None if there is none, or its file is damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            kept = _KEPT.decode(content)
            if kept.sha256 == _digest(key, bytes(kept.score)):
                return _SCORE.decode(kept.score)
        except (msgspec.MsgspecError, UnicodeError):
            pass
        self.damaged.append(path)
        return None

    def put(self, key: str, score: ScoreResult) -> None:
        """Keep a score."""
        path = self._path(key)
        encoded = msgspec.json.encode(score)
        kept = _Kept(_digest(key, encoded), msgspec.Raw(encoded))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as partial:
                partial.write_bytes(msgspec.json.encode(kept))
        except OSError as error:
            raise StoreWriteError(
                f"{path} cannot be written: {error.strerror or error}. Name another folder with -o."
            ) from error

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _digest(key: str, score: bytes) -> str:
    """Compute the checksum of a kept score; with the key, so that files cannot be exchanged."""
    return hashlib.sha256(key.encode() + b"\n" + score).hexdigest()
