from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.networks import Builder, mlp, residual_convnet, saved

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.layers import LayerTable, find_layers


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
    assert [node.op_type for node in graph.consumers["fc"]] == ["Relu", "Neg", "Neg"]
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


def only(table: LayerTable) -> tuple[str, str, str]:
    """The one layer of a table: operator, linear, preactivation."""
    (record,) = table.layers
    return record.operator, record.linear, record.preactivation


def test_changes_of_shape_at_the_end_are_left_off(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "fc", 6, 8)
    b.node("Reshape", ["fc", b.constant("to", np.array([-1, 2, 4]))], "heads")
    b.node("Transpose", ["heads"], "turned", perm=[1, 0, 2])
    b.node("Relu", ["turned"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": (2, "n", 4)}), tmp_path)
    assert only(table) == ("Gemm", "fc", "fc")


def test_temperature_of_attention_is_no_scale_of_the_layer(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "query", 6, 8)
    b.node("Reshape", ["query", b.constant("to", np.array([-1, 2, 4]))], "heads")
    b.node("Mul", ["heads", b.constant("cold", np.array(0.5, np.float32))], "scaled")
    b.node("Reshape", ["x", b.constant("two", np.array([-1, 2, 3]))], "pairs")
    b.node("Transpose", ["pairs"], "turned", perm=[0, 2, 1])
    b.node("MatMul", ["turned", "scaled"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 3, 4)}), tmp_path)
    assert only(table) == ("Gemm", "query", "query")


def test_temperature_behind_a_normalisation_of_heads_is_left_out(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "query", 6, 8)
    b.node("Reshape", ["query", b.constant("to", np.array([-1, 2, 4]))], "heads")
    given = ["heads", b.weight("scale", 4), b.weight("shift", 4)]
    b.node("LayerNormalization", given, "normal")
    # constants that exporters leave to be computed
    b.node("Pow", [b.constant("width", np.float32(4)), b.constant("p", np.float32(-0.5))], "cold")
    b.node("Mul", ["normal", "cold"], "scaled")
    b.node("Transpose", ["scaled"], "turned", perm=[0, 2, 1])
    b.node(
        "Slice",
        [
            "x",
            b.constant("from", np.array([0])),
            b.constant("until", np.array([4])),
            b.constant("axis", np.array([1])),
        ],
        "four",
    )
    b.node("Unsqueeze", ["four", b.constant("middle", np.array([1]))], "rows")
    b.node("MatMul", ["rows", "turned"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 1, 2)}), tmp_path)
    assert only(table) == ("Gemm", "query", "normal")


def test_computed_temperature_is_one_number(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "query", 6, 8)
    b.node("Reshape", ["query", b.constant("to", np.array([-1, 2, 4]))], "heads")
    # the width of a learned query, which does not depend on the input
    b.node("Shape", [b.weight("learned", 1, 4)], "shape")
    b.node("Gather", ["shape", b.constant("last", np.array(1))], "width")
    b.node("Cast", ["width"], "float_width", to=onnx.TensorProto.FLOAT)
    b.node("Pow", ["float_width", b.constant("p", np.float32(-0.5))], "cold")
    b.node("Mul", ["heads", "cold"], "scaled")
    b.node("Softmax", ["scaled"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 2, 4)}), tmp_path)
    assert only(table) == ("Gemm", "query", "query")


@pytest.mark.parametrize(("bias", "linear"), [((3, 1, 8), "biased"), ((3, 5, 8), "product")])
def test_bias_of_several_matrices(bias: tuple[int, ...], linear: str, tmp_path: Path) -> None:
    # one matrix per expert, with a bias each; or a number per position as well
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 3, 6, 8)], "product")
    b.node("Add", ["product", b.weight("bias", *bias)], "biased")
    b.node("Relu", ["biased"], "out")
    table = layers_of(b.model({"x": ("n", 3, 5, 6)}, {"out": ("n", 3, 5, 8)}), tmp_path)
    assert only(table) == ("MatMul", linear, "biased")


def test_rows_merged_for_the_operator_come_apart_again(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "relu")
    b.node("Reshape", ["relu", b.constant("flat", np.array([-1, 6]))], "rows")
    b.gemm("rows", "fc", 6, 8)
    b.node("Reshape", ["fc", b.constant("apart", np.array([-1, 5, 8]))], "fc_apart")
    b.node("Transpose", ["fc_apart"], "turned", perm=[0, 2, 1])
    b.node("Relu", ["turned"], "out")
    table = layers_of(b.model({"x": ("n", 5, 6)}, {"out": ("n", 8, 5)}), tmp_path)
    # before, five rows a sample lie along the first axis
    assert only(table) == ("Gemm", "fc_apart", "fc_apart")


