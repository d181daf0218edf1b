"""What is known of a graph holds in ONNX Runtime, whatever the unknown lengths are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnatool.backend.graph.graph import analyse_graph
from cnatool.backend.graph.known_values import KnownValues

OPSET = 18
INT = TensorProto.INT64


def constant(value: Any) -> np.ndarray:
    return np.asarray(value, np.int64)


ARITHMETIC = ["Add", "Sub", "Mul", "Div", "Max", "Min"]
BINARY = [*ARITHMETIC, "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
# These need every element.
WHOLE = ("ConstantOfShape", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum")
# An operator with its settings, and constants behind them.
MOVES: list[tuple[str, dict[str, Any], list[np.ndarray]]] = [
    ("Identity", {}, []),
    ("Gather", {}, [constant([2, -1, 0])]),
    ("Gather", {}, [constant(-2)]),
    ("Slice", {}, [constant([1]), constant([3])]),
    ("Slice", {}, [constant([-1]), constant([-9]), constant([0]), constant([-2])]),
    ("Unsqueeze", {}, [constant([0])]),
    ("Reshape", {}, [constant([2, -1])]),
    ("Squeeze", {}, []),
    ("Flatten", {"axis": 0}, []),
    ("Transpose", {}, []),
    ("ReduceProd", {}, [constant([0])]),
    ("ReduceSum", {"keepdims": 0}, []),
    ("ReduceMax", {}, []),
    ("ReduceMin", {}, []),
    ("ConstantOfShape", {}, []),
    ("Neg", {}, []),
    ("Abs", {}, []),
    ("Cast", {"to": TensorProto.BOOL}, []),
    ("Cast", {"to": TensorProto.FLOAT}, []),
    ("Cast", {"to": TensorProto.INT32}, []),
    *((operator, {}, [constant(other)]) for operator in BINARY for other in (2, [1, 3, 2, 5])),
]


@pytest.mark.parametrize(("operator", "settings", "more"), MOVES)
def test_values_hold_for_every_number_of_samples(
    operator: str, settings: dict[str, Any], more: list[np.ndarray]
) -> None:
    """Follow an operator on the shape (n, 2, 3, 4) of an input."""
    names = [f"c{i}" for i in range(len(more))]
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node(operator, ["shape", *names], ["y"], **settings),
    ]
    # What is known only in part goes on.
    nodes.append(helper.make_node("Unsqueeze", ["y", "zero"], ["row"]))
    nodes.append(helper.make_node("Concat", ["row", "row"], ["z"], axis=0))
    weights = [numpy_helper.from_array(v, n) for n, v in zip(names, more, strict=True)]
    weights.append(numpy_helper.from_array(constant([0]), "zero"))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 2, 3, 4))],
            [onnx.ValueInfoProto(name=name) for name in ("shape", "y", "z")],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    known = KnownValues.of_inputs(analyse_graph(Path("m.onnx"), (), model, {}), (), {})
    for node in nodes:
        known.add(node)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        feeds = {"x": np.zeros((count, 2, 3, 4), np.float32)}
        for name, value in zip(("shape", "y", "z"), session.run(None, feeds), strict=True):
            shape, array = known.shape(name), known.array(name)
            assert shape is None or all(
                length in (None, size) for length, size in zip(shape, value.shape, strict=True)
            )
            if array is not None:
                assert array.value.dtype == value.dtype
                np.testing.assert_array_equal(array.value[array.known], value[array.known])
    array = known.array("y")
    assert array is None if operator in WHOLE else array is not None and array.known.any()


def test_a_computed_shape_is_followed() -> None:
    """Reshape (n, 12) to its own number of rows, 3 and what remains; then reduce the whole."""
    weights = {"one": [1], "zero": [0], "rest": [3, -1]}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["cube"]),
        helper.make_node("Shape", ["cube"], ["cube_shape"], start=1, end=2),
        helper.make_node("ReduceProd", ["cube_shape"], ["length"], keepdims=0),
        helper.make_node("ConstantOfShape", ["cube_shape"], ["zeros"]),
        helper.make_node("Size", ["cube"], ["count"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 12))],
            [],
            [numpy_helper.from_array(constant(v), n) for n, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    known = KnownValues.of_inputs(analyse_graph(Path("m.onnx"), (), model, {}), (), {})
    for node in nodes:
        known.add(node)
    assert known.shape("cube") == (None, 3, None)
    assert known.shape("zeros") == (3,)
    length = known.array("length")
    assert length is not None
    assert length.whole == 3
    assert known.array("count") is None


@pytest.mark.parametrize(
    ("operator", "settings", "inputs"),
    [
        ("Div", {}, [[-7], [2]]),
        ("Div", {}, [[7], [0]]),
        ("Cast", {"to": TensorProto.UINT8}, [[-1.5]]),
        ("Cast", {"to": TensorProto.INT32}, [[1e20]]),
        ("Cast", {"to": TensorProto.INT32}, [[float("nan")]]),
        ("ReduceSum", {}, [[0.1, 1e8, -1e8]]),
        ("Exp", {}, [[1.0]]),
    ],
)
def test_what_runtimes_may_compute_differently_is_unknown(
    operator: str, settings: dict[str, Any], inputs: list[list[float]]
) -> None:
    names = [f"c{i}" for i in range(len(inputs))]
    node = helper.make_node(operator, names, ["y"], **settings)
    weights = [numpy_helper.from_array(np.array(v), n) for n, v in zip(names, inputs, strict=True)]
    model = helper.make_model(
        helper.make_graph([node], "test", [], [], weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    known = KnownValues.of_inputs(analyse_graph(Path("m.onnx"), (), model, {}), (), {})
    known.add(node)
    assert known.array("y") is None


def test_large_values_are_not_computed() -> None:
    """Doubled often enough, a vector would not fit into memory."""
    nodes = [helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(60)]
    nodes.append(helper.make_node("ConstantOfShape", ["huge"], ["zeros"]))
    weights = [
        numpy_helper.from_array(constant([1, 2, 3]), "c0"),
        numpy_helper.from_array(constant([1 << 40]), "huge"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "test", [], [], weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    known = KnownValues.of_inputs(analyse_graph(Path("m.onnx"), (), model, {}), (), {})
    for node in nodes:
        known.add(node)
    assert known.array("c60") is None
    assert known.array("zeros") is None
