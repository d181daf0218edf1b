from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.dumps import command, commit_often, files, make_data, same_arrays
from support.networks import mlp, saved

import cnatool
from cnatool._util.cluster_client import connect
from cnatool.dumping.parts_folder import PartSettings, PartsFolder, TakenAwayError
from cnatool.dumping.write import describe_safe_rows
from cnatool.errors import DataError, NotAStoreError, StoreDamagedError, UsageError

clusters = pytest.importorskip("support.clusters", reason="Dask is not installed")

pytestmark = clusters.IGNORED
# The second split is smaller than a chunk.
ROWS = 1500, 50


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with clusters.local_client() as client:
        yield client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, data, and the stores of one process."""
    folder = make_data(tmp_path_factory.mktemp("made"), *ROWS)
    with pytest.MonkeyPatch.context() as patch:
        commit_often(patch)
        for name in ("one.zarr", "one.h5"):
            cnatool.dump(folder / "net.onnx", folder / "data", folder / name, threads=1)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge with the chunks that the workers write."""
    commit_often(monkeypatch)


def dumped(made: Path, store: Path, **options: Any) -> cnatool.Store:
    return cnatool.dump(made / "net.onnx", made / "data", store, **options)


def same_rows(store: Path, expected: Path) -> None:
    """Compare every array of two stores, and what is scored of them."""
    assert cnatool.verify(store).faults == ()
    found, truth = cnatool.open(store), cnatool.open(expected)
    assert [*found.splits] == [*truth.splits]
    for name, split in truth.splits.items():
        other = found.splits[name]
        assert other.record.complete
        np.testing.assert_array_equal(other.ids[:], split.ids[:])
        np.testing.assert_array_equal(other.labels[:], split.labels[:])
        np.testing.assert_array_equal(other.inputs()[:], split.inputs()[:])
        np.testing.assert_array_equal(other.outputs()[:], split.outputs()[:])
        np.testing.assert_array_equal(other.statistics()[:], split.statistics()[:])
        for tensor in truth.tensors:
            one, two = (each.activations(tensor.name)[:] for each in (other, split))
            np.testing.assert_array_equal(one, two, tensor.name)
    one, two = (
        json.loads(cnatool.score(each).to_json()) | {"store": ""} for each in (found, truth)
    )
    assert one == two


@pytest.mark.usefixtures("small")
def test_cluster_dumps_what_one_process_does(client: Any, made: Path, tmp_path: Path) -> None:
    store = tmp_path / "net.zarr"
    observer = clusters.Killer([], [])
    result = dumped(made, store, client=client, observer=observer)
    assert result.record.runtime.threads == 1
    assert files(tmp_path) == {"net.parts", "net.zarr"}
    same_rows(store, made / "one.zarr")
    assert len(observer.notes) == len({*observer.notes}), "notes of many workers"
    assert any("net.parts" in text for text in observer.notes)
    copy = cnatool.merge((tmp_path / "net.parts").iterdir(), tmp_path / "copy.zarr", copy=True)
    same_arrays(copy.path, made / "one.zarr")


@pytest.mark.usefixtures("small")
def test_workers_of_a_local_cluster_are_killed(made: Path, tmp_path: Path) -> None:
    # As many as are killed, and one: a nanny may give up a worker that dies as it starts.
    with clusters.local_client(4) as client:
        processes = [*client.run(os.getpid).values()]
        killer = clusters.Killer(seeded_shares(1), processes)
        dumped(made, tmp_path / "net.zarr", client=client, parts=5, observer=killer)
    assert len(killer.killed) == 3
    same_rows(tmp_path / "net.zarr", made / "one.zarr")


