"""Rows of varying length: written in batches, committed, continued, read, damaged."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnatool
from cnatool.records.layout import StoreRows
from cnatool.records.ragged import Ragged
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store import writer
from cnatool.store.integrity import start_digests, update_digests
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
    from cnatool.store import ragged

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


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
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
    assert whole.splits["train"].record.fingerprint == writer.combine_digests(expected)
