"""What dump, score and inspect say beside their results, from the installed command."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.command import run
from support.dumps import make_data
from support.networks import Builder, saved

import cnatool
from cnatool.scoring.split_selection import _range_around


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return make_data(tmp_path, 1500, 90)


def floats(folder: Path, low: float = 0, high: float = 1) -> dict[str, np.ndarray]:
    """Write splits of floating samples of 64 numbers."""
    rng = np.random.default_rng(1)
    splits = {name: rng.uniform(low, high, (60, 64)).astype("f4") for name in ("train", "test")}
    for name, x in splits.items():
        np.savez(folder / f"data/{name}.npz", x=x, y=rng.integers(0, 10, 60))
    return splits


BY_CHANCE = "CNA-A is above 0 by chance alone: "  # in each report of two splits


def notes(text: str) -> list[str]:
    """The notes of a report but for that on CNA-A."""
    lines = [line for line in text.splitlines() if line.startswith("note: ")]
    return [line for line in lines if not line.startswith(f"note: {BY_CHANCE}")]


def other_notes(result: cnatool.ScoreResult) -> tuple[str, ...]:
    (_,) = (line for line in result.notes if line.startswith(BY_CHANCE))
    return tuple(line for line in result.notes if not line.startswith(BY_CHANCE))


def test_limit_is_recorded_and_said(here: Path) -> None:
    run("dump", "net.onnx", "data", "--limit", 1000, cwd=here)
    record = cnatool.open(here / "net.zarr").record
    assert {n: (s.rows, s.available) for n, s in record.splits.items()} == {
        "train": (1000, 1500),
        "test": (90, 90),
    }
    text = run("inspect", "net.zarr", cwd=here).stdout
    assert "split train: 1,000 of 1,500 samples, labels, from train.npz" in text
    assert "split test: 90 rows, labels, from test.npz" in text
    text = run("score", "net.zarr", cwd=here).stdout
    assert notes(text) == ["note: scored: the first 1,000 of 1,500 samples of train"]
    found = json.loads(run("score", "net.zarr", "--json", cwd=here).stdout)
    assert found["splits"]["train"]["available"] == 1500
    assert [f"note: {line}" for line in found["notes"] if not line.startswith(BY_CHANCE)] == notes(
        text
    )


def test_layers_that_the_store_lacks(here: Path) -> None:
    run("dump", "net.onnx", "data", "--tensors", "layers", cwd=here)
    text = run("score", "net.zarr", "--set", "layers=all", cwd=here).stdout
    assert notes(text) == [
        "note: layers=all would count 3 more, which the store does not contain (relu1, relu2, "
        "relu3): dump with --tensors all"
    ]
    text = run("inspect", "net.zarr", cwd=here).stdout
    assert "3 more in the model, not chosen with --tensors" in text
    result = cnatool.score(here / "net.zarr", overrides={"layers": "*2,fc1"})
    assert result.layers_missing == ("relu2",)
    for layers in ("preactivation", "fc*", "fc1,fc3"):
        result = cnatool.score(here / "net.zarr", overrides={"layers": layers})
        assert (result.layers_missing, other_notes(result)) == ((), ())
    run("dump", "net.onnx", "data", "--overwrite", cwd=here)
    result = cnatool.score(here / "net.zarr", overrides={"layers": "all"})
    assert (result.layers_missing, other_notes(result)) == ((), ())


def test_no_layer_leads_to_an_output(here: Path) -> None:
    b = Builder()
    b.node("Relu", [b.gemm("x", "fc1", 64, 20)], "relu1")
    b.node("Relu", [b.gemm("relu1", "fc2", 20, 12)], "relu2")
    b.node("Exp", ["relu2"], "out")
    saved(b.model({"x": ("n", 64)}, {"out": ("n", 12)}), here / "odd.onnx")
    run("dump", "odd.onnx", "data", cwd=here)
    said = ["note: no layer leads to an output, so all count as hidden (inspect lists the layers)"]
    assert notes(run("score", "odd.zarr", cwd=here).stdout) == said
    text = run("score", "odd.zarr", "--set", "include_output=true", cwd=here).stdout
    assert notes(text) == []


def test_inputs_outside_the_range_are_all_told(here: Path) -> None:
    splits = floats(here, -2.123, 2.6)
    run("dump", "net.onnx", "data", cwd=here)
    message = run("score", "net.zarr", cwd=here, code=2).stderr
    low = min(x.min() for x in splits.values())
    high = max(x.max() for x in splits.values())
    assert f"go from {low:g} to {high:g}" in message
    around = re.search(r"--set (range=(\S+):(\S+)) includes", message)
    assert float(around[2]) <= low < float(around[2]) + 0.02
    assert float(around[3]) - 0.02 < high <= float(around[3])
    assert message.index("range=") < message.index("clip")
    run("score", "net.zarr", "--set", around[1], cwd=here)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-2.123, 2.6, "-2.13:2.6"),
        (5, 5, "5:5.01"),
        (0, 0, "0:0.01"),
        (-3e308, 1, ""),
        (0, 255, "0:255"),
        (1234567.5, 1234567.75, ""),
    ],
)
def test_a_range_takes_all_in(low: float, high: float, text: str) -> None:
    low = max(low, -sys.float_info.max)
    around = _range_around(low, high)
    if text:
        assert around == text
    first, last = map(float, around.split(":"))
    assert first <= low <= high <= last
    assert first < last


def test_pixels_outside_the_range_are_told_as_fractions(here: Path) -> None:
    run("dump", "net.onnx", "data", cwd=here)
    message = run("score", "net.zarr", "--set", "range=0:0.5", cwd=here, code=2).stderr
    assert "go from 0 to 1, which --set range=0:1 includes" in message


def test_what_is_not_finite_is_said(here: Path) -> None:
    splits = floats(here)
    train, test = splits["train"], splits["test"]
    train[[7, 9], 3] = np.nan
    test[5, 1] = np.inf
    for name, x in splits.items():
        np.savez(here / f"data/{name}.npz", x=x, y=np.arange(60) % 10)
    said = run("dump", "net.onnx", "data", cwd=here).stderr
    assert "NaN or infinite raw inputs in 3 samples (the first is 7 of split train)" in said
    assert (
        "NaN or infinite values in 3 samples (the first is 7 of split train), first tensor 'fc1'"
        in said
    )
    message = run("score", "net.zarr", cwd=here, code=2).stderr
    assert "holds NaN" in message
    words = "score", "net.zarr", "--set", "out_of_range=drop"
    assert "CNA of train: β is not finite" in run(*words, cwd=here).stdout
    for convention in ("paper", "reference", "legacy"):
        for form in (["--samples", "s.csv"], ["--json"]):
            text = run(*words, "--convention", convention, *form, cwd=here).stdout
            assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    frame = pl.read_csv(here / "s.csv")
    assert frame["beta"].null_count() == 3
    assert "nan" not in (here / "s.csv").read_text().lower()


def test_tensors_that_are_not_finite_are_said(here: Path) -> None:
    floats(here, -1, 1)
    b = Builder()
    b.node("Log", [b.gemm("x", "fc1", 64, 20)], "logs")
    b.node("Relu", ["logs"], "relu1")
    b.gemm("relu1", "logits", 20, 10)
    saved(b.model({"x": ("n", 64)}, {"logits": ("n", 10)}), here / "log.onnx")
    said = run("dump", "log.onnx", "data", "--keep", "statistics", cwd=here).stderr
    assert "raw inputs" not in said
    assert "values in 120 samples (the first is 0 of split train), first tensor 'logs'" in said


def test_a_dump_without_faults_says_nothing_of_them(here: Path) -> None:
    assert "NaN" not in run("dump", "net.onnx", "data", cwd=here).stderr


def test_nothing_is_left_out(here: Path) -> None:
    run("dump", "net.onnx", "data", cwd=here)
    for path in ("net.onnx", "net.zarr"):
        text = run("inspect", path, "--skipped", cwd=here).stdout
        assert text.endswith("nothing is left out\n")
        assert "left out" not in run("inspect", path, cwd=here).stdout


def test_output_by_name(here: Path) -> None:
    run("dump", "net.onnx", "data", cwd=here)
    text = run("score", "net.zarr", "--output", "logits", cwd=here).stdout
    assert "output: logits, read as logits" in text
    message = run("score", "net.zarr", "--scores-output", "other", cwd=here, code=2).stderr
    assert "--scores-output other: net.zarr has no such output. It has logits." in message
