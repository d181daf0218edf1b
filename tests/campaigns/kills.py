"""Kills: every command that writes, ended at any moment, again and again until it is done."""

from __future__ import annotations

import random
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns.campaign import Campaign, Outcome
from campaigns.commands import Commands, Trouble
from campaigns.made import (
    BATCH,
    FORMATS,
    Contents,
    contents,
    copied,
    done,
    listing,
    make_common,
    other,
    removed,
    safe_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from campaigns.campaign import Attack
    from campaigns.commands import Ended

__all__ = ["KILLS"]

# One attempt in so many is a process of its own instead of a fork.
_TRUE = 12
_SIGNALS = {signal.SIGKILL: 14, signal.SIGINT: 3, signal.SIGTERM: 3}
_CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
_RECORD = "campaigns.made:record"


@dataclass(frozen=True)
class _Job:
    """A command that writes.

    Attributes
    ----------
    words : callable
        Gives the first command of a format.
    again : callable
        Gives those that are tried after a kill, of a format.
    result : callable
        Gives the name of what it makes.
    call : str
        The function that is called instead of cnatool's command.
    replaces : bool
        Whether an old store is where the new one goes.
    resumes : bool
        Whether the last of ``again`` goes on with an unfinished store.
    """

    words: Callable[[str], tuple[object, ...]]
    again: Callable[[str], list[tuple[object, ...]]]
    result: Callable[[str], str]
    call: str = ""
    replaces: bool = False
    resumes: bool = False


def _dump(form: str) -> tuple[object, ...]:
    return ("dump", "../common/net.onnx", "../common/data", "-o", f"s.{form}", *BATCH)


def _convert(form: str) -> tuple[object, ...]:
    return ("convert", f"../common/dump.{other(form)}", f"s.{form}")


def _checkpoints(command: str, *words: object) -> _Job:
    """A command over several stores that writes a folder, and is just begun again."""

    def line(form: str) -> tuple[object, ...]:
        return (command, *(f"../common/n{i}.{form}" for i in range(3)), "-o", "results", *words)

    return _Job(line, lambda form: [line(form)], lambda form: "results")


def _store(form: str) -> str:
    return f"s.{form}"


_JOBS = {
    "dump": _Job(
        _dump,
        lambda form: [(*_dump(form), "--overwrite"), (*_dump(form), "--resume")],
        _store,
        resumes=True,
    ),
    "dump --resume": _Job(
        lambda form: (*_dump(form), "--resume"),
        lambda form: [(*_dump(form), "--resume")],
        _store,
        resumes=True,
    ),
    "dump --overwrite": _Job(
        lambda form: (*_dump(form), "--overwrite"),
        lambda form: [(*_dump(form), "--overwrite"), (*_dump(form), "--resume")],
        _store,
        replaces=True,
        resumes=True,
    ),
    "convert": _Job(_convert, lambda form: [(*_convert(form), "--overwrite")], _store),
    "convert --overwrite": _Job(
        lambda form: (*_convert(form), "--overwrite"),
        lambda form: [(*_convert(form), "--overwrite")],
        _store,
        replaces=True,
    ),
    "recorder": _Job(
        lambda form: (f"s.{form}",),
        lambda form: [(f"s.{form}", "overwrite")],
        _store,
        call=_RECORD,
    ),
    "recorder, overwrite": _Job(
        lambda form: (f"s.{form}", "overwrite"),
        lambda form: [(f"s.{form}", "overwrite")],
        _store,
        call=_RECORD,
        replaces=True,
    ),
    "study": _checkpoints("study", "--resamples", 20),
    "trajectory": _checkpoints("trajectory"),
    "landscape": _checkpoints("landscape", "--samples", 20, "--grid", 5),
}


@dataclass
class _Reference:
    """A job that nobody killed."""

    operations: int
    seconds: float
    store: Contents | None
    files: dict[str, bytes]


@dataclass
class _Kills:
    """The campaign with its files."""

    folder: Path
    commands: Commands
    old: dict[str, Contents]
    references: dict[tuple[str, str], _Reference] = field(default_factory=dict)

    def __call__(self, number: int, rng: random.Random) -> Outcome:
        names = list(_JOBS)
        name, form = names[number // 2 % len(names)], FORMATS[number % 2]
        subject = f"{name}, {form}"
        attempts: list[str] = []
        try:
            kills = _Round(self, name, form, rng, attempts).play()
        except Exception as error:
            error.subject = subject  # type: ignore[attr-defined]  # which row of the table it is
            for attempt in attempts:
                error.add_note(attempt)
            raise
        return Outcome(subject, f"{kills} kill{'s' * (kills != 1)}")

    def reference(self, name: str, form: str) -> _Reference:
        """Run a job that nobody kills, once."""
        if (name, form) not in self.references:
            job = _JOBS[name]
            where = self.begun(job, form)
            ended = done(self.commands.run(*job.words(form), cwd=where, call=job.call))
            path = where / job.result(form)
            store = contents(path) if path.suffix else None
            assert ended.operations is not None
            files = {} if store is not None else listing(path)
            assert [each.name for each in where.iterdir()] == [path.name]
            found = _Reference(ended.operations, ended.seconds, store, files)
            self.references[name, form] = found
            shutil.rmtree(where)
        return self.references[name, form]

    def begun(self, job: _Job, form: str) -> Path:
        """Make a folder for a job."""
        where = self.folder / "round"
        if where.exists():
            shutil.rmtree(where)
        where.mkdir()
        if job.replaces:
            copied(self.folder / f"common/old.{form}", where / job.result(form))
        return where


class _Round:
    """One store or folder of results, killed until it is done."""

    def __init__(
        self, kills: _Kills, name: str, form: str, rng: random.Random, attempts: list[str]
    ) -> None:
        self._kills, self._job, self._form, self._rng = kills, _JOBS[name], form, rng
        self._reference = kills.reference(name, form)
        self._attempts = attempts
        self._where = kills.begun(self._job, form)
        self._path = self._where / self._job.result(form)
        self._old = kills.old[form] if self._job.replaces else None

    def play(self) -> int:
        """Kill as often as chosen, then let it end; give the number of kills."""
        kills, safe, ended = 0, 0, False
        for _ in range(self._rng.choice([1, 1, 1, 2, 2, 3, 4, 6])):
            words, resumed = self._next(begun=bool(self._attempts))
            ended = self._attempt(words)
            kills += not ended
            rows = self._check(complete=ended)
            assert not resumed or rows >= safe, f"{rows} rows are safe after {safe}"
            safe = rows
            if ended:
                break
        if not ended:
            words, _ = self._next(begun=True)
            self._attempts.append(f"{' '.join(map(str, words))}: to its end")
            commands = self._kills.commands
            done(commands.run(*words, cwd=self._where, call=self._job.call))
            self._check(complete=True)
        return kills

    def _next(self, *, begun: bool) -> tuple[tuple[object, ...], bool]:
        """Choose the next command; say whether it goes on with what is there."""
        if not begun:
            return self._job.words(self._form), False
        lines = self._job.again(self._form)
        if not self._job.resumes:
            return self._rng.choice(lines), False
        # What is there may still be the old store, which is no part of this dump.
        if self._old is not None and self._path.exists() and self._is_old(self._path):
            return lines[0], False
        line = self._rng.choice([lines[0], lines[-1], lines[-1]])
        return line, line is lines[-1]

    def _attempt(self, words: tuple[object, ...]) -> bool:
        """Start a command, and kill it; say whether it was done before."""
        rng, commands, job = self._rng, self._kills.commands, self._job
        number = rng.choices(list(_SIGNALS), list(_SIGNALS.values()))[0]
        line = " ".join(map(str, words))
        kind = rng.randrange(_TRUE)
        if kind == 0 or kind > _TRUE // 2:
            number = signal.SIGKILL if kind == 0 else number
            seconds = rng.uniform(0, self._reference.seconds * (1.2 if kind else 2.5))
            self._attempts.append(f"{line}: {number.name} after {seconds:.3f} s")
            running = commands.start(*words, cwd=self._where, call=job.call, forked=bool(kind))
            running.wait(seconds)
            running.send(number)
            ended = running.ended()
        else:
            # Operations of an attempt that goes on are fewer.
            share = rng.random() if len(self._attempts) < 1 else rng.random() ** 2
            at = int(share * self._reference.operations)
            self._attempts.append(f"{line}: {number.name} at operation {at}")
            trouble = Trouble(at, signal=number)
            ended = commands.run(*words, cwd=self._where, call=job.call, trouble=trouble)
        self._attempts[-1] += f" -> {ended.code}"
        if ended.code == 0:
            return True
        self._check_ended(ended, number)
        return False

    def _check_ended(self, ended: Ended, number: signal.Signals) -> None:
        if self._job.call:
            # A script of the user's, which Python ends.
            interrupted = number == signal.SIGINT and "KeyboardInterrupt" in ended.errors
            assert ended.code == -number or interrupted, ended.errors[-1500:]
            return
        assert ended.code == _CODES[number], ended.errors[-1500:]
        if number != signal.SIGKILL:
            word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
            assert ended.errors.endswith(f"cnatool: {word}.\n"), ended.errors[-1500:]
            assert "Traceback" not in ended.errors, ended.errors[-1500:]

    def _check(self, *, complete: bool) -> int:
        """Look at all that is there; give the number of safe rows."""
        if self._reference.store is None:
            self._check_results(complete=complete)
            return 0
        return self._check_store(self._reference.store, complete=complete)

    def _check_store(self, new: Contents, *, complete: bool) -> int:
        names = sorted(path.name for path in self._where.iterdir())
        if complete:
            assert contents(self._path) == new, "the store differs from one that nobody killed"
            rows = safe_rows(self._path, new)
            for path in sorted(self._where.iterdir()):
                if path == self._path:
                    continue
                # Stores that were kept, under a name that shows.
                assert ".previous" in path.name, f"left over: {names}"
                assert path.suffix == self._path.suffix, f"left over: {names}"
                if not self._is_old(path):
                    safe_rows(path, new)
                removed(path)
            return rows
        old = self._old
        if old is None:
            return safe_rows(self._path, new) if self._path.exists() else 0
        here = self._path.exists() and self._is_old(self._path)
        rows = 0 if here or not self._path.exists() else safe_rows(self._path, new)
        if rows < new.rows or not (found := contents(self._path)) or not found.complete:
            assert here or any(map(self._is_old, self._stores())), (
                f"the old store is not there: {names}"
            )
        return rows

    def _stores(self) -> Iterator[Path]:
        for path in self._where.iterdir():
            if not path.name.endswith((".lock", ".journal")):
                yield path

    def _is_old(self, path: Path) -> bool:
        """Say whether the store that is replaced is at a path, whole."""
        if self._old is None:
            return False
        found = contents(path)
        return found is not None and found.complete and found == self._old

    def _check_results(self, *, complete: bool) -> None:
        expected = self._reference.files
        found = listing(self._path) if self._path.exists() else {}
        wrong = [name for name in found if name in expected and found[name] != expected[name]]
        assert not wrong, f"other results: {wrong}"
        if complete:
            assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
            assert [path.name for path in self._where.iterdir()] == [self._path.name]


@contextmanager
def _prepared(folder: Path) -> Iterator[Attack]:
    said = folder / "said"
    said.mkdir()
    with Commands(said) as commands:
        make_common(folder / "common", commands)
        for form in FORMATS:
            words = ("dump", "net.onnx", "data", "-o", f"dump.{form}", *BATCH)
            done(commands.run(*words, cwd=folder / "common"))
        old = {form: contents(folder / f"common/old.{form}") for form in FORMATS}
        yield _Kills(folder, commands, {form: found for form, found in old.items() if found})


KILLS = Campaign(
    "commands that write, killed at any moment and gone on with: nothing committed is lost",
    _prepared,
    small=20,
)
