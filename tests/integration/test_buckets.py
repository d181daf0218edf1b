"""Stores in a bucket: every command does what it does with a store on disk."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from support.buckets import Bucket
from support.command import document, run
from support.dumps import command, commit_often, make_data, same_arrays
from support.stores import write_store

import cnatool
from cnatool._util.urls import parse_path
from cnatool.errors import NotAStoreError, StoreAccessError, StoreInUseError, UsageError
from cnatool.store import object_lock
from cnatool.store.lock import lock_store
from cnatool.store.object_store import Objects
from cnatool.store.reader import open_store

TRAIN, TEST = 230, 100
STATISTICS = "splits/train/statistics/sum"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, its data, and a store of both; dumps commit every 64 rows."""
    commit_often(monkeypatch)
    make_data(tmp_path, TRAIN, TEST)
    dump(tmp_path, tmp_path / "local.zarr")
    return tmp_path


def dump(folder: Path, store: Any, **options: Any) -> cnatool.Store:
    return cnatool.dump(folder / "net.onnx", folder / "data", store, batch_size=16, **options)


def same(bucket: Bucket, key: str, folder: Path) -> None:
    """Compare a store in the bucket with the one on disk, there and copied to the disk."""
    local, url = folder / "local.zarr", bucket / key
    assert cnatool.verify(url).faults == ()
    assert open_store(url).record == open_store(local).record
    for name, split in open_store(local).splits.items():
        for spec in open_store(local)._specs:
            there, truth = open_store(url).splits[name].array(spec), split.array(spec)
            assert there.dtype == truth.dtype
            np.testing.assert_array_equal(there[:], truth[:])
    copy = bucket.download(key, folder / "copy.zarr")
    same_arrays(copy, local)
    shutil.rmtree(copy)


def json_of(words: list[Any], store: str, cwd: Path) -> str:
    return run(*words, store, "--json", cwd=cwd).stdout.replace(store, "STORE")


def test_a_dump_into_a_bucket_is_the_one_on_disk(bucket: Bucket, here: Path) -> None:
    dump(here, bucket / "a/store.zarr")
    same(bucket, "a/store.zarr", here)
    assert not [key for key in bucket.list() if not key.startswith("a/store.zarr/")]


def test_commands_print_the_same(bucket: Bucket, here: Path) -> None:
    url = bucket / "s.zarr"
    run("convert", "local.zarr", url, cwd=here)
    shutil.copytree(here / "local.zarr", here / "s.zarr")
    for name in ("score", "layers", "inspect", "verify", "study"):
        few = ["--set", "area_resamples=20"] if name == "score" else []
        there, truth = (json_of([name, *few], store, here) for store in (url, "s.zarr"))
        assert json.loads(there) == json.loads(truth), name
        there, truth = (run(name, *few, store, cwd=here).stdout for store in (url, "s.zarr"))
        assert there.replace(url, "s.zarr") == truth, name


def test_other_commands(bucket: Bucket, here: Path) -> None:
    url = bucket / "s.zarr"
    run("convert", "local.zarr", url, cwd=here)
    assert document("compare", "compare", "local.zarr", url, cwd=here)["same"]
    run("plot", url, "--figure", "depth-profile", "-o", "figure.json", cwd=here)
    assert (here / "figure.json").is_file()
    run("report", url, "-o", "page.html", "--set", "area_resamples=0", cwd=here)
    assert url in (here / "page.html").read_text("utf-8")
    run("convert", url, "back.h5", cwd=here)
    assert cnatool.compare(here / "back.h5", here / "local.zarr").same
    run("convert", url, bucket / "again.zarr", "--codec", "zstd", cwd=here)
    same(bucket, "again.zarr", here)


def test_no_store_is_written_inside_another(bucket: Bucket, here: Path) -> None:
    url = bucket.upload(here / "local.zarr", "s.zarr")
    keys = bucket.list()
    for inside in (bucket / "s.zarr/sub.zarr", bucket / "s.zarr/splits/train/sub.zarr"):
        for write in (dump, lambda folder, store: cnatool.convert(url, store)):
            with pytest.raises(NotAStoreError, match=f"lies inside the store {url}. Name another"):
                write(here, inside)
    assert bucket.list() == keys
    # A name alone makes no store.
    dump(here, bucket / "runs.zarr/s.zarr")
    same(bucket, "runs.zarr/s.zarr", here)


