"""Functions and commands in forked processes, used as `subprocess.Popen` is."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from support.dumps import make_small
from support.fork_server import forks, open_streams, take_environment


class Forked:
    """A function of a module of `support` in a process of its own, and pipes of what it prints."""

    def __init__(self, function: Callable[..., object], *words: object) -> None:
        pipes = [forks().Pipe(duplex=False) for _ in range(2)]
        ends = [theirs for _, theirs in pipes]
        self._process = forks().Process(target=_run, args=(function, words, ends, dict(os.environ)))
        self._process.start()
        for theirs in ends:
            theirs.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(ours.fileno()), "r") for ours, _ in pipes)
        for ours, _ in pipes:
            ours.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stdout.close()
        self.stderr.close()
        self._process.join()

    @property
    def returncode(self) -> int | None:
        """Its exit code; negative for a signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Say how it ended, if it has."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.poll() is None:
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Wait for its end; return what it said."""
        with ThreadPoolExecutor(2) as readers:
            output, errors = readers.map(_read, (self.stdout, self.stderr))
        self._process.join(timeout)
        return output, errors


class ForkedCommand(Forked):
    """`cnatool` in a process that commits every 64 rows.

    Parameters
    ----------
    words : objects
        The words of the command.
    cwd : Path
        Where it runs.
    largest : int, optional
        The size in bytes beyond which none of its files grows.
    """

    def __init__(self, *words: object, cwd: Path, largest: int | None = None) -> None:
        super().__init__(_run_command, [*map(str, words)], cwd, largest)


def _read(stream: IO[str]) -> str:
    with stream:
        return stream.read()


def _run(
    function: Callable[..., object],
    words: tuple[object, ...],
    ends: list[Connection],
    environment: dict[str, str],
) -> None:
    from cnatool.cli import signals

    signals.handle(signals.leave)
    take_environment(environment)
    for number, end in enumerate(ends, 1):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdout, sys.stderr = open_streams()
    function(*words)


def _run_command(words: list[str], cwd: Path, largest: int | None) -> None:
    from cnatool.cli import main

    os.chdir(cwd)
    make_small()
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        # As Python does when it starts.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.argv = ["cnatool", *words]
    main()
