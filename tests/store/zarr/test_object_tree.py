"""A store's tree in a bucket: requests, damage, and who may commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from support.buckets import Bucket
from support.command import document, run
from support.stores import ROWS, append, arrays, check_rows, chunks_of, record, write_store

import cnatool
from cnatool._util.urls import parse_path
from cnatool.errors import NotAStoreError, StoreDamagedError, StoreInUseError
from cnatool.records.layout import StoreRows
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store import chunks
from cnatool.store.integrity import start_digests, update_digests
from cnatool.store.reader import open_store
from cnatool.store.writer import StoreWriter
from cnatool.store.zarr import object_tree
from cnatool.store.zarr.object_tree import ObjectTree

TENSORS = 400


@pytest.fixture
def store(bucket: Bucket) -> str:
    """A store of arrays of many types, as of `write_store`."""
    write_store(parse_path(bucket / "s.zarr"))
    return bucket / "s.zarr"


def wide(store: str) -> np.ndarray:
    """Write a store of 400 tensors, and return one's rows."""
    tensors = tuple(
        TensorRecord(i, f"t{i}", "Relu", "other", "float32", (16,), 0, "full", None, "float32")
        for i in range(TENSORS)
    )
    described = StoreRecord(
        schema="cnatool.store/1",
        created_by="test",
        inputs=(ArrayRecord("x", "uint8", (8, 8)),),
        outputs=(),
        tensors=tensors,
        layers=(),
        statistics=("sum",),
        splits={},
    )
    rows = 1000
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, 16)).astype(np.float32)
    writer = StoreWriter(parse_path(store), described)
    split = writer.split("train", rows, source="made", labels=False)
    split.append(
        StoreRows(
            ids=list(map(str, range(rows))),
            inputs=[rng.integers(0, 256, (rows, 8, 8), np.uint8)],
            labels=None,
            outputs=[],
            activations=dict.fromkeys(range(TENSORS), values),
            statistics={"sum": rng.normal(size=(rows, TENSORS))},
        )
    )
    split.finish()
    writer.close()
    return values


def test_a_store_of_hundreds_of_tensors_is_read_in_few_requests(
    bucket: Bucket, tmp_path: Path
) -> None:
    values = wide(bucket / "w.zarr")
    with bucket.counted(2):
        assert len(document("inspect", "inspect", bucket / "w.zarr", cwd=tmp_path)["tensors"]) == (
            TENSORS
        )
    with bucket.counted(4):
        split = open_store(bucket / "w.zarr").splits["train"]
        np.testing.assert_array_equal(split.activations("t77")[:1000], values)


def test_what_a_tree_returns_is_what_was_written(bucket: Bucket) -> None:
    rng = np.random.default_rng(1)
    tree = ObjectTree.create(parse_path(bucket / "t.zarr"))
    written = {}
    for number, (rows, size) in enumerate([(1, 1), (7, 7), (300, 1), (1000, 8), (5, 2)]):
        values = rng.normal(size=(rows, 3))
        axes = ("row", "x")
        array = tree.create_array(
            f"a/{number}", values.shape, values.dtype, size, "lz4", axes=axes, text_bytes=9,
            commit_rows=max(size, 64),
        )  # fmt: skip
        array.write(0, chunks_of(values, size))
        written[f"a/{number}"] = values
    tree.commit(b"{}", "0")
    tree.close()
    opened = ObjectTree.open(parse_path(bucket / "t.zarr"))
    for key, values in written.items():
        array = opened.array(key)
        np.testing.assert_array_equal(array.read(0, len(values)), values)
        for _ in range(5):
            start, stop = sorted(rng.integers(0, len(values) + 1, 2))
            np.testing.assert_array_equal(array.read(start, stop), values[start:stop])


