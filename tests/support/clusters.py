"""Dask clusters of worker processes, in which dumps commit often."""

from __future__ import annotations

import importlib
import os
import signal
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
from support.fork_server import forks, take_environment

dask = pytest.importorskip("dask", reason="Dask is not installed")
distributed = pytest.importorskip("distributed", reason="Dask is not installed")

# What distributed leaves open when a cluster ends, a moment longer.
IGNORED = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# Seconds by which each block is late, so that a signal finds its worker at work.
_LATE = 0.01


class CommitOften(distributed.WorkerPlugin):
    """Lets the dumps of every worker commit every 64 rows, slowly, and report every block.

    A worker has the environment that this process has now.
    """

    name = "commit-often"

    def __init__(self) -> None:
        self._environment = dict(os.environ)

    def setup(self, worker: Any) -> None:
        take_environment(self._environment)
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
        forked_workers(),
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


@contextmanager
def forked_workers() -> Iterator[None]:
    """Let the worker processes of local clusters be forked, as imports take long."""
    forks()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


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

    def start(stack: ExitStack, command: str, *words: object) -> int:
        arguments = [*map(str, words), "--scheduler-file", str(file)]
        process = forks().Process(
            target=_run_dask, args=(command, arguments, folder, dict(os.environ))
        )
        process.start()
        stack.callback(process.join)
        stack.callback(process.kill)
        assert process.pid is not None
        return process.pid

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
        yield file, processes


def _run_dask(
    command: str, arguments: list[str], folder: Path, environment: dict[str, str]
) -> None:
    """Be a scheduler or a worker, as `dask` makes one."""
    take_environment(environment)
    os.chdir(folder)
    log = os.open(f"{command}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    dask.config.set({"distributed.admin.system-monitor.gil.enabled": False})
    importlib.import_module(f"distributed.cli.dask_{command}").main(arguments)


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
