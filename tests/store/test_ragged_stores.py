"""Rows of varying length in parts, in a bucket, in xarray, and compared."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zarr
from store.test_ragged import check, described, made, make_small, write
from support.buckets import Bucket

import cnatool
from cnatool._util.urls import parse_path
from cnatool.comparing.differences import compare_values
from cnatool.records.layout import StoreRows
from cnatool.records.parts import PartRecord
from cnatool.store.integrity import start_digests, update_digests
from cnatool.store.reader import open_store
from cnatool.store.writer import StoreWriter

LENGTHS = [3, 0, 50, 1, 2, 7, 0, 0, 4, 5, 6, 20, 1, 0, 9, 2, 2, 2]


def stored(path: Path, rows: StoreRows) -> Path:
    store = StoreWriter(path, described())
    split = store.split("train", len(rows), source="made", labels=False)
    split.append(rows)
    split.finish()
    store.close()
    return path


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_merged_parts_have_the_rows_of_all(
    suffix: str, copy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    rows, parts = made(LENGTHS), []
    cuts = [0, 8, 8, 16, 18]
    for number, (first, last) in enumerate(itertools.pairwise(cuts), 1):
        part = PartRecord(number, 4, {"train": first}, {"train": len(rows)}, "0" * 64)
        record = msgspec.structs.replace(described(), part=part)
        parts.append(tmp_path / f"{number}{suffix}")
        store = StoreWriter(parts[-1], record)
        split = store.split("train", last - first, source="made", labels=False, whole=len(rows))
        write(split, rows[first:last], [3])
        split.finish()
        store.close()
    merged = cnatool.merge(parts, tmp_path / f"merged{suffix}", copy=copy)
    check(merged.splits["train"], rows)
    boxes = merged.splits["train"].activations("boxes")
    for start, stop in ((0, 1), (7, 9), (8, 16), (15, 18), (17, 18), (5, 5)):
        there = rows.activations[0][start:stop]
        np.testing.assert_array_equal(boxes[start:stop].values, there.values)
        np.testing.assert_array_equal(boxes[start:stop].offsets, there.offsets)
    assert cnatool.verify(merged.path).faults == ()
    whole = stored(tmp_path / f"whole{suffix}", rows)
    assert merged.splits["train"].fingerprint == open_store(whole).splits["train"].fingerprint
    check(cnatool.convert(merged.path, tmp_path / "copy.zarr").splits["train"], rows)


def test_a_store_in_a_bucket_is_continued(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    rows, path = made(LENGTHS * 2), parse_path(bucket / "s.zarr")
    store = StoreWriter(path, described())
    split = store.split("train", len(rows), source="made", labels=False)
    early = None
    for first, last in itertools.pairwise([0, 7, 9, 17, 30]):
        split.append(rows[first:last])
        found = open_store(path).splits["train"]
        assert len(found) == last // 8 * 8
        check(found, rows)
        if len(found) == 8:
            early = found
    store.close()
    assert early is not None
    check(early, rows)  # objects that were replaced since hold the same rows
    there = open_store(path)
    assert len(there.splits["train"]) == 24
    digests = start_digests(there.record, labels=False)
    update_digests(digests, rows[:24].inputs, None)
    store = StoreWriter.resume(there)
    split = store.resume_split(there.splits["train"], digests)
    write(split, rows, [26, 33], 24)
    split.finish()
    store.close()
    check(open_store(path).splits["train"], rows)
    assert cnatool.verify(path).faults == ()
    local = bucket.download("s.zarr", tmp_path / "s.zarr")
    group = zarr.open_group(local, mode="r")["splits/train/activations/0"]
    np.testing.assert_array_equal(group["values"][:], rows.activations[0].values)
    np.testing.assert_array_equal(group["offsets"][:], rows.activations[0].offsets)


def test_xarray_has_values_and_lengths(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    rows = made(LENGTHS)
    split = open_store(stored(tmp_path / "s.zarr", rows)).splits["train"]
    dataset = split.to_xarray()
    boxes = rows.activations[0]
    assert dataset["boxes"].dims[0] == "boxes_row"
    np.testing.assert_array_equal(dataset["boxes"].values, boxes.values)
    np.testing.assert_array_equal(dataset["boxes_length"].values, boxes.lengths)
    assert dataset["boxes_length"].attrs["sample_dimension"] == "boxes_row"
    assert dataset["boxes_length"][2:4].values.tolist() == LENGTHS[2:4]


def test_values_and_lengths_are_compared(tmp_path: Path) -> None:
    rows, other = made(LENGTHS), made(LENGTHS, seed=1)
    longer = made([4, *LENGTHS[1:]])
    first, second, third = (
        open_store(stored(tmp_path / f"{name}.zarr", each)).splits["train"].activations("boxes")
        for name, each in (("a", rows), ("b", other), ("c", longer))
    )
    assert compare_values(first, first, 18).difference.max_abs == 0
    there = rows.activations[0].values.astype(float), other.activations[0].values.astype(float)
    expected = np.abs(there[0] - there[1]).max()
    found = compare_values(first, second, 18).difference
    assert found.max_abs == pytest.approx(expected)
    assert found.max_relative == pytest.approx(expected / np.abs(there[0]).max())
    assert compare_values(first, third, 18).difference.reason == "row 0 has length 3 and 4"
