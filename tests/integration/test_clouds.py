"""The life of a store in Google Cloud Storage and in Azure: the same as in a bucket of S3."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.clouds import CloudBucket, run_azure, run_google
from support.command import document, refused, run
from support.dumps import command, commit_often, make_data
from support.servers import free_port

import cnatool
from cnatool._util.urls import ObjectURL
from cnatool.store import object_client
from cnatool.store.object_errors import ConflictError, MissingObjectError
from cnatool.store.object_store import Objects
from cnatool.store.reader import open_store

SERVERS = {"gs": run_google, "az": run_azure}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CloudBucket]:
    pytest.importorskip("obstore", reason="stores in a bucket: pip install 'cnatool[cloud]'")
    with SERVERS[request.param](tmp_path_factory.mktemp("server")) as bucket:
        yield bucket


@pytest.fixture
def bucket(server: CloudBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudBucket]:
    server.use(monkeypatch)
    for key in server.list():
        server.delete(key)
    yield server
    object_client.connect.cache_clear()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, its data, and a store of both; dumps commit every 64 rows."""
    commit_often(monkeypatch)
    make_data(tmp_path, 333, 150)
    dump(tmp_path, tmp_path / "s.zarr")
    return tmp_path


def dump(folder: Path, store: Any, **options: Any) -> cnatool.Store:
    return cnatool.dump(folder / "net.onnx", folder / "data", store, batch_size=16, **options)


def same(bucket: CloudBucket, key: str, folder: Path) -> None:
    """Compare a store in the bucket with the one on disk, array by array."""
    there, truth = open_store(bucket / key), open_store(folder / "s.zarr")
    assert there.record == truth.record
    for name, split in truth.splits.items():
        for spec in truth._specs:
            np.testing.assert_array_equal(there.splits[name].array(spec)[:], split.array(spec)[:])
    assert cnatool.verify(bucket / key).faults == ()


def json_of(words: list[str], store: str, cwd: Path) -> str:
    return run(*words, store, "--json", cwd=cwd).stdout.replace(store, "STORE")


def test_objects_are_put_on_conditions(bucket: CloudBucket) -> None:
    objects = Objects(ObjectURL(bucket / "a"))
    first = objects.create("x", b"1")
    with pytest.raises(ConflictError):
        objects.create("x", b"2")
    second = objects.replace("x", b"3", first)
    for version in (first, {"e_tag": '"0"', "version": "1"}):
        with pytest.raises(ConflictError):
            objects.replace("x", b"4", version)
    assert objects.get("x") == (b"3", second)
    assert objects.version("x") == second
    assert objects.get_head("x", 99) == b"3"
    assert objects.get_ranges("x", [(5, 9)]) == [b""]
    objects.create("y z/ü.txt", b"")
    assert objects.names() == {"x", "y z"}
    objects.delete_all()
    objects.delete("x")
    assert bucket.list() == []
    for call in (objects.get, objects.version):
        with pytest.raises(MissingObjectError):
            call("x")


def test_commands(bucket: CloudBucket, here: Path) -> None:
    url = bucket / "runs/s.zarr"
    run("dump", "net.onnx", "data", "-o", url, "--batch-size", 16, "-q", cwd=here)
    same(bucket, "runs/s.zarr", here)
    for words in (["score"], ["layers"], ["inspect"], ["verify"]):
        assert json_of(words, url, here) == json_of(words, "s.zarr", here)
    assert document("compare", "compare", "s.zarr", url, cwd=here)["same"]
    run("convert", url, "back.h5", "-q", cwd=here)
    run("convert", "back.h5", bucket / "again.zarr", "-q", cwd=here)
    assert cnatool.compare(bucket / "again.zarr", here / "s.zarr").same
    message = refused("convert", "s.zarr", url, "--overwrite", cwd=here)
    assert "exists already, and nothing is overwritten in a bucket" in message
    assert not [key for key in bucket.list() if "lock" in key]


def test_a_killed_dump_resumes(bucket: CloudBucket, here: Path) -> None:
    words = ["dump", "net.onnx", "data", "-o", bucket / "k.zarr", "--batch-size", 16, "-q"]
    with subprocess.Popen(command(*words), cwd=here) as process:
        while process.poll() is None and committed(bucket) < 100:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert committed(bucket) >= 100
    run(*words, "--resume", cwd=here)
    same(bucket, "k.zarr", here)


def committed(bucket: CloudBucket) -> int:
    if "k.zarr/zarr.json" not in bucket.list():
        return 0
    return sum(map(len, open_store(bucket / "k.zarr").splits.values()))


def test_of_writers_that_begin_together_one_wins(bucket: CloudBucket, here: Path) -> None:
    words = ["dump", "net.onnx", "data", "-o", bucket / "w.zarr", "--batch-size", 16, "-q"]
    started = [
        subprocess.Popen(command(*words, "--resume"), cwd=here, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=600)[1].decode() for process in started]
    ended = [process.returncode for process in started]
    # The second may begin when the first has finished, and finds the store complete.
    assert 0 in ended
    for code, error in zip(ended, errors, strict=True):
        assert code == 0 or (code == 3 and "is being written by another process" in error)
    same(bucket, "w.zarr", here)


def test_damage(bucket: CloudBucket, here: Path) -> None:
    url = bucket / "s.zarr"
    run("convert", "s.zarr", url, "-q", cwd=here)
    shards = [key for key in bucket.list() if "/activations/" in key and "/c." in key]
    for number, spoil in enumerate(("flip", "delete")):
        key = shards[number]
        content = bucket.get(key)
        if spoil == "flip":
            bucket.put(key, content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        else:
            bucket.delete(key)
        faults = cnatool.verify(url).faults
        where = key.removeprefix("s.zarr/").rpartition("/")[0]
        assert {fault.where for fault in faults} == {where}
        bucket.put(key, content)
    assert cnatool.verify(url).faults == ()


@contextmanager
def environment(monkeypatch: pytest.MonkeyPatch, **values: str | None) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in values.items():
            if value is None:
                patch.delenv(name)
            else:
                patch.setenv(name, value)
        object_client.connect.cache_clear()
        yield
    object_client.connect.cache_clear()


def test_what_is_refused(bucket: CloudBucket, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = bucket / "s.zarr"
    message = refused("score", url, cwd=here)
    assert f"{url}: no such store" in message
    message = refused("convert", "s.zarr", f"{bucket.scheme}://no-such/s.zarr", cwd=here)
    assert f"there is no {'container' if bucket.scheme == 'az' else 'bucket'} no-such" in message
    endpoint = {"az": "AZURE_STORAGE_ENDPOINT", "gs": "GOOGLE_BASE_URL"}[bucket.scheme]
    port = free_port()
    monkeypatch.setattr(object_client, "_RETRIES", 0)
    with environment(monkeypatch, **{endpoint: f"http://user:topsecret@127.0.0.1:{port}"}):
        message = refused("score", url, cwd=here, code=3)
        assert f"127.0.0.1:{port} does not answer. Check the network and {endpoint}" in message
        assert "topsecret" not in message
    if bucket.scheme == "az":
        with environment(monkeypatch, AZURE_STORAGE_ACCOUNT_KEY="dG9wc2VjcmV0"):
            message = refused("score", url, cwd=here, code=3)
            assert "az://container rejects the credentials (AuthorizationFailure)" in message
    shutil.rmtree(here / "s.zarr")