def test_reading_the_shape_is_no_reading(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 8)], "product")
    b.node("Shape", ["product"], "shape")
    b.node("Add", ["product", b.weight("bias", 8)], "biased")
    b.node("Relu", [b.node("Reshape", ["biased", "shape"], "reshaped")], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("MatMul", "biased", "biased")


def test_taking_a_type_is_no_reading(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 8)], "product")
    b.node("CastLike", [b.weight("bias", 8), "product"], "typed_bias")
    b.node("Add", ["product", "typed_bias"], "biased")
    b.node("Relu", ["biased"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("MatMul", "biased", "biased")


def test_one_number_added_is_no_bias(tmp_path: Path) -> None:
    # A hard sigmoid in its parts: Relu6(z + 3) / 6.
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 8)], "z")
    b.node("Add", ["z", b.constant("three", np.array(3, np.float32))], "shifted")
    bounds = [b.constant(n, np.array(v, np.float32)) for n, v in (("zero", 0), ("six", 6))]
    b.node("Clip", ["shifted", *bounds], "clipped")
    b.node("Div", ["clipped", "six"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("MatMul", "z", "z")


def test_position_code_is_no_bias(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 8)], "z")
    b.node("Add", ["z", b.weight("position", 5, 8)], "placed")
    b.node("Relu", ["placed"], "out")
    table = layers_of(b.model({"x": ("n", 5, 6)}, {"out": ("n", 5, 8)}), tmp_path)
    assert only(table) == ("MatMul", "z", "placed")


@pytest.mark.parametrize("root", [True, False])
def test_normalisation_in_its_parts(root: bool, tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "z", 6, 8)
    if root:
        tensor = "z"
    else:
        b.node("ReduceMean", ["z"], "mean", axes=[-1])
        tensor = b.node("Sub", ["z", "mean"], "centred")
    b.node("Mul", [tensor, tensor], "squares")
    b.node("ReduceMean", ["squares"], "variance", axes=[-1])
    b.node("Add", ["variance", b.constant("epsilon", np.array(1e-5, np.float32))], "above")
    b.node("Sqrt", ["above"], "deviation")
    b.node("Div", [tensor, "deviation"], "normal")
    b.node("Mul", ["normal", b.weight("scale", 8)], "scaled")
    b.node("Sigmoid", ["scaled"], "gate")
    b.node("Mul", ["scaled", "gate"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("Gemm", "z", "scaled")


@pytest.mark.parametrize("operator", ["Sigmoid", "Sqrt"])
def test_gating_by_a_mean_is_no_normalisation(operator: str, tmp_path: Path) -> None:
    b = Builder()
    b.conv("x", "z", 2, 4, 3)
    b.node("ReduceMean", ["z"], "mean", axes=[2, 3])
    b.node(operator, ["mean"], "gate")
    b.node("Mul", ["z", "gate"], "gated")
    b.node("Relu", ["gated"], "out")
    model = b.model({"x": ("n", 2, 6, 6)}, {"out": ("n", 4, 6, 6)})
    assert only(layers_of(model, tmp_path)) == ("Conv", "z", "z")


def test_cast_to_integers_is_not_passed(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "z", 6, 8)
    b.node("Cast", ["z"], "whole", to=onnx.TensorProto.INT64)
    b.node("Add", ["whole", b.constant("one", np.ones(8, np.int64))], "more")
    b.node("Cast", ["more"], "out", to=onnx.TensorProto.FLOAT)
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("Gemm", "z", "z")


@pytest.mark.parametrize(
    ("zero_point", "preactivation"),
    [
        (np.int8(3), "dequantised"),
        (np.int8(-128), "z"),
        (np.uint8(128), "dequantised"),
        (np.uint8(0), "z"),
        (None, "z"),
    ],
)
def test_quantisation_that_clips_at_zero_is_a_relu(
    zero_point: np.generic | None, preactivation: str, tmp_path: Path
) -> None:
    b = Builder()
    b.gemm("x", "z", 6, 8)
    given = [b.constant("scale", np.float32(0.1))]
    if zero_point is not None:
        given.append(b.constant("zero", zero_point))
    b.node("QuantizeLinear", ["z", *given], "codes")
    b.node("DequantizeLinear", ["codes", *given], "dequantised")
    b.gemm("dequantised", "logits", 8, 3)
    table = layers_of(b.model({"x": ("n", 6)}, {"logits": ("n", 3)}), tmp_path)
    assert (table.layers[0].linear, table.layers[0].preactivation) == ("z", preactivation)


def test_codes_of_probabilities_belong_to_the_output(tmp_path: Path) -> None:
    b = Builder()
    given = [b.constant("scale", np.float32(1 / 256)), b.constant("zero", np.uint8(0))]
    b.node("Softmax", [b.gemm("x", "logits", 6, 3)], "probabilities")
    b.node("QuantizeLinear", ["probabilities", *given], "codes")
    b.node("DequantizeLinear", ["codes", *given], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 3)}), tmp_path)
    assert table.layers[0].output


