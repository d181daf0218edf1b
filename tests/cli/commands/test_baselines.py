"""Baselines end to end: the installed command, on networks that the tests make."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.command import document, run
from support.dumps import files, make_data
from support.networks import mlp, saved

import cnatool

QUOTIENTS = ("l2", "spectral", "l2_path", "bound_2018", "bound_2018_from_zero")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_data(tmp_path_factory.mktemp("here"), 160, 90)
    saved(mlp(seed=8), folder / "initial.onnx")
    run("dump", "net.onnx", "data", "--initial-model", "initial.onnx", cwd=folder)
    return folder


def matrices(model: onnx.ModelProto) -> list[np.ndarray]:
    return [
        numpy_helper.to_array(t).astype(float) for t in model.graph.initializer if len(t.dims) == 2
    ]


def scored(here: Path, *words: str, store: str = "net.zarr") -> dict:
    return document("score", "score", store, *words, cwd=here)


def test_baselines_are_the_formulas(here: Path) -> None:
    # All margins are positive, so that γ is.
    result = scored(here, "--set", "margin=percentile", "--set", "margin_percentile=99")
    gamma = result["margin"]["value"]
    assert gamma > 0
    found = result["baselines"]
    weights, before = matrices(mlp()), matrices(mlp(seed=8))
    frobenius = np.array([np.linalg.norm(w) for w in weights])
    spectral = np.array([np.linalg.norm(w, 2) for w in weights])
    moved = np.array([np.linalg.norm(w - o) for w, o in zip(weights, before, strict=True)])
    units = np.array([len(w) for w in weights])
    factor = 4 * spectral.prod() / gamma / math.sqrt(160)
    values = np.ones(64)
    constants = {t.name: numpy_helper.to_array(t).astype(float) for t in mlp().graph.initializer}
    for name in ("fc1", "fc2", "fc3", "logits"):
        values = constants[f"{name}.weight"] ** 2 @ values + constants[f"{name}.bias"] ** 2
    truth = {
        "l2": frobenius.prod() / gamma,
        "spectral": spectral.prod() / gamma,
        "l2_path": math.sqrt(values.sum()) / gamma,
        "bound_2018": factor * math.sqrt((units * moved**2 / spectral**2).sum()),
        "bound_2018_from_zero": factor * math.sqrt((units * frobenius**2 / spectral**2).sum()),
        "parameter_norm": np.linalg.norm(frobenius),
        "l1": sum(np.abs(w).sum() for w in weights),
        "distance": np.linalg.norm(moved),
        "parameters": sum(value.size for value in constants.values()),
        "depth": 4,
    }
    assert found["layers"] == 4
    assert found["training_samples"] == 160
    assert found["initial"] == "initial.onnx"
    for name, value in truth.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-6), name
        assert found[name]["log"] == pytest.approx(math.log(value), abs=1e-6), name
        assert found[name]["reason"] is None
        quotient = name in QUOTIENTS
        assert found[name]["log_norm"] == (
            pytest.approx(math.log(value * gamma), abs=1e-6) if quotient else None
        ), name


def test_a_margin_that_is_not_positive_takes_the_quotients_away(here: Path) -> None:
    found = scored(here, "--convention", "reference")["baselines"]
    words = ("--set", "margin=percentile", "--set", "margin_percentile=99")
    divided = scored(here, *words)["baselines"]
    for name in QUOTIENTS:
        assert found[name]["value"] is None
        assert found[name]["log_norm"] == pytest.approx(divided[name]["log_norm"], abs=1e-9)
        assert "a divisor must be above 0" in found[name]["reason"]
    assert found["parameter_norm"]["value"] > 0


def test_the_table_is_for_those_who_ask(here: Path) -> None:
    words = ("score", "net.zarr", "--set", "margin=percentile", "--set", "margin_percentile=99")
    assert "baseline" not in run(*words, cwd=here).stdout
    table = run(*words, "--baselines", cwd=here).stdout
    result = cnatool.score(
        here / "net.zarr", overrides={"margin": "percentile", "margin_percentile": 99}
    ).baselines
    assert f"{result.l2.log:.4f}  {result.l2.value:.6g}" in table
    assert f"{result.bound_2018.log:.4f}  {result.bound_2018.value:.6g}" in table
    assert "2018 bound      from initial.onnx" in table
    assert "undefined" not in table


def test_m_is_what_the_source_holds(here: Path) -> None:
    run("dump", "net.onnx", "data", "--limit", "50", "-o", "part.zarr", "-q", cwd=here)
    found = scored(here, store="part.zarr")["baselines"]
    assert found["training_samples"] == 160
    assert found["initial"] is None
    assert found["distance"]["reason"] == (
        "the initial weights are not known: dump with --initial-model FILE"
    )


def test_norms_survive_conversion_and_resumption(here: Path) -> None:
    run("convert", "net.zarr", "copy.h5", cwd=here)
    first, copy = scored(here), scored(here, store="copy.h5")
    assert copy["baselines"] == first["baselines"]
    same = run("dump", "net.onnx", "data", "--initial-model", "initial.onnx", "--resume", cwd=here)
    assert "there is nothing left to do" in same.stderr
    other = run("dump", "net.onnx", "data", "--resume", cwd=here, code=2)
    assert "initial initial.onnx in the store and none now" in other.stderr


def test_another_network_is_no_initial_state(here: Path) -> None:
    saved(mlp((64, 30, 16, 12, 10)), here / "other.onnx")
    words = ("dump", "net.onnx", "data", "-o", "new.zarr", "--initial-model", "other.onnx")
    before = files(here)
    refused = run(*words, cwd=here, code=2)
    assert (
        "other.onnx is not the initial state of net.onnx: the weights of layer 1 are 30 × 64"
        in (refused.stderr)
    )
    assert files(here) == before
    missing = run(*words[:-1], "no.onnx", cwd=here, code=2)
    assert "no.onnx: no such model file." in missing.stderr
