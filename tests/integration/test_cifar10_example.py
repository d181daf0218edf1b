"""The example that compares PyTorch's figures on CIFAR-10 with those of the dump."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import script
from support.exporter import keep_operators

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

ROOT = Path(__file__).parents[2]
CIFAR = ROOT.parent / "shared" / "data" / "cifar10"
SAMPLES = 1_500


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 in {CIFAR}")
def test_the_same_accuracy_and_loss(tmp_path: Path) -> None:
    words = (CIFAR, "--output", tmp_path, "--limit", SAMPLES, "--epochs", 2)
    keep_operators()
    printed = script(ROOT / "examples/train_cifar10_cnn.py", *words, cwd=tmp_path)
    rows = dict[str, list[str]]()
    for line in printed.splitlines():
        split, _, rest = line.partition(" ")
        if split in ("train", "test"):
            measure, *values = rest.split()
            rows[f"{split} {measure}"] = values
    for split in ("train", "test"):
        theirs, ours = rows[f"{split} accuracy"]
        assert theirs == ours
        # Better than chance by far more than luck, and not all of them.
        assert 0.15 < float(ours) < 0.9
        assert round(float(ours) * SAMPLES) / SAMPLES == float(ours)
        theirs, ours = rows[f"{split} loss"]
        assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
        assert float(rows[f"{split} CNA"][0]) != 0
