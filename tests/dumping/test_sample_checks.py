"""Samples that splits share, found by their content whatever they are called."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.command import run
from support.dumps import commit_often, make_data
from support.networks import mlp, saved
from support.notes import Notes

import cnatool
from cnatool.dumping.sample_checks import SharedSamples, content_hashes

# Few values, so that samples meet.
samples = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)


def inputs(rows: list[tuple[int, int]]) -> tuple[Any, ...]:
    one = np.array([a for a, _ in rows], np.uint8).reshape(-1, 1, 1).repeat(3, 1)
    return one, np.array([b for _, b in rows], np.float32)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(samples, min_size=1, max_size=4), block=st.integers(1, 5))
def test_counted_as_by_comparing_all_with_all(parts: list[Any], block: int) -> None:
    found = SharedSamples(f"s{len(parts) - 1}")
    for number, part in enumerate(parts):
        for start in range(0, len(part), block):
            rows = part[start : start + block]
            ids = [f"{number}:{start + i}" for i in range(len(rows))]
            found.add(f"s{number}", ids, content_hashes(inputs(rows), len(rows)))
    expected = []
    for number, part in enumerate(parts):
        for other in range(number):
            there = [i for i, row in enumerate(part) if row in parts[other]]
            if there:
                expected.append((f"s{number}", f"s{other}", len(there), f"{number}:{there[0]}"))
    lines = [
        f"{count} of the {len(parts[int(split[1:])])} samples of split {split} have the raw input "
        f"of a sample in split {other}, first {first}: their scores are not independent"
        for split, other, count, first in expected
    ]
    assert sorted(found.notes()) == sorted(lines)


def test_nothing_is_kept_of_the_last_split() -> None:
    rows, block = 1 << 17, 1 << 12
    shared = SharedSamples("test")
    tracemalloc.start()
    try:
        for split, first in (("train", 0), ("test", rows - 1)):
            for start in range(first, first + rows, block):
                contents = np.arange(start, start + block)
                shared.add(split, [str(number) for number in contents], contents)
        # Eight bytes of each sample of train; as much of test would be twice that.
        assert tracemalloc.get_traced_memory()[0] < 12 * rows
    finally:
        tracemalloc.stop()
    [note] = shared.notes()
    assert note.startswith(f"1 of the {rows:,} samples of split test have the raw input")


def test_bits_count_and_so_does_the_order_of_inputs() -> None:
    one = np.arange(8, dtype=np.uint8).reshape(2, 4)
    swapped = one[:, ::-1].copy()
    [a, b] = content_hashes((one, swapped), 2)
    [c, d] = content_hashes((swapped, one), 2)
    assert len({int(x) for x in (a, b, c, d)}) == 4
    zeros = np.array([0.0, -0.0], np.float32)
    [e, f] = content_hashes((zeros,), 2)
    assert e != f


def dump(cwd: Path, *words: object) -> str:
    return run("dump", "net.onnx", *words, cwd=cwd).stderr


def test_the_same_pictures_under_other_names(tmp_path: Path) -> None:
    saved(mlp(), tmp_path / "net.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8)
    for split, rows in (("train", range(20)), ("test", range(17, 30))):
        (tmp_path / "data" / split / "a").mkdir(parents=True)
        for row in rows:
            Image.fromarray(pixels[row]).save(tmp_path / f"data/{split}/a/{split}{row:02}.png")
    text = dump(tmp_path, "data")
    line = (
        "3 of the 13 samples of split test have the raw input of a sample in split train, first "
        "a/test17.png: their scores are not independent"
    )
    assert text.count(line) == 1
    # None of the first 17 of either is among those of the other.
    assert "have the raw input" not in dump(tmp_path, "data", "--limit", 17, "--overwrite")


def test_rows_of_a_table_that_a_draw_has_parted(tmp_path: Path) -> None:
    saved(mlp(), tmp_path / "net.onnx")
    rng = np.random.default_rng(1)
    x = rng.random((50, 64), np.float32)
    frame = pl.DataFrame({"x": np.concatenate([x, x]), "y": rng.integers(0, 10, 100)})
    frame.write_parquet(tmp_path / "d.parquet")
    text = dump(tmp_path, "d.parquet", "--holdout", 0.2)
    [line] = [line for line in text.splitlines() if "have the raw input" in line]
    order = np.random.default_rng(0).permutation(100)
    test, train = order[:20], {int(row) % 50 for row in order[20:]}
    shared = sorted(int(row) for row in test if int(row) % 50 in train)
    assert line.startswith(f"{len(shared)} of the 20 samples of split test have the raw input")
    assert f"first {shared[0]}: " in line


@pytest.mark.parametrize("at", [("train", 100), ("test", 1), ("test", 130)])
def test_a_dump_that_goes_on_says_the_same(
    at: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    make_data(tmp_path, 300, 200)
    arrays = {}
    for split in ("train", "test"):
        with np.load(tmp_path / f"data/{split}.npz") as found:
            arrays[split] = dict(found)
    arrays["test"]["x"][[5, 150]] = arrays["train"]["x"][[299, 0]]
    np.savez(tmp_path / "data/test.npz", **arrays["test"])
    words = (tmp_path / "net.onnx", tmp_path / "data", tmp_path / "s.zarr")
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(*words, batch_size=16, observer=Notes(*at))
    notes = Notes()
    cnatool.dump(*words, batch_size=16, observer=notes, resume=True)
    assert any(text.startswith("resuming") for text in notes.texts)
    assert (
        "2 of the 200 samples of split test have the raw input of a sample in split train, first "
        "5: their scores are not independent"
    ) in notes.texts
