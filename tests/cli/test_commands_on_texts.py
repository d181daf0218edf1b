"""Every command that takes a store takes one of texts that differ in length, or says why not."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from support.command import run
from support.texts import IDS, START, TEXTS, record_texts

import cnatool

PLAIN = ("--set", "resamples=0", "--set", "area_resamples=0", "--set", "permutations=0")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "runs").mkdir()
    for epoch in range(3):
        record_texts(
            folder / f"runs/{epoch}.zarr",
            {"text": TEXTS, "ids": IDS},
            seed=epoch,
            kinds={"text": "text", "ids": "tokens"},
            special=[START],
            tags={"epoch": str(epoch)},
        )
    return folder


def test_score(here: Path) -> None:
    said = run("score", "runs/0.zarr", *PLAIN, cwd=here).stdout
    assert "length (bytes)" in said
    assert "CNA at fixed length" in said
    assert "α: bytes of 'text' in UTF-8" in said
    assert "--set alpha=entropy-rate and --set aggregate=mean do not grow with length" in said
    found = cnatool.score(here / "runs/0.zarr").splits["train"].length
    assert f"{found.cna.value:.4f}" in said
    said = run("score", "runs/0.zarr", "--set", "alpha_symbols=tokens", *PLAIN, cwd=here).stdout
    assert "length (tokens)" in said
    result = json.loads(run("score", "runs/0.zarr", "--json", *PLAIN, cwd=here).stdout)
    assert result["splits"]["train"]["alpha_undefined"] == 1
    assert result["splits"]["test"]["length"]["unit"] == "bytes"
    few = run("score", "runs/0.zarr", "--set", "alpha=compression-rate", *PLAIN, cwd=here).stdout
    assert "α: windows of 32 bytes of 'text' in UTF-8, zlib" in few


def test_layers(here: Path) -> None:
    said = run("layers", "runs/0.zarr", cwd=here).stdout
    assert "α: bytes of 'text' in UTF-8" in said


def test_copies_are_equal(here: Path) -> None:
    assert run("verify", "runs/0.zarr", cwd=here).returncode == 0
    run("convert", "runs/0.zarr", "copy.h5", cwd=here)
    assert "the same within" in run("compare", "runs/0.zarr", "copy.h5", cwd=here).stdout
    assert cnatool.open(here / "copy.h5").splits["train"].texts() == TEXTS[:40]
    first, second = (cnatool.score(here / name) for name in ("runs/0.zarr", "copy.h5"))
    assert first.splits == second.splits


def test_study_and_trajectory(here: Path) -> None:
    run("study", "runs", "-o", "study", *PLAIN, cwd=here, code=None)
    frame = pl.read_parquet(here / "study/networks.parquet").sort("id")
    expected = cnatool.score(here / "runs/1.zarr").splits["test"].length.cna.value
    assert frame["test.cna.fixed_length"][1] == pytest.approx(expected)
    said = run("trajectory", "runs", "-o", "steps", *PLAIN, cwd=here).stdout
    assert "CNA" in said


@pytest.mark.parametrize("figure", ["depth-profile", "alpha-beta", "area", "error-by-alpha"])
def test_figures(here: Path, figure: str) -> None:
    run(
        "plot",
        "runs/0.zarr",
        "--figure",
        figure,
        "-o",
        f"{figure}.json",
        "--set",
        "window=9",
        cwd=here,
    )
    assert (here / f"{figure}.json").stat().st_size > 1000


def test_landscapes_say_why_not(here: Path) -> None:
    ended = run("landscape", "runs", cwd=here, code=2)
    assert "the shape of layer 'first' depends on the data" in ended.stderr
