"""The example that compares PyTorch's figures on CIFAR-10 with those of the dump."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

ROOT = Path(__file__).parents[2]
CIFAR = ROOT.parent / "shared" / "data" / "cifar10"
SAMPLES = 1_500


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 in {CIFAR}")
def test_the_same_accuracy_and_loss(tmp_path: Path) -> None:
    words = [ROOT / "examples" / "train_cifar10_cnn.py", CIFAR, "--output", tmp_path]
    words += ["--limit", SAMPLES, "--epochs", 2]
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    rows = dict[str, list[str]]()
    for line in done.stdout.splitlines():
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
