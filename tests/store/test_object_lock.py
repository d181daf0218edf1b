"""One writer per store in a bucket."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import cast

import msgspec
import pytest
from support.buckets import Bucket

from cnatool._util.urls import ObjectURL, parse_path
from cnatool.errors import StoreAccessError, StoreInUseError
from cnatool.store import object_lock
from cnatool.store.lock import lock_store
from cnatool.store.object_lock import _describe_process, _identify_machine, _Owner, holds_lock
from cnatool.store.object_store import Objects, Version


@pytest.fixture
def store(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> ObjectURL:
    monkeypatch.setattr(object_lock, "_BEAT", 0.1)
    monkeypatch.setattr(object_lock, "_PATIENCE", 60.0)
    url = parse_path(bucket / "a/s.zarr")
    assert isinstance(url, ObjectURL)
    return url


def test_the_second_is_refused_and_nothing_is_left(bucket: Bucket, store: ObjectURL) -> None:
    with lock_store(store):
        assert bucket.list() == ["a/.s.zarr.lock"]
        with (
            pytest.raises(StoreInUseError, match="is being written by another process"),
            lock_store(store),
        ):
            pass
        with lock_store(parse_path(f"{store.parent}/other.zarr")):
            pass
    assert bucket.list() == []
    with lock_store(store):
        pass


def test_the_lock_of_a_process_that_was_killed_is_taken_at_once(
    bucket: Bucket, store: ObjectURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_: float) -> None:
        pytest.fail("it waits for a sign of life")

    code = (
        "import os, sys\n"
        "from cnatool._util.urls import parse_path\n"
        "from cnatool.store.lock import lock_store\n"
        "with lock_store(parse_path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(store)], check=False)
    assert bucket.list() == ["a/.s.zarr.lock"]
    if _identify_machine():
        monkeypatch.setattr(object_lock.time, "sleep", sleep)
    with lock_store(store):
        pass
    assert bucket.list() == []


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON",
        msgspec.json.encode(_Owner("another machine", 1, "1", "")),
        msgspec.json.encode(_describe_process()),
    ],
)
def test_a_lock_without_signs_of_life_is_taken_over(
    bucket: Bucket, store: ObjectURL, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lock, "_PATIENCE", 2.0)
    bucket.put("a/.s.zarr.lock", content)
    start = time.monotonic()
    with lock_store(store):
        assert time.monotonic() - start >= object_lock._PATIENCE
    assert bucket.list() == []


def test_a_lock_that_was_taken_over_is_left_to_its_owner(bucket: Bucket, store: ObjectURL) -> None:
    with lock_store(store):
        bucket.put("a/.s.zarr.lock", b"of another")
        time.sleep(0.5)
    assert bucket.get("a/.s.zarr.lock") == b"of another"


@pytest.mark.parametrize("lost", ["create", "replace"])
def test_a_lock_outlives_a_lost_answer(
    bucket: Bucket, store: ObjectURL, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    put = getattr(Objects, lost)
    repeated: list[str] = []

    def lose(objects: Objects, name: str, content: bytes, *version: Version) -> Version:
        found: Version = put(objects, name, content, *version)
        if not repeated:
            # As the client does without an answer; the object has the new version by now.
            repeated.append(name)
            return cast("Version", put(objects, name, content, *version))
        return found

    def wait(_: float) -> None:
        pytest.fail("it waits for a sign of life")

    monkeypatch.setattr(Objects, lost, lose)
    sleep = time.sleep
    with monkeypatch.context() as patch:
        patch.setattr(object_lock.time, "sleep", wait)
        with lock_store(store):
            sleep(0.5)
            assert repeated
            assert holds_lock(store)
    assert bucket.list() == []


@pytest.mark.parametrize("ignored", ["create", "replace"])
def test_a_server_that_ignores_conditions_is_refused(
    bucket: Bucket, store: ObjectURL, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    # Of servers that are in use, some know both conditions, some one of them, and some none.
    monkeypatch.setattr(Objects, ignored, lambda self, name, content, *_: self.put(name, content))
    with (
        pytest.raises(StoreAccessError, match="ignores the conditions of puts"),
        lock_store(store),
    ):
        pass
    assert bucket.list() == []


def test_a_server_that_ignores_conditions_and_deletes_nothing(
    bucket: Bucket, store: ObjectURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreAccessError("the server answered with status 501")

    monkeypatch.setattr(Objects, "create", Objects.put)
    monkeypatch.setattr(Objects, "delete", refuse)
    with (
        pytest.raises(StoreAccessError, match="ignores the conditions of puts"),
        lock_store(store),
    ):
        pass
