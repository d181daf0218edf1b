"""Models whose weights are fed: without noise they are the model, and noise falls on weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from support.networks import Builder, mlp, residual_convnet, saved

from cnatool.backend.network import Network, open_network
from cnatool.backend.session import RunOptions
from cnatool.backend.weights.noisy_model import NoisyModel, Weights, log_sum, square_sum
from cnatool.errors import ModelError
from cnatool.records.store import TensorRecord

PLAIN = RunOptions(threads=1, optimization="ORT_DISABLE_ALL")
W = np.random.default_rng(5).normal(size=(4, 6)).astype(np.float32)  # (out, in)
X = np.random.default_rng(7).normal(size=(9, 6)).astype(np.float32)


def noisy(model: onnx.ModelProto, folder: Path, output: str) -> tuple[Network, NoisyModel]:
    network = open_network(saved(model, folder / "net.onnx"))
    record = TensorRecord(0, output, "?", "output", "float32", (10,), 0, "full")
    return network, NoisyModel(network.graph, Weights(network.graph), record, PLAIN)


def plain(model: onnx.ModelProto, feeds: dict[str, Any]) -> np.ndarray:
    """Run a model in the runtime, which keeps weights in the order that they have in the file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, feeds)
    return np.asarray(result)


@pytest.mark.parametrize(
    ("model", "shape", "output"),
    [(mlp(), (64,), "logits"), (residual_convnet(), (1, 8, 8), "probabilities")],
)
def test_without_noise_it_is_the_model(
    tmp_path: Path, model: onnx.ModelProto, shape: tuple[int, ...], output: str
) -> None:
    x = np.random.default_rng(1).normal(size=(33, *shape)).astype(np.float32)
    _, found = noisy(model, tmp_path, output)
    truth = plain(model, {"x": x})
    np.testing.assert_array_equal(found.run({"x": x}, noise=False), truth)
    found.add_noise((1, 2), 0.0)
    np.testing.assert_array_equal(found.run({"x": x}), truth)
    found.add_noise((1, 2), 0.1)
    assert not np.array_equal(found.run({"x": x}), truth)


def test_noise_is_on_the_weights_alone_and_the_same_at_every_scale(tmp_path: Path) -> None:
    model = residual_convnet()
    x = np.random.default_rng(1).normal(size=(5, 1, 8, 8)).astype(np.float32)
    _, found = noisy(model, tmp_path, "probabilities")
    for sigma, epsilon in ((0.02, None), (0.3, None), (0.3, 0.001), (0.5, 0.2)):
        # Written into the file by hand: initialisers with several axes, in the layers' order.
        rng = np.random.default_rng([4, 3])
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        named = {t.name: t for t in copy.graph.initializer}
        weighted = [n for n in copy.graph.node if n.op_type in ("Conv", "Gemm")]
        count = 0
        for node in weighted:
            w = numpy_helper.to_array(named[node.input[1]])
            z = rng.standard_normal(w.shape, np.float32)
            scale = sigma if epsilon is None else np.sqrt(sigma**2 * w**2 + epsilon**2)
            changed = (w + np.float32(1) * z * scale).astype(np.float32)
            named[node.input[1]].CopyFrom(numpy_helper.from_array(changed, node.input[1]))
            count += w.size
        assert found.count == count
        found.add_noise((4, 3), sigma, epsilon)
        np.testing.assert_allclose(found.run({"x": x}), plain(copy, {"x": x}), atol=2e-6)


def test_scaling_layers_leaves_relative_noise_as_it_is(tmp_path: Path) -> None:
    model = mlp()
    other = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in other.graph.initializer:
        factor = {"fc1.weight": 8, "fc1.bias": 8, "fc2.weight": 1 / 8}.get(tensor.name, 1)
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name)
        )
    x = np.random.default_rng(1).normal(size=(20, 64)).astype(np.float32)
    outputs = []
    for number, one in enumerate((model, other)):
        (tmp_path / str(number)).mkdir()
        _, found = noisy(one, tmp_path / str(number), "logits")
        found.add_noise((0, 0), 0.7, epsilon=0.0)
        relative = found.run({"x": x})
        found.add_noise((0, 0), 0.7)
        outputs.append((relative, found.run({"x": x})))
    (relative, absolute), (scaled, changed) = outputs
    # By powers of two nothing is rounded.
    np.testing.assert_array_equal(scaled, relative)
    assert np.abs(changed - absolute).max() > 1


