"""Inputs that the data lack are named all at once, with options that work when they are pasted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, saved

import cnatool
from cnatool.cli.console import read_pairs
from cnatool.cli.dump_options import read_constants
from cnatool.errors import DataError, UsageError


def with_pasts(count: int, batch: str = "batch") -> onnx.ModelProto:
    """Make a model of tokens with past states, a mask, token types, and a state of fixed size."""
    b = Builder(0)
    b.constant("table", b.rng.normal(size=(50, 6)).astype(np.float32))
    b.node("Gather", ["table", "input_ids"], "embedded")
    total = "embedded"
    for name in ("attention_mask", "token_type_ids"):
        b.node("Cast", [name], f"{name}.f", to=TensorProto.FLOAT)
        b.constant(f"{name}.axes", np.array([2]))
        wide = b.node("Unsqueeze", [f"{name}.f", f"{name}.axes"], f"{name}.wide")
        operator = "Mul" if "mask" in name else "Add"
        total = b.node(operator, [total, wide], f"{name}.out")
    pasts = [f"past_{i}.key" for i in range(count)]
    for name in pasts:
        total = b.node("Concat", [name, total], f"{name}.joined", axis=1)
    b.constant("axes", np.array([1]))
    mean = b.node("ReduceSum", [total, "axes"], "mean", keepdims=0)
    b.node("Add", [mean, "state"], "summed")
    b.node("Relu", [b.gemm("summed", "fc1", 6, 5)], "relu1")
    b.gemm("relu1", "logits", 5, 3)
    model = b.model({}, {"logits": (batch, 3)})
    ids = ("input_ids", "attention_mask", "token_type_ids")
    model.graph.input.extend(
        [helper.make_tensor_value_info(n, TensorProto.INT64, (batch, "length")) for n in ids]
    )
    states = [(name, (batch, "past_length", 6)) for name in pasts] + [("state", (batch, 6))]
    model.graph.input.extend(
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in states]
    )
    return model


@pytest.mark.parametrize("batch", ["batch", "n"])
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5", ".parquet"])
def test_the_advice_for_missing_inputs_works(tmp_path: Path, suffix: str, batch: str) -> None:
    model = with_pasts(10, batch)
    path = saved(model, tmp_path / "m.onnx")
    ids = np.random.default_rng(1).integers(0, 50, (9, 7))
    data = tmp_path / f"data{suffix}"
    if suffix == ".npz":
        np.savez(data, input_ids=ids)
    elif suffix == ".npy":
        np.save(data, ids)
    elif suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(data, "w") as file:
            file["input_ids"] = ids
            file["label"] = np.zeros(9, int)
    else:
        import polars as pl

        pl.DataFrame({"input_ids": ids.tolist(), "label": [0] * 9}).write_parquet(data)
    with pytest.raises(DataError) as caught:
        cnatool.dump(path, data, tmp_path / "s.zarr")
    message = str(caught.value)
    given = eval(message.partition("`constants=")[2].rstrip("`"), {"np": np})
    assert list(given) == ["state"]  # a rule fills each of the others
    store = cnatool.dump(path, data, tmp_path / "s.zarr", constants=given)
    assert [each.input for each in store.record.derived or ()] == [
        "attention_mask",
        "token_type_ids",
        *(f"past_{i}.key" for i in range(10)),
    ]
    found = cnatool.open(tmp_path / "s.zarr").splits["all"].outputs()[:]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    hidden = weights["table"][ids].sum(axis=1) @ weights["fc1.weight"].T + weights["fc1.bias"]
    expected = np.maximum(hidden, 0) @ weights["logits.weight"].T + weights["logits.bias"]
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


def test_a_number_and_a_shape() -> None:
    found = read_constants(["a=0:1x2x0x4", "b=1.5:3", "c=true:2x1"])
    assert found["a"].shape == (1, 2, 0, 4)
    assert found["b"].tolist() == [1.5] * 3
    assert found["c"].tolist() == [[True], [True]]
    assert read_pairs("--constant", ["a=0:1x2"], "INPUT=VALUE") == {"a": "0:1x2"}
    for word in ("a=0:", "a=0:1x", "a=x:1", "a=0:-1", "a=0:1x2:3", "a=:3"):
        with pytest.raises(UsageError, match="a number and a shape as in"):
            read_constants([word])


def test_an_open_length_is_asked_for(tmp_path: Path) -> None:
    path = saved(with_pasts(1), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=np.ones((4, 5), np.int64))
    given = {"attention_mask": 1, "token_type_ids": 0, "past_0.key": 0, "state": 0}
    with pytest.raises(
        UsageError,
        match=r"as in `constants={'past_0\.key': np\.full\(\(1, N, 6\), 0\)}` with numbers for",
    ):
        cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", constants=given)
