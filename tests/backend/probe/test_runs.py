"""Runs that compute a tensor, and runs that do not: branches, and loops without iterations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.control_flow import parse
from support.networks import saved
from support.notes import Notes

import cnatool
from cnatool._util.names import complete_name
from cnatool.backend.inputs import Samples
from cnatool.backend.network import ProbedNetwork, open_network
from cnatool.backend.session import RunOptions
from cnatool.errors import MetricError, UsageError
from cnatool.records.skipped import NOT_ALWAYS_IN_BATCHES

MODEL = """
g (float[n,3] x) => (float[n,3] y) {
  zero = Constant<value = float {0.0}>()
  total = ReduceSum<keepdims=0>(x)
  cond = Greater(total, zero)
  [choose] y = If (cond) <
    then_branch = a () => (float[n,3] t) { h = MatMul(x, w)  t = Relu(h) },
    else_branch = c () => (float[n,3] n) {
      n = Neg(x)  turned = Transpose(n)  most = ReduceMax<keepdims=0>(n)
    }
  >
}"""
WEIGHTS = np.eye(3) + 1
POSITIVE = np.array([[1, 2, 3], [2, 3, 1], [3, 1, 4]], np.float32)
MIXED = POSITIVE * np.array([[1], [-1], [1]], np.float32)


def probe(x: np.ndarray, folder: Path, bound: int | None, *, shapes: bool = False) -> ProbedNetwork:
    network = open_network(saved(parse(MODEL, w=WEIGHTS), folder / "m.onnx"))
    return network.probe(Samples({"x": x}), bound=bound, run=RunOptions(), shapes_only=shapes)


@pytest.mark.parametrize("shapes", [False, True])
def test_samples_that_run_alone(shapes: bool, tmp_path: Path) -> None:
    # The first sample takes the other branch.
    found = probe(-MIXED, tmp_path, 1, shapes=shapes)
    tensors = {t.name.removeprefix("choose/"): t for t in found.tensors}
    described = {name: (t.shape, t.batch_axis, t.varies) for name, t in tensors.items()}
    assert described == {
        "total": ((), None, False),
        "cond": ((), None, False),
        "then_branch/h": ((3,), 0, True),
        "then_branch/t": ((3,), 0, True),
        "else_branch/n": ((3,), 0, True),
        "else_branch/turned": ((3,), 1, True),
        "else_branch/most": ((), None, True),
        "y": ((3,), 0, False),
    }
    assert not found.mixed


def test_a_branch_that_no_sample_takes_is_measured_all_the_same(tmp_path: Path) -> None:
    x = np.concatenate([POSITIVE] * 4).reshape(-1, 3)
    np.savez(tmp_path / "data.npz", x=np.concatenate([x, -x[:1]]), y=np.zeros(13, int))
    model = saved(parse(MODEL, w=WEIGHTS), tmp_path / "m.onnx")
    notes = Notes()
    store = cnatool.dump(
        model, tmp_path / "data.npz", tmp_path / "s.zarr", batch_size=1, observer=notes
    )
    split = store.splits["all"]
    names = [tensor.name for tensor in store.tensors]
    sums, counts = (
        dict(zip(names, split.statistics(kind)[:].T, strict=True)) for kind in ("sum", "count")
    )
    np.testing.assert_allclose(sums["choose/then_branch/t"][:-1], (x @ WEIGHTS).sum(axis=1))
    assert (counts["choose/then_branch/t"] == [*[3] * 12, 0]).all()
    for name in ("n", "turned"):
        assert (counts[f"choose/else_branch/{name}"] == [*[0] * 12, 3]).all()
        assert (sums[f"choose/else_branch/{name}"] == [*[0] * 12, x[0].sum()]).all()
    assert sums["choose/else_branch/most"][-1] == x[0].max()
    assert [layer.per_sample for layer in store.layers] == [False]
    words = "1 layer, first 'choose/then_branch/h', is in a branch that only some samples take"
    assert any(words in text for text in notes.texts)


def test_a_batch_decides_for_all_its_samples(tmp_path: Path) -> None:
    # The probe's samples take one branch, together and alone.
    found = probe(POSITIVE, tmp_path, None)
    names = [tensor.name for tensor in found.tensors]
    assert names == ["choose/then_branch/h", "choose/then_branch/t", "y"]
    assert found.mixed == tuple(names)
    assert [tensor.varies for tensor in found.tensors] == [True, True, False]
    reasons = {tensor.name: tensor.reason for tensor in found.skipped}
    assert reasons["choose/else_branch/n"] == NOT_ALWAYS_IN_BATCHES


def test_batches_that_take_different_branches(tmp_path: Path) -> None:
    # All three take the first branch, two of them the second one.
    x = np.array([[-1, -2, -3], [2, 1, 1], [9, 1, 4]], np.float32)
    found = probe(x, tmp_path, None)
    assert [tensor.name for tensor in found.tensors] == ["y"]
    assert found.mixed == ("y",)
    inside = [tensor.reason for tensor in found.skipped if "branch" in tensor.name]
    assert set(inside) == {NOT_ALWAYS_IN_BATCHES}


@pytest.mark.parametrize("name", ["choose/else_branch/n", "n"])
def test_a_tensor_in_a_branch_is_refused_with_what_helps(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", POSITIVE)
    model = saved(parse(MODEL, w=WEIGHTS), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="'choose/else_branch/n'.*`batch_size=1` stores it"):
        cnatool.dump(model, tmp_path / "x.npy", tmp_path / "s.zarr", tensors=[name])


def test_a_tensor_in_a_branch_is_chosen_by_its_own_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", POSITIVE)
    model = saved(parse(MODEL, w=WEIGHTS), tmp_path / "m.onnx")
    store = cnatool.dump(model, tmp_path / "x.npy", tmp_path / "s.zarr", tensors=["h"])
    assert [tensor.name for tensor in store.tensors] == ["choose/then_branch/h"]
    rest = cnatool.dump(model, tmp_path / "x.npy", tmp_path / "r.zarr", tensors=["!h"])
    assert "choose/then_branch/h" not in [tensor.name for tensor in rest.tensors]
    with pytest.raises(MetricError, match="is 'choose/then_branch/h'"):
        store.splits["all"].activations("h")


def test_an_own_name_in_several_subgraphs_is_not_enough() -> None:
    names = ["a/then_branch/h", "a/else_branch/h", "loop/body/r", "x"]
    assert complete_name(names, "r") == "loop/body/r"
    assert complete_name(names, "!body/r") == "!loop/body/r"
    for pattern in ("h", "x", "*h", "!x", "s"):
        assert complete_name(names, pattern) == pattern