def spelled(how: str) -> onnx.ModelProto:
    """X · Wᵀ in several ways of keeping W."""
    b = Builder()
    if how == "constant node":
        b.node("Constant", [], "w", value=numpy_helper.from_array(W.T.copy()))
        b.node("MatMul", ["x", "w"], "y")
    elif how == "transposed":
        b.node("Transpose", [b.constant("w", W)], "wt", perm=[1, 0])
        b.node("MatMul", ["x", "wt"], "y")
    elif how == "reshaped":
        shape = b.constant("shape", np.array([4, 6]))
        b.node("Reshape", [b.constant("w", W.reshape(-1)), shape], "w2")
        b.node("Gemm", ["x", "w2"], "y", transB=1)
    elif how == "split":
        both = np.concatenate([W, 2 * W])
        sizes = b.constant("sizes", np.array([4, 4]))
        b.nodes.append(helper.make_node("Split", [b.constant("both", both), sizes], ["w", "w2"]))
        b.node("Gemm", ["x", "w"], "h", transB=1)
        b.node("ReduceSum", ["w2"], "s", keepdims=0)
        b.node("Add", ["h", "s"], "y")
    elif how == "dequantised":
        scale, zero = b.constant("s", np.float32(0.05)), b.constant("z", np.int8(3))
        codes = np.clip(np.round(W / 0.05) + 3, -128, 127).astype(np.int8)
        b.node("DequantizeLinear", [b.constant("w", codes), scale, zero], "wd")
        b.node("Gemm", ["x", "wd"], "y", transB=1)
    elif how == "listed as an input":
        b.node("Gemm", ["x", b.constant("w", W)], "y", transB=1)
        return b.model({"x": ("n", 6), "w": (4, 6)}, {"y": ("n", 4)})
    elif how == "bfloat16":
        raw = W.astype(ml_dtypes.bfloat16)
        tensor = numpy_helper.from_array(raw, "w")
        assert tensor.data_type == TensorProto.BFLOAT16
        b.weights.append(tensor)
        b.node("Cast", ["w"], "wf", to=TensorProto.FLOAT)
        b.node("Gemm", ["x", "wf"], "y", transB=1)
    else:
        b.node("Gemm", ["x", b.constant("w", W)], "y", transB=1)
    return b.model({"x": ("n", 6)}, {"y": ("n", 4)})


@pytest.mark.parametrize(
    "how",
    [
        "plain",
        "constant node",
        "transposed",
        "reshaped",
        "split",
        "dequantised",
        "listed as an input",
        "bfloat16",
    ],
)
def test_weights_wherever_they_are_kept(tmp_path: Path, how: str) -> None:
    model = spelled(how)
    _, found = noisy(model, tmp_path, "y")
    assert found.count == 24
    (kept,) = found.values.values()
    assert kept.dtype == np.float32
    truth = plain(model, {"x": X})
    np.testing.assert_allclose(found.run({"x": X}, noise=False), truth, rtol=1e-6, atol=1e-6)
    found.add_noise((8, 0), 0.5)
    z = 0.5 * np.random.default_rng([8, 0]).standard_normal(kept.shape, np.float32)
    moved = z if kept.shape == (6, 4) else z.reshape(4, 6).T
    tolerance = 0.05 if how == "bfloat16" else 1e-5
    np.testing.assert_allclose(found.run({"x": X}), truth + X @ moved, atol=tolerance)


