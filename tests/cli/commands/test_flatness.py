"""Flatness end to end: the installed command measures it, scores it, and says what it lacks."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.command import COMMAND, document, run
from support.networks import mlp, saved

from cnatool.schemas import schema_text


def labelled(x: np.ndarray, model: onnx.ModelProto) -> np.ndarray:
    """Give samples the classes that a network says, so that it is right on all."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    values = x.reshape(len(x), -1).astype("f4") / 255
    for name in ("fc1", "fc2", "fc3", "logits"):
        values = values @ constants[f"{name}.weight"].T + constants[f"{name}.bias"]
        values = values if name == "logits" else np.maximum(values, 0)
    return values.argmax(axis=1)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(0)
    saved(mlp(), folder / "net.onnx")
    saved(mlp(seed=8), folder / "initial.onnx")
    (folder / "data").mkdir()
    for name, rows in (("train", 1600), ("test", 200)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8)
        np.savez(folder / f"data/{name}.npz", x=x, y=labelled(x, mlp()))
    words = ("--flatness", "--flatness-samples", 900, "--flatness-draws", 4, "--seed", 5)
    words += ("--flatness-target", 0.2, "--initial-model", "initial.onnx")
    said = run("dump", "net.onnx", "data", *words, cwd=folder).stderr
    assert "2 kinds of noise × 14 scales × 4 draws × 900 samples, at most 100,800 through" in said
    assert "measuring flatness on 900 samples of train, accuracy 1: up to 5 seconds" in said
    assert "flatness: 100,800 of 100,800" in said
    return folder


def scored(here: Path, *words: str, store: str = "net.zarr") -> dict:
    return document("score", "score", store, *words, cwd=here)


def test_scores_are_the_formulas(here: Path) -> None:
    attribute = json.loads((here / "net.zarr/zarr.json").read_text())["attributes"]["cnatool"]
    jsonschema.validate(attribute, json.loads(schema_text("store")))
    kept = attribute["flatness"]
    assert kept["settings"] == {"samples": 900, "draws": 4, "target": 0.2, "seed": 5}
    s, t = kept["plain"]["sigma"], kept["magnitude"]["sigma"]
    w, before = (
        np.concatenate(
            [
                numpy_helper.to_array(tensor).astype(float).reshape(-1)
                for tensor in model.graph.initializer
                if len(tensor.dims) == 2
            ]
        )
        for model in (mlp(), mlp(seed=8))
    )
    assert kept["weights"] == len(w)

    def aware(v: np.ndarray, u: np.ndarray) -> float:
        above = 1e-6 + (t**2 + 1) * (v**2).sum() / len(w)
        return np.log(above / (1e-6 + t**2 * u**2)).sum() / 4 + math.log(1600 / t) + 10

    moved = w - before
    truth = {
        "pac_bayes_flatness": 1 / s**2,
        "pac_bayes_init": (moved**2).sum() / 4 / s**2 + math.log(1600 / s) + 10,
        "pac_bayes_orig": (w**2).sum() / 4 / s**2 + math.log(1600 / s) + 10,
        "pac_bayes_mag_flatness": 1 / t**2,
        "pac_bayes_mag_init": aware(moved, moved),
        "pac_bayes_mag_orig": aware(w, moved),
        "pac_bayes_mag_from_zero": aware(w, w),
    }
    found = scored(here)["baselines"]
    assert found["flatness"] == kept["settings"]
    for name, value in truth.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-9), name
        assert found[name]["log"] == pytest.approx(math.log(value), abs=1e-9), name
        assert found[name]["reason"] is None
    table = run("score", "net.zarr", "--baselines", cwd=here).stdout
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.strip()}
    for name, value in truth.items():
        assert rows[name.replace("_", "-")][-2:] == [f"{math.log(value):.4f}", f"{value:.6g}"]


def test_both_formats_hold_the_same_bytes(here: Path) -> None:
    run("convert", "net.zarr", "copy.h5", "-q", cwd=here)
    one, other = scored(here), scored(here, store="copy.h5")
    assert one["baselines"] == other["baselines"]


def test_without_it_the_measures_say_how_to_get_them(here: Path) -> None:
    run("dump", "net.onnx", "data", "-o", "none.zarr", "-q", cwd=here)
    found = scored(here, store="none.zarr")["baselines"]
    assert found["flatness"] is None
    assert "pac-bayes" not in run("score", "none.zarr", "--baselines", cwd=here).stdout
    assert found["pac_bayes_flatness"] == {
        "value": None,
        "log": None,
        "log_norm": None,
        "reason": "the store holds no flatness: dump with --flatness",
    }


def test_dry_run_says_what_it_would_take(here: Path) -> None:
    said = run("dump", "net.onnx", "data", "-o", "dry.zarr", "--flatness", "--dry-run", cwd=here)
    assert "14 scales × 10 draws × 1,600 samples, at most 448,000 through the model" in said.stderr
    assert not (here / "dry.zarr").exists()


def test_options_that_cannot_be_meant(here: Path) -> None:
    result = run("dump", "net.onnx", "data", "--flatness-draws", 3, cwd=here, code=2)
    assert "--flatness-draws: pass --flatness too." in result.stderr
    words = ("--flatness", "--flatness-samples", 0)
    result = run("dump", "net.onnx", "data", "-o", "x.zarr", *words, cwd=here, code=2)
    assert "--flatness-samples 0: at least 1." in result.stderr


def test_it_can_be_interrupted(here: Path) -> None:
    words = ("--flatness", "--flatness-draws", "100000", "-o", "cut.zarr")
    process = subprocess.Popen(
        [COMMAND, "dump", "net.onnx", "data", *words],
        cwd=here,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measuring flatness"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "cnatool: interrupted." in rest
    assert not list(here.glob("cut.*"))
