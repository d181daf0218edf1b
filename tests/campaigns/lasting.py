"""What must be there, however a command that writes ended, and be equal when it is done."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from campaigns.jobs import JOBS, Job
from campaigns.made import (
    FORMATS,
    Contents,
    contents,
    copied,
    done,
    listing,
    make_common,
    removed,
    safe_rows,
)
from campaigns.processes import Commands


@dataclass
class Reference:
    """A job that nobody disturbed: what it took, and what it made."""

    operations: int
    seconds: float
    store: Contents | None
    files: dict[str, bytes]
    bytes: int
    largest: int


@dataclass
class Workplace:
    """A folder with data and stores, and one in which jobs are done."""

    folder: Path
    where: Path
    commands: Commands
    old: dict[str, Contents]
    references: dict[tuple[str, str], Reference] = field(default_factory=dict)

    def reference(self, name: str, form: str) -> Reference:
        """Do a job that nobody disturbs, once."""
        if (name, form) not in self.references:
            job = JOBS[name]
            self.begin(job, form)
            ended = done(self.commands.run(*job.words(form), cwd=self.where, call=job.call))
            path = self.where / job.result(form)
            store = contents(path) if path.suffix else None
            assert ended.operations is not None
            files = listing(self.where)
            sizes = [*map(len, files.values())]
            assert [each.name for each in self.where.iterdir()] == [path.name]
            found = Reference(
                operations=ended.operations,
                seconds=ended.seconds,
                store=store,
                files={} if store is not None else listing(path),
                bytes=sum(sizes),
                largest=max(sizes),
            )
            self.references[name, form] = found
        return self.references[name, form]

    def begin(self, job: Job, form: str) -> None:
        """Empty the folder for a job."""
        self.where.mkdir(exist_ok=True)
        for path in self.where.iterdir():
            removed(path)
        if job.replaces:
            copied(self.folder / f"common/old.{form}", self.where / job.result(form))


class Written:
    """What a job, which is disturbed, has written so far."""

    def __init__(self, workplace: Workplace, name: str, form: str, rng: random.Random) -> None:
        self.job, self._form, self._rng = JOBS[name], form, rng
        self.reference = workplace.reference(name, form)
        workplace.begin(self.job, form)
        self._where = workplace.where
        self._path = self._where / self.job.result(form)
        self._old = workplace.old[form] if self.job.replaces else None
        self._whole = [] if self._old is None else [self._old]
        self._safe = 0
        self._begun = False
        self._resumed = False

    def next(self) -> tuple[object, ...]:
        """Choose the command to try next."""
        begun, self._begun = self._begun, True
        self._resumed = False
        if not begun:
            return self.job.words(self._form)
        lines = self.job.again(self._form)
        if not self.job.resumes:
            return self._rng.choice(lines)
        # What is there may still be the old store, which is no part of this dump.
        if self._old is not None and self._path.exists() and self._is_old(self._path):
            return lines[0]
        line = self._rng.choice([lines[0], lines[-1], lines[-1]])
        self._resumed = line is lines[-1]
        return line

    def check(self, *, complete: bool, disturbed: bool = False) -> None:
        """Look at all that is there."""
        new = self.reference.store
        if new is None:
            self._check_results(complete=complete)
            return
        if complete:
            rows = self._check_complete(new, disturbed=disturbed)
        else:
            rows = self._check_unfinished(new)
        assert not self._resumed or rows >= self._safe, f"{rows} rows are safe after {self._safe}"
        self._safe = rows

    def _check_complete(self, new: Contents, *, disturbed: bool) -> int:
        names = sorted(path.name for path in self._where.iterdir())
        assert contents(self._path) == new, "the store differs from one that nobody disturbed"
        rows = safe_rows(self._path, new)
        for path in sorted(self._where.iterdir()):
            if path == self._path:
                continue
            hidden = tuple(f".{self._path.name}.{word}" for word in ("removed", "lock"))
            if disturbed and path.name.startswith(hidden):
                # What a failing disk does not let go of goes when the store is next written.
                continue
            # Stores that were kept, under a name that shows.
            kept = ".previous" in path.name and path.suffix == self._path.suffix
            assert kept, f"left over: {names}"
            if not self._is_whole(path):
                safe_rows(path, new)
            removed(path)
        return rows

    def _check_unfinished(self, new: Contents) -> int:
        if self._old is None:
            return safe_rows(self._path, new)
        here = self._is_old(self._path)
        rows = 0 if here else safe_rows(self._path, new)
        if rows == new.rows and contents(self._path) == new:
            # From now on this is the store that may be replaced.
            self._whole.append(new)
        elif not here and not any(map(self._is_whole, self._stores())):
            names = sorted(path.name for path in self._where.iterdir())
            raise AssertionError(f"the old store is not there: {names}")
        return rows

    def _stores(self) -> Iterator[Path]:
        for path in self._where.iterdir():
            if not path.name.endswith((".lock", ".journal")):
                yield path

    def _is_whole(self, path: Path) -> bool:
        """Say whether a store that was complete once is at a path."""
        found = contents(path)
        return found is not None and found in self._whole

    def _is_old(self, path: Path) -> bool:
        """Say whether the store that is replaced is at a path, whole."""
        if self._old is None:
            return False
        found = contents(path)
        return found is not None and found.complete and found == self._old

    def _check_results(self, *, complete: bool) -> None:
        expected = self.reference.files
        found = listing(self._path) if self._path.exists() else {}
        wrong = [name for name in found if name in expected and found[name] != expected[name]]
        assert not wrong, f"other results: {wrong}"
        if complete:
            assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
            assert [path.name for path in self._where.iterdir()] == [self._path.name]


@contextmanager
def workplace(folder: Path, where: Path | None = None) -> Iterator[Workplace]:
    """Make all that jobs need."""
    said = folder / "said"
    said.mkdir()
    with Commands(said) as commands:
        make_common(folder / "common", commands)
        old = {form: contents(folder / f"common/old.{form}") for form in FORMATS}
        kept = {form: found for form, found in old.items() if found}
        yield Workplace(folder, where or folder / "round", commands, kept)
