"""Studies whose stores are scored on a cluster equal those of one process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import run
from support.families import dump_family

import cnatool
from cnatool.errors import StoreDamagedError

clusters = pytest.importorskip("support.clusters", reason="Dask is not installed")
pytestmark = clusters.IGNORED


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with clusters.local_client() as client:
        yield client


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores, one of which is damaged where only a score reads it."""
    folder = tmp_path_factory.mktemp("family")
    dump_family(folder, seeds=2)
    broken = folder / "stores/broken.zarr"
    shutil.copytree(folder / "stores/shape0-0.zarr", broken)
    for shard in (broken / "splits/test/statistics").rglob("*"):
        if shard.is_file() and shard.name != "zarr.json":
            content = bytearray(shard.read_bytes())
            content[len(content) // 3] ^= 1
            shard.write_bytes(content)
    return folder


def test_study_is_that_of_one_process(
    client: Any, family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(family)
    one = cnatool.study("stores", folder=tmp_path / "one", resamples=50)
    # One of the workers dies on the way.
    killer = clusters.Killer([0.3], [*client.run(os.getpid).values()])
    two = cnatool.study(
        "stores", folder=tmp_path / "two", resamples=50, client=client, observer=killer
    )
    assert len(killer.killed) == 1
    assert len(one.result.not_scored) == 1
    assert two.result.to_json() == one.result.to_json()
    assert two.networks.equals(one.networks)
    assert (one.reused, two.reused) == (0, 0)
    for file in (tmp_path / "one/scores").iterdir():
        assert (tmp_path / "two/scores" / file.name).read_bytes() == file.read_bytes()
    again = cnatool.study("stores", folder=tmp_path / "two", resamples=50, client=client)
    other = cnatool.study("stores", folder=tmp_path / "one", resamples=50)
    assert again.reused == other.reused > 0
    assert again.result.to_json() == other.result.to_json()


def test_error_of_a_store_is_that_of_one_process(client: Any, family: Path) -> None:
    messages = []
    for where in (None, client):
        with pytest.raises(StoreDamagedError) as error:
            cnatool.study(family / "stores", strict=True, client=where)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_command_prints_the_same(family: Path, tmp_path: Path) -> None:
    with clusters.started_cluster(tmp_path) as (file, _):
        words = "study", "stores", "--json", "--resamples", 50
        one = run(*words, cwd=family, code=1)
        two = run(*words, "--dask", file, cwd=family, code=1)
    assert two.stdout == one.stdout
