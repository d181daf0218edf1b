"""Tasks on a real cluster of worker processes."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import python

from cnatool._util.cluster import Cluster, Later, Task
from cnatool._util.cluster_client import connect
from cnatool._util.cluster_workers import WorkerDescription, find_fault
from cnatool._version import __version__
from cnatool.data.source import SampleError
from cnatool.dumping.shared_folder import SharedFolder
from cnatool.errors import BackendError, DataError, StoreInUseError, UsageError

clusters = pytest.importorskip("support.clusters", reason="Dask is not installed")
pytestmark = clusters.IGNORED

_HIDE = """
import sys
hidden = {name: sys.modules.pop(name) for name in [*sys.modules] if name.startswith("cnatool")}
sys.hidden = hidden
sys.modules["cnatool"] = None
"""
_SHOW = "import sys; del sys.modules['cnatool']; sys.modules.update(sys.hidden)"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with clusters.local_client() as client:
        yield client


def test_lost_scheduler_is_one_message() -> None:
    class Lost:
        def submit(self) -> None:
            """Do nothing."""

        def nthreads(self) -> None:
            raise OSError("gone")

    with pytest.raises(BackendError, match=r"any more \(gone\)\. .* and then it with more\.$"):
        Cluster(Lost(), print, again="it with more")


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def cluster(client: Any, notes: list[str]) -> Cluster:
    return Cluster(client, notes.append)


def warn_and_square(number: int) -> int:
    warnings.warn("squares are slow", UserWarning, stacklevel=1)
    return number * number


def fail(number: int) -> None:
    raise SampleError("row 3 is no number.") if number else ValueError("a defect")


def wait_for_file(path: Path) -> str | Later:
    if path.exists():
        return "done"
    path.touch()
    return Later(StoreInUseError("someone else writes it."))


def test_values_come_once_and_warnings_too(cluster: Cluster) -> None:
    tasks = {Task(f"task {number}", lambda number=number: (number,)): number for number in range(9)}
    ticks: list[int] = []
    with pytest.warns(UserWarning, match="squares are slow") as warned:
        found = dict(cluster.run(warn_and_square, [*tasks], lambda: ticks.append(1)))
    assert {tasks[task]: value for task, value in found.items()} == {n: n * n for n in range(9)}
    assert len(warned) == 1
    assert ticks


def square_slowly(number: int) -> int:
    time.sleep(1)
    return number * number


def test_cluster_that_adapts_grows_from_nothing() -> None:
    notes: list[str] = []
    workers: set[str] = set()
    with (
        clusters.forked_workers(),
        clusters.distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as local,
        clusters.distributed.Client(local) as client,
    ):
        local.adapt(minimum=0, maximum=2, interval="100ms", target_duration="1s")
        cluster = Cluster(client, notes.append)
        tasks = {Task(f"task {n}", lambda n=n: (n,)): n for n in range(6)}
        found = cluster.run(square_slowly, [*tasks], lambda: workers.update(cluster.workers))
        assert {tasks[task]: value for task, value in found} == {n: n * n for n in range(6)}
        assert not cluster._demand
    assert notes[0] == "the cluster has no worker yet; waiting for the first"
    assert len(workers) > 1


def test_tasks_outlive_a_restart_of_the_workers(
    client: Any, cluster: Cluster, notes: list[str]
) -> None:
    restarted: list[bool] = []

    def restart() -> None:
        if not restarted:
            restarted.append(True)
            client.restart()

    tasks = {Task(f"task {n}", lambda n=n: (n,)): n for n in range(3)}
    found = cluster.run(square_slowly, [*tasks], restart)
    assert {tasks[task]: value for task, value in found} == {n: n * n for n in range(3)}
    assert any("is lost; another goes on with it" in note for note in notes)


def test_errors_keep_their_public_class_and_message(cluster: Cluster) -> None:
    with pytest.raises(DataError) as found:
        cluster.call(fail, 1, name="task")
    with pytest.raises(DataError) as local:
        fail(1)
    assert str(found.value) == str(local.value)
    with pytest.raises(ValueError, match="a defect"):
        cluster.call(fail, 0, name="task")


def test_task_that_has_to_wait_runs_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnatool._util.cluster._WAIT_SECONDS", 0.1)
    assert cluster.call(wait_for_file, tmp_path / "marker", name="task") == "done"
    monkeypatch.setattr("cnatool._util.cluster._PATIENCE_SECONDS", -1)
    with pytest.raises(StoreInUseError, match="someone else"):
        cluster.call(wait_for_file, tmp_path / "other", name="task")


def test_task_that_loses_workers_at_one_place_is_given_up() -> None:
    reached = iter((0, 0, 5, 5, 5, 9, 9, 9, 9))
    task = Task("part 3 of 16", lambda: (), lambda: next(reached))
    for _ in range(8):
        task.lose("tcp://worker:1")
    with pytest.raises(BackendError, match=r"part 3 of 16 lost 4 workers .* tcp://worker:3"):
        task.lose("tcp://worker:3")


def test_workers_that_cannot_be_used_are_named(client: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"worker tcp://.* does not see .*/none"):
        Cluster(client, print, paths=[tmp_path / "none"])
    client.run(exec, _HIDE)
    try:
        with pytest.raises(UsageError, match=r"worker tcp://.* has no cnatool, or another version"):
            Cluster(client, print)
    finally:
        client.run(exec, _SHOW)
    Cluster(client, print, probe=SharedFolder(tmp_path / "probe"))
    assert not any(tmp_path.iterdir())
    fault = find_fault("tcp://w", WorkerDescription({"cnatool": "0.0.1"}, [], None))
    assert fault is not None
    assert f"cnatool is 0.0.1, and here {__version__}" in fault


def test_worker_on_another_file_system_is_named(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client's own file never appears.
    monkeypatch.setattr(SharedFolder, "place", lambda _: None)
    with pytest.raises(UsageError, match="sees another file system"):
        Cluster(client, print, probe=SharedFolder(tmp_path / "probe"))


def test_missing_dask_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'cnatool\[dask\]'"), connect("local"):
        pass


def test_plain_commands_load_no_dask(tmp_path: Path) -> None:
    code = f"""
import sys
from support.command import run
from support.dumps import make_data
from pathlib import Path
folder = make_data(Path({str(tmp_path)!r}))
run("--help")
run("dump", "--help")
run("dump", folder / "net.onnx", folder / "data", "-o", folder / "net.zarr")
few = "--set", "resamples=0", "--set", "permutations=0", "--set", "area_resamples=0"
run("score", folder / "net.zarr", *few)
run("study", folder / "net.zarr", "--resamples", 0)
print({{"dask", "distributed"}} & {{*sys.modules}})
"""
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    assert python(path + code) == "set()\n"
