"""Extremes are those of NumPy where values are not finite, in the graph as over whole arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.networks import saved

import cnatool


@pytest.mark.parametrize("opset", [7, 17])
def test_extremes_of_values_that_are_not_finite(opset: int, tmp_path: Path) -> None:
    shape = ["n", 4, 3]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["negated"]), helper.make_node("Abs", ["negated"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    x = np.random.default_rng(0).normal(size=(20, 4, 3)).astype("f4")
    x[3, 1, 2] = x[7, 0, 0] = np.nan
    x[9, 3, 2] = np.inf
    x[11, 0, :] = np.inf, -np.inf, np.nan
    x[12, 0, :2] = np.inf, -np.inf
    np.savez(tmp_path / "d.npz", x=x)
    path = saved(model, tmp_path / "m.onnx")
    store = cnatool.dump(
        path,
        tmp_path / "d.npz",
        tmp_path / "s.zarr",
        tensors="all",
        statistics=["sum", "min", "max"],
        keep="statistics",
        reduce={"negated": "max"},
    )
    split = store.splits["all"]
    column = next(tensor.number for tensor in store.tensors if tensor.name == "negated")
    for name, whole in (("min", np.min), ("max", np.max)):
        found = split.statistics(name)[:][:, column]
        np.testing.assert_array_equal(found, whole(-x.reshape(20, -1), axis=1))
    np.testing.assert_array_equal(split.activations("negated:max")[:], (-x).max(axis=1))
