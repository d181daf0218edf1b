"""The path norm, against an explicit pass of the squared network in PyTorch, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from support.networks import Builder, mlp, residual_convnet, saved

from cnatool.backend.network import open_network
from cnatool.backend.weights.path_norm import compute_log_path_norm
from cnatool.backend.weights.weights import measure_weights
from cnatool.records.store import TensorRecord
from cnatool.records.weights import WeightsRecord


def measured(model: onnx.ModelProto, folder: Path, *shape: int) -> WeightsRecord:
    return measure_weights(open_network(saved(model, folder / "net.onnx")), [], (1, *shape))


def refused(model: onnx.ModelProto, folder: Path, *shape: int) -> str:
    found = measured(model, folder, *shape)
    assert found.log_path_norm is None
    assert found.path_norm_reason is not None
    return found.path_norm_reason


def squared(model: onnx.ModelProto, *shape: int, rows: int = 1) -> float:
    """sqrt(Σ f_{w²}(1)) by ONNX's reference evaluator; nothing in the model may need folding."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = np.square(onnx.numpy_helper.to_array(tensor).astype(np.float64))
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    (name,) = (value.name for value in copy.graph.input)
    (out,) = ReferenceEvaluator(copy).run(None, {name: np.ones((rows, *shape))})
    return math.sqrt(float(out.sum()) / rows)


def test_two_layers_worked_out_by_hand(tmp_path: Path) -> None:
    b = Builder()
    first = b.constant("w1", np.array([[1, -2], [3, 0]], np.float32))
    second = b.constant("w2", np.array([[2, 1]], np.float32))
    b.node("Gemm", ["x", first, b.constant("b1", np.array([1, -1], np.float32))], "h", transB=1)
    b.node("Gemm", ["h", second], "y", transB=1)
    found = measured(b.model({"x": ("n", 2)}, {"y": ("n", 1)}), tmp_path, 2)
    # squared: h = (1 + 4 + 1, 9 + 0 + 1) = (6, 10); y = 4 · 6 + 1 · 10 = 34
    assert found.log_path_norm == pytest.approx(0.5 * math.log(34), abs=1e-12)
    assert [layer.frobenius for layer in found.layers] == pytest.approx([14**0.5, 5**0.5])
    # WᵀW of the first is ((10, -2), (-2, 4)), its eigenvalues 7 ± √13
    assert found.layers[0].spectral == pytest.approx(math.sqrt(7 + math.sqrt(13)))
    assert [layer.absolute_sum for layer in found.layers] == pytest.approx([6, 3])
    assert (found.parameters, found.depth) == (8, 2)


def test_perceptron(tmp_path: Path) -> None:
    found = measured(mlp(), tmp_path, 64)
    assert math.exp(found.log_path_norm or 0) == pytest.approx(squared(mlp(), 64), rel=1e-10)


POOLS = [
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    (
        "AveragePool",
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
    ),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("GlobalAveragePool", {}),
    ("GlobalMaxPool", {}),
]
CONVOLUTIONS = [
    {},
    {"pads": [1, 0, 2, 1], "strides": [2, 1]},
    {"dilations": [2, 1], "group": 2},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2], "group": 4},
    {"auto_pad": "VALID"},
]


