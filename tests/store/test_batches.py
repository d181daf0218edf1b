"""Batches in random order have every row once, aligned, wherever reading begins or is divided."""

from __future__ import annotations

import math
import threading
import tracemalloc
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store.test_ragged import described, made, make_small, write
from support.buckets import Bucket
from support.dumps import commit_often
from support.parts import TRAIN, Parts
from support.stores import append, arrays, record

import cnatool
from cnatool.errors import MetricError, StoreDamagedError, UsageError
from cnatool.records.layout import StoreRows
from cnatool.records.store import TensorRecord
from cnatool.store import writer
from cnatool.store.batches import Batch, Batches
from cnatool.store.reading_order import Layout, ReadingOrder, choose_block_rows
from cnatool.store.writer import StoreWriter

ROWS = 133
# Of ids, labels, input, output, two tensors, statistic: chunks that are not those of another.
CHUNKS = [64, 32, 4, 16, 8, 2, 64]
ALL = {"tensors": ["a/b:0", "a/b", "out"], "ids": True, "inputs": True}
SMALL = 8 * 1000  # bytes of a window of some tens of rows


def make_store(
    path: Path, monkeypatch: pytest.MonkeyPatch, rows: int = ROWS
) -> tuple[cnatool.Split, dict[str, np.ndarray]]:
    monkeypatch.setattr(writer, "commit_rows", lambda sizes, most=None: 64)
    monkeypatch.setattr(writer, "chunk_rows", lambda sizes, rows, most=None: CHUNKS)
    data = arrays(rows)
    store = StoreWriter(path, record())
    split = store.split("train", rows, source="made", labels=True)
    for start in range(0, rows, 64):
        append(split, data, start, min(start + 64, rows))
    split.finish()
    store.close()
    return cnatool.open(path).splits["train"], data


def check_values(batch: Batch, data: dict[str, np.ndarray]) -> None:
    """Compare a batch with the same rows of the arrays that were written."""
    rows = batch.rows
    np.testing.assert_array_equal(batch["a/b:0"], data["a"][rows])
    np.testing.assert_array_equal(batch["a/b"], data["b"][rows])
    np.testing.assert_array_equal(batch["out"], data["outputs"][rows])
    np.testing.assert_array_equal(batch.labels, data["labels"][rows])
    np.testing.assert_array_equal(batch.ids, data["ids"][rows])
    np.testing.assert_array_equal(batch.inputs["x"], data["inputs"][rows])
    assert (batch["a/b:0"].dtype, batch["a/b"].dtype) == (np.float16, np.float32)


def rows_of(batches: Batches) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


@given(
    rows=st.integers(0, 300),
    block=st.integers(1, 40),
    window=st.integers(1, 90),
    workers=st.integers(1, 7),
    seed=st.none() | st.integers(0, 2**70),
    data=st.data(),
)
def test_workers_together_have_every_row_once(
    rows: int, block: int, window: int, workers: int, seed: int | None, data: st.DataObject
) -> None:
    found, lengths = [], []
    for number in range(workers):
        order = ReadingOrder(rows, block, window, seed, 3, (number, workers))
        first, end = order.share
        listed: list[int] = []
        for part in order.windows(0, end - first):
            inside = np.concatenate([np.arange(*piece) for piece in part.pieces])
            assert (np.diff(inside) > 0).all()
            assert all(a[1] < b[0] for a, b in zip(part.pieces, part.pieces[1:], strict=False))
            listed += inside[part.order].tolist()
        # From any row on, the rest is the same.
        start = data.draw(st.integers(0, end - first))
        stop = data.draw(st.integers(start, end - first))
        later: list[int] = []
        for part in order.windows(start, stop):
            inside = np.concatenate([np.arange(*piece) for piece in part.pieces])
            later += inside[part.order].tolist()
        assert later[: stop - start] == listed[start:stop]
        found += listed
        lengths.append(end - first)
    assert sorted(found) == list(range(rows))
    assert max(lengths) - min(lengths) <= 1
    if seed is None:
        assert found == list(range(rows))


