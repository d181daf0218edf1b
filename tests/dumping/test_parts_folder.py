"""Parts that a cluster left, where one process dumps to the path of their store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.buckets import Bucket
from support.command import refused
from support.dumps import files, make_data

import cnatool
from cnatool.dumping.parts_folder import PartSettings, PartsFolder
from cnatool.errors import NotAStoreError

WAY = r"net\.parts has parts of an unfinished net\.zarr\. Pass `client` and `resume=True`"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return make_data(tmp_path)


def leave_parts(store: Path, *, replaces: bool = False) -> PartsFolder:
    folder = PartsFolder(store.with_name("net.parts"), store, PartSettings(2, 1, replaces))
    folder.begin()
    return folder


@pytest.mark.parametrize("function", [cnatool.dump, cnatool.preflight])
@pytest.mark.parametrize("resume", [False, True])
def test_parts_are_not_ignored(function: Callable[..., Any], resume: bool, here: Path) -> None:
    store = here / "net.zarr"
    leave_parts(store)
    with pytest.raises(NotAStoreError, match=WAY + ".*`overwrite=True` to begin anew"):
        function(here / "net.onnx", here / "data", store, resume=resume)
    assert not store.exists()
    message = refused("dump", "net.onnx", "data", "-o", "net.zarr", "--resume", cwd=here)
    assert "Pass --dask and --resume to continue them, --overwrite to begin anew" in message


def test_parts_are_overwritten(here: Path) -> None:
    store = here / "net.zarr"
    folder = leave_parts(store)
    cnatool.dump(here / "net.onnx", here / "data", folder.part(1), part=(1, 2))
    cnatool.dump(here / "net.onnx", here / "data", store, overwrite=True)
    assert files(here) == {"data", "net.onnx", "net.zarr"}


def test_store_that_is_newer_than_the_parts_is_complete(here: Path) -> None:
    store = cnatool.dump(here / "net.onnx", here / "data", here / "net.zarr").path
    leave_parts(store)
    cnatool.dump(here / "net.onnx", here / "data", store, resume=True)
    leave_parts(store, replaces=True)
    with pytest.raises(NotAStoreError, match=WAY):
        cnatool.dump(here / "net.onnx", here / "data", store, resume=True)


def test_parts_with_rows_in_a_bucket_are_not_overwritten(bucket: Bucket, here: Path) -> None:
    bucket.put("net.parts/unfinished.json", b'{"parts": 2, "threads": 1}')
    part = bucket / "net.parts/net.part-1-of-2.zarr"
    cnatool.dump(here / "net.onnx", here / "data", part, part=(1, 2), keep="statistics")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(
            NotAStoreError, match=WAY + ".*aws s3 rm --recursive s3://.*/net.parts/"
        ):
            cnatool.dump(here / "net.onnx", here / "data", bucket / "net.zarr", **options)
    assert not bucket.list("net.zarr")