def test_chunks_in_a_row_are_read_ahead(bucket: Bucket) -> None:
    rng = np.random.default_rng(2)
    tree = ObjectTree.create(parse_path(bucket / "t.zarr"))
    written = {key: rng.normal(size=(3000, 50)) for key in "ab"}
    for key, values in written.items():
        array = tree.create_array(
            key, values.shape, values.dtype, 100, "none", axes=("row", "x"), text_bytes=9,
            commit_rows=1600,
        )  # fmt: skip
        array.write(0, chunks_of(values, 100))
    tree.commit(b"{}", "0")
    tree.close()
    opened = ObjectTree.open(parse_path(bucket / "t.zarr"))
    arrays = {key: opened.array(key) for key in "ab"}
    with bucket.counted(16):
        for first in range(0, 3000, 1500):
            for key, array in arrays.items():
                for start in range(first, first + 1500, 100):
                    rows = array.read(start, start + 100)
                    np.testing.assert_array_equal(rows, written[key][start : start + 100])
    # In any order, also again.
    for _ in range(40):
        key, start = rng.choice(list("ab")), int(rng.integers(0, 2900))
        rows = arrays[key].read(start, start + 100)
        np.testing.assert_array_equal(rows, written[key][start : start + 100])


def test_zarr_reads_a_copy(bucket: Bucket, store: str, tmp_path: Path) -> None:
    truth = write_store(tmp_path / "local.zarr")
    copy = zarr.open_group(bucket.download("s.zarr", tmp_path / "copy.zarr"), mode="r")
    for key, values in truth.items():
        assert (copy[f"splits/train/{key}"][:] == values).all()


@pytest.fixture
def shard(bucket: Bucket, store: str) -> str:
    return next(key for key in bucket.list() if "activations/0/c." in key)


@pytest.mark.parametrize("at", [3, -30])
def test_a_flipped_byte_names_array_and_chunk(
    bucket: Bucket, store: str, shard: str, tmp_path: Path, at: int
) -> None:
    content = bytearray(bucket.get(shard))
    content[at] ^= 16
    bucket.put(shard, bytes(content))
    with pytest.raises(StoreDamagedError) as caught:
        open_store(store).splits["train"].activations("t0")[:]
    assert f"rows 0 to {ROWS - 1} of array splits/train/activations/0" in str(caught.value)
    assert "does not match its checksum" in str(caught.value)
    message = run("verify", store, cwd=tmp_path, code=1).stdout
    assert "splits/train/activations/0, rows 0 to 69" in message
    assert "activations/0" in run("convert", store, "x.h5", cwd=tmp_path, code=3).stderr


def test_a_missing_object_is_named(bucket: Bucket, store: str, shard: str, tmp_path: Path) -> None:
    bucket.delete(shard)
    message = run("convert", store, "x.h5", cwd=tmp_path, code=3).stderr
    assert "chunk 0 of array splits/train/activations/0 (rows 0 to 69) is missing" in message
    assert "there is no c.0.0.0" in message
    assert "is missing" in run("verify", store, cwd=tmp_path, code=1).stdout


@pytest.mark.parametrize("left", [0, 3, 40, -1])
def test_an_object_that_is_cut_short(bucket: Bucket, store: str, shard: str, left: int) -> None:
    bucket.put(shard, bucket.get(shard)[:left])
    with pytest.raises(StoreDamagedError, match=r"is cut short|cannot be read"):
        open_store(store).splits["train"].activations("t0")[:]


def test_metadata_that_differ_are_found(bucket: Bucket, store: str) -> None:
    key = "s.zarr/splits/train/labels/zarr.json"
    metadata = json.loads(bucket.get(key))
    bucket.put(key, json.dumps({**metadata, "attributes": {"a": 1}}).encode())
    (fault,) = (f for f in cnatool.verify(store).faults if "statistics" not in f.where)
    assert fault.where == "splits/train/labels"
    bucket.delete(key)
    assert "zarr.json is missing" in {fault.problem for fault in cnatool.verify(store).faults}


