"""Rounds in processes of their own, so that one that crashes or hangs is a failed round."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing.connection
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

from support.fork_server import forks, take_environment

from campaigns.campaign import FAILED, Campaign, Round, done_round

# Seconds in which a worker makes its files.
_PREPARATION = 900


def rounds(
    name: str,
    campaign: Campaign,
    numbers: Iterator[int],
    *,
    folder: Path,
    seed: int = 0,
    seconds: float | None = None,
    record: Path | None = None,
    jobs: int = 1,
) -> Iterator[Round]:
    """Do rounds until the numbers or the seconds are used up."""
    known = {r.number: r for r in _recorded(record) if (r.campaign, r.seed) == (name, seed)}
    begun = time.monotonic()
    workers: list[_Worker] = []
    left = True
    try:
        while True:
            idle = [worker for worker in workers if worker.number is None]
            while left and (idle or len(workers) < jobs):
                number = next(numbers, None)
                if number is None or (
                    seconds is not None and workers and time.monotonic() - begun > seconds
                ):
                    left = False
                elif number in known:
                    yield known[number]
                else:
                    if not idle:
                        idle.append(_Worker(name, campaign, seed, folder))
                        workers.append(idle[0])
                    idle.pop().begin(number)
            busy = [worker for worker in workers if worker.number is not None]
            if not busy:
                return
            multiprocessing.connection.wait([worker.connection for worker in busy], timeout=0.5)
            for worker in busy:
                done = worker.done()
                if done is None:
                    continue
                if not worker.alive:
                    workers.remove(worker)
                if record is not None:
                    with record.open("a") as file:
                        print(json.dumps(asdict(done)), file=file)
                yield done
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that does rounds, one after the other."""

    def __init__(self, name: str, campaign: Campaign, seed: int, folder: Path) -> None:
        self._name, self._campaign, self._seed = name, campaign, seed
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._errors = self._folder / "errors"
        context = forks()
        self.connection, theirs = context.Pipe()
        words = (name, campaign, seed, self._folder, theirs, dict(os.environ))
        self._process = context.Process(target=_work, args=words)
        self._process.start()
        theirs.close()
        self.alive = True
        self.number: int | None = None
        self._prepared = False

    def begin(self, number: int) -> None:
        """Let it do a round."""
        self.number = number
        self._begun = time.monotonic()
        with suppress(OSError):  # it has ended, which is seen where its result is read
            self.connection.send(number)

    def done(self) -> Round | None:
        """Give the round that it did, if it is done, crashed or late."""
        assert self.number is not None
        error = ""
        try:
            while self.connection.poll():
                answer = self.connection.recv()
                if answer is not None:
                    self.number = None
                    return answer  # type: ignore[no-any-return]  # what was sent
                self._prepared = True
                self._begun = time.monotonic()
        except (EOFError, OSError):
            self._process.join()
            error = f"the process ended with {self._process.exitcode}\n{self._said()}"
        # Preparation is not part of the first round.
        took = time.monotonic() - self._begun
        limit = self._campaign.limit if self._prepared else _PREPARATION
        if not error and took > limit:
            # The dump of its stacks goes where its errors go.
            os.kill(self._process.pid or 0, signal.SIGUSR1)
            time.sleep(0.5)
            error = f"not done after {limit} s\n{self._said()}"
        if not error:
            return None
        self.end()
        if not self._prepared:
            raise RuntimeError(f"{self._name} cannot be prepared: {error}")
        return Round(self._name, self._seed, self.number, self._name, FAILED, round(took, 3), error)

    def _said(self) -> str:
        return self._errors.read_text(errors="replace")[-3000:] if self._errors.exists() else ""

    def end(self) -> None:
        """End it and all processes that it started."""
        self.alive = False
        self.connection.close()
        if self.number is None:
            # It ends by itself, and takes its files away.
            self._process.join(10)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.join()


def _work(
    name: str,
    campaign: Campaign,
    seed: int,
    folder: Path,
    connection: Connection,
    environment: dict[str, str],
) -> None:
    """Do rounds until nobody wants more."""
    os.setsid()
    take_environment(environment)
    with (folder / "errors").open("w") as errors:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    where = folder / "files"
    where.mkdir()
    with campaign.prepared(where) as attack, suppress(EOFError, BrokenPipeError):
        connection.send(None)
        while True:
            connection.send(done_round(name, attack, connection.recv(), seed))


def _recorded(record: Path | None) -> list[Round]:
    if record is None or not record.exists():
        return []
    found = []
    for line in record.read_text().splitlines():
        # A campaign that was killed may have left half a line, and the next one a line behind it.
        with suppress(json.JSONDecodeError):
            found.append(Round(**json.loads(line)))
    return found
