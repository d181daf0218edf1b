"""Tensors that are measured do not stay in memory until the end of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.command import python
from support.networks import Builder, saved

CHANNELS, SIDE, BLOCKS = 32, 96, 16
BATCH = 4

_DUMP = f"""
import cnatool
import cnatool.dumping.process
from cnatool._util.memory import peak_memory

before = peak_memory()
store = cnatool.dump(
    "net.onnx", "x.npz", "net.zarr", keep="statistics", batch_size={BATCH}, threads=1
)
print(peak_memory() - before, len(store.tensors))
"""


def build(kind: str) -> Builder:
    """Build blocks of a convolution, batch normalisation and a ReLU."""
    builder, tensor = Builder(), "x"
    for number in range(BLOCKS):
        entry = tensor
        for part in {"pre-activation": "nrc", "residual": "cnra"}[kind]:
            name = f"{part}{number}"
            if part == "c":
                tensor = builder.conv(tensor, name, CHANNELS, CHANNELS, 3)
            elif part == "n":
                tensor = builder.batch_norm(tensor, name, CHANNELS)
            elif part == "r":
                tensor = builder.node("Relu", [tensor], name)
            else:
                tensor = builder.node("Add", [tensor, entry], name)
    tensor = builder.node("GlobalAveragePool", [tensor], "pooled")
    tensor = builder.node("Flatten", [tensor], "flat")
    builder.gemm(tensor, "logits", CHANNELS, 10)
    return builder


@pytest.mark.parametrize("kind", ["pre-activation", "residual"])
def test_peak_is_a_fraction_of_all_tensors(kind: str, tmp_path: Path) -> None:
    shape = (CHANNELS, SIDE, SIDE)
    saved(build(kind).model({"x": ("N", *shape)}, {"logits": ("N", 10)}), tmp_path / "net.onnx")
    x = np.random.default_rng(0).normal(size=(2 * BATCH, *shape)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    grown, tensors = map(int, python(_DUMP, cwd=tmp_path).split())
    every = tensors * BATCH * np.prod(shape) * 4
    assert grown < 0.6 * every