def test_scale_of_a_dynamic_quantisation_is_a_scale(tmp_path: Path) -> None:
    b = Builder()
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]))
    b.node("Mul", ["xs", b.constant("ws", np.float32(0.1))], "scales")
    w = b.constant("w", np.ones((6, 8), np.int8))
    b.node("MatMulInteger", ["xq", w, "xz"], "whole")
    b.node("Cast", ["whole"], "cast", to=onnx.TensorProto.FLOAT)
    b.node("Mul", ["cast", "scales"], "product")
    b.node("Add", ["product", b.weight("bias", 8)], "z")
    b.node("Relu", ["z"], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("MatMulInteger", "z", "z")


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("DynamicQuantizeMatMul", ["x", "w", "s", "z", "bias"]),
        ("FusedGemm", ["x", "w", "bias"]),
        ("FusedMatMul", ["x", "w"]),
        ("FusedMatMulActivation", ["x", "w"]),
        ("MatMulIntegerToFloat", ["x", "w", "s", "s", "z", "z", "bias"]),
        ("MatMulNBits", ["x", "w", "s"]),
        ("NhwcConv", ["x", "w", "bias"]),
        ("NhwcFusedConv", ["x", "w", "bias"]),
        ("TransposeMatMul", ["w", "x"]),
    ],
)
def test_operators_of_the_runtime_are_layers(
    operator: str, inputs: list[str], tmp_path: Path
) -> None:
    b = Builder()
    for name in ("w", "s", "z", "bias"):
        b.weight(name, 8)
    b.node(operator, inputs, "product", domain="com.microsoft")
    b.node("Add", ["product", b.weight("more", 8)], "sum")
    b.node("Relu", ["sum"], "out")
    table = layers_of(b.model({"x": ("n", 8)}, {"out": ("n", 8)}), tmp_path)
    linear = "product" if "bias" in inputs else "sum"
    assert only(table) == (operator, linear, "sum")


