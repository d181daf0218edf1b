"""A linear network of two layers, whose every number can be worked out on paper."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support.command import document, run
from support.networks import Builder, saved


def test_two_linear_layers_over_four_pictures(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.constant("w1", np.array([[3, 0], [0, 4]], np.float32))], "h")
    b.node("MatMul", ["h", b.constant("w2", np.array([[1, 1], [1, -1]], np.float32))], "o")
    saved(b.model({"x": ("n", 2)}, {"o": ("n", 2)}), tmp_path / "net.onnx")
    x = np.array([[0, 0], [1, 2], [5, 5], [3, 7]], np.uint8)
    np.savez(tmp_path / "train.npz", x=x, y=np.array([0, 0, 0, 1]))

    words = ("--split", "train=train.npz", "--scale", "1", "-o", "net.zarr")
    run("dump", "net.onnx", *words, cwd=tmp_path)
    words = ("--set=include_output=true", "--set=margin=mean")
    score = document("score", "score", "net.zarr", *words, cwd=tmp_path)
    split, weights = score["splits"]["train"], score["baselines"]
    # α is 0 for two equal pixels, 1 bit for two unequal ones. z = 3a + 4b and (3a + 4b) + (3a − 4b)
    # = 6a, so that β = 3a − 4b: 0, −5, −5, −19.
    assert split["alpha"]["mean"] == 0.5
    assert split["beta"] == pytest.approx(
        {"mean": -7.25, "std": math.sqrt(200.75 / 4), "min": -19, "max": 0}
    )
    assert split["cna"]["value"] == pytest.approx(-9.5 / math.sqrt(200.75))
    # Logits (3a + 4b, 3a − 4b), whose difference is 8b: 0, 16, 40, and −56 for class 1.
    assert split["accuracy"] == 0.75
    assert score["margin"]["value"] == pytest.approx(0)
    # ‖W₁‖ = 5, σ₁ = 4; ‖W₂‖ = 2, σ₁ = √2; squared, ones become (9, 16) and then (25, 25).
    for name, value in (("l2", 10), ("spectral", 4 * math.sqrt(2)), ("l2_path", math.sqrt(50))):
        assert math.exp(weights[name]["log_norm"]) == pytest.approx(value)
        assert weights[name]["value"] is None
        assert weights[name]["reason"]
    assert weights["parameter_norm"]["value"] == pytest.approx(math.sqrt(29))
    assert weights["l1"]["value"] == 11
    assert weights["parameters"]["value"] == 8
    assert weights["depth"]["value"] == 2
