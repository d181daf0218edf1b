"""Parts of a dump in a bucket: written there by several workers, merged and read there."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.buckets import Bucket
from support.dumps import commit_often
from support.parts import Parts

import cnatool
from cnatool.errors import StoreDamagedError, UsageError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    commit_often(monkeypatch)
    return Parts(tmp_path)


def test_parts_are_merged_where_they_are(bucket: Bucket, here: Parts) -> None:
    whole = here.dump("whole.zarr")
    model, data = here.folder / "net.onnx", here.folder / "data"
    paths = [bucket / f"parts/{number}.zarr" for number in (1, 2, 3)]
    for number, path in enumerate(paths, 1):
        cnatool.dump(model, data, path, part=(number, 3), batch_size=16)
    merged = cnatool.merge(paths, bucket / "merged.zarr")
    assert [part.store for part in merged.record.parts] == [f"parts/{n}.zarr" for n in (1, 2, 3)]
    assert cnatool.score(merged.path).splits == cnatool.score(whole.path).splits
    assert cnatool.verify(merged.path).faults == ()
    copied = cnatool.merge(paths, here.folder / "copied.zarr", copy=True)
    assert copied.record == whole.record
    assert cnatool.verify(copied.path).faults == ()
    # A store on a disk refers to no bucket.
    with pytest.raises(UsageError, match=r"the same bucket as .* Pass `copy=True`"):
        cnatool.merge(paths, here.folder / "merged.zarr")
    bucket.delete("parts/2.zarr/zarr.json")
    with pytest.raises(StoreDamagedError, match=r"part 2 of 3 is s3://.*/parts/2\.zarr"):
        cnatool.score(merged.path)


def test_a_copy_goes_to_a_bucket(bucket: Bucket, here: Parts) -> None:
    whole = here.dump("whole.zarr")
    copied = cnatool.merge(here.parts(3), bucket / "copied.zarr", copy=True)
    assert cnatool.verify(copied.path).faults == ()
    assert cnatool.score(copied.path).splits == cnatool.score(whole.path).splits


def test_object_of_the_data_was_replaced_between_two_parts(bucket: Bucket, here: Parts) -> None:
    model, data = here.folder / "net.onnx", here.folder / "data"
    paths = [here.folder / f"{number}.zarr" for number in (1, 2)]
    for number, path in enumerate(paths, 1):
        for name, rows in (("train", "train"), ("test", ("test", "train")[number - 1])):
            bucket.put(f"d/{name}.npz", (data / f"{rows}.npz").read_bytes())
        cnatool.dump(model, bucket / "d", path, part=(number, 2), batch_size=16, limit=100)
    text = r"/d/test\.npz was replaced between .*/1\.zarr and .*/2\.zarr\. Dump again the parts"
    with pytest.raises(UsageError, match=text):
        cnatool.merge(paths, here.folder / "merged.zarr")
