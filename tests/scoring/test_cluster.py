"""Stores whose splits are scored on a cluster have the scores of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.dumps import make_data
from support.networks import mlp, saved

import cnatool
from cnatool.errors import DataError

clusters = pytest.importorskip("support.clusters", reason="Dask is not installed")
pytestmark = clusters.IGNORED


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with clusters.local_client() as client:
        yield client


def test_scores_are_those_of_one_process(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    cnatool.dump("net.onnx", "data", "net.zarr")
    one, two = (cnatool.score("net.zarr", client=where) for where in (None, client))
    assert two.to_json() == one.to_json()
    frames = [cnatool.score_samples("net.zarr", client=where) for where in (None, client)]
    assert frames[0].equals(frames[1])


def test_error_is_that_of_one_process(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(mlp(), "net.onnx")
    np.savez("data.npz", x=np.linspace(-3, 3, 640, dtype=np.float32).reshape(10, 64))
    cnatool.dump("net.onnx", "data.npz", "net.zarr")
    messages = []
    for where in (None, client):
        with pytest.raises(DataError) as error:
            cnatool.score("net.zarr", client=where)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
