"""Objects in a bucket as files: the same bytes as on a disk, in few requests."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from support.buckets import Bucket

from cnatool._util.urls import ObjectURL, parse_path
from cnatool.errors import DataError
from cnatool.store import object_path
from cnatool.store.object_path import ObjectPath, open_bucket, track_objects


def opened(bucket: Bucket, key: str) -> ObjectPath:
    url = parse_path(bucket / key)
    assert isinstance(url, ObjectURL)
    return open_bucket(url)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ranges be small, so that a small object has many."""
    monkeypatch.setattr(object_path, "_FIRST", 64)
    monkeypatch.setattr(object_path, "_LARGEST", 1024)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(6))
def test_reads_and_seeks_are_those_of_a_file(bucket: Bucket, tmp_path: Path, seed: int) -> None:
    content = random.Random(seed).randbytes(5000 + seed)
    bucket.put("a", content)
    (tmp_path / "a").write_bytes(content)
    choose = random.Random(seed)
    with opened(bucket, "a").open("rb") as remote, (tmp_path / "a").open("rb") as local:
        for _ in range(60):
            if choose.random() < 0.3:
                place = choose.choice(((choose.randrange(6000), 0), (-choose.randrange(900), 2)))
                assert remote.seek(*place) == local.seek(*place)
            size = choose.choice((1, 30, 500, 2000))
            assert remote.read(size) == local.read(size)
            assert remote.tell() == local.tell()
        for file in (remote, local):
            with pytest.raises(OSError, match="Invalid argument"):
                file.seek(-6000, 2)


@pytest.mark.usefixtures("small")
def test_ranges_that_follow_each_other_grow(bucket: Bucket) -> None:
    content = random.Random(0).randbytes(64 + 128 + 256 + 512 + 10 * 1024)
    bucket.put("a", content)
    path = opened(bucket, "a")
    # 64, 64, 128, 256, 512, and then the largest, 1,024.
    with bucket.counted(17), path.open("rb") as file:
        assert file.read() == content


def test_the_edges_of_an_object_are_read_once(bucket: Bucket) -> None:
    content = bytes(range(256)) * 4096
    bucket.put("a", content)
    path = opened(bucket, "a")
    with bucket.counted(2):
        for _ in range(5):
            with path.open("rb") as file:
                assert file.read(10) == content[:10]
                file.seek(-100, 2)
                assert file.read() == content[-100:]


def test_a_folder_is_listed_at_once(bucket: Bucket) -> None:
    for key in ("d/", "d/a.npy", "d/e/b.npy", "d/e/f/c.npy", "d%20e/x", "dd", "d/g/"):
        bucket.put(key, b"" if key.endswith("/") else b"x")
    with bucket.counted(2):
        folder = opened(bucket, "d")
        assert [path.name for path in folder.iterdir()] == ["a.npy", "e", "g"]
        assert folder.is_dir()
        assert not folder.is_file()
        assert (folder / "e" / "f" / "c.npy").is_file()
        assert (folder / "e" / "f").is_dir()
        assert not (folder / "missing").exists()
        assert (folder / "a.npy").with_name("e").is_dir()
        assert (folder / "a.npy").stat().st_size == 1
        assert str((folder / "e" / "b.npy").parent) == bucket / "d/e"


def test_names_of_keys(bucket: Bucket) -> None:
    for key, name in (("d/a%20b", "a b"), ("d/%C3%A9%252F", "é%2F")):
        bucket.put(key, name.encode())
    names = {path.name: path.read_bytes().decode() for path in opened(bucket, "d").iterdir()}
    assert names == {"a b": "a b", "é%2F": "é%2F"}


def test_what_is_not_there(bucket: Bucket) -> None:
    bucket.put("both", b"x")
    bucket.put("both/a", b"x")
    with pytest.raises(DataError, match=f"no such object or folder: {bucket / 'x'}"):
        opened(bucket, "x")
    with pytest.raises(DataError, match="there is no bucket no-such-bucket"):
        open_bucket(ObjectURL("s3:", "no-such-bucket/x"))
    with pytest.raises(DataError, match="an object and also a folder"):
        opened(bucket, "both")


def test_too_many_objects(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_path, "MOST_OBJECTS", 3)
    for number in range(4):
        bucket.put(f"d/{number}", b"x")
    with pytest.raises(DataError, match=r"more than 3 objects\. Move the samples"):
        opened(bucket, "d")


@pytest.mark.usefixtures("small")
def test_an_object_that_changes_is_never_read_as_one(bucket: Bucket) -> None:
    first, second = np.zeros(4096, np.uint8).tobytes(), np.ones(4096, np.uint8).tobytes()
    bucket.put("a", first)
    with opened(bucket, "a").open("rb") as file:
        assert file.read(64) == first[:64]
        bucket.put("a", second)
        with pytest.raises(DataError, match="was replaced while it was read"):
            file.read()
    with opened(bucket, "a").open("rb") as file:
        file.read(64)
        bucket.delete("a")
        with pytest.raises(DataError, match="was deleted while it was read"):
            file.read()


def test_what_was_read_is_tracked(bucket: Bucket) -> None:
    for name in ("a", "b", "c"):
        bucket.put(f"d/{name}", name.encode() * 3)
    folder = opened(bucket, "d")
    with track_objects(folder) as objects:
        (folder / "b").read_bytes()
        assert (folder / "c").is_file()
    [read] = objects
    assert (read.url, read.bytes) == (bucket / "d/b", 3)
    assert len(read.etag) == 32
    with track_objects(Path("x")) as objects:
        pass
    assert objects == []
