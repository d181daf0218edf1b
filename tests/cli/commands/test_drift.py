"""`cnatool drift`, and `cnatool compare` of two splits of one store."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from support.command import document, refused, run

import cnatool
from cnatool.schemas import schema_text


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(0)
    with cnatool.create_store(
        folder / "net.zarr", tensors=["fc1", "=fc2", "logits"], outputs=["logits"]
    ) as store:
        for split, shift in (("train", 0), ("test", 1)):
            store.append(
                split,
                inputs=rng.integers(0, 256, (80, 12)).astype(np.uint8),
                labels=rng.integers(0, 3, 80),
                outputs=rng.normal(size=(80, 3)).astype(np.float32),
                activations={
                    "fc1": rng.normal(size=(80, 4, 2)).astype(np.float32),
                    "=fc2": rng.normal(shift, 1, size=(80, 5)).astype(np.float32),
                },
            )
    return folder


def test_the_table_has_what_drifts_most_first(here: Path) -> None:
    text = run("drift", "net.zarr", "-o", "units.parquet", cwd=here).stdout
    assert "reference: train of net.zarr, 80 samples" in text
    rows = [line.split() for line in text.splitlines()]
    listed = [row[1] for row in rows if row[:1] in (["1"], ["2"], ["3"])]
    assert listed[0] == "=fc2"
    assert sorted(listed) == ["=fc2", "fc1", "logits"]
    first = next(row for row in rows if "=fc2" in row)
    assert first[2] == "5"
    assert "5 of 5" in text
    assert "Benjamini–Hochberg" in text
    assert "5 of 10 units" in text
    frame = pl.read_parquet(here / "units.parquet")
    assert frame.equals(cnatool.drift(here / "net.zarr").frame())


def test_json_and_csv(here: Path) -> None:
    found = document("drift", "drift", "net.zarr", "--tensors", "=*", "-o", "u.csv", cwd=here)
    assert [tensor["name"] for tensor in found["drift"]] == ["=fc2"]
    assert found["units"] == {"comparisons": 5, "drifting": 5}
    # A name that a spreadsheet would evaluate.
    assert pl.read_csv(here / "u.csv")["tensor"].to_list() == ["'=fc2"] * 5
    jsonschema.validate(found, json.loads(schema_text("drift")))


def test_compare_of_two_splits_is_drift(here: Path) -> None:
    names = ("--split", "test", "--split", "train")
    assert (
        run("compare", "net.zarr", *names, cwd=here).stdout
        == run("drift", "net.zarr", *names, cwd=here).stdout
    )
    found = document("drift", "compare", "net.zarr", *names, cwd=here)
    assert found["reference"]["split"] == "test"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("compare", "net.zarr"), "two splits of STORE, as in --split NAME --split NAME"),
        (("compare", "net.zarr", "--split", "train"), "there is nothing to compare"),
        (
            ("compare", "net.zarr", "net.zarr", "--split", "train", "--split", "test"),
            "`cnatool drift` compares distributions",
        ),
        (
            ("compare", "net.zarr", "--split", "a", "--split", "b", "--tolerance", "1"),
            "--tolerance 1 does not apply",
        ),
        (("drift", "net.zarr", "--split", "train"), "Name two of them as --split"),
        (("drift", "net.zarr", "--split", "train", "--split", "x"), "no split 'x'"),
        (("drift", "net.zarr", "--tensors", "x"), "--tensors x: net.zarr has no such tensor"),
        (("drift", "net.zarr", "--correction", "x"), "--correction x: there are"),
        (("drift", "net.zarr", "--level", "1"), "--level 1.0: must be between 0 and 1"),
        (("drift", "net.zarr", "-o", "a.txt"), "must end in .parquet or .csv"),
        (("drift", "net.zarr", "-o", "none/a.csv"), "no such folder"),
    ],
)
def test_what_cannot_be_compared(here: Path, words: tuple[str, ...], text: str) -> None:
    assert text in refused(*words, cwd=here)