@pytest.mark.parametrize(("operator", "options"), POOLS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_convolutions_and_pools(
    operator: str, options: dict, convolution: dict, tmp_path: Path
) -> None:
    b = Builder()
    group = convolution.get("group", 1)
    weight = b.weight("w", 8, 4 // group, 3, 3)
    b.node("Conv", ["x", weight, b.weight("b", 8)], "c", **convolution)
    b.node(operator, [b.node("LeakyRelu", ["c"], "r", alpha=0.2)], "p", **options)
    b.node("ReduceMean", ["p"], "y", axes=[2, 3], keepdims=0)
    model = b.model({"x": ("n", 4, 12, 11)}, {"y": ("n", 8)})
    found = measured(model, tmp_path, 4, 12, 11)
    assert found.path_norm_reason is None
    assert math.exp(found.log_path_norm or 0) == pytest.approx(squared(model, 4, 12, 11), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": [2, 3], "pads": [1, 0, 0, 2], "output_padding": [1, 0]},
        {"dilations": [2, 1], "strides": [2, 1], "group": 2},
    ],
)
def test_transposed_convolutions(options: dict, tmp_path: Path) -> None:
    b = Builder()
    weight = b.weight("w", 4, 6 // options.get("group", 1), 3, 3)
    b.node("ConvTranspose", ["x", weight, b.weight("b", 6)], "c", **options)
    b.node("ReduceMean", ["c"], "y", axes=[2, 3], keepdims=0)
    model = b.model({"x": ("n", 4, 5, 6)}, {"y": ("n", 6)})
    found = measured(model, tmp_path, 4, 5, 6)
    for tensor in model.graph.initializer:
        value = np.square(onnx.numpy_helper.to_array(tensor))
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (out,) = session.run(None, {"x": np.ones((1, 4, 5, 6), np.float32)})
    assert math.exp(found.log_path_norm or 0) == pytest.approx(math.sqrt(out.sum()), rel=1e-5)


def test_deep_networks_do_not_overflow(tmp_path: Path) -> None:
    b = Builder()
    tensor = "x"
    for number in range(300):
        weight = b.constant(f"w{number}", np.full((4, 4), 1e5, np.float32))
        tensor = b.node("Relu", [b.node("MatMul", [tensor, weight], f"h{number}")], f"r{number}")
    b.node("MatMul", [tensor, b.constant("last", np.ones((4, 1), np.float32))], "y")
    found = measured(b.model({"x": ("n", 4)}, {"y": ("n", 1)}), tmp_path, 4)
    # each layer multiplies by 4 · 10¹⁰, the last by 4
    truth = 0.5 * (300 * math.log(4e10) + math.log(4))
    assert found.log_path_norm == pytest.approx(truth, rel=1e-12)


def test_residuals_of_very_different_size_are_added(tmp_path: Path) -> None:
    b = Builder()
    large = b.constant("large", np.full((2, 2), 1e30, np.float32))
    small = b.constant("small", np.full((2, 2), 1e-30, np.float32))
    b.node("MatMul", ["x", large], "a")
    b.node("MatMul", ["x", small], "b")
    b.node("MatMul", ["a", small], "c")
    b.node("MatMul", ["b", large], "d")
    b.node("Relu", [b.node("Sum", ["c", "d", "x"], "s")], "y")
    found = measured(b.model({"x": ("n", 2)}, {"y": ("n", 2)}), tmp_path, 2)
    assert found.log_path_norm == pytest.approx(0.5 * math.log(2 * (4 + 4 + 1)), rel=1e-6)


def test_a_graph_that_asks_for_shapes(tmp_path: Path) -> None:
    b = Builder()
    b.conv("x", "c", 2, 3, 3, bias=True)
    b.batch_norm("c", "bn", 3)
    b.node("Shape", ["c"], "shape")  # inside of what is folded
    b.node("Gather", ["shape", b.constant("zero", np.array(0))], "count")
    b.node("Unsqueeze", ["count", b.constant("axis", np.array([0]))], "first")
    b.node("Concat", ["first", b.constant("rest", np.array([-1]))], "to", axis=0)
    b.node("Reshape", [b.node("Relu", ["bn"], "r"), "to"], "flat")
    b.gemm("flat", "y", 3 * 16, 5)
    found = measured(b.model({"x": ("n", 2, 4, 4)}, {"y": ("n", 5)}), tmp_path, 2, 4, 4)
    assert found.path_norm_reason is None
    assert found.log_path_norm is not None


def test_output_functions_do_not_count(tmp_path: Path) -> None:
    b = Builder()
    plain = mlp()
    b.node("Softmax", ["logits"], "p", axis=1)
    model = mlp()
    model.graph.node.extend(b.nodes)
    model.graph.output[0].name = "p"
    assert (
        measured(model, tmp_path, 64).log_path_norm == measured(plain, tmp_path, 64).log_path_norm
    )


def after_gemm(operator: str, *more: str, **options: object) -> onnx.ModelProto:
    """A Gemm, a Relu, the operator, and another Gemm."""
    b = Builder()
    b.node("Relu", [b.gemm("x", "h", 4, 4)], "r")
    b.constant("c", np.full(4, 0.5, np.float32))
    for name in ("scale", "shift", "mean"):
        b.constant(name, np.ones(4, np.float32))
    b.constant("zero", np.array(0, np.uint8))
    b.constant("step", np.array(0.1, np.float32))
    b.constant("six", np.array(6, np.float32))
    b.node(operator, ["r", *more], "f", **options)
    b.gemm("f", "y", 4, 3)
    return b.model({"x": ("n", 4)}, {"y": ("n", 3)})


@pytest.mark.parametrize(
    ("operator", "more", "reason"),
    [
        ("Tanh", [], "Tanh (tensor 'f') is not positively homogeneous, or not known to be"),
        ("Sigmoid", [], "Sigmoid (tensor 'f') is not positively homogeneous"),
        ("Softmax", [], "Softmax (tensor 'f') is not positively homogeneous"),
        ("Clip", ["", "six"], "Clip (tensor 'f') is bounded"),
        ("Mul", ["r"], "Mul (tensor 'f') multiplies two tensors that depend on the input"),
        ("Mul", ["c"], "Mul (tensor 'f') takes a constant, and follows no linear operator"),
        ("Add", ["c"], "Add (tensor 'f') takes a constant, and follows no linear operator"),
        ("Sub", ["x"], "Sub (tensor 'f') subtracts"),
        ("MatMul", ["x"], "MatMul (tensor 'f') multiplies two tensors that depend on the input"),
        ("Clip", ["x"], "Clip (tensor 'f') computes with more than one tensor that depends"),
        (
            "BatchNormalization",
            ["scale", "shift", "mean", "scale"],
            "BatchNormalization (tensor 'f') follows no linear operator into which it could",
        ),
    ],
)
def test_what_is_not_homogeneous_is_refused_by_name(
    operator: str, more: list[str], reason: str, tmp_path: Path
) -> None:
    assert refused(after_gemm(operator, *more), tmp_path, 4).startswith(reason)


def test_a_cast_to_whole_numbers_is_refused(tmp_path: Path) -> None:
    b = Builder()
    b.node("Cast", [b.gemm("x", "h", 4, 4)], "i", to=TensorProto.INT32)
    b.gemm(b.node("Cast", ["i"], "f", to=TensorProto.FLOAT), "y", 4, 3)
    reason = refused(b.model({"x": ("n", 4)}, {"y": ("n", 3)}), tmp_path, 4)
    assert reason == "Cast (tensor 'i') is not positively homogeneous, or not known to be"


def test_a_clip_at_zero_alone_is_a_relu(tmp_path: Path) -> None:
    model = after_gemm("Clip", "floor")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.float32), "floor"))
    found = measured(model, tmp_path, 4).log_path_norm
    assert found == measured(after_gemm("Relu"), tmp_path, 4).log_path_norm


