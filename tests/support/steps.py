"""Processes that end at their k-th change of a file system, as by a kill, for every k.

What forks them is forked, too, so that no thread of the tests is there.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

KILLED = 77
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def ended_at_step(work: Callable[[], object], step: int) -> int:
    """Do something in a process of its own, which ends before its step-th change; from 1 on.

    Renaming, removing, making and opening for writing count, and waiting for the disk.
    """
    child = os.fork()
    if not child:
        try:
            _count_down(step)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _count_down(step: int) -> None:
    left = step

    def change() -> None:
        nonlocal left
        left -= 1
        if not left:
            os._exit(KILLED)

    def audit(event: str, words: tuple[object, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(words[2], int) and _written(words)):
            change()

    # What was written survives a kill without it.
    os.fsync = lambda descriptor: change()
    sys.addaudithook(audit)


def _written(words: tuple[object, ...]) -> bool:
    return bool(int(words[2]) & _WRITES) and "__pycache__" not in str(words[0])  # type: ignore[call-overload]


def steps(
    work: Callable[[], object], prepare: Callable[[], object], stride: int = 1
) -> Iterator[int]:
    """End some work at its first change and each stride-th from there; give the number of each."""
    step = 1
    os.fsync = lambda descriptor: None
    while True:
        prepare()
        code = ended_at_step(work, step)
        assert code in {0, KILLED}, f"step {step}: exit code {code}"
        if not code:
            return
        yield step
        step += stride


def in_process(function: Callable[..., object], *words: object) -> str:
    """Call a function of a test's module in a process without threads; give what it printed."""
    # Makers of fixtures use this module with older versions of cnatool.
    from support.forked import Forked

    file = sys.modules[function.__module__].__file__
    with Forked(_call, str(file), function.__name__, [*map(str, words)]) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors[-4000:]
    return output


def _call(file: str, name: str, words: list[str]) -> None:
    sys.path.insert(0, str(Path(file).parent))
    getattr(importlib.import_module(Path(file).stem), name)(*words)
