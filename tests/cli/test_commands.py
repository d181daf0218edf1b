"""The installed command, end to end, on data and networks that the tests make."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from support.command import COMMAND, python, run, with_options_in
from support.networks import Builder, residual_convnet, saved

import cnatool
from cnatool.schemas import schema_text


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, data, and the store that `cnatool dump` made of them."""
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(0)
    saved(residual_convnet(), folder / "net.onnx")
    (folder / "data").mkdir()
    for name, rows in (("train", 160), ("test", 90)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8) // rng.integers(1, 99, (rows, 1, 1))
        y = rng.integers(0, 10, rows)
        np.savez(folder / f"data/{name}.npz", x=x.astype(np.uint8), y=y)
    result = run("dump", "net.onnx", "data", "--tag", "epoch=3", "--tag", "seed=1", cwd=folder)
    assert result.stdout == "net.zarr\n"
    assert "x (8, 8) uint8 -> input 'x' (1, 8, 8) float32" in result.stderr
    assert "next: cnatool score net.zarr" in result.stderr
    return folder


def test_json_validates_and_is_what_the_api_gives(here: Path) -> None:
    schema = json.loads(schema_text("score"))
    for convention in ("paper", "reference", "legacy"):
        text = run("score", "net.zarr", "--json", "--convention", convention, cwd=here).stdout
        jsonschema.validate(json.loads(text), schema)
        result = cnatool.score(here / "net.zarr", convention=convention)
        parsed = json.loads(text)
        # Notes name options where those of the library name parameters.
        assert parsed | {"store": ""} == with_options_in(json.loads(result.to_json())) | {
            "store": ""
        }
        assert parsed["tags"] == {"epoch": "3", "seed": "1"}
    # The last of them a second time.
    assert run("score", "net.zarr", "--json", "--convention", convention, cwd=here).stdout == text


def test_store_attribute_validates(here: Path) -> None:
    metadata = json.loads((here / "net.zarr/zarr.json").read_text())
    jsonschema.validate(metadata["attributes"]["cnatool"], json.loads(schema_text("store")))