def test_quantised_activations_are_refused(tmp_path: Path) -> None:
    model = after_gemm("QuantizeLinear", "step", "zero")
    model.graph.node[-1].input[0] = "back"
    model.graph.node.insert(
        3, helper.make_node("DequantizeLinear", ["f", "step", "zero"], ["back"])
    )
    assert refused(model, tmp_path, 4) == "QuantizeLinear (tensor 'f') is of a quantised graph"


def test_quantised_results_of_a_layer_are_refused(tmp_path: Path) -> None:
    b = Builder()
    names = [
        b.constant("step", np.array(0.1, np.float32)),
        b.constant("zero", np.array(0, np.int8)),
    ]
    b.node("QuantizeLinear", [b.gemm("x", "h", 4, 4), *names], "q")
    b.gemm(b.node("Relu", [b.node("DequantizeLinear", ["q", *names], "d")], "r"), "y", 4, 3)
    reason = refused(b.model({"x": ("n", 4)}, {"y": ("n", 3)}), tmp_path, 4)
    assert reason == "QuantizeLinear (tensor 'q') is of a quantised graph"


def test_inputs_that_are_no_single_floating_tensor(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", [b.node("Add", ["x", "z"], "s"), b.weight("w", 4, 3)], "y")
    two = b.model({"x": ("n", 4), "z": ("n", 4)}, {"y": ("n", 3)})
    assert refused(two, tmp_path, 4) == "it takes 2 inputs"
    b = Builder()
    b.node("Gather", [b.weight("table", 9, 4), "x"], "e")
    b.node("MatMul", ["e", b.weight("w", 4, 3)], "y")
    tokens = b.model({"x": ("n", 5)}, {"y": ("n", 5, 3)})
    tokens.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    assert refused(tokens, tmp_path, 5) == "its input 'x' does not hold floating-point numbers"


def test_several_heads_are_refused(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", [b.gemm("x", "h", 4, 4)], "r")
    b.gemm("r", "y", 4, 3)
    b.gemm("r", "z", 4, 3)
    model = b.model({"x": ("n", 4)}, {"y": ("n", 3), "z": ("n", 3)})
    assert refused(model, tmp_path, 4) == "2 layers lead to outputs (y, z)"


def test_a_network_that_is_zero(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.constant("w", np.zeros((4, 3), np.float32))], "y")
    model = b.model({"x": ("n", 4)}, {"y": ("n", 3)})
    assert refused(model, tmp_path, 4) == "it is 0: no path leads from the input to the output"


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.constant("w", np.full((4, 3), np.inf, np.float32))], "y")
    model = b.model({"x": ("n", 4)}, {"y": ("n", 3)})
    assert refused(model, tmp_path, 4) == "a squared weight is not finite"


