"""What a dump says of tensors that it cannot store as samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import heads
from support.networks import saved
from support.notes import Notes

import cnatool


def test_outputs_without_detections_are_named_once_with_advice(tmp_path: Path) -> None:
    model = heads.end_to_end(threshold=1.0)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).random((6, *shape)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    notes = Notes()
    path = saved(model, tmp_path / "m.onnx")
    cnatool.dump(path, tmp_path / "x.npy", tmp_path / "s.zarr", observer=notes)
    (said,) = [text for text in notes.texts if "holds no output" in text]
    assert said.count("nothing was found in the first 3 samples") == 1
    assert said.endswith("with `batch_size=1` all rows of a run belong to its sample")


@pytest.mark.parametrize("is_first", [False, True])
def test_samples_that_a_recurrence_takes_for_steps_are_named(
    is_first: bool, tmp_path: Path
) -> None:
    rng, width, hidden = np.random.default_rng(0), 4, 5
    weights = {"w": (1, 3 * hidden, width), "r": (1, 3 * hidden, hidden)}
    first = "x"
    nodes = []
    if is_first:  # the samples first, and behind a Transpose the steps
        first = "steps"
        nodes.append(helper.make_node("Transpose", ["x"], [first], perm=[1, 0, 2]))
    nodes.append(helper.make_node("GRU", [first, "w", "r"], ["y"], hidden_size=hidden))
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1, None, hidden])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(6, 7, width)).astype(np.float32))
    notes = Notes()
    path = saved(model, tmp_path / "m.onnx")
    cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", observer=notes)
    found = any("runs from one sample to the next" in text for text in notes.texts)
    assert found is not is_first