@pytest.mark.usefixtures("small")
def test_started_workers_are_killed(made: Path, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with clusters.started_cluster(tmp_path / "cluster", 4) as (file, processes):
        killer = clusters.Killer(seeded_shares(2), processes)
        with connect(str(file)) as client:
            dumped(made, tmp_path / "net.h5", client=client, parts=5, observer=killer)
    assert len(killer.killed) == 3
    assert files(tmp_path) == {"cluster", "net.h5"}
    same_rows(tmp_path / "net.h5", made / "one.h5")
    same_arrays(tmp_path / "net.h5", made / "one.h5")


def seeded_shares(seed: int) -> list[float]:
    draw = random.Random(seed)
    return [draw.uniform(0.05, 0.9) for _ in range(3)]


@pytest.mark.usefixtures("small")
def test_interrupted_command_is_resumed_with_one_worker_less(made: Path, tmp_path: Path) -> None:
    words = "dump", made / "net.onnx", made / "data", "-o", tmp_path / "net.zarr"
    with clusters.started_cluster(tmp_path) as (file, workers):
        with subprocess.Popen(
            command(*words, "--dask", file), stderr=subprocess.PIPE, text=True
        ) as process:
            clusters.until(lambda: safe_rows(tmp_path / "net.parts"))
            process.send_signal(signal.SIGINT)
            _, text = process.communicate(timeout=600)
        assert process.returncode == 130
        assert "net.zarr is not finished" in text
        assert "--resume" in text
        assert "Traceback" not in text
        os.kill(workers[0], signal.SIGKILL)
        result = run(*words, "--dask", file, "--resume")
        assert "likewise" not in result.stderr
    same_rows(tmp_path / "net.zarr", made / "one.zarr")


def test_interrupt_of_a_terminal_ends_local_workers_quietly(made: Path, tmp_path: Path) -> None:
    words = "dump", made / "net.onnx", made / "data", "-o", tmp_path / "net.zarr"
    with subprocess.Popen(
        command(*words, "--dask", "local:2"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        clusters.until((tmp_path / "net.parts").exists)
        os.killpg(process.pid, signal.SIGINT)
        _, text = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "net.zarr is not finished" in text
    assert text.endswith("cnatool: interrupted.\n")
    assert "Traceback" not in text


def safe_rows(folder: Path) -> int:
    total = 0
    for part in folder.glob("net.part-*.zarr"):
        try:
            total += sum(map(len, cnatool.open(part).splits.values()))
        except cnatool.CnatoolError:
            continue
    return total


@pytest.mark.usefixtures("small")
def test_bad_row_ends_the_dump_as_in_one_process(client: Any, tmp_path: Path) -> None:
    saved(mlp(), tmp_path / "net.onnx")
    rows = np.random.default_rng(0).random((400, 64))
    lines = [",".join(f"{value:.6f}" for value in row) for row in rows]
    good = "\n".join([",".join(f"c{i}" for i in range(64)), *lines])
    bad = "\n".join([*good.split("\n")[:300], "x" + good.split("\n")[300], *good.split("\n")[301:]])
    data = tmp_path / "data.csv"
    messages = []
    for options in ({}, {"client": client, "parts": 4}):
        data.write_text(bad)
        store = tmp_path / f"{len(options)}.zarr"
        with pytest.raises(DataError) as error:
            cnatool.dump(tmp_path / "net.onnx", data, store, **options)
        messages.append(str(error.value))
        data.write_text(good)
        cnatool.dump(tmp_path / "net.onnx", data, store, **options, resume=True)
    assert messages[0] == messages[1]
    one, two = (cnatool.open(tmp_path / f"{name}.zarr").splits for name in "02")
    for name, split in one.items():
        np.testing.assert_array_equal(split.statistics()[:], two[name].statistics()[:])


@pytest.mark.usefixtures("small")
def test_parts_are_resumed_and_replaced(
    client: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "net.zarr"
    folder = PartsFolder(tmp_path / "net.parts", store, PartSettings(5, 1))
    folder.begin()
    with pytest.raises(NotAStoreError, match="unfinished net.zarr"):
        dumped(made, store, client=client)
    with pytest.raises(NotAStoreError, match=r"parts of its dump are in .*/net\.parts"):
        cnatool.open(store)
    with pytest.raises(UsageError, match="`parts=5`"):
        dumped(made, store, client=client, parts=2, resume=True)
    # A dry run deletes nothing.
    cnatool.preflight(made / "net.onnx", made / "data", store, client=client, overwrite=True)
    resumed = clusters.Killer([], [])
    dumped(made, store, client=client, resume=True, observer=resumed)
    assert any("continues the 5 parts in net.parts" in text for text in resumed.notes)
    assert len(files(tmp_path / "net.parts")) == 5
    observer = clusters.Killer([], [])
    dumped(made, store, client=client, resume=True, observer=observer)
    assert any("nothing left to do" in text for text in observer.notes)
    with pytest.raises(NotAStoreError, match="exists already"):
        dumped(made, store, client=client)
    dumped(made, store, client=client, overwrite=True, parts=2)
    assert files(tmp_path) == {"net.parts1", "net.zarr"}
    monkeypatch.chdir(tmp_path)
    dumped(made, Path(store.name), client=client, overwrite=True, parts=2)
    assert files(tmp_path) == {"net.parts", "net.zarr"}
    same_rows(store, made / "one.zarr")


@pytest.mark.usefixtures("small")
def test_store_that_is_newer_than_the_parts_is_kept(
    client: Any, made: Path, tmp_path: Path
) -> None:
    store = tmp_path / "net.zarr"
    folder = PartsFolder(tmp_path / "net.parts", store, PartSettings(2, 1))
    dumped(made, store, limit=20)
    folder.begin()
    observer = clusters.Killer([], [])
    with pytest.raises(UsageError, match="was started by another dump"):
        dumped(made, store, client=client, resume=True, observer=observer)
    assert any("is older than" in text and "to continue them" in text for text in observer.notes)
    observer = clusters.Killer([], [])
    dumped(made, store, client=client, resume=True, limit=20, observer=observer)
    assert any("nothing left to do" in text for text in observer.notes)
    assert any(f"{folder.path} has parts" in text for text in observer.notes)
    assert len(cnatool.open(store).splits["train"]) == 20
    assert folder.path.exists()
    # As a killed dump leaves it that the user let overwrite a store.
    replace(folder, settings=PartSettings(2, 1, replaces=True)).begin()
    dumped(made, store, client=client, resume=True)
    same_rows(store, made / "one.zarr")


def test_damaged_settings_of_parts_are_named(client: Any, made: Path, tmp_path: Path) -> None:
    (tmp_path / "net.parts").mkdir()
    (tmp_path / "net.parts/unfinished.json").write_text("{")
    with pytest.raises(StoreDamagedError, match=r"or delete .*net\.parts and dump anew"):
        dumped(made, tmp_path / "net.zarr", client=client, overwrite=True)


def test_estimate_is_of_each_worker_and_of_all(client: Any, made: Path, tmp_path: Path) -> None:
    whole = cnatool.preflight(made / "net.onnx", made / "data", tmp_path / "net.zarr")
    found = cnatool.preflight(
        made / "net.onnx", made / "data", tmp_path / "net.zarr", client=client, parts=3
    )
    assert found.cluster is not None
    assert (found.cluster.workers, found.cluster.parts, found.cluster.threads) == (2, 3, 1)
    assert found.memory_bytes == 2 * found.cluster.memory_bytes
    assert found.disk_bytes == pytest.approx(whole.disk_bytes, rel=0.5)
    assert found.samples == whole.samples
    assert files(tmp_path) == set()


def test_only_the_latest_attempt_writes_a_part(tmp_path: Path) -> None:
    folder = PartsFolder(tmp_path / "net.parts", tmp_path / "net.zarr", PartSettings(2, 1))
    folder.begin()
    first, other = folder.issue_ticket(1), folder.issue_ticket(2)
    first.check()
    second = folder.issue_ticket(1)
    second.check()
    other.check()
    with pytest.raises(TakenAwayError):
        first.check()
    folder.withdraw_tickets()
    for ticket in (second, other):
        with pytest.raises(TakenAwayError):
            ticket.check()


def test_wrong_uses_are_refused(client: Any, made: Path, tmp_path: Path) -> None:
    store = tmp_path / "net.zarr"
    with pytest.raises(UsageError, match="one or the other"):
        dumped(made, store, client=client, part="1/2")
    with pytest.raises(UsageError, match="`client` too"):
        dumped(made, store, parts=2)
    with pytest.raises(UsageError, match="cannot be used for parts"):
        dumped(made, store, client=client, on_error="skip")
    with pytest.raises(UsageError, match=r"not a synchronous distributed\.Client"):
        dumped(made, store, client="tcp://localhost:8786")
    with pytest.raises(UsageError, match="no such file"):
        cnatool.dump(made / "none.onnx", made / "data", store, client=client)
    assert files(tmp_path) == set()


def test_scheduler_that_does_not_answer_is_named(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnatool._util.cluster_client.CONNECT_SECONDS", 0.5)
    words = "dump", made / "net.onnx", made / "data", "-o", tmp_path / "net.zarr", "--dask"
    result = run(*words, "tcp://127.0.0.1:9", code=2)
    assert "no Dask scheduler answers there" in result.stderr
    assert "--dask tcp://127.0.0.1:9" in result.stderr
    assert "no such scheduler file" in run(*words, "none.json", code=2).stderr
    assert "local:N needs a number of workers from 1 to" in run(*words, "local:0", code=2).stderr


def test_rows_that_cannot_be_counted_are_not_said_to_be_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = PartsFolder(tmp_path / "net.parts", tmp_path / "net.zarr", PartSettings(3, 1))
    assert "0 of 9 rows are safe in it" in describe_safe_rows(
        folder.store, folder.count_safe(), 9, "it"
    )
    monkeypatch.setattr("cnatool.dumping.parts_folder.count_committed_rows", lambda _: None)
    text = describe_safe_rows(folder.store, folder.count_safe(), 9, "it")
    assert "it cannot be read now" in text
    assert "continues after them" in text
