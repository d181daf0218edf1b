"""The options that say what DATA is and which splits it has, through the installed command."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from support.command import run
from support.networks import mlp, saved

import cnatool
from cnatool.data.detect import FORMATS

X = np.random.default_rng(0).random((40, 64), np.float32)
Y = np.arange(40) % 4


def dump(*words: object, cwd: Path, code: int = 0) -> str:
    words = ("net.onnx", *words, "-o", "s.zarr", "--overwrite")
    return run("dump", *words, cwd=cwd, code=code).stderr


@pytest.fixture
def here(tmp_path: Path) -> Path:
    saved(mlp((64, 8, 6, 4)), tmp_path / "net.onnx")
    parts = np.where(np.arange(40) % 5 == 0, "valid", "train")
    frame = pl.DataFrame({"x": X, "kind": Y, "coarse": Y % 2, "part": parts})
    frame.write_parquet(tmp_path / "d.parquet")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["g/pixels"], file["g/y"] = X, Y
    return tmp_path


def test_a_holdout_with_labels_by_name(here: Path) -> None:
    words = ("d.parquet", "--labels", "kind", "--holdout", "0.25", "--seed", "7")
    dump(*words, cwd=here)
    splits = cnatool.open(here / "s.zarr").splits
    rows = {name: [int(i) for i in split.ids[:]] for name, split in splits.items()}
    assert (len(rows["train"]), len(rows["test"])) == (30, 10)
    assert sorted([*rows["train"], *rows["test"]]) == list(range(40))
    for name, split in splits.items():
        np.testing.assert_array_equal(split.inputs()[:], X[rows[name]])
        np.testing.assert_array_equal(split.labels[:], Y[rows[name]])


def test_a_split_column(here: Path) -> None:
    words = ("d.parquet", "--labels", "coarse", "--split-column", "part")
    dump(*words, cwd=here)
    split = cnatool.open(here / "s.zarr").splits["val"]
    np.testing.assert_array_equal(split.inputs()[:], X[::5])
    np.testing.assert_array_equal(split.labels[:], Y[::5] % 2)


def test_an_array_inside_a_file_and_a_format(here: Path) -> None:
    (here / "d.h5").rename(here / "data.bin")
    dump("data.bin::g/pixels", "--format", "hdf5", cwd=here)
    split = cnatool.open(here / "s.zarr").splits["all"]
    np.testing.assert_array_equal(split.inputs()[:], X)
    np.testing.assert_array_equal(split.labels[:], Y)


def test_one_file_for_two_splits_is_said(here: Path) -> None:
    words = ("--split", "train=d.parquet", "--split", "test=d.parquet", "--labels", "kind")
    result = dump(*words, cwd=here)
    assert "splits train and test share 40 samples" in result


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("d.parquet", "--holdout", "1.5"), "--holdout 1.5: a share of the samples"),
        (("d.parquet", "--format", "pickle"), "--format pickle: choose from npz, npy"),
        (("d.parquet::x",), "has no arrays to choose with ::"),
        (("d.h5::g/z",), "there is no 'z', but pixels, y"),
        (("d.parquet", "--split-column", "z"), "--split-column z: "),
    ],
)
def test_options_that_cannot_be_meant(here: Path, words: tuple[str, ...], text: str) -> None:
    result = dump(*words, cwd=here, code=2)
    assert text in " ".join(result.split())


def test_every_format_is_in_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    assert [form.name for form in FORMATS if f"| `{form.name}` |" not in text] == []
