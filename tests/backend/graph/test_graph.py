from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.networks import Builder, mlp, saved

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.outputs import list_exposable
from cnatool.errors import ModelError


def test_shape_arithmetic_and_constants_are_left_out(tmp_path: Path) -> None:
    b = Builder()
    b.node("Shape", ["x"], "shape")
    b.node("Gather", ["shape", b.constant("zero", np.array(0))], "count")
    b.node("Neg", [b.weight("w", 4)], "folded")
    b.node("Mul", ["x", "folded"], "scaled")
    b.node("ConstantOfShape", ["shape"], "zeros")
    b.node("Add", ["scaled", "zeros"], "out")
    graph = load_graph(saved(b.model({"x": ("n", 4)}, {"out": ("n", 4)}), tmp_path / "m.onnx"))
    names, skipped = list_exposable(graph)
    assert names == ["scaled", "out"]
    assert {s.name: s.reason for s in skipped} == {
        "shape": "depends on an input's shape alone",
        "count": "depends on an input's shape alone",
        "zeros": "depends on an input's shape alone",
        "folded": "constant",
    }


def test_nodes_in_branches_are_named_by_where_they_lie(tmp_path: Path) -> None:
    b = Builder()
    inner = [
        helper.make_node("Neg", ["x"], ["negated"]),
        helper.make_node("Abs", ["negated"], ["a"]),
    ]
    value = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, None)
    branch = helper.make_graph(inner, "branch", [], [value])
    b.node("If", [b.constant("yes", np.array(True))], "out", then_branch=branch, else_branch=branch)
    graph = load_graph(saved(b.model({"x": ("n", 4)}, {"out": ("n", 4)}), tmp_path / "m.onnx"))
    names, skipped = list_exposable(graph)
    assert names == [
        "out/then_branch/negated",
        "out/then_branch/a",
        "out/else_branch/negated",
        "out/else_branch/a",
        "out",
    ]
    assert skipped == []


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    b = Builder()
    b.nodes.append(helper.make_node("Twice", ["x"], ["y"], domain="local"))
    b.node("Relu", ["y"], "out")
    model = b.model({"x": ("n", 4)}, {"out": ("n", 4)})
    body = [helper.make_node("Add", ["a", "a"], ["s"]), helper.make_node("Neg", ["s"], ["r"])]
    opset = helper.make_opsetid("", 17)
    model.functions.append(helper.make_function("local", "Twice", ["a"], ["r"], body, [opset]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    assert [node.op_type for node in graph.nodes] == ["Add", "Neg", "Relu"]


def test_digest_covers_external_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    files = load_graph(path).files
    assert [file.path.name for file in files] == ["m.onnx", "weights.bin"]
    assert files[1].size == (tmp_path / "weights.bin").stat().st_size


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd"])
def test_external_weights_stay_in_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").write_bytes((folder / "w.bin").read_bytes())
    with pytest.raises(ModelError, match="lies outside the model's folder"):
        load_graph(path)


def test_missing_external_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"should be in 'w\.bin' beside the model"):
        load_graph(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not a model at all, just text", "is not an ONNX model"),
        (b"\x20\x00\x00\x00ORTM" + bytes(50), "ONNX Runtime's own format"),
        (mlp().SerializeToString()[:2000], "was cut short"),
    ],
)
def test_what_is_no_model(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_graph(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        load_graph(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        load_graph(tmp_path)
