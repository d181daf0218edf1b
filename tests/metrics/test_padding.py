"""Padding of texts is said, by masks and by how rows end; other whole numbers are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.metrics.padding import padding_text

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(3, 13, 40)
KEPT = np.arange(16) < LENGTHS[:, None]
IDS = np.where(KEPT, RNG.integers(5, 90, KEPT.shape), 0)
SHARE = f"{1 - KEPT.mean():.0%} of the token positions are padding"


@pytest.mark.parametrize(
    ("inputs", "how"),
    [
        ({"input_ids": IDS, "attention_mask": KEPT.astype(int)}, "'attention_mask' is 0"),
        ({"input_ids": IDS, "attention_mask": KEPT.astype(np.float32)}, "'attention_mask' is 0"),
        ({"tokens": IDS, "m": KEPT}, "'m' is 0"),
        ({"tokens": np.where(KEPT, IDS, 1)[:, ::-1], "m": KEPT[:, ::-1]}, "'m' is 0"),
        ({"tokens": IDS}, "rows of 'tokens' end in 0"),
        ({"tokens": np.where(KEPT, IDS, 999)}, "rows of 'tokens' end in 999"),
        ({"tokens": IDS, "token_type_ids": KEPT.astype(int)}, "rows of 'tokens' end in 0"),
    ],
)
def test_padding_is_found(inputs: dict[str, np.ndarray], how: str) -> None:
    text = str(padding_text(inputs))
    assert f"{SHARE} ({how}" in text
    assert "Pad all texts that are compared to the same length" in text


FULL = RNG.integers(2, 90, (40, 16))


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": FULL, "attention_mask": np.ones_like(FULL)},
        {"input_ids": FULL, "token_type_ids": (np.arange(16) > LENGTHS[:, None]).astype(int)},
        {"input_ids": FULL, "flags": RNG.integers(0, 2, FULL.shape)},
        {"input_ids": np.where(np.arange(16) == 15, 3, FULL)},
        {"table": RNG.integers(0, 3, (40, 16))},
        {"x": RNG.integers(0, 256, (40, 3, 16))},
        {"x": RNG.normal(size=(40, 16))},
    ],
)
def test_whole_numbers_without_padding(inputs: dict[str, np.ndarray]) -> None:
    assert padding_text(inputs) is None


def test_dump_and_score_say_it(tmp_path: Path) -> None:
    b = Builder(0)
    b.constant("table", b.rng.normal(size=(100, 6)).astype(np.float32))
    b.node("Gather", ["table", "input_ids"], "embedded")
    b.node("Cast", ["attention_mask"], "kept", to=TensorProto.FLOAT)
    b.constant("axes", np.array([2]))
    b.node("Mul", ["embedded", b.node("Unsqueeze", ["kept", "axes"], "wide")], "masked")
    b.node("Relu", [b.node("MatMul", ["masked", b.weight("w", 6, 8)], "fc1")], "relu1")
    b.node("ReduceMean", ["relu1"], "mean", axes=[1], keepdims=0)
    b.node("Relu", [b.gemm("mean", "fc2", 8, 8)], "relu2")
    b.gemm("relu2", "logits", 8, 3)
    model = b.model({}, {"logits": ("n", 3)})
    for name in ("input_ids", "attention_mask"):
        shape = ("n", "length")
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
    path = saved(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=IDS, attention_mask=KEPT.astype(np.int64))
    notes = Notes()
    cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", mask="none", observer=notes)
    assert any(SHARE in line for line in notes.texts)
    assert any(SHARE in line for line in cnatool.score(tmp_path / "s.zarr").notes)
    # With its mask it does not count, and only that is said.
    notes = Notes()
    cnatool.dump(path, tmp_path / "d.npz", tmp_path / "m.zarr", observer=notes)
    assert any("padding does not count" in line for line in notes.texts)
    assert not any("padding counts" in line for line in notes.texts)
    assert not any("padding counts" in line for line in cnatool.score(tmp_path / "m.zarr").notes)
    # The same texts without padding have nothing to be said.
    np.savez(tmp_path / "d.npz", input_ids=FULL, attention_mask=np.ones_like(FULL))
    notes = Notes()
    cnatool.dump(path, tmp_path / "d.npz", tmp_path / "t.zarr", observer=notes)
    assert not any("padding" in line for line in notes.texts)
    assert not any("padding" in line for line in cnatool.score(tmp_path / "t.zarr").notes)
