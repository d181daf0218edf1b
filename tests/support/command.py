"""The command, run in this process."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from cnatool.cli import main

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What Python ignores where nobody asks for it.
_IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def run(
    *words: object, cwd: Path | None = None, code: int | None = 0, **environment: str
) -> CompletedProcess[str]:
    """Run `cnatool` with these words in a folder, as a process would; check its exit code.

    For what is about the process itself (signals, streams, imports), start one.
    """
    arguments = [str(word) for word in words]
    stdout, stderr = _stream(), _stream()
    ended: object = 0
    with (
        patch.object(sys, "argv", ["cnatool", *arguments]),
        patch.object(sys, "stdout", stdout),
        patch.object(sys, "stderr", stderr),
        patch.object(sys, "unraisablehook", sys.unraisablehook),
        patch.dict(os.environ, environment),
        _inside(cwd),
        _signals_kept(),
        warnings.catch_warnings(),
    ):
        warnings.resetwarnings()
        for category in _IGNORED:
            warnings.simplefilter("ignore", category)
        try:
            main()
        except SystemExit as stop:
            ended = stop.code
    returned = ended if isinstance(ended, int) else int(ended is not None)
    result = CompletedProcess(arguments, returned, _text(stdout), _text(stderr))
    if code is not None:
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
    return result


def refused(*words: object, cwd: Path | None = None, code: int = 2) -> str:
    """Run a command that must fail without output; return its message."""
    result = run(*words, cwd=cwd, code=code)
    assert result.stdout == ""
    messages = [line for line in result.stderr.splitlines() if line.startswith("cnatool: ")]
    assert len(messages) == 1, result.stderr
    return messages[0]


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


@contextmanager
def _inside(folder: Path | None) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder or before)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _signals_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
