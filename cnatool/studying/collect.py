"""Stores scored one after the other, or their scores taken from a folder where they are kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from cnatool._util.files import replace_atomically
from cnatool._util.text import printable
from cnatool._util.urls import is_url, parse_path
from cnatool._util.write_failures import make_write_error
from cnatool._version import __version__
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.convention import NO_RESAMPLES, Convention
from cnatool.records.layout import split_arrays
from cnatool.scoring.results import ScoreResult
from cnatool.scoring.score import score_store
from cnatool.scoring.train_test import TRAIN
from cnatool.store.missing_rows import explain_missing_rows
from cnatool.store.reader import as_paths, open_store
from cnatool.studying.cluster import StorePair, score_on_cluster
from cnatool.studying.columns import list_measures
from cnatool.studying.find import find_stores, name_stores, refuse_part
from cnatool.studying.omissions import UNUSABLE, Omissions
from cnatool.studying.results import UndefinedMeasure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from distributed import Client

    from cnatool._util.observer import Observer
    from cnatool.store.store import Store

_NETWORKS = "networks"
_SCORES = "scores"


@dataclass(frozen=True, slots=True)
class ScoredNetwork:
    """One scored network."""

    id: str  # within the study
    path: str
    test_path: str | None  # the store of its test split, if that is another one
    model: str | None  # SHA-256 of the model's file
    convention: str  # with its overrides
    tags: dict[str, str]
    values: dict[str, float | None]  # by column
    reasons: dict[str, str]  # why a value is None, by column
    score: ScoreResult  # a kept score may name the stores by other paths
    fingerprints: dict[str, str | None]  # of the samples of each split


@dataclass(frozen=True, slots=True)
class Collection:
    """The networks of a study that came from stores, in the order of the stores."""

    convention: Convention
    ids: list[str]  # of all stores, including those that were left out
    networks: list[ScoredNetwork]
    omissions: Omissions
    reused: int  # networks whose scores had been kept
    notes: tuple[str, ...]  # on what was found at the places

    def count_undefined(self) -> list[UndefinedMeasure]:
        """Count the networks for which a measure is undefined, by measure and reason."""
        counts = Counter(pair for network in self.networks for pair in network.reasons.items())
        return [UndefinedMeasure(*pair, number) for pair, number in counts.items()]

    def note_copies(self) -> Iterator[str]:
        """Yield a note if several stores are of one network and the same samples."""
        first: dict[tuple[object, ...], str] = {}
        copies = []
        for network in self.networks:
            content = (network.model, *network.fingerprints.items(), *network.values.items())
            original = first.setdefault(content, network.id)
            if original != network.id:
                copies.append(f"{network.id} and {original}")
        if copies:
            more = f", and {len(copies) - 1} more" if len(copies) > 1 else ""
            yield (
                f"the same network counts twice: {printable(copies[0])} have the same model, "
                f"samples and scores{more}. Remove the copies"
            )


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
    exclude: Callable[[Mapping[str, str]], str | None] | None = None,
    client: Client | None = None,
) -> Collection:
    """Score the stores at some places, one at a time, or on the workers of a cluster.

    Parameters are those of `cnatool.study`; in addition, `exclude` takes the tags of a store and
    returns the reason why it is left out, or None. Each score is kept in the folder ``scores`` of
    `folder` as soon as it is computed.
    """
    tests = None if test is None else parse_path(test)
    # A folder in a bucket is one if there is a store in it.
    if tests is not None and not (is_url(tests) or tests.is_dir()):
        raise UsageError(f"`test` {test}: not a folder of stores.")
    cache = None if folder is None else ScoreCache(folder / _SCORES)
    # A study leaves out intervals and p-values, which take most of the time; a kept score has this
    # among its overrides.
    without = Convention.named(convention.name, {**NO_RESAMPLES, **convention.overrides})
    convention = convention.without_resamples()
    omissions = Omissions(observer, strict=strict)
    found = find_stores(places)
    omissions.extend(found.rejected)
    ids = name_stores(found.stores)
    networks: list[ScoredNetwork] = []
    reused = 0
    input_stores = as_paths(inputs)
    open_pair = partial(_open_pair, tests=tests, inputs=input_stores, exclude=exclude)
    computed: dict[Path, ScoreResult | Exception] = {}
    if client is not None:
        missing: dict[StorePair, str | None] = {}
        for path in found.stores:
            # An error in a store is reported in its turn.
            with suppress(*UNUSABLE):
                store, test_store = open_pair(path)
                key = score_key(store, test_store, convention, output)
                # Stores of one key, such as copies, are scored once.
                if cache is None or key is None or not (cache.has(key) or key in missing.values()):
                    there = None if test_store is None else test_store.path
                    missing[StorePair(path, there)] = key
        scores = score_on_cluster(client, [*missing], without, output, input_stores, observer)
        for pair, score in scores:
            computed[pair.path], key = score, missing[pair]
            if cache is not None and key is not None and isinstance(score, ScoreResult):
                cache.put(key, score)
    for done, (path, name) in enumerate(zip(found.stores, ids, strict=True), start=1):
        key, kept, network = None, None, None
        with omissions.catch(path):
            store, test_store = open_pair(path)
            key = score_key(store, test_store, convention, output)
            scored = computed.pop(path, None)
            if isinstance(scored, Exception):
                raise scored
            if scored is None:
                kept = None if cache is None or key is None else cache.get(key)
                scored = kept or score_store(store, test_store, without, output=output).result()
            network = _make_network(name, store, test_store, scored, str(convention))
        if network is not None:
            networks.append(network)
            if kept is not None:
                reused += 1
            elif cache is not None and key is not None:
                cache.put(key, network.score)
        if client is None:
            observer.progress(_NETWORKS, done, len(found.stores))
    if cache is not None and cache.damaged:
        many = len(cache.damaged)
        observer.note(
            f"{many} kept score{'s' * (many > 1)} did not match the checksum and "
            f"{'were' if many > 1 else 'was'} computed again (the first: {cache.damaged[0]})"
        )
    return Collection(convention, ids, networks, omissions, reused, found.notes)


def read_tags(places: Iterable[str | Path]) -> dict[str, Mapping[str, str]]:
    """Read the tags of all stores that can be opened, by the stores' ids."""
    tags: dict[str, Mapping[str, str]] = {}
    paths = find_stores(places).stores
    for name, path in zip(name_stores(paths), paths, strict=True):
        # An error in a store is reported when it is scored.
        with suppress(*UNUSABLE):
            tags[name] = open_store(path).record.tags
    return tags


