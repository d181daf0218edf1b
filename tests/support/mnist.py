"""MNIST read without the package, and small networks trained on it, exported as PyTorch does it.

Importing this module skips the test module that does so where there is no torch or onnxscript.
"""

from __future__ import annotations

import copy
import gzip
import warnings
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
nn = torch.nn

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST}")

_FILES = {"train": "train", "test": "t10k"}
_EXPORTER_WARNINGS = (
    (DeprecationWarning, "You are using the legacy TorchScript-based ONNX export"),
    (DeprecationWarning, "The feature will be removed. Please remove usage of this function"),
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),
)


@cache
def images(split: str) -> np.ndarray:
    """Raw images of ``train`` or ``test``, (n, 28, 28) uint8."""
    return _idx(MNIST / f"{_FILES[split]}-images-idx3-ubyte.gz")


@cache
def labels(split: str) -> np.ndarray:
    """Labels of ``train`` or ``test``, (n,) int64."""
    return _idx(MNIST / f"{_FILES[split]}-labels-idx1-ubyte.gz").astype(np.int64)


def _idx(path: Path) -> np.ndarray:
    data = gzip.decompress(path.read_bytes())
    axes = data[3]
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes))
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


class Mlp(nn.Module):
    """Linear layers ``fc1`` … ``fcN`` with ReLU between them."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            self.add_module(f"fc{i}", nn.Linear(inputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *hidden, last = self.children()
        for layer in hidden:
            x = torch.relu(layer(x))
        return last(x)


def trained(
    steps: Iterable[int], *sizes: int, seed: int = 0, rate: float = 0.05, batch: int = 64
) -> dict[int, Mlp]:
    """Train an MLP by SGD and give its copies after so many steps; the same seed, the same nets."""
    torch.manual_seed(seed)
    network = Mlp(*sizes)
    x = torch.from_numpy(images("train").reshape(-1, 784) / np.float32(255))
    y = torch.from_numpy(labels("train"))
    optimizer = torch.optim.SGD(network.parameters(), rate)
    wanted, points, done = set(steps), {}, 0
    while True:
        for rows in torch.randperm(len(x)).split(batch):
            if done in wanted:
                points[done] = copy.deepcopy(network).eval()
            if done >= max(wanted):
                return points
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
            done += 1


def exported(
    network: nn.Module,
    sample: tuple[int, ...],
    path: Path,
    *,
    dynamo: bool,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Path:
    """Export a network in eval mode, batch axis free, with either of PyTorch's exporters.

    With ``dynamo`` the weights lie beside the file.
    """
    network.eval()
    if dynamo:
        options |= {"dynamic_shapes": ({0: torch.export.Dim("n")},), "verbose": False}
    else:
        options |= {
            "input_names": ["x"],
            "output_names": ["logits"],
            "dynamic_axes": {"x": {0: "n"}, "logits": {0: "n"}},
        }
    with warnings.catch_warnings():
        for category, message in _EXPORTER_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        torch.onnx.export(
            network, (torch.zeros(2, *sample, dtype=dtype),), str(path), dynamo=dynamo, **options
        )
    return path
