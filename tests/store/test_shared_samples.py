"""Samples that splits share: how they are counted, and what a merge finds of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.notes import Notes
from support.parts import Parts

import cnatool
from cnatool.store import shared_samples
from cnatool.store.shared_samples import SharedSamples, content_hashes

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


def _share_samples(folder: Path) -> None:
    arrays = {}
    for split in ("train", "test"):
        with np.load(folder / f"data/{split}.npz") as found:
            arrays[split] = dict(found)
    arrays["test"]["x"][[5, 140]] = arrays["train"]["x"][[299, 0]]
    np.savez(folder / "data/test.npz", **arrays["test"])


def _find_shared(notes: Notes) -> list[str]:
    return [text for text in notes.texts if "their scores are not independent" in text]


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_a_merge_says_what_one_process_says(
    form: str, copy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_samples, "_BLOCK_BYTES", 1 << 11)
    here = Parts(tmp_path)
    _share_samples(tmp_path)
    once, merged = Notes(), Notes()
    here.dump(f"whole.{form}", observer=once)
    cnatool.merge(here.parts(3, form), tmp_path / f"merged.{form}", copy=copy, observer=merged)
    assert len(_find_shared(once)) == 1
    assert _find_shared(merged) == _find_shared(once)


def test_many_inputs_are_not_read_by_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_samples, "_MOST_BYTES", 1 << 12)
    notes = Notes()
    cnatool.merge(Parts(tmp_path).parts(2), tmp_path / "merged.zarr", observer=notes)
    [line] = [text for text in notes.texts if "whether splits share samples" in text]
    assert "is not known: that takes reading" in line


def test_a_merge_without_the_store_of_its_inputs(tmp_path: Path) -> None:
    here, notes = Parts(tmp_path), Notes()
    base = here.dump("base.zarr").path
    paths = here.parts(2, inputs_from=base)
    base.rename(tmp_path / "away.zarr")
    merged = cnatool.merge(paths, tmp_path / "merged.zarr", observer=notes)
    assert len(merged.splits["train"]) > 0
    assert any("share samples is not known: " in text for text in notes.texts)
