"""Norms of layers as models keep their weights: every spelling of one network measures the same."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from support.networks import Builder, mlp, residual_convnet, saved

from cnatool.backend.network import open_network
from cnatool.backend.weights.weights import measure_weights
from cnatool.errors import ModelError
from cnatool.records.weights import LayerWeights, WeightsRecord

SHAPE = (1, 6)


def measured(
    model: onnx.ModelProto, folder: Path, initial: onnx.ModelProto | None = None
) -> WeightsRecord:
    before = None if initial is None else open_network(saved(initial, folder / "initial.onnx"))
    return measure_weights(open_network(saved(model, folder / "net.onnx")), [], SHAPE, before)


def norms(layer: LayerWeights) -> list[float | None]:
    return [layer.frobenius, layer.spectral, layer.absolute_sum]


def truth(matrix: np.ndarray) -> list[float]:
    matrix = matrix.astype(np.float64)
    return [np.linalg.norm(matrix), np.linalg.norm(matrix, 2), np.abs(matrix).sum()]


W = np.random.default_rng(5).normal(size=(4, 6)).astype(np.float32)  # (out, in)
BIAS = np.random.default_rng(6).normal(size=4).astype(np.float32)


def spelled(how: str) -> onnx.ModelProto:
    """The layer of W and BIAS, a Relu, and a sum."""
    b = Builder()
    bias = b.constant("bias", BIAS)
    columns = ("n", 6)
    if how == "gemm":
        b.node("Gemm", ["x", b.constant("w", W.T.copy()), bias], "h")
    elif how == "gemm, transposed":
        b.node("Gemm", ["x", b.constant("w", W), bias], "h", transB=1)
    elif how == "gemm, scaled":
        names = ["x", b.constant("w", W * 4), b.constant("b2", BIAS * 2)]
        b.node("Gemm", names, "h", transB=1, alpha=0.25, beta=0.5)
    elif how == "matmul":
        b.node("MatMul", ["x", b.constant("w", W.T.copy())], "m")
        b.node("Add", [bias, "m"], "h")
    elif how == "matmul, subtracted":
        b.node("MatMul", ["x", b.constant("w", W.T.copy())], "m")
        b.node("Sub", ["m", b.constant("minus", -BIAS)], "h")
    elif how == "matmul of a transpose":
        b.node("Transpose", [b.constant("w", W)], "wt", perm=[1, 0])
        b.node("Add", [b.node("MatMul", ["x", "wt"], "m"), bias], "h")
    elif how == "matmul of a reshape and a cast":
        b.constant("w", W.T.astype(np.float64).reshape(-1))
        b.node("Reshape", ["w", b.constant("shape", np.array([6, 4]))], "w2")
        b.node("Identity", [b.node("Cast", ["w2"], "w3", to=TensorProto.FLOAT)], "w4")
        b.node("Add", [b.node("MatMul", ["x", "w4"], "m"), bias], "h")
    elif how == "matmul of a constant":
        b.node("Constant", [], "w", value=numpy_helper.from_array(W.T.copy(), ""))
        b.node("Add", [b.node("MatMul", ["x", "w"], "m"), bias], "h")
    elif how == "matmul from the left":
        b.node("Transpose", ["x"], "xt", perm=[1, 0])
        b.node("MatMul", [b.constant("w", W), "xt"], "m")
        b.node("Add", ["m", b.constant("column", BIAS[:, None])], "s")
        b.node("Transpose", ["s"], "h", perm=[1, 0])
    elif how == "matmul, scaled":
        b.node("MatMul", ["x", b.constant("w", W.T / np.float32(3))], "m")
        b.node("Mul", ["m", b.constant("three", np.array([3], np.float32))], "s")
        b.node("Add", ["s", bias], "h")
    elif how == "gemm, normalised":
        gain = np.array([1, 2, -3, 4], np.float32)
        mean = np.array([0.5, 0, 1, 2], np.float32)
        deviation = np.array([2, 1, 4, 0.5], np.float64)
        factor = gain / deviation
        b.constant("w", (W / factor[:, None]).astype(np.float32))
        b.node("Gemm", ["x", "w"], "g", transB=1)
        names = [b.constant("gain", gain), b.constant("beta", BIAS + np.float32(factor) * mean)]
        names += [b.constant("mean", mean), b.constant("v", np.float32(deviation**2))]
        b.node("BatchNormalization", ["g", *names], "h", epsilon=0.0)
    elif how == "convolution":
        b.node("Unsqueeze", ["x", b.constant("axes", np.array([2, 3]))], "image")
        b.node("Conv", ["image", b.constant("w", W[:, :, None, None]), bias], "c")
        b.node("Flatten", ["c"], "h")
    elif how == "transposed convolution":
        b.node("Unsqueeze", ["x", b.constant("axes", np.array([2, 3]))], "image")
        b.node("ConvTranspose", ["image", b.constant("w", W.T[:, :, None, None].copy()), bias], "c")
        b.node("Flatten", ["c"], "h")
    elif how == "einsum":
        b.node("Einsum", ["x", b.constant("w", W)], "e", equation="ni,oi->no")
        b.node("Add", ["e", bias], "h")
    b.node("Relu", ["h"], "r")
    b.node("Gemm", ["r", b.constant("ones", np.ones((4, 1), np.float32))], "y")
    return b.model({"x": columns}, {"y": ("n", 1)})


SPELLINGS = [
    "gemm, transposed",
    "gemm, scaled",
    "matmul",
    "matmul, subtracted",
    "matmul of a transpose",
    "matmul of a reshape and a cast",
    "matmul of a constant",
    "matmul from the left",
    "matmul, scaled",
    "gemm, normalised",
    "convolution",
    "transposed convolution",
    "einsum",
]


@pytest.mark.parametrize("how", SPELLINGS)
def test_spellings_of_one_layer_measure_the_same(how: str, tmp_path: Path) -> None:
    found, expected = measured(spelled(how), tmp_path), measured(spelled("gemm"), tmp_path)
    assert norms(found.layers[0]) == pytest.approx(truth(W), rel=1e-6)
    assert norms(expected.layers[0]) == pytest.approx(truth(W), rel=1e-9)
    assert found.layers[0].shape == (4, 6)
    assert found.parameters == expected.parameters == 4 * 6 + 4 + 4
    if how == "einsum":
        assert found.path_norm_reason is not None
    else:
        assert found.log_path_norm == pytest.approx(expected.log_path_norm, abs=1e-6)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_grouped_convolutions_are_block_diagonal(group: int, tmp_path: Path) -> None:
    b = Builder()
    b.node("Conv", ["x", b.weight("w", 8, 4 // group, 3, 3)], "y", group=group)
    model = b.model({"x": ("n", 4, 5, 5)}, {"y": ("n", 8, 3, 3)})
    path = saved(model, tmp_path / "net.onnx")
    (layer,) = measure_weights(open_network(path), [], (1, 4, 5, 5)).layers
    kernels = numpy_helper.to_array(model.graph.initializer[0])
    full = np.zeros((8, 4, 9))
    for unit, kernel in enumerate(kernels):  # as the dense convolution that does the same
        first = unit // (8 // group) * (4 // group)
        full[unit, first : first + 4 // group] = kernel.reshape(-1, 9)
    assert norms(layer) == pytest.approx(truth(full.reshape(8, 36)), rel=1e-9)
    assert (layer.shape, layer.blocks) == ((8, 36), group)


def test_external_weights_are_read_where_they_lie(tmp_path: Path) -> None:
    inline = measured(mlp(), tmp_path)
    path = tmp_path / "external.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    outside = measure_weights(open_network(path), [], (1, 64))
    assert outside.layers == inline.layers
    assert outside.parameters == inline.parameters


def test_an_external_file_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "external.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    content = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(content[:1000])
    with pytest.raises(ModelError, match=r"ends at byte 7880 of 'weights.bin' .* has 1000 bytes"):
        open_network(path)
    # A model need not say how long its weights are.
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        entries = [entry for entry in tensor.external_data if entry.key != "length"]
        del tensor.external_data[:]
        tensor.external_data.extend(entries)
    onnx.save(model, path)
    found = measure_weights(open_network(path), [], (1, 64))
    assert found.layers[0].frobenius is None
    assert "is longer than weights.bin" in str(found.layers[0].reason)


def test_shared_weights_are_counted_once(tmp_path: Path) -> None:
    b = Builder()
    b.weight("w", 6, 6)
    b.node("Relu", [b.node("MatMul", ["x", "w"], "a")], "r")
    b.node("Transpose", ["w"], "wt", perm=[1, 0])
    b.node("Transpose", ["wt"], "again", perm=[1, 0])
    b.node("MatMul", ["r", "again"], "y")
    found = measured(b.model({"x": ("n", 6)}, {"y": ("n", 6)}), tmp_path)
    assert found.parameters == 36
    assert [layer.same_as for layer in found.layers] == [None, 1]
    assert norms(found.layers[0]) == pytest.approx(norms(found.layers[1]))


def test_dequantised_weights_measure_as_what_they_stand_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-127, 128, (6, 4), np.int8)
    step = rng.uniform(0.01, 0.1, 4).astype(np.float32)
    b = Builder()
    names = [b.constant("codes", codes), b.constant("step", step)]
    names.append(b.constant("zero", np.array([3, -5, 0, 7], np.int8)))
    b.node("MatMul", ["x", b.node("DequantizeLinear", names, "w", axis=1)], "y")
    found = measured(b.model({"x": ("n", 6)}, {"y": ("n", 4)}), tmp_path)
    values = (codes.astype(np.float64) - [3, -5, 0, 7]) * step
    assert norms(found.layers[0]) == pytest.approx(truth(values.T), rel=1e-6)
    assert found.parameters == 24
    assert found.log_path_norm == pytest.approx(0.5 * math.log((values**2).sum()), rel=1e-6)


def test_dynamically_quantised_weights(tmp_path: Path) -> None:
    source = saved(mlp((64, 20, 10)), tmp_path / "float.onnx")
    target = tmp_path / "quantised.onnx"
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=False)
    network = open_network(target)
    assert "MatMulInteger" in [layer.operator for layer in network.layers.layers]
    exact = measure_weights(open_network(source), [], (1, 64))
    found = measure_weights(network, [], (1, 64))
    for one, other in zip(found.layers, exact.layers, strict=True):
        assert norms(one) == pytest.approx(norms(other), rel=0.02)
    assert "MatMulInteger" in str(found.path_norm_reason) or "DynamicQuantize" in str(
        found.path_norm_reason
    )


def test_quantised_operators(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 255, (5, 3, 2, 2), np.uint8)
    step = rng.uniform(0.01, 0.1, 5).astype(np.float32)
    b = Builder()
    one, zero = b.constant("one", np.array(1, np.float32)), b.constant("z", np.array(9, np.uint8))
    w = [
        b.constant("codes", codes),
        b.constant("step", step),
        b.constant("wz", np.full(5, 7, np.uint8)),
    ]
    b.node("QuantizeLinear", ["x", one, zero], "q")
    b.node("QLinearConv", ["q", one, zero, *w, one, zero], "c")
    b.node("DequantizeLinear", ["c", one, zero], "y")
    model = b.model({"x": ("n", 3, 4, 4)}, {"y": ("n", 5, 3, 3)})
    found = measure_weights(open_network(saved(model, tmp_path / "q.onnx")), [], (1, 3, 4, 4))
    values = (codes.astype(np.float64) - 7) * step[:, None, None, None]
    assert norms(found.layers[0]) == pytest.approx(truth(values.reshape(5, 12)), rel=1e-6)
    assert "quantised" in str(found.path_norm_reason)


def test_distance_from_the_initial_weights(tmp_path: Path) -> None:
    found = measured(mlp(), tmp_path, mlp(seed=9))
    pairs = zip(mlp().graph.initializer, mlp(seed=9).graph.initializer, strict=True)
    truths = [
        np.linalg.norm(numpy_helper.to_array(a).astype(float) - numpy_helper.to_array(b))
        for a, b in pairs
        if len(a.dims) == 2
    ]
    assert [layer.distance for layer in found.layers] == pytest.approx(truths, rel=1e-6)
    assert [layer.distance for layer in measured(mlp(), tmp_path, mlp()).layers] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (mlp((64, 20, 10)), "it has 2 layers, and that has 4. Export both from the same network"),
        (
            mlp((64, 20, 17, 12, 10)),
            "the weights of layer 2 are 17 × 20, and there 16 × 20. Export both",
        ),
    ],
)
def test_the_initial_weights_of_another_network(
    initial: onnx.ModelProto, message: str, tmp_path: Path
) -> None:
    with pytest.raises(
        ModelError, match=r"initial.onnx is not the initial state of .*net.onnx: "
    ) as e:
        measured(mlp(), tmp_path, initial)
    assert message in str(e.value)


def test_weights_inside_a_closed_operator_are_named(tmp_path: Path) -> None:
    b = Builder()
    names = [b.weight("w", 1, 12, 6), b.weight("r", 1, 12, 3)]
    names += [b.weight("bias", 1, 24), "", b.weight("begin", 1, 4, 3)]
    b.node("LSTM", ["x", *names], "h", hidden_size=3)
    b.node("Squeeze", ["h", b.constant("axis", np.array([1]))], "s")
    b.node("MatMul", ["s", b.weight("v", 3, 2)], "y")
    found = measured(b.model({"x": (5, "n", 6)}, {"y": (5, "n", 2)}), tmp_path)
    assert found.unseen == "LSTM (tensor 'h') has weights that no layer shows"
    assert found.parameters == 72 + 36 + 24 + 6


def test_packed_weights_are_not_read(tmp_path: Path) -> None:
    b = Builder()
    codes = b.constant("codes", np.zeros((4, 1, 8), np.uint8))
    steps = b.constant("steps", np.ones(4, np.float32))
    sizes = {"K": 16, "N": 4, "bits": 4, "block_size": 16}
    b.node("MatMulNBits", ["x", codes, steps], "y", domain="com.microsoft", **sizes)
    found = measured(b.model({"x": ("n", 16)}, {"y": ("n", 4)}), tmp_path)
    assert found.layers[0].frobenius is None
    assert found.layers[0].reason == (
        "layer 1 ('y'): MatMulNBits stores its weights in a form that is not supported"
    )


def test_normalised_residual_network_measures_as_when_it_is_folded(tmp_path: Path) -> None:
    whole = residual_convnet()
    folded = onnx.ModelProto.FromString(whole.SerializeToString())
    values = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in whole.graph.initializer}
    producers = {node.output[0]: node for node in folded.graph.node}
    kept = []
    for node in folded.graph.node:
        if node.op_type != "BatchNormalization":
            kept.append(node)
            continue
        gain, beta, mean, variance = (values[name] for name in node.input[1:])
        factor = gain / np.sqrt(variance + 1e-5)
        conv = producers[node.input[0]]
        kernel = values[conv.input[1]] * factor[:, None, None, None]
        bias = f"{conv.output[0]}.folded"
        conv.input.append(bias)
        for name, value in ((conv.input[1], kernel), (bias, beta - mean * factor)):
            stale = [t for t in folded.graph.initializer if t.name == name]
            for tensor in stale:
                folded.graph.initializer.remove(tensor)
            folded.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        conv.output[0] = node.output[0]
    del folded.graph.node[:]
    folded.graph.node.extend(kept)
    found, expected = (
        measure_weights(open_network(saved(model, tmp_path / f"{i}.onnx")), [], (1, 1, 8, 8))
        for i, model in enumerate((whole, folded))
    )
    assert found.log_path_norm == pytest.approx(expected.log_path_norm, abs=1e-6)
    assert (found.parameters, found.depth) == (expected.parameters, expected.depth)
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert norms(one) == pytest.approx(norms(other), rel=1e-6)
