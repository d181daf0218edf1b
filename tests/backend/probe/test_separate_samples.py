"""Operators that show that samples are independent, judged by what the runtime computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import mlp, residual_convnet, saved

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.probe.separate_samples import separates_samples
from cnatool.backend.tensor_sizes import infer_sizes

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 3
CONSTANTS = {
    "vector": np.linspace(-1, 1, 4, dtype=np.float32),
    "rows": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4, 1, 1),
    "plane": np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4),
    "kernel": np.linspace(-1, 1, 36, dtype=np.float32).reshape(1, 4, 3, 3),
    "matrix": np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5),
    "scale": np.array(0.5, np.float32),
    "scales": np.array([0.5, 1, 2, 4], np.float32),
    "scale of each row": np.array([0.5, 1, 2], np.float32),
    "offsets of each row": np.zeros((3, 2, 4, 4), np.float32),
    "point": np.ones((1, 4, 1, 1), np.float32),
    "yes": np.array(True),
    "first axis": np.array([0]),
    "last axis": np.array([-1]),
    "flat": np.array([-1, 64]),
    "kept": np.array([0, -1]),
    "merged": np.array([-1, 16]),
    "fixed": np.array([3, 64]),
    "turned": np.array([4, -1]),
}


def model_of(*nodes: tuple[str, list[str], dict[str, Any]], opset: int = 18) -> onnx.ModelProto:
    """Chain nodes; ``x`` of the first and ``t`` of the others are the tensor before."""
    made = []
    for number, (operator, inputs, settings) in enumerate(nodes):
        named = [f"t{number - 1}" if name == "t" else name for name in inputs]
        made.append(helper.make_node(operator, named, [f"t{number}"], **settings))
    graph = helper.make_graph(
        made,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 4, 4, 4))],
        [onnx.ValueInfoProto(name=f"t{len(nodes) - 1}")],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def shown(model: onnx.ModelProto, sample: tuple[int, ...], folder: Path) -> bool:
    graph = load_graph(saved(model, folder / "net.onnx"))
    inputs = {"x": (COUNT, *sample)}
    shapes = {tensor.name: tensor.shape for tensor in infer_sizes(graph.model, inputs)}
    return separates_samples(graph, shapes, inputs)


FLAT = ("Flatten", ["x"], {})
INDEPENDENT = {
    "relu": [("Relu", ["x"], {})],
    "add a plane": [("Add", ["x", "plane"], {})],
    "add the input": [("Relu", ["x"], {}), ("Add", ["x", "t"], {})],
    "convolution": [("Conv", ["x", "kernel"], {})],
    "pooling": [("MaxPool", ["x"], {"kernel_shape": [2, 2]})],
    "concatenated channels": [("Relu", ["x"], {}), ("Concat", ["x", "t"], {"axis": -3})],
    "flat": [FLAT, ("Softmax", ["t"], {})],
    "reshaped": [("Reshape", ["x", "flat"], {})],
    "reshaped, samples kept": [("Reshape", ["x", "kept"], {})],
    "mean of the last axis": [("ReduceMean", ["x", "last axis"], {})],
    "last axis squeezed": [("GlobalMaxPool", ["x"], {}), ("Squeeze", ["t", "last axis"], {})],
    "product with a matrix": [("MatMul", ["x", "matrix"], {})],
    "product of matrices of a sample": [("MatMul", ["x", "x"], {})],
    "normalised by itself": [("LayerNormalization", ["x", "vector"], {})],
    "quantised": [("QuantizeLinear", ["x", "scale"], {}), ("DequantizeLinear", ["t", "scale"], {})],
    "quantised by channel": [
        ("QuantizeLinear", ["x", "scales"], {}),
        ("DequantizeLinear", ["t", "scales"], {"axis": 1}),
    ],
    "channels last": [("Transpose", ["x"], {"perm": [0, 2, 3, 1]})],
}
NOT_SHOWN = {
    "add a number for each row": [("Add", ["x", "rows"], {})],
    "mean of the batch": [("ReduceMean", ["x", "first axis"], {})],
    "mean of everything": [("ReduceMean", ["x"], {})],
    "softmax over the batch": [FLAT, ("Softmax", ["t"], {"axis": 0})],
    "softmax over the first of two axes": [FLAT, ("Softmax", ["t"], {"axis": -2})],
    "samples side by side": [("Relu", ["x"], {}), ("Concat", ["x", "t"], {"axis": 0})],
    "samples and channels merged": [("Flatten", ["x"], {"axis": 2})],
    "rows of planes": [("Reshape", ["x", "merged"], {})],
    "bound to a batch": [("Reshape", ["x", "fixed"], {})],
    "channels first": [("Reshape", ["x", "turned"], {})],
    "samples last": [("Transpose", ["x"], {})],
    "a sample for an axis": [FLAT, ("Unsqueeze", ["t", "first axis"], {})],
    "each sample beside the others": [
        FLAT,
        ("Unsqueeze", ["t", "first axis"], {}),
        ("Add", ["t", "t"], {}),
    ],
    "distances": [FLAT, ("Transpose", ["t"], {}), ("MatMul", ["t", "t"], {})],
    "sum over the batch so far": [("CumSum", ["x", "first axis"], {})],
    "normalised by the batch": [("MeanVarianceNormalization", ["x"], {})],
    "normalised with a scale for each row": [("LayerNormalization", ["x", "rows"], {})],
    "quantised with a scale for each row": [
        ("QuantizeLinear", ["x", "scale of each row"], {"axis": 0})
    ],
    "offsets for each row": [("DeformConv", ["x", "point", "offsets of each row"], {})],
    "random zeros": [("Dropout", ["x", "scale", "yes"], {"seed": 1})],
    "running statistics": [
        ("BatchNormalization", ["x", "scales", "vector", "vector", "scales"], {"training_mode": 1})
    ],
    "shape taken from the data": [("Shape", ["x"], {}), ("Reshape", ["x", "t"], {})],
}


@pytest.mark.parametrize("nodes", INDEPENDENT.values(), ids=INDEPENDENT)
def test_a_sample_alone_has_the_values_that_it_has_in_a_batch(
    nodes: list[tuple[str, list[str], dict[str, Any]]], tmp_path: Path
) -> None:
    model = model_of(*nodes)
    assert shown(model, (4, 4, 4), tmp_path)
    x = np.random.default_rng(0).normal(size=(COUNT, 4, 4, 4)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (batch,) = session.run(None, {"x": x})
    for i in range(COUNT):
        np.testing.assert_allclose(session.run(None, {"x": x[i : i + 1]})[0], batch[i : i + 1])


@pytest.mark.parametrize("nodes", NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_other_graphs_show_nothing(
    nodes: list[tuple[str, list[str], dict[str, Any]]], tmp_path: Path
) -> None:
    assert not shown(model_of(*nodes), (4, 4, 4), tmp_path)


def test_old_softmax_is_over_all_axes_but_the_first(tmp_path: Path) -> None:
    assert shown(model_of(("Softmax", ["x"], {}), opset=12), (4, 4, 4), tmp_path)
    assert not shown(model_of(("Softmax", ["x"], {"axis": 0}), opset=12), (4, 4, 4), tmp_path)


def test_places_in_the_batch_are_no_values_of_a_sample(tmp_path: Path) -> None:
    model = model_of(("MaxPool", ["x"], {"kernel_shape": [2, 2]}))
    model.graph.node[0].output.append("places")
    assert not shown(model, (4, 4, 4), tmp_path)
    model.graph.node[0].output[0] = ""
    assert not shown(model, (4, 4, 4), tmp_path)


def test_operators_of_other_domains_show_nothing(tmp_path: Path) -> None:
    model = model_of(("Relu", ["x"], {}))
    model.graph.node[0].domain = "custom"
    assert not shown(model, (4, 4, 4), tmp_path)


@pytest.mark.parametrize(("model", "sample"), [(mlp(), (64,)), (residual_convnet(), (1, 8, 8))])
def test_usual_networks(model: onnx.ModelProto, sample: tuple[int, ...], tmp_path: Path) -> None:
    assert shown(model, sample, tmp_path)
