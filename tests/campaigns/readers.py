"""Readers beside a writer: they see whole commits, ever more of them, and call nothing damaged."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Attack, Outcome
from campaigns.jobs import JOBS
from campaigns.lasting import Workplace, Written, workplace
from campaigns.made import FORMATS, Contents, contents, done, safe_rows
from campaigns.processes import Running, Trouble
from cnatool.errors import StoreInUseError

_WRITERS = (
    "dump",
    "dump --overwrite",
    "recorder",
    "convert",
    "dump --resume",
    "convert --overwrite",
    "recorder, overwrite",
)
_THREADS = 2
_FEWER = ("--set", "resamples=0", "--set", "permutations=0", "--set", "area_resamples=0")
_COMMANDS = (("verify",), ("inspect", "--json"), ("score", "--json", *_FEWER), ("layers", "--json"))
# What a command ends with that finds no store yet, or no row in it.
_NOTHING = 2


class _Reader(threading.Thread):
    """Read a store again and again."""

    def __init__(
        self, path: Path, old: Contents | None, expected: Contents, ended: threading.Event
    ) -> None:
        super().__init__()
        self._path, self._old, self._expected, self._ended = path, old, expected, ended
        self.reads, self.partial = 0, 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Read until the writer has ended, and once more."""
        rows = 0
        try:
            last = False
            while not last:
                last = self._ended.is_set()
                before, rows = rows, self._rows()
                assert rows >= before, f"{rows} rows behind {before}"
                self.reads += 1
                self.partial += 0 < rows < self._expected.rows
        except Exception as error:
            self.error = error

    def _rows(self) -> int:
        """Count rows of the new store."""
        while True:
            try:
                if self._old is not None and contents(self._path) == self._old:
                    return 0
                return safe_rows(self._path, self._expected, self._old)
            except StoreInUseError:
                assert self._old is not None


def _read(
    place: Workplace, path: Path, expected: Contents, writer: Running, first: int, *, old: bool
) -> int:
    """Read by commands, until the writer has ended; give how often they found some rows."""
    rows, partial = 0, 0
    number = first
    while not writer.has_ended():
        words = _COMMANDS[number % len(_COMMANDS)]
        number += 1
        ended = place.commands.run(words[0], path.name, *words[1:], cwd=place.where)
        assert "Traceback" not in ended.errors, ended.errors
        assert "amage" not in ended.errors, ended.errors
        if "was replaced or removed while it was read" in ended.errors:
            assert old, (words, ended)
            continue
        if ended.code:
            empty = words[0] == "verify" and "has no rows yet" in ended.errors + ended.output
            assert ended.code == _NOTHING or (empty and (old or not rows)), (words, ended)
            assert words[0] != "inspect" or not rows or old, (words, ended)
            continue
        if words[0] == "inspect":
            splits = json.loads(ended.output)["splits"].values()
            before, rows = rows, sum(b - a for each in splits for a, b in each["committed"])
            # Those of the old store do not count.
            assert before <= rows <= expected.rows or old, f"{rows} rows behind {before}"
            partial += 0 < rows < expected.rows
    return partial


@contextmanager
def read_while_written(folder: Path) -> Iterator[Attack]:
    """Read stores while they are written."""
    with workplace(folder) as place:

        def attack(number: int, rng: random.Random) -> Outcome:
            name, form = _WRITERS[number // 2 % len(_WRITERS)], FORMATS[number % 2]
            try:
                partial = _round(place, name, form, rng)
            except Exception as error:
                error.subject = f"{name}, {form}"  # type: ignore[attr-defined]
                raise
            return Outcome(f"{name}, {form}", "seen growing" if partial else "seen")

        yield attack


def _round(place: Workplace, name: str, form: str, rng: random.Random) -> int:
    written = Written(place, name, form, rng)
    job, expected = JOBS[name], written.reference.store
    assert expected is not None
    path = place.where / job.result(form)
    # Slower than it would be, in which readers find all that is between two operations.
    trouble = Trouble(0, pause=rng.uniform(0, 1.0 / written.reference.operations))
    writer = place.commands.start(*written.next(), cwd=place.where, call=job.call, trouble=trouble)
    ended = threading.Event()
    old = place.old[form] if job.replaces else None
    readers = [_Reader(path, old, expected, ended) for _ in range(_THREADS)]
    for reader in readers:
        reader.start()
    try:
        partial = _read(
            place, path, expected, writer, rng.randrange(len(_COMMANDS)), old=old is not None
        )
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    done(writer.ended())
    for reader in readers:
        if reader.error is not None:
            raise reader.error
    written.check(complete=True)
    assert contents(path) == expected
    return partial + sum(reader.partial for reader in readers)
