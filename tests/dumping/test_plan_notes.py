"""What a dump says of tensors that it cannot store as samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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
