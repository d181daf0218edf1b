"""Memory and time of whole processes. Linux only: the operating system reports a child's peak."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")


class Usage(NamedTuple):
    """Peak resident memory and time of a process."""

    megabytes: float
    seconds: float


def run_process(*words: object, accept: tuple[int, ...] = (0,)) -> Usage:
    """Run a command, and return its memory and time; exit unless its code is accepted."""
    start = time.perf_counter()
    command = list(map(str, words))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        stderr = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accept:
        raise SystemExit(f"{' '.join(command)} failed: {stderr.decode()}")
    return Usage(usage.ru_maxrss / 1000, time.perf_counter() - start)


def call_in_child(call: Callable[..., _T], *arguments: object) -> _T:
    """Call a function in another process: a child's peak includes that of its parent."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()
