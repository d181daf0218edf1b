"""Signals and failures at a chosen operation on files, of all that a process does."""

from __future__ import annotations

import atexit
import builtins
import errno
import io
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Events of `sys.audit` that tell of changes, and whether they take space.
_EVENTS = {
    "os.mkdir": True,
    "os.rename": False,
    "os.remove": False,
    "os.rmdir": False,
    "os.link": True,
    "os.truncate": False,
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Operations:
    """Counts operations on files below the working folder, and injects a fault at one of them."""

    def __init__(self, trouble: dict[str, Any] | None) -> None:
        self.count = 0
        self._trouble = trouble
        self._folder = f"{Path.cwd()}{os.sep}"
        self._lock = threading.Lock()

    def ours(self, path: object) -> bool:
        """Say whether a path is below the working folder."""
        if isinstance(path, int):
            return False
        name = os.fspath(path)  # type: ignore[call-overload]  # what open takes
        text = os.fsdecode(name)
        if "__pycache__" in text:
            return False
        return not text.startswith(os.sep) or text.startswith(self._folder)

    def next(self, *, takes_space: bool, written: int = 0) -> int | None:
        """Count one; give how many bytes of a write it may do, None for all of them."""
        with self._lock:
            number, self.count = self.count, self.count + 1
        trouble = self._trouble
        if trouble is None or number < trouble["at"]:
            return None
        first = number == trouble["at"]
        if trouble["pause"] is not None:
            time.sleep(random.uniform(0, trouble["pause"]))
            return None
        if trouble["signal"] is not None:
            if first:
                os.kill(os.getpid(), trouble["signal"])
            return None
        code = trouble["errno"]
        if not (first or trouble["lasts"]) or (code in _FULL and not takes_space):
            return None
        if first and trouble["short"] and written > 1:
            return written // 2
        raise OSError(code, os.strerror(code))


def befall(trouble: dict[str, Any] | None, count: str) -> None:
    """Inject a fault into this process, and write at its end how many operations there were."""
    operations = _Operations(trouble)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        operations.next(takes_space=True)
        sync(descriptor)

    def seen(event: str, words: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = words
            if flags & _CHANGING and operations.ours(path):
                operations.next(takes_space=bool(flags & os.O_CREAT))
        elif event in _EVENTS and operations.ours(words[0]):
            operations.next(takes_space=_EVENTS[event])

    class File(io.FileIO):
        def write(self, data: bytes) -> int:
            view = memoryview(data).cast("B")
            most = operations.next(takes_space=True, written=len(view))
            return super().write(view[:most]) or 0

        def truncate(self, size: int | None = None) -> int:
            operations.next(takes_space=False)
            return super().truncate(size)

    opened = io.open

    def open_(path: Any, mode: str = "r", buffering: int = -1, *words: Any, **named: Any) -> Any:
        if isinstance(path, int) or not set(mode) & set("wxa+") or not operations.ours(path):
            return opened(path, mode, buffering, *words, **named)
        raw = File(path, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return binary
        names = ("encoding", "errors", "newline")
        return io.TextIOWrapper(binary, **(dict(zip(names, words, strict=False)) | named))

    os.fsync = fsync
    io.open = builtins.open = open_
    sys.addaudithook(seen)
    atexit.register(_say, operations, count)
    if trouble is not None and trouble["signal"] is not None and trouble["at"] < 0:
        os.kill(os.getpid(), signal.Signals(trouble["signal"]))


def _say(operations: _Operations, count: str) -> None:
    Path(count).write_text(str(operations.count))
