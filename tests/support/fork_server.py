"""Processes that are forked from one which has imported everything, as imports take long.

It has no other threads than allocators', so that a fork of it is as good as a process of its own.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkContext, ForkServerContext
from typing import TextIO
from unittest import mock

# The first one imports all modules of cnatool.
_IMPORTED = ["support.everything", "campaigns.campaigns"]


def forks() -> ForkContext | ForkServerContext:
    """Give what starts processes; the one that they are forked from begins with the first call.

    A process that was started so, and has no threads yet, forks others itself.
    """
    if multiprocessing.parent_process() is not None:
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    # Modules are found where this process finds them.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))):
        forkserver.ensure_running()
    return context


def take_environment(environment: dict[str, str]) -> None:
    """Let this process have the environment of the one that started it, which may have changed."""
    os.environ.clear()
    os.environ.update(environment)


def open_streams() -> tuple[TextIO, TextIO]:
    """Give standard output and standard error anew where these are other files than before.

    Streams know whether they can seek.
    """
    output, errors = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", write_through=True)
        for number in (1, 2)
    )
    return output, errors