@pytest.mark.parametrize(
    ("operator", "activation", "label"),
    [
        ("CausalConvWithState", "silu", "CausalConvWithState+silu"),
        ("CausalConvWithState", "none", "CausalConvWithState"),
        ("FusedMatMulActivation", "Tanh", "FusedMatMulActivation+Tanh"),
        ("GemmFastGelu", None, "GemmFastGelu+FastGelu"),
    ],
)
def test_activation_inside_an_operator_is_named(
    operator: str, activation: str | None, label: str, tmp_path: Path
) -> None:
    b = Builder()
    given = {} if activation is None else {"activation": activation}
    b.node(operator, ["x", b.weight("w", 8, 8)], "y", domain="com.microsoft", **given)
    b.node("Mul", ["y", b.weight("scale", 8)], "out")
    table = layers_of(b.model({"x": ("n", 8)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == (label, "y", "y" if "+" in label else "out")


def test_deformable_convolution_is_a_layer(tmp_path: Path) -> None:
    b = Builder()
    b.conv("x", "offsets", 2, 18, 3)
    given = ["x", b.weight("kernel", 4, 2, 3, 3), "offsets", b.weight("bias", 4)]
    b.node("DeformConv", given, "z", pads=[1] * 4)
    b.node("Relu", ["z"], "out")
    table = layers_of(b.model({"x": ("n", 2, 6, 6)}, {"out": ("n", 4, 6, 6)}), tmp_path)
    assert [(r.operator, r.linear, r.path) for r in table.layers] == [
        ("Conv", "offsets", 1),
        ("DeformConv", "z", 2),
    ]


def test_fused_activation_and_sum_are_named(tmp_path: Path) -> None:
    b = Builder()
    fused = {"domain": "com.microsoft", "activation": "Relu"}
    b.node("FusedConv", ["x", b.weight("w1", 4, 2, 3, 3)], "stem", pads=[1] * 4, **fused)
    b.node("FusedConv", ["stem", b.weight("w2", 4, 4, 3, 3)], "a", pads=[1] * 4, **fused)
    b.node("Conv", ["stem", b.weight("w3", 6, 4, 1, 1)], "projection")
    given = ["a", b.weight("w4", 6, 4, 3, 3), b.weight("bias", 6), "projection"]
    b.node("FusedConv", given, "sum", pads=[1] * 4, **fused)
    b.node("Mul", ["sum", b.weight("scale", 1)], "out")
    table = layers_of(b.model({"x": ("n", 2, 6, 6)}, {"out": ("n", 6, 6, 6)}), tmp_path)
    assert [(r.operator, r.preactivation) for r in table.layers] == [
        ("FusedConv+Relu", "stem"),
        ("FusedConv+Relu", "a"),
        ("Conv", "projection"),
        # what is behind the nonlinearity is not walked over
        ("FusedConv+Add+Relu", "sum"),
    ]
    assert [r.linear for r in table.layers if r.shortcut] == ["projection"]


def test_bias_in_the_next_operator_is_named(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight("w", 6, 8)], "z")
    b.node("BiasGelu", ["z", b.weight("bias", 8)], "out", domain="com.microsoft")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("MatMul, bias in BiasGelu", "z", "z")


def test_einsum_over_a_common_index_is_a_layer(tmp_path: Path) -> None:
    b = Builder()
    b.node("Einsum", ["x", b.weight("w", 6, 2, 4)], "heads", equation="bti,ihd->bthd")
    b.node("Add", ["heads", b.weight("bias", 2, 4)], "biased")
    b.node("Einsum", ["biased", b.weight("s", 4)], "scaled", equation="bthd,d->bthd")
    b.node("Einsum", ["scaled", "scaled"], "out", equation="bqhd,bkhd->bhqk")
    table = layers_of(b.model({"x": ("n", 5, 6)}, {"out": ("n", 2, 5, 5)}), tmp_path)
    assert only(table) == ("Einsum", "biased", "biased")


def test_weights_may_be_computed_from_constants(tmp_path: Path) -> None:
    b = Builder()
    b.node("Constant", [], "stored", value=onnx.numpy_helper.from_array(np.ones((8, 6), np.int8)))
    b.node("DequantizeLinear", ["stored", b.constant("s", np.float32(0.1))], "dequantised")
    b.node("Transpose", ["dequantised"], "turned")
    b.node("Cast", ["turned"], "w", to=onnx.TensorProto.FLOAT)
    b.node("MatMul", ["x", "w"], "product")
    b.node("Unsqueeze", [b.weight("flat", 8), b.constant("axes", np.array([0]))], "bias")
    b.node("Relu", [b.node("Add", ["bias", "product"], "z")], "out")
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("MatMul", "z", "z")


@pytest.mark.parametrize("learned", [True, False])
def test_ones_in_the_shape_of_an_input_are_no_weights(learned: bool, tmp_path: Path) -> None:
    # as a mask is spread over pairs of positions; a learned query is repeated for each sample
    b = Builder()
    b.node("Shape", ["x"], "shape")
    if learned:
        b.node("Expand", [b.weight("query", 1, 5, 6), "shape"], "left")
    else:
        b.node("ConstantOfShape", ["shape"], "left")
    b.node("Transpose", ["x"], "turned", perm=[0, 2, 1])
    b.node("MatMul", ["left", "turned"], "out")
    table = layers_of(b.model({"x": ("n", 5, 6)}, {"out": ("n", 5, 5)}), tmp_path)
    assert [r.linear for r in table.layers] == (["out"] if learned else [])


def test_embedding_is_no_layer(tmp_path: Path) -> None:
    b = Builder()
    b.node("Cast", ["x"], "tokens", to=onnx.TensorProto.INT64)
    b.node("Gather", [b.weight("table", 11, 6), "tokens"], "embedded")
    b.node("Relu", [b.gemm("embedded", "fc", 6, 8)], "out")
    table = layers_of(b.model({"x": ("n",)}, {"out": ("n", 8)}), tmp_path)
    assert only(table) == ("Gemm", "fc", "fc")


def test_probabilities_of_two_classes_are_the_output(tmp_path: Path) -> None:
    b = Builder()
    b.node("Sigmoid", [b.gemm("x", "logit", 6, 1)], "one")
    b.node("Sub", [b.constant("unity", np.float32(1)), "one"], "other")
    b.node("Concat", ["other", "one"], "out", axis=1)
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 2)}), tmp_path)
    assert table.layers[0].output
    assert table.output_tensors == {"logit", "one", "other", "out"}


def test_features_beside_the_last_layer_make_it_none(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "fc", 6, 3)
    b.node("Concat", ["fc", "x"], "out", axis=1)
    table = layers_of(b.model({"x": ("n", 6)}, {"out": ("n", 9)}), tmp_path)
    assert not table.layers[0].output


def test_path_leads_through_a_branch(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "fc", 6, 8)
    branch = helper.make_graph(
        [helper.make_node("Relu", ["fc"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)],
    )
    condition = b.constant("condition", np.array(True))
    b.node("If", [condition], "chosen", then_branch=branch, else_branch=branch)
    b.gemm("chosen", "logits", 8, 3)
    model = b.model({"x": ("n", 6)}, {"logits": ("n", 3), "fc": ("n", 8)})
    table = layers_of(model, tmp_path)
    assert [(r.path, r.output) for r in table.layers] == [(1, False), (2, True)]