def test_a_root_that_is_no_store(bucket: Bucket, store: str) -> None:
    bucket.put("s.zarr/zarr.json", b"{")
    with pytest.raises(StoreDamagedError, match="cannot be read"):
        open_store(store)
    bucket.put("s.zarr/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(NotAStoreError, match="its root has no attribute cnatool"):
        open_store(store)


def test_an_array_of_another_program_is_refused(bucket: Bucket, store: str) -> None:
    root = json.loads(bucket.get("s.zarr/zarr.json"))
    nodes = root["consolidated_metadata"]["metadata"]
    nodes["splits/train/labels"]["chunk_key_encoding"]["configuration"]["separator"] = "/"
    bucket.put("s.zarr/zarr.json", json.dumps(root).encode())
    with pytest.raises(StoreDamagedError, match="another program wrote it"):
        open_store(store).splits["train"].array("labels")


class Interrupted:
    """A store of 200 rows of which 128 are committed."""

    def __init__(self, bucket: Bucket) -> None:
        self.path = parse_path(bucket / "i.zarr")
        self.data = arrays(200)
        self.writer = StoreWriter(self.path, record())
        self.split = self.writer.split("train", 200, source="made", labels=True)
        append(self.split, self.data, 0, 140)

    def finish(self, data: dict[str, np.ndarray]) -> None:
        append(self.split, data, 140, 200)
        self.split.finish()

    def go_on(self) -> StoreWriter:
        return StoreWriter.resume(open_store(self.path))


@pytest.fixture
def interrupted(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupted]:
    monkeypatch.setattr(chunks, "_MOST_ROWS", 64)
    monkeypatch.setattr(object_tree, "SHARD_BYTES", 1 << 10)
    made = Interrupted(bucket)
    yield made
    made.writer.close()


def test_a_reader_sees_committed_rows_only(interrupted: Interrupted) -> None:
    split = open_store(interrupted.path).splits["train"]
    assert len(split) == 128
    check_rows(split, interrupted.data)


def test_a_writer_whose_store_was_taken_over_cannot_commit(interrupted: Interrupted) -> None:
    other = interrupted.go_on()
    try:
        with pytest.raises(StoreInUseError, match="was taken over by another process"):
            interrupted.finish(interrupted.data)
    finally:
        other.close()
    assert len(open_store(interrupted.path).splits["train"]) == 128


def test_a_writer_whose_store_was_taken_over_replaces_no_shard(
    bucket: Bucket, interrupted: Interrupted
) -> None:
    # Both append the same rows, and the one that was first changed them meanwhile.

    data = interrupted.data
    other = interrupted.go_on()
    store = open_store(interrupted.path)
    digests = start_digests(store.record, labels=True)
    update_digests(digests, [data["inputs"][:128]], data["labels"][:128])
    split = other.resume_split(store.splits["train"], digests)
    append(split, data, 128, 200)
    split.finish()
    other.close()
    whole = {key: bucket.get(key) for key in bucket.list()}
    changed = {key: value[::-1] for key, value in data.items()}
    with pytest.raises(StoreInUseError):
        interrupted.finish(changed)
    assert {key: bucket.get(key) for key in bucket.list()} == whole
    check_rows(open_store(interrupted.path).splits["train"], data)


def test_a_commit_whose_answer_was_lost_counts(
    interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = interrupted.writer._tree._objects  # type: ignore[attr-defined]
    real = type(objects).replace

    def twice(self, name, content, version):
        real(self, name, content, version)
        return real(self, name, content, version)

    monkeypatch.setattr(type(objects), "replace", twice)
    interrupted.finish(interrupted.data)
    check_rows(open_store(interrupted.path).splits["train"], interrupted.data)


def test_a_local_store_that_was_interrupted_is_not_continued_in_a_bucket(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_MOST_ROWS", 64)
    writer = StoreWriter(tmp_path / "l.zarr", record())
    split = writer.split("train", 200, source="made", labels=True)
    append(split, arrays(200), 0, 140)
    store = open_store(bucket.upload(tmp_path / "l.zarr", "l.zarr"))
    check_rows(store.splits["train"], arrays(200))
    resumed = StoreWriter.resume(store)
    with pytest.raises(StoreDamagedError, match="Copy the store to a disk, and resume it there"):
        resumed.resume_split(store.splits["train"], [])
    resumed.close()
