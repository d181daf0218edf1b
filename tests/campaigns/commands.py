"""The command line in this process: what it prints, and how it ends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from support.command import run

from campaigns.answers import check_message

# What every exit code of the command stands for is in its help.
_CODES = range(5)


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it printed."""

    code: int
    output: str
    errors: str


def run_command(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ended:
    """Run a command as the shell would."""
    with mock.patch.dict(os.environ, environment):
        result = run(*words, cwd=folder, code=None)
    code, output, errors = result.returncode, result.stdout, result.stderr
    assert code in _CODES, f"exit code {code}: {errors[-2000:]}"
    assert "Traceback" not in errors, errors[-2000:]
    assert "bug in cnatool" not in errors, errors[-2000:]
    if code >= 2:  # 1 is what `verify` and --strict say
        lines = [line for line in errors.splitlines() if line]
        assert lines, f"exit code {code} without a message"
        check_message(lines[-1])
    return Ended(code, output, errors)
