"""Running one case in a process of its own, which may crash, hang or take too much memory."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import resource
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What a process may take: seconds of processor time, and megabytes of address space.

    It may also wait, but no longer than ``patience`` times its processor time.
    """

    seconds: int
    megabytes: int
    patience: int = 8


@dataclass(frozen=True)
class Ended:
    """How a process ended: with a result, or for a reason and in what it called a stage."""

    result: Any
    reason: str
    stage: str
    seconds: float
    megabytes: float


def run_apart(
    call: Callable[[Path, Callable[[str], None]], Any], limits: Limits, parent: Path
) -> Ended:
    """Fork a process, and call a function in it with an empty folder and a recorder of stages."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        inner = folder / "work"
        inner.mkdir()
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(call, limits, folder, inner)
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process.start()
        process.join(limits.seconds * limits.patience)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        stage = _read(folder / "stage") or "start"
        result, megabytes = None, 0.0
        if (folder / "result").exists():
            result, megabytes = pickle.loads((folder / "result").read_bytes())
        reason = "" if result is not None else _describe(process.exitcode or 0, limits, late)
    return Ended(result, reason, stage, seconds, megabytes)


def _work(
    call: Callable[[Path, Callable[[str], None]], Any], limits: Limits, folder: Path, inner: Path
) -> None:
    """Run in the child."""
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (limits.megabytes << 20, limits.megabytes << 20))
    # A crash is a row, and what libraries print is of no use among rows.
    faulthandler.disable()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)

    def record(stage: str) -> None:
        (folder / "stage").write_text(stage)

    result = call(inner, record)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    partial = folder / "partial"
    partial.write_bytes(pickle.dumps((result, peak)))
    partial.replace(folder / "result")
    # Threads of a library may hang at exit, and nothing is left to do.
    os._exit(0)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _describe(code: int, limits: Limits, late: bool) -> str:
    if late:
        return f"more than {limits.seconds * limits.patience} s"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"more than {limits.seconds} s of processor time"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
