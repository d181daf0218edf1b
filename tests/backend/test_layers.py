from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.networks import Builder, mlp, residual_convnet, saved

from cnatool.backend.graph import load_graph
from cnatool.backend.layers import LayerTable, find_layers


def layers_of(model: onnx.ModelProto, tmp_path: Path) -> LayerTable:
    return find_layers(load_graph(saved(model, tmp_path / "model.onnx")))


def test_mlp_layers_are_its_gemms_in_order(tmp_path: Path) -> None:
    table = layers_of(mlp(), tmp_path)
    assert [(r.number, r.operator, r.linear, r.path) for r in table.layers] == [
        (1, "Gemm", "fc1", 1),
        (2, "Gemm", "fc2", 2),
        (3, "Gemm", "fc3", 3),
        (4, "Gemm", "logits", 4),
    ]
    assert [r.preactivation for r in table.layers] == ["fc1", "fc2", "fc3", "logits"]
    assert [r.output for r in table.layers] == [False, False, False, True]
    assert table.output_tensors == {"logits"}


def test_residual_network(tmp_path: Path) -> None:
    table = layers_of(residual_convnet(), tmp_path)
    found = {r.linear: r for r in table.layers}
    assert list(found) == ["stem", "a1", "a2", "b1", "b2", "projection", "logits"]
    # what enters the nonlinearity or the addition is the BatchNorm's result
    assert [r.preactivation for r in table.layers] == [
        "stem_bn",
        "a1_bn",
        "a2_bn",
        "b1_bn",
        "b2_bn",
        "projection_bn",
        "logits",
    ]
    assert [name for name, r in found.items() if r.shortcut] == ["projection"]
    assert [name for name, r in found.items() if r.output] == ["logits"]
    assert {name: r.path for name, r in found.items()} == {
        "stem": 1,
        "a1": 2,
        "a2": 3,
        "b1": 4,
        "b2": 5,
        "projection": 4,
        "logits": 6,
    }
    # softmax belongs to the last layer
    assert table.output_tensors == {"logits", "probabilities"}


def test_walk_goes_through_bias_scale_and_shape(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 8)], "product")
    b.node("Reshape", ["product", b.constant("to", np.array([0, 2, 4]))], "reshaped")
    b.node("Add", [b.weight("bias", 4), "reshaped"], "biased")
    b.node("Mul", ["biased", b.weight("scale", 4)], "scaled")
    b.node("Tanh", ["scaled"], "tanh")
    b.node("Flatten", ["tanh"], "flat")
    b.gemm("flat", "out", 8, 3)
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 3)}), tmp_path)
    assert (table.layers[0].linear, table.layers[0].preactivation) == ("biased", "scaled")


@pytest.mark.parametrize("operator", ["Sub", "Div"])
def test_constant_minus_tensor_is_no_bias(operator: str, tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 8)], "product")
    b.node(operator, [b.weight("c", 8), "product"], "turned")
    b.node("Relu", ["turned"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert table.layers[0].preactivation == "product"
    assert not table.layers[0].output


def test_walk_stops_where_a_tensor_has_two_readers(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "fc", 6, 8)
    b.node("Mul", ["fc", b.weight("half", 8)], "scaled")
    b.node("Sigmoid", ["fc"], "gate")
    b.node("Mul", ["scaled", "gate"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert table.layers[0].preactivation == "fc"


def test_matmul_of_two_activations_is_no_layer(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 6)], "q")
    b.node("Transpose", ["x"], "xt", perm=[0, 2, 1])
    b.node("MatMul", ["q", "xt"], "scores")
    table = layers_of(b.model({"x": ("n", 5, 6)}, {"scores": ("n", 5, 5)}), tmp_path)
    assert [r.linear for r in table.layers] == ["q"]


def test_quantised_weights_are_constant(tmp_path: Path) -> None:
    b = Builder()
    w = b.constant("w", np.ones((6, 8), np.int8))
    scale, zero = b.constant("s", np.float32(0.1)), b.constant("z", np.int8(0))
    b.node("DequantizeLinear", [w, scale, zero], "wd")
    b.node("MatMul", ["x", "wd"], "product")
    b.node("QuantizeLinear", ["product", scale, zero], "quantised")
    b.node("DequantizeLinear", ["quantised", scale, zero], "dequantised")
    b.node("Relu", ["dequantised"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert (table.layers[0].linear, table.layers[0].preactivation) == ("product", "dequantised")


def test_hidden_layer_that_is_a_model_output_is_not_the_last(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", [b.gemm("x", "hidden", 6, 8)], "relu")
    b.gemm("relu", "logits", 8, 3)
    model = b.model({"x": ("n", 6)}, {"logits": ("n", 3), "hidden": ("n", 8)})
    table = layers_of(model, tmp_path)
    assert [(r.linear, r.output) for r in table.layers] == [("hidden", False), ("logits", True)]
    assert table.role("hidden", "Gemm", is_output=True) == "layer"
    assert table.role("relu", "Relu", is_output=False) == "activation"


def test_tensor_read_inside_a_branch_counts_as_read(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "fc", 6, 8)
    b.node("Relu", ["fc"], "relu")
    branch = helper.make_graph(
        [helper.make_node("Neg", ["fc"], ["negated"])],
        "branch",
        [],
        [helper.make_tensor_value_info("negated", onnx.TensorProto.FLOAT, None)],
    )
    condition = b.constant("condition", np.array(True))
    b.node("If", [condition], "chosen", then_branch=branch, else_branch=branch)
    b.node("Add", ["chosen", "relu"], "out")
    graph = load_graph(saved(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path / "m.onnx"))
    assert [node.op_type for node in graph.consumers["fc"]] == ["Relu", "If", "If"]
    assert "chosen" in graph.dynamic


def test_projection_behind_pooling_is_a_shortcut(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", [b.conv("x", "stem", 1, 4, 3)], "stem_relu")
    b.node("Relu", [b.conv("stem_relu", "a", 4, 6, 3)], "a_relu")
    b.conv("a_relu", "b", 6, 6, 3)
    b.node("AveragePool", ["stem_relu"], "pooled", kernel_shape=[3, 3], pads=[1] * 4)
    b.conv("pooled", "projection", 4, 6, 1)
    b.node("Relu", [b.node("Add", ["b", "projection"], "sum")], "out")
    table = layers_of(b.model({"x": ("n", 1, 8, 8)}, {"out": ("n", 6, 8, 8)}), tmp_path)
    assert [r.linear for r in table.layers if r.shortcut] == ["projection"]