def _open_pair(
    path: Path,
    *,
    tests: Path | None,
    inputs: tuple[Path, ...],
    exclude: Callable[[Mapping[str, str]], str | None] | None,
) -> tuple[Store, Store | None]:
    """Open a store and that of its test split; raise MetricError if it is left out."""
    store = _open_finished(path, inputs)
    reason = None if exclude is None else exclude(store.record.tags)
    if reason is not None:
        raise MetricError(f"{path}: {reason}.")
    return store, None if tests is None else _open_finished(tests / path.name, inputs)


def _open_finished(path: Path, inputs: tuple[Path, ...]) -> Store:
    """Open a store; raise `MetricError` unless it has all rows of its network."""
    store = open_store(path, inputs)
    refuse_part(store)
    if not store.record.complete:
        raise MetricError(explain_missing_rows(store))
    return store


def _make_network(
    name: str, store: Store, test: Store | None, scored: ScoreResult, convention: str
) -> ScoredNetwork:
    measures = list(list_measures(scored))
    fingerprints = {}
    for split_name in scored.splits:
        splits = (store if test is None or split_name == TRAIN else test).splits
        # A second store that was dumped without names of splits has a single split.
        split = splits[split_name] if split_name in splits else next(iter(splits.values()))
        fingerprints[split_name] = split.fingerprint
    return ScoredNetwork(
        id=name,
        # A kept score may have been computed at another path.
        path=str(store.path),
        test_path=None if test is None else str(test.path),
        model=None if scored.model is None else scored.model.sha256,
        convention=convention,
        tags=dict(store.record.tags),
        values={column: value for column, value, _ in measures},
        reasons={column: reason for column, _, reason in measures if reason is not None},
        score=scored,
        fingerprints=fingerprints,
    )


# Built on import: msgspec crashes the process if threads build the first decoder of a type.
_SCORE = msgspec.json.Decoder(ScoreResult)


def score_key(
    store: Store, test: Store | None, convention: Convention, output: str | None
) -> str | None:
    """Compute a key of everything that a score depends on.

    It covers the attributes of the stores (the checksums of all chunks, the fingerprints of inputs
    in other stores, the tensors, …), cnatool's version, every field of the convention, and the
    output. Times and sizes of files do not identify a store, so a store without the checksums of
    all its arrays has no key.
    """
    stores = [store] if test is None else [store, test]
    if not all(map(_has_checksums, stores)):
        return None
    content: list[Any] = [__version__, [each.record for each in stores], convention, output]
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def _has_checksums(store: Store) -> bool:
    """Whether a store's attribute has checksums of every array that is not empty."""
    if store.parts is not None:
        return True
    for split in store.record.splits.values():
        arrays = split_arrays(store.record, labels=split.labels, inputs=split.inputs_from is None)
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

    Attributes
    ----------
    damaged : list of Path
        Files that did not match their checksums; their scores count as missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: list[Path] = []

    def get(self, key: str) -> ScoreResult | None:
        """Return the score with this key; None if there is none, or its file is damaged."""
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

    def has(self, key: str) -> bool:
        """Whether there is a score with this key, or a damaged file."""
        return self._path(key).is_file()

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
            raise make_write_error(path, error, "folder") from error

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _digest(key: str, score: bytes) -> str:
    """Compute the checksum of a kept score; with the key, so that files cannot be exchanged."""
    return hashlib.sha256(key.encode() + b"\n" + score).hexdigest()
