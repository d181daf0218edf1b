"""Which tensors are counted by default, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import saved

import cnatool

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("select")
    weights = [
        numpy_helper.from_array(RNG.normal(size=shape).astype("f4"), name)
        for name, shape in (("a", (6, 20)), ("b", (20, 8)), ("c", (8, 3)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["first"]),
        helper.make_node("Relu", ["first"], ["r1"]),
        helper.make_node("MatMul", ["r1", "b"], ["second"]),
        helper.make_node("Relu", ["second"], ["r2"]),
        helper.make_node("MatMul", ["r2", "c"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    saved(model, folder / "m.onnx")
    np.savez(folder / "d.npz", x=RNG.normal(size=(40, 6)).astype("f4"))
    return folder


def test_layers_without_units_are_named_and_projections_are_no_units(folder: Path) -> None:
    store = cnatool.dump(
        folder / "m.onnx",
        folder / "d.npz",
        folder / "s.zarr",
        keep="statistics",
        reduce={"first": ["project:4"]},
    )
    found = cnatool.units(store).result
    assert [each.tensor for each in found.splits["all"].tensors] == ["logits"]
    assert [each.tensor for each in found.left_out] == ["first", "second"]
    assert all("units_tensors" in each.reason for each in found.left_out)
    asked = cnatool.units(store, tensors="first:project:4").result
    assert [each.units for each in asked.splits["all"].tensors] == [4]


def test_layers_are_counted_alone_where_they_can_be(folder: Path) -> None:
    store = cnatool.dump(folder / "m.onnx", folder / "d.npz", folder / "full.zarr", tensors="all")
    found = cnatool.units(store).result
    assert [each.tensor for each in found.splits["all"].tensors] == ["first", "second"]
    assert found.left_out == ()


def test_what_was_measured_is_shown_beside_layers(folder: Path) -> None:
    store = cnatool.dump(
        folder / "m.onnx",
        folder / "d.npz",
        folder / "measured.zarr",
        keep="statistics",
        units=True,
        units_tensors=["layers", "r2"],
    )
    found = cnatool.units(store).result
    tensors = found.splits["all"].tensors
    assert [each.tensor for each in tensors] == ["first", "second", "r2", "logits"]
    sources = {each.tensor: each.source for each in tensors}
    assert sources.pop("logits") == "arrays"
    assert set(sources.values()) == {"statistics"}
    assert found.left_out == ()
