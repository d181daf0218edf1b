"""What holds for the whole run of the tests."""

from __future__ import annotations

import atexit
import os
import sys

import pytest


def pytest_sessionfinish(exitstatus: int | pytest.ExitCode) -> None:
    atexit.register(_leave, int(exitstatus))


def _leave(status: int) -> None:
    """End the process without taking it down.

    This process has loaded several runtimes with threads of their own, and was once seen to crash
    behind the last test, when they went. What cnatool's own processes do at their end is seen in
    the exit codes that tests of commands compare.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # An exception behind the last test.
    os._exit(status or int(getattr(sys, "last_value", None) is not None))
