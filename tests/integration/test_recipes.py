"""The export recipes run, and say that their exports are faithful."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import pytest
from support.command import python, script
from support.exporter import keep_operators

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDED = {
    "export_torch.py": ("torch", "onnxscript"),
    "export_keras.py": ("tensorflow", "tf2onnx"),
    "export_sklearn.py": ("skl2onnx",),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_recipe(name: str, tmp_path: Path) -> None:
    for module in NEEDED[name]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    words = () if "sklearn" in name else ("--epochs", 1)
    if name == "export_torch.py":
        keep_operators()
    lines = script(EXAMPLES / name, "--output", tmp_path, *words, cwd=tmp_path).splitlines()
    found = {}
    for line, verdict in pairwise(lines):
        model, _, rest = line.partition(", ")
        if model.endswith(".onnx"):
            found[model, rest.partition(":")[0]] = verdict.startswith("  the same: ")
    assert {model for model, _ in found} == {path.name for path in tmp_path.glob("*.onnx")}
    # Linear layers of a network with folded BatchNorm are those of another network.
    assert found == {
        (model, convention): convention == "paper" or "folded" not in model
        for model, convention in found
    }


def test_jax(tmp_path: Path) -> None:
    said = python(EXAMPLES / "record_jax.py", "--output", tmp_path)
    if importlib.util.find_spec("jax") is None:
        assert said == "JAX is not installed: python -m pip install jax\n"
    else:
        assert "test: accuracy 0.9" in said
