"""Servers in processes of their own, on ports of this machine."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_START = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_process(words: Sequence[object], port: int, log: Path) -> Iterator[None]:
    """Run a command that serves a port, from its first connection to the end of the block."""
    with (
        log.open("wb") as file,
        subprocess.Popen(list(map(str, words)), stdout=file, stderr=file) as process,
    ):
        try:
            end = time.monotonic() + _START
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < end, "the server does not start"
                    time.sleep(0.1)
            yield
        finally:
            process.kill()
