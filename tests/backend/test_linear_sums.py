"""Sums taken from a linear operator's input against the sum of what the operator gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.networks import Builder, saved

from cnatool.backend.graph import load_graph
from cnatool.backend.linear_sums import LinearSums


def check(model: onnx.ModelProto, folder: Path, shape: tuple[int, ...], tensor: str = "y") -> None:
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    (y,) = ReferenceEvaluator(model).run([tensor], {"x": x})
    graph = load_graph(saved(model, folder / "model.onnx"))
    found = LinearSums(graph, {"x": shape}).of(tensor, y.shape[1:])
    if np.prod(shape) > np.prod(y.shape[1:]):
        assert found is None  # the result is the shorter one
        return
    assert found is not None
    assert found.source == "x"
    sums = x.reshape(3, -1).astype(np.float64) @ found.weights + found.constant
    scale = np.abs(y).astype(np.float64).reshape(3, -1).sum(axis=1)
    np.testing.assert_array_less(
        np.abs(sums - y.reshape(3, -1).astype(np.float64).sum(axis=1)), 1e-6 * scale
    )


@settings(max_examples=60, deadline=None)
@given(
    axes=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    group=st.sampled_from([1, 2]),
    pads=st.sampled_from(["none", "given", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    bias=st.booleans(),
    size=st.integers(5, 7),
)
def test_convolutions(
    tmp_path_factory: pytest.TempPathFactory,
    axes: int,
    kernel: int,
    stride: int,
    dilation: int,
    group: int,
    pads: str,
    bias: bool,
    size: int,
) -> None:
    net = Builder()
    names = ["x", net.weight("w", 256, 4 // group, *[kernel] * axes)]
    if bias:
        names.append(net.weight("b", 256))
    # A size of its own for each axis and side shows what is mixed up.
    attributes: dict[str, object] = {"group": group, "strides": [stride] * axes}
    if pads not in ("SAME_UPPER", "SAME_LOWER"):  # the reference evaluator ignores dilation there
        attributes["dilations"] = [dilation] * axes
    if pads == "given":
        attributes["pads"] = [*range(axes), *[1] * axes]
    elif pads != "none":
        attributes["auto_pad"] = pads
    net.node("Conv", names, "y", **attributes)
    shape = (4, *(size + axis for axis in range(axes)))
    model = net.model({"x": ("n", *shape)}, {"y": ("n", *["?"] * len(shape))})
    check(model, tmp_path_factory.mktemp("conv"), shape)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", [None, (40,), (1, 40), (1,)])
def test_gemm(turned: int, bias: tuple[int, ...] | None, tmp_path: Path) -> None:
    net = Builder()
    names = ["x", net.weight("w", *((40, 30) if turned else (30, 40)))]
    if bias:
        names.append(net.weight("b", *bias))
    net.node("Gemm", names, "y", transB=turned, alpha=0.5, beta=2.0)
    check(net.model({"x": ("n", 30)}, {"y": ("n", 40)}), tmp_path, (30,))


@pytest.mark.parametrize("order", [("xw", "b"), ("b", "xw")])
def test_matmul_and_bias(order: tuple[str, str], tmp_path: Path) -> None:
    net = Builder()
    net.node("MatMul", ["x", net.weight("w", 30, 40)], "xw")
    net.weight("b", 40)
    net.node("Add", list(order), "y")
    model = net.model({"x": ("n", 30)}, {"xw": ("n", 40), "y": ("n", 40)})
    check(model, tmp_path, (30,), "xw")
    check(model, tmp_path, (30,), "y")


def test_weights_in_external_files(tmp_path: Path) -> None:
    net = Builder()
    net.node("Gemm", ["x", net.weight("w", 30, 40)], "y")
    model = net.model({"x": ("n", 30)}, {"y": ("n", 40)})
    path = tmp_path / "model.onnx"
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    found = LinearSums(load_graph(path), {"x": (30,)}).of("y", (40,))
    assert found is not None
    weights = numpy_helper.to_array(whole.graph.initializer[0])
    np.testing.assert_allclose(found.weights, weights.astype(np.float64).sum(axis=1))


def test_what_is_no_linear_function_of_something_shorter(tmp_path: Path) -> None:
    net = Builder()
    net.node("Relu", ["x"], "relu")
    net.node("Gemm", ["x", net.weight("turned", 3, 40)], "rows", transA=1)
    net.node("MatMul", ["x", "relu"], "product")
    net.node("Gemm", ["x", net.weight("few", 300, 40)], "few_out")
    net.node("Gemm", ["x", "relu"], "by_input", transB=1)
    half = numpy_helper.from_array(np.ones((300, 300), np.float16), "half")
    net.weights.append(half)
    net.node("Cast", ["x"], "x16", to=TensorProto.FLOAT16)
    net.node("MatMul", ["x16", "half"], "by_half")
    model = net.model({"x": ("n", 300)}, {"relu": ("n", 300)})
    sums = LinearSums(load_graph(saved(model, tmp_path / "m.onnx")), {"x": (300,)})
    for tensor, size in (("relu", 300), ("rows", 40), ("product", 300), ("few_out", 40)):
        assert sums.of(tensor, (size,)) is None
    assert sums.of("by_input", (300,)) is None
    assert sums.of("by_half", (300,)) is None
    assert sums.of("x", (300,)) is None


def test_a_convolution_of_an_intermediate_is_summed_from_its_result(tmp_path: Path) -> None:
    net = Builder()
    net.conv("x", "first", 1, 8, 3)
    net.conv("first", "second", 8, 8, 3)
    model = net.model({"x": ("n", 1, 8, 8)}, {"second": ("n", 8, 8, 8)})
    sums = LinearSums(load_graph(saved(model, tmp_path / "m.onnx")), {"x": (1, 8, 8)})
    assert sums.of("first", (8, 8, 8)) is not None
    assert sums.of("second", (8, 8, 8)) is None


def test_an_add_that_repeats_its_summand(tmp_path: Path) -> None:
    net = Builder()
    net.node("Gemm", ["x", net.weight("w", 16, 1)], "one")
    net.node("Add", ["one", net.weight("b", 40)], "gemm")
    net.node("Conv", ["p", net.weight("k", 1, 1, 3, 3)], "pixel")
    net.node("Add", ["pixel", net.weight("plane", 1, 1, 8, 8)], "conv")
    model = net.model({"x": ("n", 16), "p": ("n", 1, 3, 3)}, {"gemm": ("n", 40)})
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    sums = LinearSums(graph, {"x": (16,), "p": (1, 3, 3)})
    assert sums.of("gemm", (40,)) is None
    assert sums.of("conv", (1, 8, 8)) is None