def test_stores_move_between_a_disk_and_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    truth = write_store(tmp_path / "s.zarr")
    url = bucket.upload(tmp_path / "s.zarr", "up.zarr")
    cnatool.convert(url, bucket / "x.zarr")
    for store in (url, bucket / "x.zarr", bucket.download("x.zarr", tmp_path / "down.zarr")):
        for key, values in truth.items():
            np.testing.assert_array_equal(open_store(store).splits["train"].array(key)[:], values)
        # The statistics of these values are made up.
        assert {fault.where for fault in cnatool.verify(store).faults} <= {STATISTICS}
    root = zarr.open_group(tmp_path / "down.zarr", mode="r")
    assert root["splits/train/inputs/0"].shape == truth["inputs/0"].shape
    assert (root["splits/train/inputs/0"][:] == truth["inputs/0"]).all()


def test_skipped_samples_and_raw_inputs_of_another_store(bucket: Bucket, here: Path) -> None:
    dump(here, bucket / "f/base.zarr")
    for name, options in (("skips", {"on_error": "skip"}), ("refers", {})):
        base = {"inputs_from": bucket / "f/base.zarr"} if name == "refers" else {}
        store = dump(here, bucket / f"f/{name}.zarr", **options, **base)
        assert cnatool.verify(store.path).faults == ()
        for split, rows in (("train", TRAIN), ("test", TEST)):
            assert store.splits[split].inputs().shape == (rows, 8, 8)
    said = "a reference is a relative path. Write the new store there, or leave `inputs_from` out"
    with pytest.raises(UsageError, match=said):
        dump(here, here / "refers.zarr", inputs_from=bucket / "f/base.zarr")
    with pytest.raises(UsageError, match=said):
        dump(here, bucket / "other.zarr", inputs_from=here / "local.zarr")


def test_a_finished_store_is_not_to_be_resumed_or_overwritten(bucket: Bucket, here: Path) -> None:
    url = bucket / "s.zarr"
    dump(here, url)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(NotAStoreError, match="path, or delete what is there, for example"):
            dump(here, url, **options)
    with pytest.raises(UsageError, match=r"started with, or delete it, .*/s\.zarr/` and dump anew"):
        dump(here, url, resume=True, tags={"epoch": "2"})


def committed(bucket: Bucket, key: str) -> int:
    if f"{key}/zarr.json" not in bucket.list():
        return 0
    return sum(map(len, open_store(bucket / key).splits.values()))


def test_a_killed_dump_resumes(bucket: Bucket, here: Path) -> None:
    words = ["dump", "net.onnx", "data", "-o", bucket / "k.zarr", "--batch-size", 16, "-q"]
    drawn = random.Random(0)
    for least in sorted(drawn.sample(range(1, TRAIN + TEST - 64), 2)):
        with subprocess.Popen(command(*words, "--resume"), cwd=here) as process:
            while process.poll() is None and committed(bucket, "k.zarr") < least:
                # The server of the bucket has other things to do.
                time.sleep(drawn.uniform(0.05, 0.15))
            process.send_signal(signal.SIGKILL)
        safe = committed(bucket, "k.zarr")
        assert safe >= least or process.returncode == 0
        assert cnatool.verify(bucket / "k.zarr").faults == ()
    store = dump(here, bucket / "k.zarr", resume=True)
    assert all(split.record.complete for split in store.splits.values())
    same(bucket, "k.zarr", here)
    assert not [key for key in bucket.list() if "lock" in key]


def test_a_dump_that_was_killed_before_its_first_rows_begins_anew(
    bucket: Bucket, here: Path
) -> None:
    dump(here, bucket / "k.zarr")
    root = json.loads(bucket.get("k.zarr/zarr.json"))
    root["attributes"]["cnatool"]["splits"] = {}
    del root["attributes"]["cnatool_crc32c"]
    bucket.put("k.zarr/zarr.json", json.dumps(root).encode())
    with pytest.raises(NotAStoreError, match="exists already"):
        dump(here, bucket / "k.zarr")
    dump(here, bucket / "k.zarr", resume=True)
    same(bucket, "k.zarr", here)


def test_shards_without_a_store_are_no_obstacle(bucket: Bucket, here: Path) -> None:
    dump(here, bucket / "k.zarr")
    # As if another writer's shards had been there before.
    shard = next(key for key in bucket.list() if "/c." in key)
    bucket.put(shard, b"left behind")
    bucket.delete("k.zarr/zarr.json")
    dump(here, bucket / "k.zarr")
    same(bucket, "k.zarr", here)


