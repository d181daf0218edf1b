"""Stores that are scored in ranges of rows on a cluster have the scores of one process."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.buckets import Bucket
from support.dumps import make_data
from support.networks import mlp, saved
from support.stores import changed_attribute, forget_checksums

import cnatool
from cnatool.errors import DataError, StoreDamagedError, StoreInUseError, UsageError
from cnatool.scoring import cluster as scoring_cluster
from cnatool.store import chunks

clusters = pytest.importorskip("support.clusters", reason="Dask is not installed")
pytestmark = clusters.IGNORED
ROWS = 300, 90
FAST = {"resamples": 20, "area_resamples": 20, "permutations": 20}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with clusters.local_client() as client:
        yield client


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and data; stores have small chunks, and ranges at most 64 rows."""
    monkeypatch.setattr(scoring_cluster, "_LEAST_BYTES", 1)
    monkeypatch.setattr(scoring_cluster, "_MOST_ROWS", 64)
    monkeypatch.setattr(chunks, "_LARGEST_CHUNK", 1 << 12)
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path, *ROWS)


def dump(store: str, **options: Any) -> str:
    return str(cnatool.dump("net.onnx", "data", store, **options).path)


def merge_parts(**options: Any) -> str:
    paths = [dump(f"p{n}.zarr", part=(n, 3), batch_size=16, **options) for n in (1, 2, 3)]
    return str(cnatool.merge(paths, "merged.zarr").path)


def write_activations(store: str) -> str:
    """Write whole activations of many layers, without their sums."""
    rng = np.random.default_rng(2)
    names = [f"layer{number}" for number in range(12)]
    with cnatool.create_store(store, tensors=names, outputs=[names[-1]]) as writer:
        for split, rows in zip(("train", "test"), ROWS, strict=True):
            values = {name: rng.normal(size=(rows, 7)).astype(np.float32) for name in names}
            outputs = values.pop(names[-1])
            inputs, labels = rng.random((rows, 40), np.float32), rng.integers(0, 7, rows)
            writer.append(split, inputs=inputs, labels=labels, outputs=outputs, activations=values)
    forget_statistics(Path(store))
    return store


def forget_statistics(store: Path) -> None:
    """Take the sums out of a store's attribute: other programs need not write them."""
    forget_checksums(store)
    if store.is_dir():
        with changed_attribute(store) as attribute:
            attribute["statistics"] = []
        return
    with h5py.File(store, "r+") as root:
        root.attrs["cnatool"] = json.dumps(json.loads(root.attrs["cnatool"]) | {"statistics": []})


def same_scores(client: Any, store: str, **options: Any) -> None:
    options["overrides"] = FAST | options.get("overrides", {})
    one, two = (cnatool.score(store, client=where, **options) for where in (None, client))
    assert two.to_json() == one.to_json()
    frames = [cnatool.score_samples(store, client=where, **options) for where in (None, client)]
    assert frames[0].equals(frames[1])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "make",
    [
        lambda: dump("a.zarr"),
        lambda: dump("a.h5", keep="statistics", statistics="all"),
        merge_parts,
        lambda: write_activations("a.zarr"),
        lambda: write_activations("a.h5"),
    ],
    ids=["zarr", "hdf5", "merged", "activations", "activations-hdf5"],
)
def test_scores_are_those_of_one_process(client: Any, make: Callable[[], str]) -> None:
    same_scores(client, make(), overrides={"include_output": True})


def test_conventions_and_two_stores(client: Any, here: Path) -> None:
    store = dump("a.zarr")
    for convention in ("reference", "legacy"):
        same_scores(client, store, convention=convention)
    for split in ("train", "test"):
        dump_split = here / f"data/{split}.npz"
        cnatool.dump("net.onnx", dump_split, f"{split}.zarr")
    same_scores(client, "train.zarr", test="test.zarr", overrides={"alpha": "compression"})


def test_store_in_a_bucket(client: Any, here: Path, bucket: Bucket) -> None:
    store = dump(bucket / "a.zarr")
    clusters.use_bucket(client, AWS_ENDPOINT_URL="no address")
    with pytest.raises(UsageError, match=r"^worker tcp://.* from their own environment\.$"):
        cnatool.score(store, client=client)
    clusters.use_bucket(client)
    same_scores(client, store)


def test_store_that_is_replaced_meanwhile(
    client: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scoring_cluster.Cluster.run

    def replace_first(cluster: Any, *arguments: Any) -> Any:
        saved(mlp(seed=8), here / "net.onnx")
        dump("a.zarr", overwrite=True)
        return run(cluster, *arguments)

    store = dump("a.zarr")
    monkeypatch.setattr(scoring_cluster.Cluster, "run", replace_first)
    with pytest.raises(StoreInUseError, match=r"^a\.zarr was replaced or continued while"):
        cnatool.score(store, client=client, overrides=FAST)


def test_rows_are_divided_at_chunks(here: Path) -> None:
    split = cnatool.open(write_activations("a.zarr")).splits["train"]
    ranges = [*scoring_cluster._divide(range(ROWS[0]), [split.inputs()], 2)]
    assert [row for rows in ranges for row in rows] == [*range(ROWS[0])]
    assert len(ranges) > 2
    assert all(rows.start % split.inputs().chunk_rows == 0 for rows in ranges)
    assert [*scoring_cluster._divide(range(0), [split.inputs()], 2)] == []


def test_error_is_that_of_one_process(client: Any, here: Path) -> None:
    saved(mlp(), "net.onnx")
    values = np.random.default_rng(0).random((640, 64), np.float32)
    values[[130, 600]] = -3
    np.savez("data.npz", x=values)
    cnatool.dump("net.onnx", "data.npz", "net.zarr")
    messages = []
    for where in (None, client):
        with pytest.raises(DataError, match="row 130 holds -3") as error:
            cnatool.score("net.zarr", client=where)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_damage_is_named_as_by_one_process(client: Any, here: Path) -> None:
    store = Path(write_activations("a.zarr"))
    folder = store / "splits/train/activations/3"
    [shard] = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".json"]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    messages = []
    for where in (None, client):
        with pytest.raises(StoreDamagedError) as error:
            cnatool.score(store, client=where)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_workers_are_killed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_activations("a.zarr")
    one = cnatool.score(store, overrides=FAST).to_json()
    draw = random.Random(3)
    with clusters.local_client(2) as client:
        killer = clusters.Killer(
            [draw.uniform(0.05, 0.9) for _ in range(2)], [*client.run(os.getpid).values()]
        )
        scored = scoring_cluster.score_splits_on_cluster
        monkeypatch.setattr(
            scoring_cluster,
            "score_splits_on_cluster",
            lambda *values: scored(*values[:-1], killer),
        )
        two = cnatool.score(store, overrides=FAST, client=client).to_json()
    assert len(killer.killed) == 2
    assert two == one
