"""Dumps of the states and attention scores that nodes offer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from support.networks import Builder, mlp, saved
from support.notes import Notes

import cnatool
from cnatool.errors import ModelError
from cnatool.records.choices import Kept
from cnatool.store.reader import open_store


def recurrent(path: Path) -> Path:
    """An LSTM over 5 steps, of which only the last state is used, and a layer behind it."""
    b = Builder()
    b.node("Transpose", ["x"], "steps", perm=[1, 0, 2])
    weights = [b.weight("w", 1, 12, 4), b.weight("r", 1, 12, 3)]
    b.nodes.append(
        helper.make_node("LSTM", ["steps", *weights], ["", "last"], name="lstm", hidden_size=3)
    )
    b.node("Squeeze", ["last", b.constant("axes", np.array([0]))], "state")
    b.gemm("state", "out", 3, 2)
    return saved(b.model({"x": ("n", 5, 4)}, {"out": ("n", 2)}), path)


def dump(
    folder: Path, *tensors: str, keep: Kept = "full"
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Dump with these tensors; return their names and what is stored of each."""
    np.save(folder / "x.npy", np.random.default_rng(1).normal(size=(7, 5, 4)).astype(np.float32))
    path = folder / f"{'-'.join(tensors).strip('!*')}-{keep}.zarr"
    notes = Notes()
    cnatool.dump(
        folder / "m.onnx", folder / "x.npy", path, tensors=tensors, keep=keep, observer=notes
    )
    store = open_store(path)
    (split,) = store.splits.values()
    values = {
        tensor.name: np.asarray(
            split.array(f"activations/{tensor.number}")[:]
            if tensor.stored
            else split.statistics()[:, tensor.number]
        )
        for tensor in store.tensors
        if tensor.output is None
    }
    return notes.texts, values


def test_states_are_stored_on_request(tmp_path: Path) -> None:
    recurrent(tmp_path / "m.onnx")
    notes, plain = dump(tmp_path, "all")
    assert "lstm/hidden_states" not in plain
    assert (
        "nodes offer 2 outputs that the model does not use, such as states or attention scores "
        "(`tensors='inner'`): lstm/hidden_states, lstm/final_cell_state"
    ) in notes
    assert "2 of 6 tensors cannot be stored by sample" in " ".join(notes)
    notes, more = dump(tmp_path, "all", "inner")
    assert more.keys() - plain.keys() == {"lstm/hidden_states", "lstm/final_cell_state"}
    for name, values in plain.items():
        np.testing.assert_array_equal(more[name], values)
    # The last of the states, in the order of samples, is the final one.
    assert more["lstm/hidden_states"].shape == (7, 5, 1, 3)
    np.testing.assert_array_equal(more["lstm/hidden_states"][:, -1], more["last"])
    assert not any("nodes offer" in note for note in notes)
    _, alone = dump(tmp_path, "inner", "!*cell*")
    assert alone.keys() == {"lstm/hidden_states", "last"}


def test_sums_of_states_are_those_of_the_whole(tmp_path: Path) -> None:
    recurrent(tmp_path / "m.onnx")
    _, whole = dump(tmp_path, "inner")
    _, sums = dump(tmp_path, "inner", keep="statistics")
    assert sums.keys() == whole.keys()
    for name, values in whole.items():
        expected = values.reshape(7, -1).sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(sums[name], expected, rtol=1e-5, atol=1e-6)


def test_a_model_without_such_nodes_is_told(tmp_path: Path) -> None:
    saved(mlp((64, 8, 4)), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.zeros((7, 64), np.float32))
    with pytest.raises(ModelError, match="no node offers states or attention scores"):
        cnatool.dump(tmp_path / "m.onnx", tmp_path / "x.npy", tmp_path / "s.zarr", tensors="inner")


def test_scores_of_attention_that_is_written_out_are_named(tmp_path: Path) -> None:
    b = Builder()
    b.node("Transpose", ["x"], "turned", perm=[0, 2, 1])
    b.node("MatMul", ["x", "turned"], "products")
    b.node("Softmax", ["products"], "attention", axis=-1)
    b.node("MatMul", ["attention", "x"], "y")
    saved(b.model({"x": ("n", 5, 4)}, {"y": ("n", 5, 4)}), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.ones((7, 5, 4), np.float32))
    with pytest.raises(ModelError, match="ordinary tensors: `tensors='attention'`"):
        cnatool.dump(tmp_path / "m.onnx", tmp_path / "x.npy", tmp_path / "s.zarr", tensors="inner")
