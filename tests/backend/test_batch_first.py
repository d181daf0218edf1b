"""Inputs whose samples do not lie along their first axis: found and moved, or refused together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import ModelError

FLOAT = TensorProto.FLOAT


def _write_model(
    folder: Path,
    x: tuple[int | str | None, ...],
    state: tuple[int | str | None, ...],
    *,
    joined: bool = False,
) -> Path:
    """Write x + the sum of a state (2, samples, 4) over its first axis, or both, times a rate."""
    b = Builder()
    b.node("ReduceSum", ["state", b.constant("axes", np.array([0]))], "total", keepdims=0)
    if joined:
        b.node("Concat", ["x", "total"], "moved", axis=1)
    else:
        b.node("Add", ["x", "total"], "moved")
    b.node("Mul", ["moved", "rate"], "y")
    values = {"x": x, "state": state, "rate": ()}
    graph = helper.make_graph(
        b.nodes,
        "net",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in values.items()],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        b.weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    return saved(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "net.onnx")


@pytest.mark.parametrize(
    ("x", "state", "said"),
    [
        ((None, 4), (2, 1, 4), r"seem to lie along another axis\. "),
        ((1, 4), (2, 1, 4), "the first axis is 1 in input 'x' and 2 in 'state', so it is not"),
    ],
)
def test_states_with_another_sample_axis_are_refused(
    x: tuple[int | str | None, ...],
    state: tuple[int | str | None, ...],
    said: str,
    tmp_path: Path,
) -> None:
    path = _write_model(tmp_path, x, state)
    ones = np.ones((6, 2, 4), np.float32)
    np.savez(tmp_path / "data.npz", x=ones[:, 0], state=ones)
    with pytest.raises(ModelError, match=said):
        cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", constants={"rate": 2.0})
    with pytest.raises(ModelError, match=said):
        inspect_model(path, constants={"rate": 2.0})
    value = np.ones((2, 1, 4), np.float32)
    found = inspect_model(path, constants={"rate": 2.0, "state": value})
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    assert shapes["moved"] == shapes["y"] == (4,)


@pytest.mark.parametrize(
    ("x", "state"),
    [
        (("batch", 4), (2, "batch", 4)),
        (("n", 4), (2, "n", 4)),
        ((None, 4), (2, None, 4)),
        (("batch", 4), ("layers", "batch", 4)),
    ],
)
def test_state_with_another_sample_axis_is_fed(
    x: tuple[int | str | None, ...], state: tuple[int | str | None, ...], tmp_path: Path
) -> None:
    path = _write_model(tmp_path, x, state)
    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(size=(7, 4)), "state": rng.normal(size=(7, 2, 4))}
    np.savez(tmp_path / "data.npz", **{k: v.astype(np.float32) for k, v in rows.items()})
    notes = Notes()
    store = cnatool.dump(
        path,
        tmp_path / "data.npz",
        tmp_path / "s.zarr",
        constants={"rate": 2.0},
        observer=notes,
        batch_size=3,
    )
    assert (
        "input 'state': the model expects samples along axis 1, so they are moved there"
        in notes.texts
    )
    split = store.splits["all"]
    expected = 2 * (rows["x"] + rows["state"].sum(axis=1))
    np.testing.assert_allclose(split.outputs(0)[:], expected, rtol=1e-5)
    np.testing.assert_allclose(split.activations("state/as_in_model")[:], rows["state"], rtol=1e-6)
    np.testing.assert_allclose(split.inputs(1)[:], rows["state"], rtol=1e-6)
    shapes = {"state": (2, 4)} if "layers" in state else None
    found = inspect_model(path, shapes, constants={"rate": 2.0})
    assert {tensor.name: tensor.shape for tensor in found.tensors}["y"] == (4,)


def test_recurrent_network_with_time_first(tmp_path: Path) -> None:
    """All tensors equal those that ONNX Runtime computes of the model as it is."""
    b, rng = Builder(), np.random.default_rng(0)
    for name, shape in {"w": (1, 12, 3), "r": (1, 12, 4)}.items():
        b.constant(name, rng.normal(size=shape).astype(np.float32))
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["states", "last"], hidden_size=4)]
    nodes.append(helper.make_node("Relu", ["last"], ["y"]))
    steps, last = ("time", 1, "batch", 4), (1, "batch", 4)
    shapes = {"states": steps, "last": last, "y": last}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", FLOAT, ("time", "batch", 3))],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in shapes.items()],
        b.weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = saved(model, tmp_path / "net.onnx")
    x = rng.normal(size=(7, 5, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = dict(zip(shapes, session.run([*shapes], {"x": x.swapaxes(0, 1)}), strict=True))
    axes = {"states": 2, "last": 1, "y": 1}
    for keep in ("full", "statistics"):
        store = cnatool.dump(
            path, tmp_path / "x.npy", tmp_path / f"{keep}.zarr", keep=keep, batch_size=3
        )
        split = store.splits["all"]
        for name, axis in axes.items():
            expected = np.moveaxis(values[name], axis, 0)
            if keep == "full":
                np.testing.assert_allclose(split.activations(name)[:], expected, atol=1e-6)
            sums = split.statistics("sum")[:][:, store.tensor(name).number]
            np.testing.assert_allclose(sums, expected.reshape(7, -1).sum(axis=1), atol=1e-5)


def test_inspect_names_all_that_is_missing(tmp_path: Path) -> None:
    path = _write_model(tmp_path, ("batch", "width"), (2, 1, 4))
    with pytest.raises(ModelError) as caught:
        inspect_model(path)
    said = str(caught.value)
    assert "Input 'rate' is one number" in said
    assert "input 'state' float32 (2, 1, 4) has 2 along its first axis" in said
    assert "Input 'x' has a dynamic shape" in said
    assert said.count("dynamic shape") == 1


def test_constant_of_one_sample_is_named(tmp_path: Path) -> None:
    path = _write_model(tmp_path, (None, 4), (2, None, 4), joined=True)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    state = np.ones((2, 1, 4), np.float32)
    notes = Notes()
    store = cnatool.dump(
        path,
        tmp_path / "x.npy",
        tmp_path / "s.zarr",
        constants={"rate": 2.0, "state": state},
        observer=notes,
    )
    assert any("constant 'state' holds 1 sample along an axis" in text for text in notes.texts)
    rows = np.load(tmp_path / "x.npy")
    y = np.concatenate([rows, np.full((6, 4), 2, np.float32)], axis=1) * 2
    np.testing.assert_array_equal(store.splits["all"].outputs(0)[:], y)
