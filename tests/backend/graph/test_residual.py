"""Residual additions that the runtime has fused with what comes before or behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnatool.backend.graph.graph import analyse_graph
from cnatool.backend.graph.layers import LayerTable, find_layers

_WIDTH = 4


class _Chain:
    """A graph that is built node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        self.constants[name] = np.ones(shape, np.float32)
        return name

    def node(self, operator: str, reads: list[str], *results: str, domain: str = "") -> str:
        self.nodes.append(helper.make_node(operator, reads, list(results), domain=domain))
        return results[0]

    def branch(self, x: str, name: str) -> str:
        """A perceptron."""
        hidden = self.node("MatMul", [x, self.weight(_WIDTH, _WIDTH)], f"{name}.up")
        self.node("Relu", [hidden], f"{name}.relu")
        weight = self.weight(_WIDTH, _WIDTH)
        return self.node("MatMul", [f"{name}.relu", weight], f"{name}.down")

    def table(self, output: str, rank: int = 3) -> LayerTable:
        dims = ["n", "t", _WIDTH][:rank] if rank == 3 else ["n", _WIDTH, 8, 8]
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        return find_layers(analyse_graph(None, (), model, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("sums", [True, False])
def test_a_sum_that_is_normalised_in_the_same_operator(sums: bool) -> None:
    chain, stream = _Chain(), "x"
    for number in range(4):
        down = chain.branch(stream, f"b{number}")
        results = [f"n{number}", *(["", "", f"s{number}"] if sums else [])]
        scale = [chain.weight(_WIDTH), chain.weight(_WIDTH)]
        operator = "SkipLayerNormalization"
        chain.node(operator, [stream, down, *scale], *results, domain="com.microsoft")
        stream = f"n{number}"
    table = chain.table(stream)
    # After a normalisation, that is what the next branch and the next sum read.
    last = "s3" if sums else "n3"
    assert table.residual in (("x", "n0", "n1", "n2", "n3"), ("x", "n0", "n1", "n2", last))
    assert [layer.block for layer in table.layers] == [str(i // 2 + 1) for i in range(8)]


def test_a_sum_that_the_normalising_operator_returns_as_well() -> None:
    chain, stream, normed = _Chain(), "x", "x"
    for number in range(3):
        down = chain.branch(normed, f"b{number}")
        results = [f"n{number}", "", "", f"s{number}"]
        operator = "SkipSimplifiedLayerNormalization"
        reads = [stream, down, chain.weight(_WIDTH)]
        chain.node(operator, reads, *results, domain="com.microsoft")
        stream, normed = f"s{number}", f"n{number}"
    assert chain.table("n2").residual == ("x", "s0", "s1", "s2")


def test_a_sum_inside_a_convolution() -> None:
    chain, stream = _Chain(), "x"
    for number in range(2):
        kernel = [chain.weight(_WIDTH, _WIDTH, 1, 1) for _ in range(2)]
        hidden = chain.node("Conv", [stream, kernel[0]], f"h{number}")
        reads = [hidden, kernel[1], "", stream]
        stream = chain.node("FusedConv", reads, f"s{number}", domain="com.microsoft")
    assert chain.table(stream, 4).residual == ("x", "s0", "s1")


def test_sums_that_are_no_residual_additions() -> None:
    chain = _Chain()
    left, right = chain.branch("x", "a"), chain.branch("x", "b")
    # Two experts; a value and its rectified self; a gated pair.
    total = chain.node("Add", [left, right], "experts")
    relu = chain.node("Relu", [total], "r")
    total = chain.node("Add", [total, relu], "both")
    gates = [chain.node("Mul", [total, left], "g1"), chain.node("Mul", [total, right], "g2")]
    chain.node("Add", gates, "gated")
    assert chain.table("gated").residual == ()


def test_a_shared_mask_is_no_stream() -> None:
    chain = _Chain()
    stream = "x"
    mask = chain.node("Neg", [chain.node("Abs", ["x"], "abs")], "mask")
    for number in range(3):
        hidden = chain.node("MatMul", [stream, chain.weight(_WIDTH, _WIDTH)], f"h{number}")
        turned = chain.node("Softmax", [hidden], f"p{number}")
        scores = chain.node("Mul", [hidden, turned], f"q{number}")
        scaled = chain.node("Sin", [scores], f"sin{number}")
        masked = chain.node("Add", [scaled, mask], f"m{number}")
        stream = chain.node("Softmax", [masked], f"y{number}")
    assert chain.table(stream).residual == ()


def test_numbered_names_alone_show_blocks_where_nothing_is_added() -> None:
    chain, stream = _Chain(), "x"
    for number in range(2):
        for part in ("up", "down"):
            stream = chain.node(
                "MatMul", [stream, chain.weight(_WIDTH, _WIDTH)], f"net/stage.{number}/{part}/y"
            )
            stream = chain.node("Relu", [stream], f"{stream}.relu")
    blocks = [layer.block for layer in chain.table(stream).layers]
    assert blocks == ["net.stage.0"] * 2 + ["net.stage.1"] * 2