def test_table_says_what_the_json_says(here: Path) -> None:
    table = run("score", "net.zarr", "--set", "depth=path", "--set", "bins=64", cwd=here).stdout
    result = cnatool.score(here / "net.zarr", overrides={"depth": "path", "bins": "64"})
    assert table.startswith("convention paper+depth=path+bins=64\n")
    for split in result.splits.values():
        assert f"{split.cna.value:.4f}" in table
        assert f"{split.loss:.4f}" in table
    for estimate in (result.cna_area, result.margin, result.cna_margin, result.gap):
        assert f"{estimate.value:.4f}" in table
    assert [layer.depth for layer in result.layers] == [1, 2, 3, 4, 5, 4]
    assert "4 projection_bn (Conv)" in table


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_samples(here: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"samples.{suffix}"
    run("score", "net.zarr", "--samples", file, cwd=here)
    frame = pl.read_parquet(file) if suffix == "parquet" else pl.read_csv(file)
    columns = ["split", "id", "label", "prediction", "alpha", "beta", "margin", "length"]
    if suffix == "parquet":
        assert pl.read_parquet_metadata(file)["cnatool.convention"] == "paper"
    else:
        columns.append("convention")
        assert set(frame["convention"]) == {"paper"}
    assert frame.columns == columns
    assert frame["split"].value_counts(sort=True).rows() == [("train", 160), ("test", 90)]
    test = frame.filter(pl.col("split") == "test")
    raw = np.load(here / "data/test.npz")
    assert test["label"].to_list() == raw["y"].tolist()
    result = cnatool.score(here / "net.zarr").splits["test"]
    assert np.corrcoef(test["alpha"], test["beta"])[0, 1] == pytest.approx(result.cna.value)
    assert (test["label"] == test["prediction"]).mean() == pytest.approx(result.accuracy)


def test_splits_in_two_stores(here: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        run("dump", here / "net.onnx", here / f"data/{name}.npz", "-o", f"{name}.zarr", "-q",
            cwd=tmp_path)  # fmt: skip
    text = run("score", "train.zarr", "--test", "test.zarr", "--json", cwd=tmp_path).stdout
    together = json.loads(run("score", "net.zarr", "--json", cwd=here).stdout)
    apart = json.loads(text)
    assert apart["test_store"] == "test.zarr"
    for key in ("splits", "gap", "cna_area", "margin", "cna_margin", "layers"):
        assert apart[key] == together[key]


def test_inspect_model(here: Path) -> None:
    lines = run("inspect", "net.onnx", cwd=here).stdout.splitlines()
    rows = {line.split()[1]: line.split() for line in lines if line.split()[:1] != [] and
            line.split()[0].isdecimal() and len(line.split()) > 5}  # fmt: skip
    assert rows["stem"] == ["0", "stem", "Conv", "layer", "1", "4×8×8", "float32", "1024"]
    assert rows["projection_bn"][3:6] == ["layer", "6", "shortcut"]
    assert rows["b1_relu"][3] == "activation"
    assert rows["probabilities"][3] == "output"


def test_inspect_store(here: Path) -> None:
    text = run("inspect", "net.zarr", cwd=here).stdout
    assert "split train: 160 rows, labels, from train.npz" in text
    assert "tag epoch=3" in text
    assert "input x: 8×8 uint8 -> 1×8×8 float32" in text
    assert "full" in text


def test_inspect_needs_an_open_shape(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    saved(b.model({"x": ("n", "c", 4)}, {"y": ("n", "c", 4)}), tmp_path / "open.onnx")
    result = run("inspect", "open.onnx", cwd=tmp_path, code=2)
    assert "--input-shape x=224,4" in result.stderr
    assert "5×4" in run("inspect", "open.onnx", "--input-shape", "5,4", cwd=tmp_path).stdout


def test_help_of_every_command(here: Path) -> None:
    text = run("--help", cwd=here).stdout
    for command in ("demo", "inspect", "dump", "score", "study", "schema"):
        assert f"\n  {command}" in text
        assert "Usage: cnatool" in run(command, "--help", cwd=here).stdout
    assert run("--version", cwd=here).stdout == f"cnatool {cnatool.__version__}\n"


def test_unknown_option_is_a_usage_error(here: Path) -> None:
    assert "--nothing" in run("score", "--nothing", cwd=here, code=2).stderr


def test_reader_that_goes_away(here: Path) -> None:
    script = f"{COMMAND} inspect net.zarr | head -n 1"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=here)
    assert "Traceback" not in result.stderr
    assert result.stdout.startswith("net.zarr: store by cnatool")


@pytest.mark.parametrize("words", ["inspect net.zarr --json", "--help"])
def test_exit_code_where_the_reader_is_gone(here: Path, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [COMMAND, *words.split()], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=here
        )
    finally:
        os.close(writer)
    # As of any program in a pipe; 1 is the code of a check that failed.
    assert (result.returncode, result.stderr) == (141, "")


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "evil\x1b]0;owned\x07")
    b.node("Abs", ["evil\x1b]0;owned\x07"], "out")
    saved(b.model({"x": ("n", 4)}, {"out": ("n", 4)}), tmp_path / "net.onnx")
    text = run("inspect", "net.onnx", cwd=tmp_path).stdout
    assert "\x1b" not in text
    assert r"evil\x1b]0;owned\x07" in text


def test_module_runs_as_the_command(here: Path) -> None:
    words = [sys.executable, "-m", "cnatool", "--version"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
    assert result.stdout == run("--version", cwd=here).stdout


def test_scale_as_a_fraction(here: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    run("dump", "net.onnx", "data", "-o", store, "--scale", "1/51", "--limit", 3, cwd=here)
    assert cnatool.open(store).record.preprocessing[0].scale == 1 / 51


def test_help_names_every_field_of_a_convention(here: Path) -> None:
    import msgspec

    from cnatool.metrics.convention import ConventionFields

    said = run("score", "--help", cwd=here).stdout.replace("\n", " ")
    for field in msgspec.structs.fields(ConventionFields):
        assert field.name in said


def test_the_table_of_scores_fits_a_terminal(here: Path) -> None:
    lines = run("score", "net.zarr", cwd=here).stdout.splitlines()
    assert 40 < max(len(line) for line in lines if "──" in line) <= 80


def test_interrupted_score_says_one_line(here: Path) -> None:
    code = (
        "import sys, _thread, time\n"
        "import cnatool.scoring.score as s\n"
        "def slow(*words):\n"
        "    _thread.interrupt_main()\n"
        "    time.sleep(5)\n"
        "s.score_split = slow\n"
        "sys.argv = ['cnatool', 'score', 'net.zarr']\n"
        "from cnatool.cli import main\n"
        "main()\n"
    )
    words = [sys.executable, "-c", code]
    result = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=here)
    assert result.returncode == 130
    assert result.stderr == "cnatool: interrupted.\n"


def test_inputs_and_constants_from_the_command_line(tmp_path: Path) -> None:
    b = Builder()
    b.node("Mul", ["x", "rate"], "scaled")
    b.node("Add", ["scaled", "shift"], "y")
    model = b.model({"x": ("n", 4), "rate": (1,), "shift": ("n", 4)}, {"y": ("n", 4)})
    saved(model, tmp_path / "net.onnx")
    x = np.random.default_rng(0).random((20, 4), np.float32)
    np.savez(tmp_path / "data.npz", pixels=x, labels=np.zeros(20, int))
    np.save(tmp_path / "shift.npy", np.full((1, 4), 7.0))
    words = ["--constant", "rate=0.5", "--constant", "shift=shift.npy"]
    run("dump", "net.onnx", "data.npz", *words, "--input", "x=pixels", cwd=tmp_path)
    store = cnatool.open(tmp_path / "net.zarr")
    np.testing.assert_allclose(store.splits["all"].outputs()[:], x * 0.5 + 7, rtol=1e-6)
    text = run("inspect", "net.onnx", *words, cwd=tmp_path).stdout
    assert "input 'rate' float32 (1), batches of 1" in text
    text = run("inspect", "net.zarr", cwd=tmp_path).stdout
    assert "input rate: constant 0.5" in text
    assert "input shift: constant 1×4 float32" in text


def test_inspect_says_what_was_cast_and_what_varies(tmp_path: Path) -> None:
    b = Builder()
    b.node("Cast", ["x"], "narrow", to=16)  # bfloat16
    b.node("Cast", ["narrow"], "wide", to=1)
    b.node("ReduceMax", ["x"], "largest", keepdims=0)
    b.node("Cast", ["largest"], "stop", to=7)
    b.node("Unsqueeze", ["stop", b.constant("zero", np.array([0]))], "stops")
    b.node("Slice", ["wide", "zero", "stops", b.constant("one", np.array([1]))], "cut")
    b.node("ReduceSum", ["cut", "one"], "y", keepdims=0)
    saved(b.model({"x": ("n", 6)}, {"y": ("n",)}), tmp_path / "net.onnx")
    x = np.tile(np.array([[1.2], [2.2], [5.2], [3.2]], np.float32), (1, 6))
    np.savez(tmp_path / "data.npz", x=x)
    run("dump", "net.onnx", "data.npz", "--batch-size", 2, cwd=tmp_path)
    text = run("inspect", "net.zarr", cwd=tmp_path).stdout
    assert re.search(r"narrow .* bfloat16 +12 ", text)
    assert ", varies" in text


def test_inspect_lists_layers(here: Path) -> None:
    for path in ("net.onnx", "net.zarr"):
        lines = run("inspect", path, "--layers", cwd=here).stdout.splitlines()
        rows = lines[next(i for i, line in enumerate(lines) if "pre-activation" in line) + 2 :]
        layers = [row.split() for row in rows if row.strip()[:1].isdigit()]
        assert [row[0] for row in layers] == [str(i) for i in range(1, len(layers) + 1)]
        assert any("BatchNormalization" in row for row in rows)
        assert layers[-1][-1] == "output"


def test_hdf5_from_dump_to_score(here: Path, tmp_path: Path) -> None:
    words = ("--tag", "epoch=3", "--tag", "seed=1", "--codec", "gzip")
    made = run("dump", here / "net.onnx", here / "data", "-o", "net.h5", *words, cwd=tmp_path)
    assert made.stdout == "net.h5\n"
    assert [path.name for path in tmp_path.iterdir()] == ["net.h5"]
    scores = run("score", here / "net.zarr", "--json", cwd=tmp_path).stdout
    expected = {**json.loads(scores), "store": "net.h5"}
    assert json.loads(run("score", "net.h5", "--json", cwd=tmp_path).stdout) == expected
    listed = run("inspect", here / "net.zarr", cwd=tmp_path).stdout
    assert run("inspect", "net.h5", cwd=tmp_path).stdout == (
        listed.replace(str(here / "net.zarr"), "net.h5")
    )


def test_convert(here: Path, tmp_path: Path) -> None:
    made = run("convert", here / "net.zarr", "net.hdf5", cwd=tmp_path)
    assert made.stdout == "net.hdf5\n"
    assert "train: 160 of 160" in made.stderr
    assert "next: cnatool score net.hdf5" in made.stderr
    quiet = run("convert", "net.hdf5", "net.zarr", "-q", cwd=tmp_path)
    assert (quiet.stdout, quiet.stderr) == ("net.zarr\n", "")
    texts = [
        run("score", path, "--json", cwd=tmp_path).stdout.replace(str(path), "")
        for path in (here / "net.zarr", "net.hdf5", "net.zarr")
    ]
    assert texts[0] == texts[1] == texts[2]


def test_zipped_store(here: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "net.zarr"), "zip", here, "net.zarr")
    text = run("score", "net.zarr.zip", "--json", cwd=tmp_path).stdout
    expected = json.loads(run("score", here / "net.zarr", "--json", cwd=tmp_path).stdout)
    assert json.loads(text) == {**expected, "store": "net.zarr.zip"}
    assert "net.zarr.zip: store by cnatool" in run("inspect", "net.zarr.zip", cwd=tmp_path).stdout


def test_the_stores_that_the_documentation_writes_are_scored(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/store.md").read_text(encoding="utf-8")
    plain = text.split("Any program can write a store")[1].split("```python\n")[1:3]
    script = "\n".join(part.split("```")[0] for part in plain)
    python(script, cwd=tmp_path)
    results = []
    for name in ("mine.h5", "mine.zarr"):
        result = json.loads(run("score", name, "--json", cwd=tmp_path).stdout)
        assert result["splits"]["test"]["samples"] == 500
        assert result["splits"]["test"]["cna"]["value"] is not None
        results.append({**result, "store": ""})
        assert "nothing is wrong" in run("verify", name, cwd=tmp_path).stdout
    assert results[0] == results[1]
