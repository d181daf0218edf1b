"""Memory and time of whole processes: `processes.py COMMAND ARGUMENT…` prints those of a command.

Linux only: the operating system reports a child's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

from timing import Taken

_T = TypeVar("_T")


@dataclass(frozen=True)
class Usage(Taken):
    """Times and peak resident memory of a process."""

    megabytes: float


def run_process(*words: object, accept: tuple[int, ...] = (0,)) -> Usage:
    """Run a command, and return its memory and times; exit unless its code is accepted.

    A child's peak includes the memory of its parent at that time, so that the command is the child
    of a bare interpreter: of this file.
    """
    command = [sys.executable, "-S", "-E", __file__, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, *usage = json.loads(done.stdout)
    if code not in accept:
        raise SystemExit(f"{' '.join(map(str, words))} failed: {done.stderr}")
    return Usage(*usage)


def call_in_child(call: Callable[..., _T], *arguments: object) -> _T:
    """Call a function in a new process, whose memory and threads are its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def _main(command: list[str]) -> None:
    """Run a command, and print its exit code, times and peak as JSON."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    elapsed = time.perf_counter() - start
    spent = usage.ru_utime + usage.ru_stime
    print(json.dumps([process.returncode, elapsed, spent, usage.ru_maxrss / 1000]))


if __name__ == "__main__":
    # argparse would add to the memory that the command's peak includes.
    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print(__doc__)
    else:
        _main(sys.argv[1:])
