"""Memory that is available, and memory that goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what is taken")
def test_a_limit_of_the_address_space_counts() -> None:
    script = """
import resource
from cnatool._util.memory import available_memory
resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, resource.RLIM_INFINITY))
print(available_memory())
"""
    command = [sys.executable, "-c", script]
    available = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert 0 < available < 2_000_000_000
