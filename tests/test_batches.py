"""Models that run with some numbers of samples only, against each sample run alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from support.networks import Builder, saved

import cnatool
from cnatool.store.records import Kept

ROWS = 21


class Notes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        pass


def pictures(folder: Path, *shape: int, rows: int = ROWS) -> tuple[np.ndarray, Path]:
    x = np.random.default_rng(5).normal(size=(rows, *shape)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    return x, folder / "data.npz"


def alone(model: onnx.ModelProto, x: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Give every tensor that the nodes of a model make, for each sample in a run of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [name for node in copy.graph.node for name in node.output if name]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    evaluator = ReferenceEvaluator(copy)
    return [
        dict(zip(names, evaluator.run(None, {"x": x[i : i + 1]}), strict=True))
        for i in range(len(x))
    ]


def check(store: cnatool.Store, truth: list[dict[str, np.ndarray]]) -> None:
    """Compare each tensor of a store, or its sums, with what each sample alone gives."""
    split = store.splits["all"]
    assert len(split) == len(truth)
    for tensor in store.tensors:
        given = [run[tensor.name] for run in truth]
        sums = split.statistics("sum")[:][:, tensor.number]
        expected = [one.astype(np.float64).sum() for one in given]
        np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-4)
        if tensor.output is None and tensor.stored is None:
            continue
        values = split.activations(tensor.name)[:]
        for got, one in zip(values, given, strict=True):
            assert got.shape == tensor.shape
            assert tensor.batch_axis is not None or got.shape == one.shape
            np.testing.assert_allclose(got.ravel(), one.ravel(), rtol=1e-4, atol=1e-5)


# --- one sample a run, whose batch axis is taken away --------------------------------------------


def squeezed_model(kind: str, batch: int | str = 1) -> onnx.ModelProto:
    """A convolution, its batch axis taken away in one of several ways, and two layers on a row."""
    b = Builder(3)
    b.node("Relu", [b.conv("x", "c1", 2, 5, 3)], "r1")
    if kind == "squeeze after pooling":
        b.node("GlobalAveragePool", ["r1"], "pooled")
        b.node("Squeeze", ["pooled"], "row")
    elif kind == "gather":
        b.node("Gather", ["r1", b.constant("zero", np.array(0))], "picture", axis=0)
        b.node("ReduceMean", ["picture"], "row", axes=[1, 2], keepdims=0)
    elif kind == "flat":
        b.node("ReduceMax", ["r1"], "largest", axes=[2, 3], keepdims=1)
        b.node("Reshape", ["largest", b.constant("all", np.array([-1]))], "row")
    else:
        b.node("ReduceMean", ["r1"], "row", axes=[0, 2, 3], keepdims=0)
    b.node("MatMul", ["row", b.weight("w2", 5, 4)], "l2")
    b.node("Relu", ["l2"], "r2")
    b.node("MatMul", ["r2", b.weight("w3", 4, 3)], "y")
    b.node("ReduceSum", ["y"], "total", keepdims=0)
    return b.model({"x": (batch, 2, 4, 4)}, {"y": (3,), "total": ()})


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize("kind", ["squeeze after pooling", "gather", "flat", "mean"])
def test_all_that_a_run_of_one_sample_gives_is_that_samples(
    kind: str, keep: Kept, tmp_path: Path
) -> None:
    model = squeezed_model(kind)
    x, data = pictures(tmp_path, 2, 4, 4)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr", keep=keep)
    truth = alone(model, x)
    assert {tensor.name for tensor in store.tensors} == set(truth[0])
    assert [layer.linear for layer in store.record.layers] == ["c1", "l2", "y"]
    shapes = {tensor.name: tensor.shape for tensor in store.tensors}
    assert shapes["c1"] == (5, 4, 4)
    assert shapes["y"] == (3,)
    assert shapes["total"] == ()
    check(store, truth)


def test_shape_that_depends_on_the_data_in_runs_of_one_sample(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "active")
    b.node("NonZero", ["active"], "places")
    b.node("Cast", ["places"], "numbers", to=onnx.TensorProto.FLOAT)
    b.node("Abs", ["active"], "y")
    model = b.model({"x": (1, 6)}, {"y": (1, 6)})
    x, data = pictures(tmp_path, 6)
    store = cnatool.dump(saved(model, tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    assert {tensor.name for tensor in store.tensors if tensor.varies} == {"places", "numbers"}
    truth = alone(model, x)
    check(store, truth)
    counts = store.splits["all"].statistics("count")[:]
    number = next(t.number for t in store.tensors if t.name == "numbers")
    np.testing.assert_array_equal(counts[:, number], [run["numbers"].size for run in truth])
