"""Dumps of models with Ifs that take the same branch for every sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from support.branching import branch, branch_if, one_node
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.dumping.inspect import inspect_model
from cnatool.store.reader import open_store


def detector() -> onnx.ModelProto:
    """A network for each of two sampling rates, which squeezes an axis if it is one long."""
    b = Builder()

    def network(channels: int) -> onnx.GraphProto:
        w, axes = b.weight(f"w{channels}", channels, 1, 3), "axes"
        return branch(
            [
                helper.make_node("Conv", ["x", w], ["conv"]),
                helper.make_node("Relu", ["conv"], ["relu"]),
                helper.make_node("ReduceMean", ["relu"], ["mean"], axes=[1]),
                helper.make_node("Shape", ["mean"], ["shape"]),
                helper.make_node("Gather", ["shape", "one"], ["length"], axis=0),
                helper.make_node("Equal", ["length", "one"], ["is_one"]),
                branch_if(
                    "is_one",
                    ["squeezed"],
                    one_node("Squeeze", ["mean", axes], "s"),
                    one_node("Identity", ["mean"], "i"),
                    name="squeeze",
                ),
            ],
            ["squeezed"],
        )

    b.constant("one", np.array([1]))
    b.constant("axes", np.array([1]))
    b.node("Equal", ["rate", b.constant("high", np.array(16000))], "is_high")
    b.nodes.append(branch_if("is_high", ["out"], network(4), network(3), name="rates"))
    model = b.model({"x": ("n", 1, "length")}, {"out": ()})
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, ()))
    return model


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_dump_exposes_the_branch_that_a_constant_chooses(rate: int, tmp_path: Path) -> None:
    model = saved(detector(), tmp_path / "m.onnx")
    rows = np.random.default_rng(2).normal(size=(7, 1, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    notes = Notes()
    path = tmp_path / "s.zarr"
    cnatool.dump(model, tmp_path / "x.npy", path, constants={"rate": rate}, observer=notes)
    way = "then_branch" if rate == 16000 else "else_branch"
    prefix = f"rates/{way}/"
    store = open_store(path)
    record = store.record
    assert [tensor.name for tensor in record.tensors] == [
        *(prefix + name for name in ("conv", "relu", "mean", "squeeze/then_branch/s", "squeezed")),
        "out",
    ]
    assert [layer.linear for layer in record.layers] == [f"{prefix}conv"]
    assert record.runtime is not None
    assert record.runtime.branches == {"rates": way, f"{prefix}squeeze": "then_branch"}
    assert (
        "2 Ifs, first 'rates', take the same branch for every sample, and are replaced by it"
        in notes.texts
    )
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": rows, "rate": np.array(rate)})
    (split,) = store.splits.values()
    np.testing.assert_array_equal(split.array("outputs/0")[:], expected)
    inspected = inspect_model(model, {"x": (1, 9)}, constants={"rate": rate})
    assert [tensor.name for tensor in inspected.tensors] == [t.name for t in record.tensors]
    assert inspected.document(model).branches == record.runtime.branches
