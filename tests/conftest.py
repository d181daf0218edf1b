"""What holds for the whole run of the tests."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Threads of OpenMP spin while they wait for each other, and several processes test at once: with
# as many threads as cores each, PyTorch spends most of its time on nothing. Tests of threads set
# their number themselves. Before anything loads a library that reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
from support.buckets import Bucket, Server, run_server, use_bucket
from support.command import run
from support.exporter import keep_operators

from cnatool.store import object_client

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


# Folders with files that take long. They come first: at the end, none keeps one process busy alone.
_LONG = ("campaigns", "integration", "docs", "demo", "cli", "dumping", "store")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: min(place.get(folder, len(_LONG)) for folder in item.path.parents))


def pytest_collection_finish() -> None:
    """Let exports of PyTorch begin at once, where a test has imported it."""
    if "torch" in sys.modules:
        keep_operators()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, so that its fixtures train a network once."""
    from xdist.scheduler import LoadFileScheduling

    # By the number of their tests the files that take longest would come last.
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of S3, one for all tests of a process."""
    with run_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def bucket(bucket_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, which this process can use."""
    use_bucket(monkeypatch, bucket_server.url)
    yield bucket_server.bucket()
    object_client.connect.cache_clear()


@pytest.fixture(scope="session")
def made_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with what `cnatool demo -o demo` writes, and what it prints.

    What tests write into the folder has other names than ``demo``.
    """
    folder = tmp_path_factory.mktemp("demo")
    return folder, run("demo", "-o", "demo", cwd=folder).stdout


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
