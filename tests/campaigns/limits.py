"""Limits of what a round may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Let this process address no more memory, where the system has such a limit."""
    try:
        import resource
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_AS, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, core[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        resource.setrlimit(resource.RLIMIT_CORE, core)
