"""Units lie along the axis that the operators tell, not that of the shape alone."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import saved

import cnatool
from cnatool.records.unit_axis import find_unit_axis

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> cnatool.Store:
    folder = tmp_path_factory.mktemp("axes")

    def weights(name: str, *shape: int) -> object:
        return numpy_helper.from_array(RNG.normal(size=shape).astype("f4"), name)

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "k"], ["conv"], kernel_shape=[3]),
        node("Relu", ["conv"], ["relu"]),
        node("Transpose", ["relu"], ["tokens"], perm=[0, 2, 1]),
        node("MatMul", ["tokens", "w"], ["mixed"]),
        node("Conv", ["y", "k2"], ["map"], kernel_shape=[1, 1]),
        node("Transpose", ["map"], ["nhwc"], perm=[0, 2, 3, 1]),
        node("MatMul", ["nhwc", "w2"], ["swin"]),
        node("Transpose", ["swin"], ["back"], perm=[0, 3, 1, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 9]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 4, 6]),
        ],
        [
            helper.make_tensor_value_info("mixed", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("back", TensorProto.FLOAT, None),
        ],
        [
            weights("k", 5, 2, 3),
            weights("w", 5, 8),
            weights("k2", 7, 3, 1, 1),
            weights("w2", 7, 10),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {
        name: RNG.normal(size=(12, *shape)).astype("f4")
        for name, shape in (("x", (2, 9)), ("y", (3, 4, 6)))
    }
    np.savez(folder / "data.npz", **feeds)
    saved(model, folder / "m.onnx")
    return cnatool.dump(folder / "m.onnx", folder / "data.npz", folder / "s.zarr", tensors="all")


def test_axis_of_each_tensor(store: cnatool.Store) -> None:
    found = {tensor.name: (tensor.shape, find_unit_axis(tensor)) for tensor in store.tensors}
    assert found == {
        "conv": ((5, 7), 0),
        "relu": ((5, 7), 0),
        "tokens": ((7, 5), 1),
        "mixed": ((7, 8), 1),
        "map": ((7, 4, 6), 0),
        "nhwc": ((4, 6, 7), 2),
        "swin": ((4, 6, 10), 2),
        "back": ((10, 4, 6), 0),
    }


def test_units_are_those_channels(store: cnatool.Store) -> None:
    frame = cnatool.units(store, tensors=["relu", "nhwc"]).frame()
    split = store.splits["all"]
    for name, axes in (("relu", (0, 2)), ("nhwc", (0, 1, 2))):
        values = split.activations(name)[:]
        rows = frame.filter(tensor=name)
        np.testing.assert_allclose(
            rows["mean"].to_numpy(), values.mean(axis=axes, dtype="f8"), rtol=1e-6
        )
