"""A probe of shapes finds what a probe of values finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.networks import Builder, mlp, residual_convnet, saved

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.inputs import Samples
from cnatool.backend.probe.probe import probe
from cnatool.backend.probe.shapes import probe_shapes
from cnatool.backend.session import RunOptions


def open_sizes(batch: int | str) -> onnx.ModelProto:
    """Convolution, normalisation and upsampling over pictures of any size."""
    b = Builder(1)
    b.conv("x", "c1", 3, 4, 3)
    b.node("InstanceNormalization", ["c1", b.weight("s", 4), b.weight("t", 4)], "n1")
    b.node("Relu", ["n1"], "r1")
    b.node("Resize", ["r1", "", b.constant("twice", np.array([1, 1, 2, 2], np.float32))], "up")
    b.node("Shape", ["up"], "shape")
    b.conv("up", "y", 4, 3, 3)
    return b.model({"x": (batch, 3, "h", "w")}, {"y": (batch, 3, "h2", "w2")})


def merged() -> onnx.ModelProto:
    b = Builder(2)
    b.node("Reshape", ["x", b.constant("rows", np.array([-1, 8]))], "rows_of_all")
    b.node("MatMul", ["rows_of_all", b.weight("w", 8, 4)], "projected")
    b.node("Reshape", ["projected", b.constant("back", np.array([-1, 20]))], "y")
    return b.model({"x": ("n", 5, 8)}, {"y": ("n", 20)})


def data_shaped(batch: int | str) -> onnx.ModelProto:
    b = Builder(3)
    b.node("Relu", ["x"], "active")
    b.node("NonZero", ["active"], "places")
    b.node("Cast", ["active"], "half", to=onnx.TensorProto.BFLOAT16)
    b.node("Squeeze", ["active"], "row")
    return b.model({"x": (batch, 8)}, {"row": ("m",)})


@pytest.mark.parametrize(
    ("model", "shape", "bound"),
    [
        (mlp(), (64,), None),
        (residual_convnet(), (1, 8, 8), None),
        (open_sizes("n"), (3, 6, 7), None),
        (open_sizes(1), (3, 6, 7), 1),
        (open_sizes(4), (3, 6, 7), 4),
        (merged(), (5, 8), None),
        (data_shaped("n"), (8,), None),
        (data_shaped(1), (8,), 1),
    ],
    ids=["mlp", "residual", "open", "open 1", "open 4", "merged", "data", "data 1"],
)
def test_as_a_probe_of_values(
    model: onnx.ModelProto, shape: tuple[int, ...], bound: int | None, tmp_path: Path
) -> None:
    graph = load_graph(saved(model, tmp_path / "net.onnx"))
    count = 3 if bound in (None, 1) else bound
    x = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
    given = Samples({"x": x})
    expected = probe(graph, given, bound=bound, run=RunOptions())
    found = probe_shapes(graph, given, bound=bound, run=RunOptions())
    independent = [replace(tensor, independent=True) for tensor in expected.tensors]
    assert [replace(tensor, independent=True) for tensor in found.tensors] == independent
    assert found.skipped == expected.skipped
    if bound != 4:
        # ... and reads what shapes do not tell alone.
        assert len(found.values) < len(expected.values)
