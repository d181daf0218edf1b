"""Commands of cnatool in processes that can be killed, without waiting for imports each time.

A server has everything imported and forks a process for each command; some commands are begun as
true processes all the same, which shows kills during imports, too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.fork_server import forks

from campaigns.serving import serve

_TRUE = "from campaigns.serving import run_request; import sys; run_request(sys.argv[1])"


@dataclass(frozen=True)
class Trouble:
    """What befalls a command at one of its operations on files."""

    at: int
    signal: int | None = None
    errno: int | None = None
    short: bool = False
    lasts: bool = True
    pause: float | None = None


@dataclass(frozen=True)
class Limit:
    """The size in bytes beyond which no file of a command grows."""

    bytes: int


@dataclass(frozen=True)
class Ended:
    """A command that has ended: exit code (negative for a signal), and what it said."""

    code: int
    output: str
    errors: str
    operations: int | None
    seconds: float


class Commands:
    """Start commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        ours, theirs = socket.socketpair()
        # Modules are found where this process finds them.
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._server = forks().Process(target=serve, args=(theirs, ours, self.environment))
        self._server.start()
        theirs.close()
        self._lines = ours.makefile("rw")
        ours.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # It ends, and all that it has started.
        with suppress(OSError):
            self._lines.close()
        self._server.join()

    def ask(self, **what: Any) -> Any:
        """Ask the server."""
        print(json.dumps(what), file=self._lines, flush=True)
        answer = self._lines.readline()
        if not answer:
            self._server.join()
            raise RuntimeError(f"the server of commands ended with {self._server.exitcode}")
        return json.loads(answer)

    def start(
        self,
        *words: object,
        cwd: Path,
        call: str = "",
        trouble: Trouble | None = None,
        limit: Limit | None = None,
        forked: bool = True,
    ) -> Running:
        """Start a command."""
        self._count += 1
        said = self._folder / str(self._count)
        request = {
            "words": [str(word) for word in words],
            "call": call,
            "cwd": str(cwd),
            "said": str(said),
            "trouble": None if trouble is None else asdict(trouble),
            "limit": None if limit is None else limit.bytes,
        }
        if forked:
            return Running(said, self, self.ask(run=request))
        line = [sys.executable, "-c", _TRUE, json.dumps(request)]
        process = subprocess.Popen(line, env=self.environment)
        return Running(said, self, process)

    def run(self, *words: object, cwd: Path, **how: Any) -> Ended:
        """Run a command to its end; arguments as of `start`."""
        return self.start(*words, cwd=cwd, **how).ended()


class Running:
    """A command that runs."""

    def __init__(
        self, said: Path, commands: Commands, process: int | subprocess.Popen[bytes]
    ) -> None:
        self._said, self._commands, self._process = said, commands, process
        self._begun = time.monotonic()
        self._code: int | None = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended does not mind."""
        process = self._process
        if self._code is None:
            # One that has ended stays a zombie until somebody asks for its exit code.
            os.kill(process if isinstance(process, int) else process.pid, number)

    def wait(self, seconds: float) -> None:
        """Wait for some time, or for its end."""
        stop = time.monotonic() + seconds
        while (rest := stop - time.monotonic()) > 0 and self._poll() is None:
            time.sleep(min(rest, 0.002))

    def has_ended(self) -> bool:
        """Say whether it has ended."""
        return self._poll() is not None

    def ended(self, seconds: float = 60) -> Ended:
        """Wait for its end."""
        stop = time.monotonic() + seconds
        while (code := self._poll()) is None:
            if time.monotonic() > stop:
                self.send(signal.SIGUSR1)
                time.sleep(0.5)
                self.send(signal.SIGKILL)
                raise TimeoutError(f"hangs: {self._read('err')}")
            time.sleep(0.002)
        took = time.monotonic() - self._begun
        count = self._read("count")
        ended = Ended(
            code, self._read("out"), self._read("err"), int(count) if count else None, took
        )
        for ending in ("out", "err", "count"):
            self._said.with_suffix(f".{ending}").unlink(missing_ok=True)
        return ended

    def _poll(self) -> int | None:
        if self._code is None:
            process = self._process
            self._code = (
                self._commands.ask(poll=process) if isinstance(process, int) else process.poll()
            )
        return self._code

    def _read(self, ending: str) -> str:
        path = self._said.with_suffix(f".{ending}")
        return path.read_text(errors="replace") if path.exists() else ""
