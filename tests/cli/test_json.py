"""JSON of dump, inspect and the preflight; exit codes; tensors that are not stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from support.command import document, run
from support.dumps import make_data
from support.networks import Builder, saved

import cnatool
from cnatool.cli.app import app
from cnatool.dumping import preflight as forecast
from cnatool.dumping.skipped_summary import is_lost, needs_no_storing, summarise_skipped
from cnatool.records.skipped import (
    INSIDE_OPERATOR,
    NOT_ASKED,
    not_numeric_reason,
    subgraph_reason,
)
from cnatool.records.store import SkippedTensor


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path)


GROUP: Any = typer.main.get_command(app)


def test_dump(here: Path) -> None:
    found = document("dump", "dump", "net.onnx", "data", "-o", "s.zarr", cwd=here)
    store = cnatool.open(here / "s.zarr")
    assert found["store"] == "s.zarr"
    assert found["complete"]
    assert {name: split["samples"] for name, split in found["splits"].items()} == {
        "train": 60,
        "test": 40,
    }
    assert all(split["labels"] for split in found["splits"].values())
    assert found["tensors"] == len(store.tensors)
    assert found["layers"] == len(store.layers)
    assert any(note.startswith("split train: 60 samples") for note in found["notes"])


def test_preflight(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("dump", "net.onnx", "data", "-o", "s.zarr", "--dry-run")
    found = document("preflight", *words, cwd=here)
    assert found["fits"]
    assert found["samples"] == {"train": 60, "test": 40}
    assert found["tensors"] == len(cnatool.dump("net.onnx", "data", "t.zarr").tensors)
    assert not (here / "s.zarr").exists()
    monkeypatch.setattr(forecast.Preflight, "fits", False)
    result = run(*words, "--json", code=2)
    assert not json.loads(result.stdout)["fits"]
    assert "would need about" in result.stderr


def test_inspect(here: Path) -> None:
    store = cnatool.dump("net.onnx", "data", "s.zarr", tags={"run": "a"})
    found = document("inspect", "inspect", "s.zarr", cwd=here)
    assert (found["kind"], found["tags"]) == ("store", {"run": "a"})
    assert [one["name"] for one in found["tensors"]] == [one.name for one in store.tensors]
    assert found["splits"]["train"]["rows"] == 60
    model = document("inspect", "inspect", "net.onnx", cwd=here)
    assert model["kind"] == "model"
    assert [one["name"] for one in model["tensors"]] == [one.name for one in store.tensors]
    assert [one["linear"] for one in model["layers"]] == [one.linear for one in store.layers]
    assert model["model"]["files"] == found["model"]["files"]
    assert model["inputs"][0]["name"] == "x"


def test_exit_codes_are_in_every_help() -> None:
    commands = [
        ["--help"],
        ["preprocess", "show", "--help"],
        *([name, "--help"] for name in GROUP.commands if name != "preprocess"),
    ]
    for words in commands:
        text = " ".join(run(*words).stdout.split())
        assert "Exit codes: 0 success; 1 a check failed" in text, words
        for code in (2, 3, 4, 130, 143):
            assert f" {code} " in text


def skipped(*tensors: tuple[str, str]) -> list[SkippedTensor]:
    return [SkippedTensor(f"t{i}", *one) for i, one in enumerate(tensors)]


def test_tensors_without_samples_do_not_frighten() -> None:
    shape = "depends on an input's shape alone"
    found = skipped(
        *[("Constant", "constant")] * 512,
        *[("Gather", shape)] * 264,
        ("RandomNormal", "constant"),
        ("ReduceMean", "no sample axis: shape (4,) whatever the number of samples"),
        ("Add", subgraph_reason("BeamSearch", "no results")),
        *[("SplitToSequence", not_numeric_reason("a sequence"))] * 5,
        ("LSTM", INSIDE_OPERATOR),
        ("LSTM", NOT_ASKED),
    )
    assert list(summarise_skipped(found, 412)) == [
        "not counted: 1 random tensor, 512 constants, 264 results of shape arithmetic, which hold "
        "no values for samples",
        "8 of 420 tensors cannot be stored by sample: 1 without a sample axis, 1 inside "
        "BeamSearch, 5 sequences, 1 inside LSTM (`inspect(skipped=True)` lists them)",
        "nodes offer 1 output that the model does not use, such as states or attention scores "
        f"(`tensors='inner'`): {found[-1].name}",
    ]
    assert sum(map(needs_no_storing, found)) == 777
    assert sum(map(is_lost, found)) == 8
    assert list(summarise_skipped([], 9)) == []


def test_a_long_list_of_layers_is_short(here: Path) -> None:
    b = Builder()
    before = "x"
    for i in range(60):
        weight = b.constant(f"w{i}", np.eye(8, dtype=np.float32))
        b.node("MatMul", [before, weight], f"block_{i}/attention/output/dense/MatMul_output_0")
        before = f"block_{i}/attention/output/dense/MatMul_output_0"
    saved(b.model({"x": ("n", 8)}, {before: ("n", 8)}), here / "deep.onnx")
    np.savez(here / "d.npz", x=np.random.default_rng(0).integers(0, 256, (50, 8), np.uint8))
    cnatool.dump("deep.onnx", "d.npz", "deep.zarr")
    text = run("score", "deep.zarr").stdout
    [line] = (line for line in text.splitlines() if line.startswith("59 layers"))
    assert line.startswith("59 layers, from 1 block_0/")
    assert len(line) < 180
    listed = run("score", "deep.zarr", "--layers").stdout.splitlines()
    place = listed.index("59 layers:")
    assert listed[place + 1].split()[0] == "1"
    assert listed[place + 59].split()[0] == "59"
