"""Models that ask for more memory than there is: refused before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.hostile import little_memory
from support.networks import Builder, mlp, residual_convnet, saved
from support.reference import every_value

import cnatool
from cnatool.backend.graph.constants import Constants
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.tensor_sizes import tensor_bytes
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import CnatoolError, ModelError

MANY = 10**11


def with_constant(b: Builder, made: Callable[[Builder], str]) -> onnx.ModelProto:
    """Add a number to the result of a layer that takes a huge tensor to compute."""
    b.gemm("x", "h", 16, 4)
    b.node("Add", ["h", b.node("ReduceMax", [made(b)], "most", keepdims=0)], "y")
    return b.model({"x": ("n", 16)}, {"y": ("n", 4)})


def shape(b: Builder, *sizes: int) -> str:
    return b.constant("shape", np.array(sizes, np.int64))


def constant_of_shape(b: Builder) -> str:
    return b.node("ConstantOfShape", [shape(b, MANY)], "huge")


def expanded_constant(b: Builder) -> str:
    return b.node("Expand", [b.weight("one", 1), shape(b, MANY)], "huge")


def tiled_constant(b: Builder) -> str:
    return b.node("Tile", [b.weight("one", 1), shape(b, MANY)], "huge")


def expanded_samples(b: Builder) -> str:
    return b.node("Expand", ["h", shape(b, MANY, 1, 1)], "huge")


def padded_samples(b: Builder) -> str:
    return b.node("Pad", ["h", shape(b, 0, 0, 0, MANY)], "huge")


@pytest.mark.parametrize(
    "made",
    [
        constant_of_shape,
        expanded_constant,
        tiled_constant,
        expanded_samples,
        padded_samples,
    ],
)
def test_huge_tensors(made: Callable[[Builder], str], tmp_path: Path) -> None:
    model = saved(with_constant(Builder(), made), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(20) % 4)
    with little_memory():
        for tried in (
            lambda: inspect_model(model),
            lambda: cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr"),
        ):
            with pytest.raises(ModelError, match="tensor 'huge'.* GB"):
                tried()
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("batch", [65_537, 10**8, 2**62])
def test_a_huge_fixed_batch(batch: int, tmp_path: Path) -> None:
    model = saved(mlp((16, 6, 3), batch=batch), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(20) % 3)
    with little_memory():
        with pytest.raises(ModelError, match="dynamic batch axis"):
            inspect_model(model)
        with pytest.raises(ModelError, match="dynamic batch axis"):
            cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr")


@pytest.mark.parametrize("size", [200_000, 2**31, 2**40])
def test_huge_fixed_inputs(size: int, tmp_path: Path) -> None:
    b = Builder()
    b.node("Flatten", [b.node("GlobalAveragePool", ["x"], "pooled")], "y")
    model = saved(b.model({"x": (1, 3, size, size)}, {"y": (1, 3)}), tmp_path / "m.onnx")
    with little_memory(), pytest.raises(ModelError, match="'x'"):
        inspect_model(model)


def test_huge_constant_inputs(tmp_path: Path) -> None:
    b = Builder()
    b.node("Add", ["x", b.node("ReduceMax", ["mask"], "most", keepdims=0)], "y")
    model = saved(b.model({"x": ("n", 4), "mask": (MANY,)}, {"y": ("n", 4)}), tmp_path / "m.onnx")
    for value in (1.0, np.broadcast_to(1.0, (MANY,))):
        with little_memory(), pytest.raises(CnatoolError, match="mask"):
            inspect_model(model, constants={"mask": value})


def test_a_huge_batch_size(tmp_path: Path) -> None:
    model = saved(mlp((16, 6, 3)), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(20) % 3)
    with little_memory():
        dumped = cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr", batch_size=10**7)
    assert len(dumped.splits["all"]) == 20


def test_constants_are_not_computed_where_they_are_huge(tmp_path: Path) -> None:
    model = saved(with_constant(Builder(), constant_of_shape), tmp_path / "m.onnx")
    with little_memory(), pytest.raises(ModelError, match="is a constant of 400 GB"):
        Constants(load_graph(model)).value("huge")


@pytest.mark.parametrize(
    ("model", "sample"), [(mlp(), (64,)), (residual_convnet(), (1, 8, 8))], ids=["mlp", "convnet"]
)
def test_sizes_are_those_of_the_arrays(model: onnx.ModelProto, sample: tuple[int, ...]) -> None:
    found = tensor_bytes(model, {"x": (3, *sample)})
    names = [name for node in model.graph.node for name in node.output]
    x = np.zeros((3, *sample), np.float32)
    arrays = every_value(model, {"x": x})
    assert found == {name: arrays[name].nbytes for name in ("x", *names)}
