"""Parts that are killed, resumed and merged: the store of one process, or a refusal by name."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.dumps import make_data, make_small
from support.networks import mlp, saved
from support.parts import tree

import cnatool
from campaigns.campaign import Attack, Outcome
from campaigns.made import FORMATS, contents, done
from campaigns.processes import Commands, Trouble
from cnatool.errors import UsageError

# Operations on files of a small part, beyond which a kill comes too late.
_OPERATIONS = 250
_WAYS = ("missing", "twice", "foreign", "whole")


@contextmanager
def merged_parts(folder: Path) -> Iterator[Attack]:
    """Dump random networks in parts, kill some of these, and merge them in any order."""
    make_small()
    with Commands(folder) as commands:

        def attack(number: int, rng: random.Random) -> Outcome:
            place = folder / "place"
            place.mkdir()
            form = FORMATS[number % 2]
            dump = _Dump(place, commands, form, rng)
            try:
                killed = dump.parts()
                dump.check_refusal(_WAYS[number // 2 % len(_WAYS)])
                dump.check_merged()
            except Exception as error:
                error.subject = form  # type: ignore[attr-defined]
                error.add_note(f"{dump.count} parts: {dump.words}")
                raise
            finally:
                shutil.rmtree(place)
            return Outcome(form, "merged after kills" if killed else "merged")

        yield attack


class _Dump:
    """A random dump, whole and in parts."""

    def __init__(self, place: Path, commands: Commands, form: str, rng: random.Random) -> None:
        self._place, self._commands, self._form, self._rng = place, commands, form, rng
        make_data(place, rng.randrange(1, 400), rng.choice([1, 7, 64, 150]))
        layers = [rng.randrange(2, 40) for _ in range(rng.randrange(1, 4))]
        for name in ("net", "other"):
            seed = rng.randrange(1000)
            saved(mlp((64, *layers, 10), seed=seed), place / f"{name}.onnx")
        self.count = rng.choice([1, 2, 3, 4, 5, 8, 13])
        self.words = [
            *("--batch-size", rng.choice([1, 5, 16, 24])),
            *rng.choice([("--codec", "none"), ("--codec", "gzip"), ()]),
            *rng.choice([("--keep", "statistics"), ("--dtype", "float16"), ()]),
            *rng.choice([("--labels", "none"), ("--limit", 40), ()]),
        ]
        self._paths = [place / f"p{number}.{form}" for number in range(1, self.count + 1)]
        self._whole = place / f"whole.{form}"

    def _run(self, path: Path, *words: object, model: str = "net", **how: Trouble) -> int:
        line = ("dump", f"{model}.onnx", "data", "-o", path.name, *self.words, *words)
        ended = self._commands.run(*line, cwd=self._place, **how)
        assert ended.code == -signal.SIGKILL or not done(ended).code
        return ended.code

    def parts(self) -> int:
        """Dump the whole and all parts, of which some are killed and resumed; count the kills."""
        self._run(self._whole)
        kills = 0
        for number, path in enumerate(self._paths, 1):
            words = ("--part", f"{number}/{self.count}", "--resume")
            while self._rng.random() < 0.4:
                at = self._rng.randrange(_OPERATIONS)
                kills += bool(self._run(path, *words, trouble=Trouble(at, signal=signal.SIGKILL)))
            self._run(path, *words)
        return kills

    def check_refusal(self, way: str) -> None:
        """Make sure that a set of parts with a fault is refused, by the name of what is wrong."""
        number = self._rng.randrange(self.count)
        paths = [*self._paths]
        part = f"{number + 1}/{self.count}"
        other = self._place / f"other.{self._form}"
        if way == "missing":
            text = f"missing: {number + 1}" if self.count > 1 else "no parts"
            del paths[number]
        elif way == "twice":
            self._run(other, "--part", part)
            text = f"are both part {number + 1} of {self.count}"
            paths.append(other)
        elif way == "foreign":
            self._run(other, "--part", part, model="other")
            text = other.name
            paths[number] = other
            if self.count == 1:
                return
        else:
            text = "whole"
            paths[number] = self._whole
        self._rng.shuffle(paths)
        for copy in (False, True):
            with pytest.raises(UsageError, match=text):
                cnatool.merge(paths, self._place / f"merged.{self._form}", copy=copy)
        assert not (self._place / f"merged.{self._form}").exists()

    def check_merged(self) -> None:
        """Compare stores that are merged in any order with the whole one."""
        self._rng.shuffle(self._paths)
        expected = contents(self._whole)
        assert expected is not None
        for form in FORMATS:
            copied = cnatool.merge(self._paths, self._place / f"copied.{form}", copy=True)
            assert contents(copied.path) == expected
            assert not cnatool.verify(copied.path).faults
            if form == self._form == "zarr":
                assert tree(copied.path) == tree(self._whole)
        merged = cnatool.merge(self._paths, self._place / f"merged.{self._form}")
        found = contents(merged.path)
        assert found is not None
        assert replace(found, record=expected.record) == expected
        assert not cnatool.verify(merged.path).faults
