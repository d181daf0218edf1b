"""Samples that splits share, found by their content whatever they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.command import run
from support.dumps import commit_often, make_data
from support.networks import mlp, saved
from support.notes import Notes

import cnatool


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
