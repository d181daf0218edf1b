"""Rows of varying length: written in batches, committed, continued, read, damaged."""

from __future__ import annotations

import itertools
import random
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import changed_attribute

import cnatool
from cnatool._util import files
from cnatool.errors import MetricError, StoreDamagedError
from cnatool.records.layout import StoreRows
from cnatool.records.ragged import Ragged
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store import chunks, ragged, writer
from cnatool.store.integrity import combine_digests, start_digests, update_digests
from cnatool.store.reader import open_store
from cnatool.store.writer import SplitWriter, StoreWriter

SUFFIXES = (".zarr", ".h5")
RESTS: tuple[tuple[int, ...], ...] = ((), (4,), (3, 5))


def described(rest: tuple[int, ...] = (4,), length: int = 2, axis: int = 0) -> StoreRecord:
    """Describe a store with a raw input, an output and a tensor of varying length."""
    shape = (*rest[:axis], length, *rest[axis:])
    return StoreRecord(
        schema="cnatool.store/1",
        created_by="test",
        inputs=(ArrayRecord("x", "uint8", (length,), ragged_axis=0),),
        outputs=(ArrayRecord("out", "float32", (length, 2), ragged_axis=0),),
        tensors=(
            TensorRecord(
                0, "boxes", "Loop", "other", "float32", shape, 0, "full", None, "float32",
                varies=True, ragged_axis=axis,
            ),
            TensorRecord(
                1, "out", "Gemm", "output", "float32", (length, 2), 0, "full", 0,
                varies=True, ragged_axis=0,
            ),
        ),
        layers=(),
        statistics=("sum", "count"),
        splits={},
    )  # fmt: skip


def made(
    lengths: Sequence[int], rest: tuple[int, ...] = (4,), axis: int = 0, seed: int = 0
) -> StoreRows:
    """Make rows with samples of some lengths, other for each array."""
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    boxes = rng.normal(size=(total, *rest)).astype(np.float32)
    activations = Ragged.from_lengths(boxes, lengths, axis)
    shorter = [length // 2 for length in lengths]
    outputs = rng.normal(size=(sum(shorter), 2)).astype(np.float32)
    out = Ragged.from_lengths(outputs, shorter)
    inputs = Ragged.from_lengths(rng.integers(0, 256, total, np.uint8), lengths)
    columns = (activations, out)
    return StoreRows(
        ids=[f"sample/{i}" for i in range(len(lengths))],
        inputs=[inputs],
        labels=None,
        outputs=[out],
        activations={0: activations},
        statistics={
            "sum": np.array([[a.sum(dtype=np.float64) for a in c] for c in columns]).T.reshape(
                len(lengths), 2
            ),
            "count": np.array([c.counts for c in columns], float).T.reshape(len(lengths), 2),
        },
    )


def make_small(monkeypatch: pytest.MonkeyPatch, commit: int = 8, values: int = 16) -> None:
    """Make commits often and chunks small."""
    monkeypatch.setattr(writer, "commit_rows", lambda sizes, most=None: commit)
    monkeypatch.setattr(writer, "chunk_rows", lambda sizes, rows, most=None: [4] * len(sizes))
    monkeypatch.setattr(ragged, "values_chunk_rows", lambda size, rows, length: values)
    monkeypatch.setattr(ragged, "offsets_chunk_rows", lambda rows, most: 4)


def write(split: SplitWriter, rows: StoreRows, cuts: Sequence[int], start: int = 0) -> None:
    for first, last in itertools.pairwise([start, *cuts, len(rows)]):
        if first < last:
            split.append(rows[first:last], borrowed=True)


def check(split: Any, rows: StoreRows) -> None:
    """Compare all committed rows, whole, one by one and in blocks."""
    count = len(split)
    expected = rows[:count]
    pairs = [
        (split.inputs(), expected.inputs[0]),
        (split.outputs(), expected.outputs[0]),
        (split.activations("boxes"), expected.activations[0]),
        (split.activations("out"), expected.outputs[0]),
    ]
    for stored, there in pairs:
        assert len(stored) == count
        whole = stored[:]
        np.testing.assert_array_equal(whole.values, there.values)
        np.testing.assert_array_equal(whole.offsets, there.offsets)
        np.testing.assert_array_equal(stored.lengths, there.lengths)
        assert [first for first, _ in stored.blocks()] == ([0] if count else [])
        for row in range(0, count, 3):
            np.testing.assert_array_equal(stored[row], there[row])
        assert whole.axis == there.axis
    np.testing.assert_array_equal(split.ids[:], expected.ids)
    np.testing.assert_array_equal(split.statistics("count")[:], expected.statistics["count"])


LENGTHS = st.lists(st.one_of(st.just(0), st.integers(0, 5), st.just(70)), max_size=30)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lengths=LENGTHS,
    rest=st.sampled_from(RESTS),
    axis=st.integers(0, 2),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    stop=st.integers(0, 30),
    suffix=st.sampled_from(SUFFIXES),
    codec=st.sampled_from(["none", "gzip"]),
    skips=st.booleans(),
)
def test_any_lengths_are_written_continued_and_read(
    lengths, rest, axis, cuts, stop, suffix, codec, skips, tmp_path, monkeypatch
) -> None:
    """Batches of any size, one store stopped in the middle and continued from its last commit."""
    make_small(monkeypatch)
    axis = min(axis, len(rest))
    rows = made(lengths, rest, axis)
    path = tmp_path / f"s{suffix}"
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    store = StoreWriter(path, described(rest, axis=axis), codec)
    split = store.split("train", len(lengths), source="made", labels=False, skips=skips)
    write(split, rows[:stop], sorted(cut for cut in cuts if cut < stop))
    store.close()
    there = open_store(path)
    check(there.splits["train"], rows)
    assert len(there.splits["train"]) == min(stop, len(lengths)) // 8 * 8
    store = StoreWriter.resume(there)
    digests = start_digests(there.record, labels=False)
    done = len(there.splits["train"])
    update_digests(digests, rows[:done].inputs, None)
    split = store.resume_split(there.splits["train"], digests)
    write(split, rows, sorted(cut for cut in cuts if cut > done), done)
    split.finish()
    store.close()
    whole = open_store(path)
    check(whole.splits["train"], rows)
    assert cnatool.verify(path).faults == ()
    expected = start_digests(there.record, labels=False)
    update_digests(expected, rows.inputs, None)
    assert whole.splits["train"].record.fingerprint == combine_digests(expected)


