"""Folders of stores in a bucket: what a folder on disk gives, with few requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.buckets import Bucket
from support.command import refused, run
from support.networks import mlp, saved
from support.parts import Parts

import cnatool
from cnatool._util.urls import parse_path
from cnatool.errors import DataError, NotAStoreError
from cnatool.studying.find import find_stores


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dump four networks, one of them into a folder of its own."""
    parts = Parts(tmp_path_factory.mktemp("networks"), train=40, test=24)
    (parts.folder / "runs/late").mkdir(parents=True)
    for epoch, name in enumerate(("n1", "n2", "n3", "late/n4"), start=1):
        saved(mlp(seed=epoch), parts.folder / "epoch.onnx")
        parts.dump(f"runs/{name}.zarr", model="epoch.onnx", tags={"epoch": str(epoch)})
    return parts.folder / "runs"


@pytest.fixture
def here(networks: Path, bucket: Bucket, tmp_path: Path) -> Path:
    """A folder with the networks, which are in the bucket as well, beside other things."""
    (tmp_path / "runs").symlink_to(networks)
    bucket.upload(networks, "runs")
    bucket.put("runs/notes.txt", b"")
    bucket.put("runs/.hidden/n5.zarr/zarr.json", b"{}")
    bucket.put("runs/other/zarr.json", b"{}")
    bucket.put("runs/other/a/b/c.0", b"")
    return tmp_path


def numbers(result: Any, root: str) -> Any:
    text = msgspec.json.encode(result).decode()
    return msgspec.json.decode(text.replace(f"{root}/", ""))


COMMANDS: dict[str, Any] = {
    "study": lambda stores: cnatool.study(stores, resamples=0),
    "trajectory": cnatool.trajectory,
    "landscape": lambda stores: cnatool.landscape(stores, grid=3, samples=20),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_in_a_bucket_is_the_one_on_disk(bucket: Bucket, here: Path, command: str) -> None:
    there = COMMANDS[command](bucket / "runs").result
    truth = COMMANDS[command](here / "runs").result
    assert numbers(there, bucket / "runs") == numbers(truth, str(here / "runs"))


def test_stores_are_found_by_a_request_for_each_folder(bucket: Bucket, here: Path) -> None:
    # Three folders, and the attribute of each store.
    with bucket.counted(3 + 4):
        found = find_stores([bucket / "runs"])
    names = ["late/n4", "n1", "n2", "n3"]
    assert found.stores == [parse_path(bucket / f"runs/{name}.zarr") for name in names]
    assert found.rejected == []
    assert find_stores([f"s3://{bucket.name}"]).stores == found.stores
    with pytest.raises(NotAStoreError, match="there is no bucket no-such-bucket"):
        find_stores(["s3://no-such-bucket/runs"])


def test_kept_scores_take_few_requests(bucket: Bucket, here: Path) -> None:
    folder = here / "study"
    first = cnatool.study(bucket / "runs", folder=folder, resamples=0)
    with bucket.counted(3 + 2 * 4):
        again = cnatool.study(bucket / "runs", folder=folder, resamples=0)
    assert again.reused == 4
    assert again.result == first.result


def test_the_test_split_is_in_another_folder(bucket: Bucket, here: Path) -> None:
    for number in (1, 2, 3):
        bucket.upload(here / f"runs/n{number}.zarr", f"tests/n{number}.zarr")
    stores = [bucket / f"runs/n{number}.zarr" for number in (1, 2, 3)]
    there = cnatool.study(stores, test=bucket / "tests", resamples=0)
    local = [here / f"runs/n{number}.zarr" for number in (1, 2, 3)]
    # Each store has both splits.
    truth = cnatool.study(local, resamples=0)
    columns = ["id", "test.accuracy", "test.cna", "train.cna"]
    assert there.networks[columns].equals(truth.networks[columns])


def test_commands_of_one_store_list_those_in_a_folder(bucket: Bucket, here: Path) -> None:
    url = bucket / "runs"
    message = refused("score", url, cwd=here)
    named = ", ".join(f"{url}/{name}.zarr" for name in ("late/n4", "n1", "n2"))
    assert f"{url} is a folder. Name a store in it: {named} and others." in message
    assert f"{bucket / 'none'}: no store is there" in refused("verify", bucket / "none", cwd=here)
    with pytest.raises(DataError, match="no store is in this folder"):
        cnatool.study(bucket / "none")


def test_plot_and_study_take_a_folder(bucket: Bucket, here: Path) -> None:
    run("plot", bucket / "runs", "--figure", "depth-profile", "-o", "figure.json", cwd=here)
    run("study", bucket / "runs/", "-o", "study", cwd=here)
    assert {path.name for path in (here / "study").iterdir()} >= {"networks.parquet", "scores"}
