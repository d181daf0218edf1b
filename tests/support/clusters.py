"""Dask clusters of worker processes, in which dumps commit often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cnatool.dumping import cluster_progress
from cnatool.store import object_client
from cnatool.store.writer import SplitWriter
from support.dumps import make_small

distributed = pytest.importorskip("distributed", reason="Dask is not installed")

# What distributed leaves open when a cluster ends, a moment longer.
IGNORED = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# Seconds by which each block is late, so that a signal finds its worker at work.
_LATE = 0.01
_TESTS = Path(__file__).parents[1]
_DASK = Path(sys.executable).with_name("dask")


class CommitOften(distributed.WorkerPlugin):
    """Lets the dumps of every worker commit every 64 rows, slowly, and report every block."""

    name = "commit-often"

    def setup(self, worker: Any) -> None:
        make_small()
        cluster_progress._REPORT_SECONDS = 0
        append = SplitWriter.append

        def late(writer: Any, *values: Any, **named: Any) -> None:
            time.sleep(_LATE)
            append(writer, *values, **named)

        SplitWriter.append = late  # type: ignore[method-assign]


@contextmanager
def local_client(workers: int = 2) -> Iterator[Any]:
    """Start worker processes on this machine, which begin again where they are killed."""
    with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            memory_limit=None,
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(CommitOften())
        yield client


def use_bucket(client: Any, **others: str) -> None:
    """Let workers use the bucket of this process, as if they had started so; ``others`` differ."""
    names = [name for name in os.environ if name.startswith("AWS_")]
    client.run(_set_environment, {name: os.environ[name] for name in names} | others)


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.update(variables)
    object_client.connect.cache_clear()


@contextmanager
def started_cluster(folder: Path, workers: int = 2) -> Iterator[tuple[Path, list[int]]]:
    """Start a scheduler and workers from the command line; yield its file and their processes."""
    file = folder / "scheduler.json"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(p).resolve()) for p in sys.path if p]),
        "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "false",
    }

    def start(stack: ExitStack, *words: object) -> subprocess.Popen[bytes]:
        log = stack.enter_context((folder / f"{words[0]}.log").open("ab"))
        process = subprocess.Popen(
            [str(_DASK), *map(str, words), "--scheduler-file", str(file)],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process

    with ExitStack() as stack:
        start(stack, "scheduler", "--port", 0, "--no-dashboard")
        until(file.exists)
        processes = [
            start(stack, "worker", "--no-nanny", "--no-dashboard", "--nthreads", 1)
            for _ in range(workers)
        ]
        with distributed.Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(workers, timeout=600)
            client.register_plugin(CommitOften())
        yield file, [process.pid for process in processes]


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


class Killer:
    """Observer that kills workers at shares of the rows; keeps notes.

    Parameters
    ----------
    shares : sequence of float
        Shares of all rows at which a worker is killed.
    processes : list of int
        The processes of the workers.
    """

    def __init__(self, shares: list[float], processes: list[int]) -> None:
        self._shares = sorted(shares)
        self._processes = processes
        self.killed: list[int] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        while self._shares and done >= self._shares[0] * rows:
            del self._shares[0]
            alive = [pid for pid in self._processes if pid not in self.killed]
            self.killed.append(alive[len(self.killed) % len(alive)])
            os.kill(self.killed[-1], signal.SIGKILL)