def test_batch_norm_before_the_sum_of_a_residual(tmp_path: Path) -> None:
    found = measured(residual_convnet(), tmp_path, 1, 8, 8)
    assert found.path_norm_reason is None
    assert found.log_path_norm is not None


def bound_to_eight(how: str) -> onnx.ModelProto:
    """A network for eight samples at a time: its path norm is that of one sample."""
    b = Builder(seed=3)
    relu = b.node("Relu", [b.gemm("x", "a", 16, 24)], "r")
    if how == "shape":
        relu = b.node("Reshape", [relu, b.constant("s", np.array([8, 24]))], "same")
    elif how == "rest":
        # One sample becomes eight rows of it here, and nothing after that minds.
        b.node("Reshape", [relu, b.constant("s", np.array([8, -1, 3]))], "parts")
        relu = b.node("ReduceMean", ["parts"], "mean", axes=[1], keepdims=0)
    b.gemm(relu, "y", 3 if how == "rest" else 24, 5)
    return b.model({"x": (8, 16)}, {"y": (8, 5)})


@pytest.mark.parametrize(("how", "runs"), [("free", [1]), ("shape", [1, 8]), ("rest", [1, 8])])
def test_a_batch_bound_to_a_number_is_run_on_one_sample(
    how: str, runs: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def spied(*words: object, shape: tuple, **more: object):
        found.append(shape[0])
        return compute_log_path_norm(*words, shape=shape, **more)

    monkeypatch.setattr("cnatool.backend.weights.weights.compute_log_path_norm", spied)
    model = bound_to_eight(how)
    network = open_network(saved(model, tmp_path / "net.onnx"))
    shapes = {"a": (24,), "r": (24,), "y": (5,)}
    tensors = [
        TensorRecord(
            number=number, name=name, operator="", role="layer", dtype="float32", shape=shape,
            batch_axis=0, kept="statistics",
        )
        for number, (name, shape) in enumerate(shapes.items())
    ]  # fmt: skip
    record = measure_weights(network, tensors, (8, 16))
    assert found == runs
    assert record.log_path_norm == pytest.approx(math.log(squared(model, 16, rows=8)))
