"""Appended nodes stand before the model's own, and compute the same there."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnx import helper
from support.networks import Builder

from cnatool.backend.graph.node_order import order_appended


def test_each_reads_its_tensor_at_once() -> None:
    builder, tensor = Builder(), "x"
    for number in range(3):
        tensor = builder.node("Relu", [tensor], f"own{number}")
    model = builder.model({"x": ("N", 4)}, {"own2": ("N", 4)})
    graph = model.graph
    one = builder.constant("one", np.ones(1, np.float32))
    graph.initializer.append(builder.weights[-1])
    appended = [
        helper.make_node("Shape", ["x"], ["of the input"]),
        *(helper.make_node("Add", [f"own{n}", one], [f"first{n}"]) for n in range(3)),
        *(helper.make_node("Neg", [f"first{n}"], [f"second{n}"]) for n in range(3)),
        helper.make_node("Concat", [f"second{n}" for n in range(3)], ["joined"], axis=1),
        helper.make_node("Abs", ["joined"], ["behind"]),
    ]
    graph.node.extend(appended)
    for name in ("behind", "of the input"):
        graph.output.add(name=name)
    order_appended(graph, [name for node in appended for name in node.output])
    assert [node.output[0] for node in graph.node] == [
        *("of the input", "first2", "second2", "first1", "second1", "first0", "second0"),
        *("own0", "own1", "own2", "joined", "behind"),
    ]
    x = np.array([[-1, 0, 1, 2]], np.float32)
    options = ort.SessionOptions()
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    session = ort.InferenceSession(model.SerializeToString(), options)
    values, shape = session.run(["behind", "of the input"], {"x": x})
    assert values.tolist() == [[1, 1, 2, 3] * 3]
    assert shape.tolist() == [1, 4]


def test_a_subgraph_reads_what_it_captures() -> None:
    builder = Builder()
    builder.node("Relu", ["x"], "own0")
    builder.node("Relu", ["own0"], "own1")
    graph = builder.model({"x": ("N", 4)}, {"own1": ("N", 4)}).graph
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["own0"], [name])],
            name,
            [],
            [helper.make_empty_tensor_value_info(name)],
        )
        for name, operator in (("then", "Abs"), ("else", "Neg"))
    }
    graph.node.append(helper.make_node("If", ["condition"], ["chosen"], **branches))
    graph.node.append(helper.make_node("Add", ["chosen", "own1"], ["joined"]))
    order_appended(graph, ["chosen", "joined"])
    assert [node.output[0] for node in graph.node] == ["chosen", "own0", "own1", "joined"]