def test_the_second_of_two_writers_is_refused(
    bucket: Bucket, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lock, "_BEAT", 0.1)
    messages = {}
    for store in (str(here / "w.zarr"), bucket / "w.zarr"):
        with lock_store(parse_path(store)):
            words = ["dump", "net.onnx", "data", "-o", store, "-q"]
            messages[store] = run(*words, cwd=here, code=3).stderr.replace(store, "STORE")
    assert len(set(messages.values())) == 1


def test_a_credential_that_is_refused_in_the_middle_leaves_committed_rows(
    bucket: Bucket, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Objects._put
    puts = 0

    def put(self: Objects, *words: Any) -> Any:
        nonlocal puts
        puts += "/c." in words[0]
        if puts > 40:
            raise StoreAccessError("s3://b rejects the credentials: they have expired. Renew them.")
        return real(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "_put", put)
        words = ["dump", "net.onnx", "data", "-o", bucket / "k.zarr", "--batch-size", 16]
        message = run(*words, cwd=here, code=3).stderr
    safe = committed(bucket, "k.zarr")
    assert safe
    assert "they have expired" in message
    assert f"{safe:,} rows are safe: once it can be written, continue with --resume" in message
    dump(here, bucket / "k.zarr", resume=True)
    same(bucket, "k.zarr", here)


def test_of_writers_that_begin_together_one_wins(bucket: Bucket, here: Path) -> None:
    words = ["dump", "net.onnx", "data", "-o", bucket / "w.zarr", "--batch-size", 16, "-q"]
    started = [
        subprocess.Popen(command(*words, "--resume"), cwd=here, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=600)[1].decode() for process in started]
    codes = [process.returncode for process in started]
    assert 0 in codes
    assert set(codes) <= {0, 3}, errors
    for code, error in zip(codes, errors, strict=True):
        assert code == 0 or "is being written by another process" in error
    same(bucket, "w.zarr", here)


def kill_after(words: list[Any], bucket: Bucket, puts: int, cwd: Path) -> None:
    """Kill a command once it has put so many shards."""
    with subprocess.Popen(command(*words), cwd=cwd) as process:
        while process.poll() is None and sum("/c." in key for key in bucket.list()) < puts:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_copy_that_was_killed_begins_anew(bucket: Bucket, here: Path) -> None:
    url = bucket / "k.zarr"
    words = ["convert", "local.zarr", url, "-q"]
    kill_after(words, bucket, 5, here)
    assert not open_store(url).record.complete
    bucket.put("k.zarr/notes.txt", b"of somebody else")
    with pytest.raises(NotAStoreError, match="exists already, and nothing is overwritten"):
        cnatool.convert(here / "local.zarr", url)
    assert bucket.get("k.zarr/notes.txt") == b"of somebody else"
    bucket.delete("k.zarr/notes.txt")
    # Of an array that the next copy does not have.
    bucket.put("k.zarr/splits/train/activations/99/c.0.0", b"left behind")
    message = run(*words[:-1], cwd=here).stderr
    assert "k.zarr was being copied when its writer was killed" in message
    same(bucket, "k.zarr", here)
    assert "cnatool_temporary" not in json.loads(bucket.get("k.zarr/zarr.json"))["attributes"]


def test_an_unfinished_dump_is_no_copy(bucket: Bucket, here: Path) -> None:
    url = bucket / "k.zarr"
    words = ["dump", "net.onnx", "data", "-o", url, "--batch-size", 16, "-q"]
    kill_after(words, bucket, 20, here)
    before = bucket.list()
    with pytest.raises(NotAStoreError, match="exists already, and nothing is overwritten"):
        cnatool.convert(here / "local.zarr", url)
    # A put that the killed process had sent may arrive meanwhile.
    assert {key for key in before if "lock" not in key} <= {*bucket.list()}


def test_writer_that_was_taken_over_does_not_advise_to_resume(bucket: Bucket, here: Path) -> None:
    notes: list[str] = []

    class Other:
        def note(self, text: str) -> None:
            notes.append(text)

        def progress(self, split: str, done: int, rows: int) -> None:
            # As another process leaves the root when it commits.
            if "s.zarr/zarr.json" in bucket.list("s.zarr/zarr.json"):
                bucket.put("s.zarr/zarr.json", bucket.get("s.zarr/zarr.json") + b" ")

    with pytest.raises(StoreInUseError, match="was taken over by another process"):
        dump(here, bucket / "s.zarr", observer=Other())
    assert not any("not finished" in text for text in notes)
    assert not any("nothing was finished" in text for text in notes)
