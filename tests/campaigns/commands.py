"""The command line in this process: what it prints, and how it ends."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from campaigns.answers import check_message
from cnatool.cli import process

# What every exit code of the command stands for is in its help.
_CODES = range(5)


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it printed."""

    code: int
    output: str
    errors: str


def run_command(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ended:
    """Run a command as the shell would."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    code = 0
    with (
        chdir(folder),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["cnatool", *words]),
        mock.patch.object(sys, "unraisablehook"),
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
        warnings.catch_warnings(),
    ):
        try:
            process.run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    output, errors = (stream.buffer.getvalue().decode() for stream in streams)
    with suppress(ValueError):
        for stream in streams:
            stream.detach()
    assert code in _CODES, f"exit code {code}: {errors[-2000:]}"
    assert "Traceback" not in errors, errors[-2000:]
    assert "bug in cnatool" not in errors, errors[-2000:]
    if code >= 2:  # 1 is what `verify` and --strict say
        lines = [line for line in errors.splitlines() if line]
        assert lines, f"exit code {code} without a message"
        check_message(lines[-1])
    return Ended(code, output, errors)
