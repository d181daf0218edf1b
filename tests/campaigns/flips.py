"""Damage to every file of stores and of kept results: no number changes unseen."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

import cnatool
from campaigns.answers import Refused, answer, check_equal
from campaigns.campaign import Attack, Outcome
from campaigns.chunks import exchange_chunks
from campaigns.damage import Folder
from campaigns.results import Results, results
from campaigns.specimens import QUICK, Specimen, specimens
from cnatool.records.layout import split_arrays

# How often each of the other readers is tried; charts take long.
_WEIGHTS = (4, 2, 3, 3, 3, 1)
_SHUFFLED = 254

Read: TypeAlias = "Callable[[Path], object]"


@contextmanager
def flips(folder: Path) -> Iterator[Attack]:
    """Make stores of all kinds and kept results, and damage one of them a round."""
    (folder / "made").mkdir()
    (folder / "kept").mkdir()
    stores = [partial(_Stores, each, folder / "new") for each in specimens(folder / "made")]
    makers: list[Callable[[], _Stores | Results]] = [*stores, *results(folder / "kept")]
    # The first rounds are of stores that have little in common.
    random.Random(_SHUFFLED).shuffle(makers)
    # What commands say of a store takes long.
    subjects = cache(lambda place: makers[place]())

    def attack(number: int, rng: random.Random) -> Outcome:
        subject = subjects(number % len(makers))
        what = "nothing"
        try:
            what = subject.damage(rng)
            if subject.folder.read() == subject.folder.files:
                return Outcome(subject.name, "not changed")
            return Outcome(subject.name, subject.result(rng))
        except Exception as error:
            error.subject = subject.name
            error.add_note(f"after: {what}")
            raise
        finally:
            subject.folder.restore()

    yield attack


class _Stores:
    """A folder with a store, and what commands say of it while it is whole."""

    def __init__(self, specimen: Specimen, new: Path) -> None:
        self.name = specimen.name
        self.folder = Folder(specimen.folder)
        self._donor = Folder(specimen.donor)
        self._specimen = specimen
        self._paths = [specimen.folder / name for name in specimen.stores]
        self._readers: dict[str, Read] = {
            "layers": lambda path: cnatool.score_layers(path, overrides=QUICK).to_json(),
            "compare": lambda path: _compared(path, self._twin),
            "convert": lambda path: _converted(path, new),
            "study": lambda path: _studied(path),
            "samples": lambda path: cnatool.score_samples(path).write_csv(),
            "plot": lambda path: json.dumps(
                cnatool.plot(path, "alpha-beta", overrides=QUICK).to_dict()
            ),
        }
        self._twin = specimen.twin
        self._scores = self._truths(_score)
        self._contents = self._truths(lambda _: self._all_contents())
        self._other: dict[str, list[object]] = {}
        assert not any(isinstance(each, Refused) for each in self._scores + self._contents)
        assert all(not cnatool.verify(path).faults for path in self._paths)

    def _items(self) -> list[tuple[str, Read]]:
        return list(self._readers.items())

    def _truths(self, read: Read) -> list[object]:
        """Say what a command may answer of the whole folder."""
        self.folder.restore()
        found = [answer(partial(read, self._specimen.scored))]
        if any(name.endswith(".journal") for name in self.folder.files):
            # Without its journal, a store is that of the commit before.
            self._specimen.scored.with_name(f"{self._specimen.scored.name}.journal").unlink()
            found.append(answer(partial(read, self._specimen.scored)))
            self.folder.restore()
        return found

    def _all_contents(self) -> object:
        return answer(lambda: [_contents(path) for path in self._paths])

    def damage(self, rng: random.Random) -> str:
        """Do some damage; say what."""
        name = self.folder.file(rng)
        if rng.random() < 0.7:
            return self.folder.damage(name, rng)
        apart = self._specimen.scored.is_dir()
        ways: list[Callable[[], str]] = []
        if apart:
            ways += [
                lambda: self.folder.delete(name, rng),
                lambda: self.folder.rename(name, rng),
                lambda: self.folder.duplicate(name, rng),
                lambda: self.folder.exchange(name, rng),
                lambda: self.folder.take(name, self._donor),
            ]
        if len(self._paths) == 1 and not self.name.startswith("zip") and "journal" not in self.name:
            ways += [lambda: exchange_chunks(self._specimen.scored, self._twin, rng)]
        if name.endswith(".journal"):
            ways += [lambda: self.folder.delete(name, rng)]
        return rng.choice(ways)() if ways else self.folder.damage(name, rng)

    def result(self, rng: random.Random) -> str:
        """Say what commands make of the damage."""
        damaged = self.folder.read()
        score = _score(self._specimen.scored)
        refused = isinstance(score, Refused)
        if not refused:
            check_equal(score, self._scores, "score")
        faults: list[object]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            faults = [answer(partial(_faults, path)) for path in self._paths]
        reported = any(isinstance(each, Refused) or each for each in faults)
        ((name, read),) = rng.choices(self._items(), _WEIGHTS)
        other = answer(partial(read, self._specimen.scored))
        assert self.folder.read() == damaged, "a command that reads changed a file"
        contents = None if reported else self._all_contents()
        if not isinstance(other, Refused):
            if name not in self._other:
                self._other[name] = self._truths(read)
            truths = [each for each in self._other[name] if not isinstance(each, Refused)]
            check_equal(other, truths, name)
        if reported:
            return "score refuses" if refused else "verify reports"
        earlier = contents != self._contents[0]
        lost = [name for name in self.folder.files if name not in damaged]
        assert not earlier or lost or warned, "nobody says that this is an earlier commit"
        assert not refused, f"score refuses, and verify reports nothing: {score}"
        assert contents in self._contents, (
            f"verify reports nothing, and rows are others: {contents}"
        )
        return "earlier commit" if earlier else "no effect"


def _faults(path: Path) -> object:
    return cnatool.verify(path).faults


def _score(path: Path) -> object:
    return answer(lambda: cnatool.score(path, overrides=QUICK).to_json())


def _contents(path: Path) -> object:
    """Read the attribute and every row of every array."""
    store = cnatool.open(path)
    found = [msgspec.json.encode(store.record)]
    for split in store.splits.values():
        for spec in split_arrays(store.record, labels=split.record.labels):
            values = split.array(spec.key)[:]
            numbers = values.dtype != object
            found += [spec.key, values.tobytes() if numbers else values.tolist()]
    return found


def _compared(path: Path, other: Path) -> object:
    found = cnatool.compare(path, other, overrides=QUICK)
    if found.scores_reason is not None:
        raise cnatool.MetricError(found.scores_reason)
    return found.to_json()


def _converted(path: Path, new: Path) -> object:
    """Convert a store into the other format, and read all of it."""
    target = new.with_suffix(".h5" if path.suffix != ".h5" else ".zarr")
    try:
        cnatool.convert(path, target, overwrite=True)
    except cnatool.CnatoolError:
        assert not target.exists(), "a conversion that failed left a store"
        raise
    store = cnatool.open(target)
    found: list[Any] = []
    for split in store.splits.values():
        for spec in split_arrays(store.record, labels=split.record.labels, inputs=False):
            values = split.array(spec.key)[:]
            found += [spec.key, values.tobytes() if values.dtype != object else values.tolist()]
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    return found


def _studied(path: Path) -> object:
    found = cnatool.study([path], resamples=0)
    if found.result.not_scored:
        raise cnatool.StoreDamagedError(found.result.not_scored[0].reason)
    return found.networks.write_csv()
