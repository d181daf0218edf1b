"""Dumps on a cluster into a bucket: parts there, merged there, by workers with credentials."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pytest
from support.buckets import SECRETS, Bucket
from support.dumps import commit_often, make_data

import cnatool
from cnatool._util.urls import parse_path
from cnatool.dumping import cluster as dumping_cluster
from cnatool.dumping.parts_folder import find_unfinished
from cnatool.errors import NotAStoreError, StoreInUseError, UsageError

clusters = pytest.importorskip("support.clusters", reason="Dask is not installed")
pytestmark = clusters.IGNORED
ROWS = 500, 50


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    # One does; where one is killed, there are two.
    with clusters.local_client(1) as client:
        yield client


@pytest.fixture
def here(tmp_path: Path, client: Any, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, its data, and the store of one process; workers use the bucket."""
    commit_often(monkeypatch)
    make_data(tmp_path, *ROWS)
    dump(tmp_path, tmp_path / "one.zarr", threads=1)
    clusters.use_bucket(client)
    return tmp_path


def dump(folder: Path, store: Any, **options: Any) -> cnatool.Store:
    # Few arrays take few requests.
    options["keep"] = "statistics"
    return cnatool.dump(folder / "net.onnx", folder / "data", store, **options)


def same(store: str, expected: Path) -> None:
    found, truth = cnatool.open(store), cnatool.open(expected)
    for name, split in truth.splits.items():
        for key in truth._specs:
            np.testing.assert_array_equal(found.splits[name].array(key)[:], split.array(key)[:])
    assert cnatool.verify(store).faults == ()
    assert cnatool.score(store).splits == cnatool.score(expected).splits


class Interrupted:
    """Observer that interrupts a dump at a share of its rows."""

    def note(self, text: str) -> None:
        pass

    def progress(self, split: str, done: int, rows: int) -> None:
        if done > 0.5 * rows:
            raise KeyboardInterrupt


def test_a_worker_that_is_killed_leaves_what_one_process_dumps(
    bucket: Bucket, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    submit = dumping_cluster.Cluster._submit

    def keep(cluster: Any, worker: str, function: Any, task: Any) -> Any:
        sent.append(cloudpickle.dumps((function, task)))
        return submit(cluster, worker, function, task)

    monkeypatch.setattr(dumping_cluster.Cluster, "_submit", keep)
    draw = random.Random(4)
    # Its workers have the environment of this process.
    with clusters.local_client() as client:
        killer = clusters.Killer([draw.uniform(0.05, 0.9)], [*client.run(os.getpid).values()])
        dump(here, bucket / "net.zarr", client=client, parts=3, observer=killer)
    assert len(killer.killed) == 1
    same(bucket / "net.zarr", here / "one.zarr")
    assert {key.split("/")[0] for key in bucket.list()} == {"net.zarr", "net.parts"}
    assert not [key for key in bucket.list() if "/." in f"/{key}" or "unfinished" in key]
    assert sent
    for secret in SECRETS:
        assert not any(secret.encode() in each for each in sent)
        assert not any(secret in note for note in killer.notes)


def test_interrupted_dump_is_resumed(client: Any, bucket: Bucket, here: Path) -> None:
    store = bucket / "net.zarr"
    with pytest.raises(KeyboardInterrupt):
        dump(here, store, client=client, parts=3, observer=Interrupted())
    with pytest.raises(NotAStoreError, match=r"parts of its dump are in s3://.*/net\.parts"):
        cnatool.score(store)
    for overwrite in (False, True):
        with pytest.raises(NotAStoreError, match=r"aws s3 rm --recursive s3://.*/net\.parts/"):
            dump(here, store, client=client, overwrite=overwrite)
    dump(here, store, client=client, resume=True)
    same(store, here / "one.zarr")
    # As a process leaves it that is killed right after it has merged the parts.
    bucket.put("net.parts/unfinished.json", b'{"parts": 3, "threads": 1}')
    dump(here, store, client=client, resume=True)
    assert find_unfinished(parse_path(store)) is None
    with pytest.raises(NotAStoreError, match="nothing is overwritten in a bucket"):
        dump(here, store, client=client, overwrite=True)
    notes = clusters.Killer([], [])
    for key in bucket.list("net.zarr/"):
        bucket.delete(key)
    dump(here, store, client=client, parts=2, observer=notes)
    assert any("/net.parts has parts of an earlier store" in note for note in notes.notes)
    same(store, here / "one.zarr")


def test_parts_without_rows_are_overwritten(client: Any, bucket: Bucket, here: Path) -> None:
    bucket.put("net.parts/unfinished.json", b'{"parts": 2, "threads": 1}')
    dump(here, bucket / "net.zarr", client=client, parts=2, overwrite=True)
    assert {key.split("/")[0] for key in bucket.list()} == {"net.zarr", "net.parts"}


def test_dump_that_was_taken_over_leaves_the_parts_alone(
    client: Any, bucket: Bucket, here: Path
) -> None:
    class Other(Interrupted):
        notes: ClassVar[list[str]] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

        def progress(self, split: str, done: int, rows: int) -> None:
            # As another process leaves its lock, and its ticket of a part.
            bucket.put(".net.zarr.lock", b"{}")
            for number in (1, 2):
                bucket.put(f"net.parts/.net.part-{number}-of-2.zarr.ticket", b"another")

    with pytest.raises(StoreInUseError, match="taken over by another process"):
        dump(here, bucket / "net.zarr", client=client, parts=2, observer=Other())
    assert not any("not finished" in note for note in Other.notes)
    assert bucket.get("net.parts/.net.part-1-of-2.zarr.ticket") == b"another"


def test_worker_without_a_credential_is_named(
    client: Any, bucket: Bucket, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters.use_bucket(client, AWS_ENDPOINT_URL="no address")
    with pytest.raises(UsageError, match=r"worker tcp://.* from their own environment"):
        dump(here, bucket / "net.zarr", client=client)
    assert bucket.list() == []