def test_blocks_are_whole_chunks_where_a_window_has_many() -> None:
    kib = 1024
    assert choose_block_rows([Layout(512, 2 * kib), Layout(8192, 8)], 65_536) == 512
    assert choose_block_rows([Layout(8192, 40), Layout(8192, 8)], 1 << 20) == 16_384
    # Chunks too large for a window are read in the smallest that there are.
    assert choose_block_rows([Layout(16, 65_536), Layout(8192, 8)], 64) == 16
    assert choose_block_rows([Layout(3, 10)], 1000) == 30


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("buffer", [1, SMALL, 1 << 20])
def test_rows_stay_aligned_and_come_once(
    suffix: str, buffer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, data = make_store(tmp_path / f"s{suffix}", monkeypatch)
    options = {**ALL, "size": 10, "seed": 5, "buffer_bytes": buffer}
    batches = split.batches(**options)
    once = list(batches)
    assert [len(batch) for batch in once] == [10] * 13 + [3]
    assert (len(batches), batches.rows) == (14, ROWS)
    for batch in once:
        check_values(batch, data)
    order = [row for batch in once for row in batch.rows.tolist()]
    assert sorted(order) == list(range(ROWS))
    first = rows_of(split.batches(**options))
    assert first == [batch.rows.tolist() for batch in once]
    assert rows_of(split.batches(**options, epoch=1)) != first
    assert rows_of(split.batches(**options | {"seed": 6})) != first
    for start in (1, 7, 14):
        rest = split.batches(**options, start=start)
        assert len(rest) == 14 - start
        assert rows_of(rest) == first[start:]
        assert rest.rows == sum(map(len, first[start:]))
    # What is returned does not change when more is read.
    for batch in once:
        check_values(batch, data)
    plain = split.batches(**options, shuffle=False, start=2)
    assert rows_of(plain) == [list(range(at, min(at + 10, ROWS))) for at in range(20, ROWS, 10)]
    for batch in plain:
        check_values(batch, data)
    assert not [t for t in threading.enumerate() if t.name.startswith("cnatool-batches")]


def test_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, data = make_store(tmp_path / "s.zarr", monkeypatch)
    options = {"tensors": ["a/b:0", "out"], "size": 10, "buffer_bytes": SMALL // 4}
    for workers in (2, 3, 14):
        shares = [split.batches(**options, worker=(i, workers)) for i in range(workers)]
        found = [list(share) for share in shares]
        for batch in found[-1]:
            np.testing.assert_array_equal(batch["a/b:0"], data["a"][batch.rows])
            np.testing.assert_array_equal(batch["out"], data["outputs"][batch.rows])
        rows = [row for share in found for batch in share for row in batch.rows.tolist()]
        assert sorted(rows) == list(range(ROWS))
        counts = list(map(len, found))
        assert counts == list(map(len, shares))
        assert max(counts) - min(counts) <= 1
        equal = [
            split.batches(**options, worker=(i, workers), drop_last=True) for i in range(workers)
        ]
        whole = [list(map(len, share)) for share in equal]
        assert whole == [[10] * (ROWS // workers // 10)] * workers
    # More workers than rows: some have nothing to do.
    counts = [len(split.batches(**options, worker=(i, 200))) for i in range(200)]
    assert sorted(set(counts)) == [0, 1]
    assert sum(counts) == ROWS
    assert list(split.batches(**options, worker=(0, 200))) == []


def test_what_can_be_left_out_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, data = make_store(tmp_path / "s.zarr", monkeypatch)
    # By default everything that is stored whole, and no ids and inputs.
    batch = next(iter(split.batches(size=400)))
    assert list(batch.tensors) == ["a/b:0", "a/b", "out"]
    assert (batch.ids, batch.inputs, len(batch)) == (None, {}, ROWS)
    assert list(next(iter(split.batches("a*"))).tensors) == ["a/b:0", "a/b"]
    assert repr(batch) == (
        f"<batch of {ROWS} samples: a/b:0 {data['a'].shape} float16, a/b {data['b'].shape} "
        f"float32, out {data['outputs'].shape} float32, labels>"
    )
    [batch] = split.batches([], size=400, inputs=True)
    assert (batch.tensors, len(batch.inputs["x"])) == ({}, ROWS)
    for wide in ("float64", np.float32):
        [batch] = split.batches("a/b:0", size=400, dtype=wide)
        assert batch["a/b:0"].dtype == wide
        np.testing.assert_array_equal(batch["a/b:0"], data["a"][batch.rows])
    assert len(split.batches(size=10, drop_last=True)) == 13
    # An iteration that ends early leaves no thread behind.
    iterator = iter(split.batches("a/b", size=2, buffer_bytes=100))
    assert len(list(islice(iterator, 3))) == 3
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cnatool-")
                and "store" not in t.name]  # fmt: skip


def test_wrong_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, _ = make_store(tmp_path / "s.zarr", monkeypatch)
    for options, reason in (
        ({"size": 0}, "`size=0` is not a whole number of at least 1."),
        ({"size": 2.5}, "`size=2.5` is not"),
        ({"seed": -1}, "`seed=-1` is not a whole number of at least 0."),
        ({"epoch": True}, "`epoch=True` is not"),
        ({"start": 3, "size": 200}, "`start=3` is past the end of the epoch, step 1."),
        ({"worker": (2, 2)}, "`worker=(2, 2)` is not the number of a worker"),
        ({"worker": 1}, "`worker=1` is not"),
        ({"worker": (0.0, 2.0)}, "`worker=(0.0, 2.0)` is not"),
        ({"worker": (0, math.inf)}, "`worker=(0, inf)` is not"),
        ({"buffer_bytes": 0}, "`buffer_bytes=0` is not"),
        ({"dtype": "int8"}, "`dtype='int8'` cannot hold tensor 'a/b:0', which is float16."),
        ({"dtype": "nothing"}, "`dtype='nothing'` is not an element type of NumPy."),
        ({"dtype": "U8"}, "`dtype='<U8'` is not an element type of numbers."),
    ):
        with pytest.raises(UsageError) as error:
            split.batches(**options)
        assert str(error.value).startswith(reason)
    with pytest.raises(MetricError, match="no tensor 'none'. `cnatool inspect"):
        split.batches(["a*", "none"])
    with pytest.raises(MetricError, match="no tensor 'outt'. Did you mean 'out'"):
        split.batches("outt")
    for nothing in ([], "!*"):
        with pytest.raises(UsageError, match=r"^`tensors=\[.*\]` leaves no tensor of .*`inputs"):
            split.batches(nothing)
    with pytest.raises(MetricError, match="only statistics of tensor 'thin' are stored"):
        split.batches("thin")


def test_values_that_a_narrower_type_cannot_hold(tmp_path: Path) -> None:
    data = arrays(20)
    data["b"][7] = 70_000
    store = StoreWriter(tmp_path / "s.zarr", record())
    split = store.split("train", 20, source="made", labels=True)
    append(split, data, 0, 20)
    split.finish()
    store.close()
    opened = cnatool.open(tmp_path / "s.zarr").splits["train"]
    [batch] = opened.batches("a/b:0", dtype="float16")
    assert batch["a/b:0"].dtype == np.float16
    with pytest.raises(MetricError, match="values of tensor 'a/b' are too large for float16"):
        list(opened.batches("a/b", dtype="float16"))


@pytest.mark.parametrize(("largest", "narrow"), [(127, "int8"), (128, "int8"), (70_000, "float16")])
def test_integers_do_not_wrap_around(tmp_path: Path, largest: int, narrow: str) -> None:
    values = np.array([[0, largest], [-1, 5]], np.int64)
    with cnatool.create_store(tmp_path / "s.zarr", tensors=["tokens"]) as store:
        store.append("train", inputs=values, outputs=values, activations={"tokens": values})
    batches = cnatool.open(tmp_path / "s.zarr").splits["train"].batches("tokens", dtype=narrow)
    if largest == 127:
        [batch] = batches
        assert sorted(batch["tokens"].ravel().tolist()) == [-1, 0, 5, 127]
    else:
        with pytest.raises(MetricError, match=f"'tokens' are too large for {narrow}"):
            list(batches)


def test_a_split_that_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "commit_rows", lambda sizes, most=None: 64)
    data = arrays(ROWS)
    store = StoreWriter(tmp_path / "s.zarr", record())
    split = store.split("train", ROWS, source="made", labels=True)
    append(split, data, 0, 128)
    split.stop()
    store.close()
    opened = cnatool.open(tmp_path / "s.zarr").splits["train"]
    with pytest.raises(MetricError, match=r"not finished: it has \d+ of 133 rows of train"):
        opened.batches()


@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_damage_is_an_error_and_no_missing_row(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, data = make_store(tmp_path / "s.zarr", monkeypatch)
    file = tmp_path / "s.zarr/splits/train/activations/1/c.0.0.0"
    content = bytearray(file.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 255
        file.write_bytes(content)
    else:
        file.unlink()
    split = cnatool.open(tmp_path / "s.zarr").splits["train"]
    with pytest.raises(StoreDamagedError, match="activations/1"):
        # What comes before the damage has its rows.
        [check_values(b, data) for b in split.batches(**ALL, size=10, buffer_bytes=SMALL)]
    # The other tensors are whole.
    assert sum(map(len, split.batches("a/b:0", size=10))) == ROWS


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_store_made_of_parts(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    here = Parts(tmp_path)
    merged = cnatool.merge(here.parts(4, suffix[1:]), tmp_path / f"merged{suffix}")
    split = merged.splits["train"]
    names = [tensor.name for tensor in merged.tensors]
    whole = {name: split.activations(name)[:] for name in names}
    labels, ids = split.labels[:], split.ids[:]
    rows: list[int] = []
    for batch in split.batches(size=32, ids=True, buffer_bytes=1 << 16):
        assert list(batch.tensors) == names
        for name in names:
            np.testing.assert_array_equal(batch[name], whole[name][batch.rows])
        np.testing.assert_array_equal(batch.labels, labels[batch.rows])
        np.testing.assert_array_equal(batch.ids, ids[batch.rows])
        rows += batch.rows.tolist()
    assert sorted(rows) == list(range(TRAIN))
    # A part has its own rows, counted from 0.
    part = cnatool.open(tmp_path / f"p2{suffix}").splits["train"]
    found = np.concatenate([batch.rows for batch in part.batches(size=7)])
    assert sorted(found.tolist()) == list(range(len(part)))


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("axis", [0, 1])
def test_samples_that_differ_in_length(
    suffix: str, axis: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    lengths = [0, 1, 5, 0, 30, 2, 2, 9, 1, 0, 3, 100, 4, 4, 6, 1, 7, 0, 2]
    rows = made(lengths, axis=axis)
    store = StoreWriter(tmp_path / f"s{suffix}", described(axis=axis))
    split = store.split("train", len(rows), source="made", labels=False)
    write(split, rows, [3])
    split.finish()
    store.close()
    opened = cnatool.open(tmp_path / f"s{suffix}").splits["train"]
    seen: list[int] = []
    for batch in opened.batches(size=4, inputs=True, buffer_bytes=600, dtype="float64"):
        assert isinstance(batch["boxes"], cnatool.Ragged)
        assert batch["boxes"].axis == axis
        assert batch.labels is None
        assert batch["boxes"].dtype == np.float64
        for place, row in enumerate(batch.rows.tolist()):
            np.testing.assert_array_equal(batch["boxes"][place], rows.activations[0][row])
            np.testing.assert_array_equal(batch["out"][place], rows.outputs[0][row])
            np.testing.assert_array_equal(batch.inputs["x"][place], rows.inputs[0][row])
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_lists_of_labels(tmp_path: Path) -> None:
    lists = [[1, 2], [3], [], [4, 5, 6], [7]]
    values = np.arange(5, dtype=np.float32)[:, None]
    with cnatool.create_store(tmp_path / "s.zarr", tensors=["h"]) as store:
        store.append(
            "train", inputs=values, labels=lists, outputs=values, activations={"h": values}
        )
    split = cnatool.open(tmp_path / "s.zarr").splits["train"]
    for batch in split.batches("h", size=2):
        assert [x.tolist() for x in batch.labels] == [lists[row] for row in batch.rows]


def test_a_bucket(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, data = make_store(tmp_path / "s.zarr", monkeypatch)
    there = cnatool.convert(split.path, bucket / "s.zarr").splits["train"]
    options = {**ALL, "size": 50, "buffer_bytes": SMALL}
    rows = []
    for batch in there.batches(**options):
        check_values(batch, data)
        rows.append(batch.rows.tolist())
    assert rows == rows_of(split.batches(**options))


def test_memory_depends_on_the_buffer_alone(tmp_path: Path) -> None:
    tensor = TensorRecord(
        0, "wide", "Relu", "other", "float32", (1 << 14,), 0, "full", None, "float32"
    )
    wide = msgspec.structs.replace(record(), outputs=(), statistics=(), tensors=(tensor,))
    peaks = []
    for rows in (256, 1024):
        store = StoreWriter(tmp_path / f"{rows}.zarr", wide)
        split = store.split("train", rows, source="made", labels=False)
        for start in range(0, rows, 64):
            block = np.zeros((64, 1 << 14), np.float32)
            ids = [str(start + i) for i in range(64)]
            split.append(StoreRows(ids, [np.zeros((64, 8, 8), np.uint8)], None, [], {0: block}, {}))
        split.finish()
        store.close()
        opened = cnatool.open(tmp_path / f"{rows}.zarr").splits["train"]
        batches = opened.batches(size=16, buffer_bytes=4 << 20)
        assert batches.buffer_bytes <= 4 << 20
        tracemalloc.start()
        for _ in batches:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < (4 << 20) + 6 * (1 << 20)
