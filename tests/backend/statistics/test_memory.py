"""Tensors that are measured do not stay in memory until the end of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support.command import python
from support.networks import Builder, saved

BLOCKS = 16
CHANNELS, SIDE = 32, 96
TOKENS, WIDTH = 512, 128

_DUMP = """
import cnatool
import cnatool.dumping.process
from cnatool._util.memory import peak_memory

before = peak_memory()
store = cnatool.dump(
    "net.onnx", "x.npz", "net.zarr", keep="statistics", batch_size={batch}, threads=1, **{options}
)
print(peak_memory() - before)
"""


def measure_growth(model: onnx.ModelProto, folder: Path, batch: int, **options: object) -> int:
    """Dump statistics in a process of its own, and return by how many bytes its peak grows."""
    saved(model, folder / "net.onnx")
    return int(python(_DUMP.format(batch=batch, options=options), cwd=folder))


def build_convnet(kind: str) -> onnx.ModelProto:
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
    return builder.model({"x": ("N", CHANNELS, SIDE, SIDE)}, {"logits": ("N", 10)})


def build_text_network() -> onnx.ModelProto:
    """Build a residual network over tokens, without what is padding."""
    builder = Builder()
    tensor = builder.node("Gather", [builder.weight("table", 100, WIDTH), "input_ids"], "embedded")
    kept = builder.node("Cast", ["attention_mask"], "kept", to=TensorProto.FLOAT)
    last = builder.constant("last axis", np.array([2]))
    kept = builder.node("Unsqueeze", [kept, last], "kept of each")
    for number in range(BLOCKS):
        weight = builder.weight(f"weight{number}", WIDTH, WIDTH)
        inner = builder.node("MatMul", [tensor, weight], f"product{number}")
        inner = builder.node("Tanh", [inner], f"tanh{number}")
        inner = builder.node("Mul", [inner, kept], f"real{number}")
        tensor = builder.node("Add", [tensor, inner], f"sum{number}")
    positions = builder.constant("positions", np.array([1]))
    pooled = builder.node("ReduceSum", [tensor, positions], "pooled", keepdims=0)
    builder.gemm(pooled, "logits", WIDTH, 10)
    ids = {"input_ids": ("N", "T"), "attention_mask": ("N", "T")}
    model = builder.model(ids, {"logits": ("N", 10)})
    for value in model.graph.input:
        value.type.tensor_type.elem_type = TensorProto.INT64
    return model


@pytest.mark.parametrize("kind", ["pre-activation", "residual"])
@pytest.mark.parametrize("options", [{}, {"reduce": {"*": "mean"}}], ids=["", "reduced"])
def test_peak_of_a_convnet(kind: str, options: dict[str, object], tmp_path: Path) -> None:
    batch, shape = 4, (CHANNELS, SIDE, SIDE)
    x = np.random.default_rng(0).normal(size=(2 * batch, *shape)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    grown = measure_growth(build_convnet(kind), tmp_path, batch, **options)
    every = BLOCKS * {"pre-activation": 3, "residual": 4}[kind] * batch * np.prod(shape) * 4
    assert grown < 0.6 * every


@pytest.mark.parametrize("options", [{}, {"reduce": {"*": "last"}}], ids=["", "reduced"])
def test_peak_of_a_text_network(options: dict[str, object], tmp_path: Path) -> None:
    batch, rng = 16, np.random.default_rng(0)
    ids = rng.integers(0, 100, (2 * batch, TOKENS))
    lengths = rng.integers(TOKENS // 2, TOKENS + 1, (len(ids), 1))
    mask = (np.arange(TOKENS) < lengths).astype(np.int64)
    np.savez(tmp_path / "x.npz", input_ids=ids, attention_mask=mask)
    grown = measure_growth(build_text_network(), tmp_path, batch, **options)
    assert grown < 0.6 * (4 * BLOCKS * batch * TOKENS * WIDTH * 4)