def snapshots(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copy the store after each write to a file of it: what a kill at that moment leaves."""
    taken: list[Path] = []
    lock = threading.Lock()  # shards are published by several threads

    def after(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            with lock:
                result = real(*arguments, **options)
                there = folder / str(len(taken))
                shutil.copytree(path.parent, there)
                taken.append(there / path.name)
            return result

        return call

    for name in ("write_all", "truncate", "rename_over"):
        monkeypatch.setattr(files, name, after(getattr(files, name)))
    return taken


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_kill_at_any_moment_leaves_a_commit(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    rng = random.Random(3)
    rows = made([rng.choice([0, 1, 2, 3, 40]) for _ in range(30)])
    for folder in ("real", "left"):
        (tmp_path / folder).mkdir()
    path = tmp_path / f"real/s{suffix}"
    store = StoreWriter(path, described(), "none")
    split = store.split("train", 30, source="made", labels=False, id_bytes=9)
    with monkeypatch.context() as context:
        taken = snapshots(path, tmp_path / "left", context)
        write(split, rows, [7, 9, 20, 27])
        split.finish()
    store.close()
    assert len(taken) > 30
    seen = []
    for number, left in enumerate(taken):
        found = open_store(left)
        committed = len(found.splits["train"])
        boxes = found.splits["train"].activations("boxes")[:]
        np.testing.assert_array_equal(boxes.offsets, rows[:committed].activations[0].offsets)
        np.testing.assert_array_equal(boxes.values, rows[:committed].activations[0].values)
        seen.append(committed)
        if number % 25:
            continue
        there = StoreWriter.resume(found)
        digests = start_digests(found.record, labels=False)
        update_digests(digests, rows[:committed].inputs, None)
        goes_on = there.resume_split(found.splits["train"], digests)
        write(goes_on, rows, [committed + 1, 25], committed)
        if not goes_on.complete:
            goes_on.finish()
        there.close()
        check(open_store(left).splits["train"], rows)
        assert cnatool.verify(left).faults == ()
    assert sorted(set(seen)) == [0, 8, 16, 24, 30]
    assert seen == sorted(seen)


@pytest.fixture
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, StoreRows]:
    """Write a store whose values fill several chunks and shards' places."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        rows = made([3, 0, 50, 1, 2, 7, 0, 0, 4, 5, 6, 20, 1])
        path = tmp_path / f"s{request.param}"
        store = StoreWriter(path, described(), "none")
        split = store.split("train", len(rows), source="made", labels=False)
        write(split, rows, [5])
        split.finish()
        store.close()
    return path, rows


@pytest.mark.parametrize("stored", SUFFIXES, indirect=True)
def test_plain_libraries_read_the_two_arrays(stored: tuple[Path, StoreRows]) -> None:
    path, rows = stored
    boxes = rows.activations[0]
    root = zarr.open_group(path, mode="r") if path.is_dir() else h5py.File(path)
    group = root["splits/train/activations/0"]
    np.testing.assert_array_equal(group["values"][:], boxes.values)
    np.testing.assert_array_equal(group["offsets"][:], boxes.offsets)
    assert group["values"].attrs["long_name"] in ("boxes", b"boxes")


@pytest.mark.parametrize("stored", SUFFIXES, indirect=True)
def test_samples_are_selected_as_rows_of_an_array_are(stored: tuple[Path, StoreRows]) -> None:
    path, rows = stored
    array = open_store(path).splits["train"].activations("boxes")
    there = rows.activations[0]
    assert repr(array) == "<splits/train/activations/0 'boxes': 13 samples of (…, 4) float32>"
    np.testing.assert_array_equal(array[-1], there[12])
    for index in (slice(2, 9), slice(None, None, -2), [5, 0, 5], np.arange(13) % 3 == 0, [], -1):
        if isinstance(index, int):
            continue
        chosen, expected = array[index], there[index]
        np.testing.assert_array_equal(chosen.offsets, expected.offsets)
        np.testing.assert_array_equal(chosen.values, expected.values)
    with pytest.raises(IndexError, match="selected by an integer, a slice, a list of rows"):
        array[[[1, 2]]]


@pytest.mark.parametrize("stored", SUFFIXES, indirect=True)
def test_further_indices_select_inside_one_sample(stored: tuple[Path, StoreRows]) -> None:
    path, rows = stored
    array = open_store(path).splits["train"].activations("boxes")
    there = rows.activations[0]
    row = int(np.argmax(there.lengths))
    sample = there.values[there.offsets[row] : there.offsets[row + 1]]
    for each in (array, there):
        for inside in ((0,), (-1, 2), (slice(1, None), [0, 3]), (..., 1), (None, 0), ()):
            np.testing.assert_array_equal(each[row, *inside], sample[inside])
        np.testing.assert_array_equal(each[(slice(row, row + 1),)].values, sample)
        for several in ((slice(None), 0), ([row, 0], 0), (..., 0), (None, row)):
            with pytest.raises(IndexError, match=r"index inside one of them, as in \[7, 0\]"):
                each[several]
        with pytest.raises(
            IndexError, match=f"is out of bounds for axis 0 with size {len(sample)}"
        ):
            each[row, len(sample)]
        with pytest.raises(IndexError, match="index 13 is out of bounds for 13 samples"):
            each[13]
        with pytest.raises(IndexError, match="index -14 is out of bounds for 13 samples"):
            each[-14, 0]
    with pytest.raises(IndexError, match="for 13 samples of 'boxes'"):
        array[13]


@pytest.mark.parametrize("stored", SUFFIXES, indirect=True)
@pytest.mark.parametrize("part", ["values", "offsets"])
def test_damage_is_found_and_never_read(stored: tuple[Path, StoreRows], part: str) -> None:
    """A value or an offset that another program changed."""
    path, rows = stored
    if path.is_dir():
        array = zarr.open_array(path / "splits/train/activations/0" / part)
        array[4] = array[4] + 1
    else:
        with h5py.File(path, "r+") as root:
            root[f"splits/train/activations/0/{part}"][4] += 1
    split = open_store(path).splits["train"]
    with pytest.raises(StoreDamagedError, match="do not match their checksum"):
        split.activations("boxes")[:]
    faults = cnatool.verify(path).faults
    assert {fault.where for fault in faults} == {"splits/train/activations/0"}
    assert all(part in fault.problem for fault in faults), faults
    if part == "values":
        # The chunk of 16 values is that of rows 0 to 2, of which row 1 has none.
        assert [fault.rows for fault in faults] == [(0, 1), (2, 3)]
        np.testing.assert_array_equal(split.activations("boxes")[11], rows.activations[0][11])


@pytest.mark.parametrize("stored", [".zarr"], indirect=True)
@pytest.mark.parametrize("offsets", [[0, 9, 3], [1, 2, 3], [0, 2, 1 << 40], [0, -1, 99]])
def test_offsets_that_make_no_sense_are_damage(
    stored: tuple[Path, StoreRows], offsets: list[int]
) -> None:
    path, _ = stored
    with changed_attribute(path) as attribute:
        attribute["splits"]["train"]["checksums"] = None
    array = zarr.open_array(path / "splits/train/activations/0/offsets")
    array[:3] = offsets
    with pytest.raises(StoreDamagedError, match="do not ascend"):
        open_store(path).splits["train"].activations("boxes")[:]
    assert cnatool.verify(path).faults


@pytest.mark.parametrize("stored", [".zarr"], indirect=True)
def test_a_shape_that_differs_from_the_offsets_is_damage(stored: tuple[Path, StoreRows]) -> None:
    path, _ = stored
    zarr.open_array(path / "splits/train/activations/0/values").resize((98, 4))
    with pytest.raises(StoreDamagedError, match="instead of"):
        open_store(path).splits["train"].activations("boxes")
    assert "instead of" in cnatool.verify(path).faults[-1].problem


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("lengths", [[], [0, 0, 0], [0], [200_000]])
def test_splits_without_samples_or_values(suffix: str, lengths: list[int], tmp_path: Path) -> None:
    path = tmp_path / f"s{suffix}"
    store = StoreWriter(path, described(length=0))
    rows = made(lengths)
    split = store.split("train", len(lengths) or None, source="made", labels=False)
    if lengths:
        split.append(rows)
    split.finish()
    store.close()
    check(open_store(path).splits["train"], rows)
    assert cnatool.verify(path).faults == ()


def test_samples_of_varying_length_are_refused_by_name(tmp_path: Path) -> None:
    store = StoreWriter(tmp_path / "s.zarr", described())
    split = store.split("train", 2, source="made", labels=False)
    split.append(made([1, 2]))
    split.finish()
    store.close()
    with pytest.raises(MetricError, match="samples of 'x' differ in length"):
        open_store(tmp_path / "s.zarr").splits["train"].stored("inputs/0")


def test_a_chunk_of_values_holds_those_of_a_commit_at_most() -> None:
    assert chunks.values_chunk_rows(16, 640, 3) == 1024
    assert chunks.values_chunk_rows(16, 8192, 1000) == 65536
    assert chunks.values_chunk_rows(1 << 30, 1, 5) == 1
    assert chunks.values_chunk_rows(0, 8, 0) == 16384
    assert chunks.offsets_chunk_rows(3, 64) == 4
    assert chunks.offsets_chunk_rows(None, 64) == 64


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("stored", SUFFIXES, indirect=True)
def test_a_converted_store_has_the_same_rows(
    stored: tuple[Path, StoreRows], target: str, tmp_path: Path
) -> None:
    path, rows = stored
    copy = cnatool.convert(path, tmp_path / f"copy{target}")
    check(copy.splits["train"], rows)
    assert cnatool.verify(copy.path).faults == ()
    record = open_store(path).record
    ours = msgspec.structs.replace(copy.record.splits["train"], checksums=None)
    assert ours == msgspec.structs.replace(record.splits["train"], checksums=None)