def test_weights_that_layers_share_get_noise_once(tmp_path: Path) -> None:
    b = Builder()
    w = b.constant("w", np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32))
    b.node("MatMul", ["x", w], "h")
    b.node("Transpose", [w], "wt", perm=[1, 0])
    b.node("MatMul", [b.node("Relu", ["h"], "r"), "wt"], "y")
    model = b.model({"x": ("n", 6)}, {"y": ("n", 6)})
    network, found = noisy(model, tmp_path, "y")
    assert found.count == 36
    assert Weights(network.graph).layers == {"w": 0}
    found.add_noise((0, 1), 0.5)
    noise = np.float32(0.5) * np.random.default_rng([0, 1]).standard_normal((6, 6), np.float32)
    w = found.values["w"] + noise
    np.testing.assert_allclose(found.run({"x": X}), np.maximum(X @ w, 0) @ w.T, atol=1e-5)


def test_half_precision_and_weights_beside_the_file(tmp_path: Path) -> None:
    b = Builder()
    b.node("Gemm", ["x", b.constant("w", W.astype(np.float16))], "y", transB=1)
    model = b.model({"x": ("n", 6)}, {"y": ("n", 4)}, dtype=TensorProto.FLOAT16)
    onnx.save(
        model, tmp_path / "net.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    network = open_network(tmp_path / "net.onnx")
    record = TensorRecord(0, "y", "Gemm", "output", "float16", (4,), 0, "full")
    found = NoisyModel(network.graph, Weights(network.graph), record, PLAIN)
    found.add_noise((0, 0), 0.5, 1e-3)
    z = np.random.default_rng([0, 0]).standard_normal((4, 6), np.float32)
    half = W.astype(np.float16).astype(np.float32)
    changed = half + z * np.sqrt((0.5 * half) ** 2 + 1e-6)
    truth = X @ changed.T
    np.testing.assert_allclose(found.run({"x": X.astype(np.float16)}), truth, atol=0.05)


def test_codes_of_quantised_operators_are_refused(tmp_path: Path) -> None:
    quantize_dynamic(saved(mlp(), tmp_path / "float.onnx"), tmp_path / "net.onnx")
    network = open_network(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"weights of layer 1 .* codes of the quantised operator"):
        Weights(network.graph)


def test_weights_that_no_layer_shows_are_refused(tmp_path: Path) -> None:
    b = Builder()
    w, r = b.weight("w", 1, 8, 4), b.weight("r", 1, 8, 2)
    b.nodes.append(helper.make_node("LSTM", ["x", w, r], ["y"], hidden_size=2))
    model = b.model({"x": (3, "n", 4)}, {"y": (3, 1, "n", 2)})
    with pytest.raises(ModelError, match="LSTM .* has weights that no layer shows"):
        Weights(open_network(saved(model, tmp_path / "net.onnx")).graph)


def test_no_layer_at_all(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    model = b.model({"x": ("n", 6)}, {"y": ("n", 6)})
    with pytest.raises(ModelError, match="no linear operator with weights"):
        Weights(open_network(saved(model, tmp_path / "net.onnx")).graph)


def test_sums_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnatool.backend.weights.noisy_model._PART", 7)
    w, before = np.random.default_rng(0).normal(size=(2, 5, 9)).astype(np.float32)
    w64, d64 = w.astype(np.float64), w.astype(np.float64) - before
    assert square_sum(w) == pytest.approx((w64**2).sum(), rel=1e-13)
    assert square_sum(w, before) == pytest.approx((d64**2).sum(), rel=1e-13)
    assert log_sum(w, 0.3, 1e-3) == pytest.approx(np.log(1e-6 + 0.09 * w64**2).sum(), rel=1e-13)
    assert log_sum(w, 0.3, 1e-3, before) == pytest.approx(
        np.log(1e-6 + 0.09 * d64**2).sum(), rel=1e-13
    )


def test_noise_in_parts_is_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = noisy(mlp(), tmp_path, "logits")
    x = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
    found.add_noise((0, 0), 0.3, 1e-3)
    whole = found.run({"x": x})
    monkeypatch.setattr("cnatool.backend.weights.noisy_model._PART", 100)
    found.add_noise((0, 0), 0.3, 1e-3)
    np.testing.assert_array_equal(found.run({"x": x}), whole)
