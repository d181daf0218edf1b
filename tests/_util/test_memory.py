"""Memory that was freed goes back to the system."""

from __future__ import annotations

import platform

import pytest

from cnatool._util.memory import resident_memory, return_free_memory

_MEGABYTE = 1 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked for it")
def test_freed_memory_is_returned_to_the_system() -> None:
    # Each is small enough for the C library's heap; the last one keeps the heap from shrinking.
    blocks = [b"ab" * 50_000 for _ in range(1000)]
    last = b"ab" * 50_000
    before = resident_memory()
    blocks.clear()
    return_free_memory()
    assert resident_memory() < before - 60 * _MEGABYTE
    assert len(last) == 100_000
