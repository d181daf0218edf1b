"""Axes that count what is found in the data, against axes that count samples.

The probe's three samples hold three detections wherever they can, so that lengths tell nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.backend.inputs import Samples
from cnatool.backend.network import ProbedNetwork, open_network
from cnatool.backend.probe.operator_shapes import pair_reshaped_axes
from cnatool.backend.session import RunOptions
from cnatool.errors import MetricError
from cnatool.records.row_index import RowIndex

WIDTH = 6


def one_each(rows: int, seed: int = 0) -> np.ndarray:
    """Samples with one element above a half each."""
    rng = np.random.default_rng(seed)
    x = np.zeros((rows, WIDTH), np.float32)
    x[np.arange(rows), rng.integers(0, WIDTH, rows)] = rng.uniform(0.6, 1.6, rows)
    return x


def constants(b: Builder) -> None:
    b.constant("half", np.float32(0.5))
    for name, value in (("0", 0), ("1", 1), ("-1", -1), ("2", 2)):
        b.constant(name, np.array([value]))
    b.constant("scalar 0", np.array(0))
    b.constant("scalar 1", np.array(1))


def found_places(b: Builder) -> str:
    b.node("NonZero", [b.node("Greater", ["x", "half"], "mask")], "places")
    return b.node("Transpose", ["places"], "at", perm=[1, 0])


def rows_of_detections(b: Builder) -> str:
    """The samples in which something was found, one row a detection."""
    b.node("Gather", [found_places(b), "scalar 0"], "sample", axis=1)
    return b.node("Gather", ["x", "sample"], "rows", axis=0)


def gathered(b: Builder) -> str:
    b.node("GatherND", ["x", found_places(b)], "roi")
    return b.node("Expand", [b.node("Unsqueeze", ["roi", "1"], "tall"), wide(b)], "rows")


def wide(b: Builder) -> str:
    return b.constant("wide", np.array([1, WIDTH]))


def compressed(b: Builder) -> str:
    b.node("Greater", [b.node("ReduceMax", ["x"], "top", axes=[1], keepdims=0), "half"], "kept")
    return b.node("Compress", ["x", "kept"], "rows", axis=0)


def compressed_elements(b: Builder) -> str:
    flat = b.node("Reshape", [b.node("Greater", ["x", "half"], "mask"), "-1"], "flat")
    b.node("Compress", ["x", flat], "elements")
    return b.node("Expand", [b.node("Unsqueeze", ["elements", "1"], "tall"), wide(b)], "rows")


def distinct(b: Builder) -> str:
    b.node("Unique", ["x"], "rows", axis=0)
    return "rows"


def suppressed(b: Builder) -> str:
    """Boxes of one picture, of which those that overlap are left out."""
    b.node("Slice", ["x", "0", b.constant("4", np.array([4])), "1"], "four")
    b.node("Unsqueeze", ["four", "0"], "boxes")
    b.node("ReduceMax", ["x"], "best", axes=[1], keepdims=0)
    b.node("Unsqueeze", ["best", b.constant("front", np.array([0, 1]))], "scores")
    b.constant("most", np.array([9]))
    b.node("NonMaxSuppression", ["boxes", "scores", "most"], "selected")
    b.node("Gather", ["selected", "scalar 2"], "sample", axis=1)
    b.constant("scalar 2", np.array(2))
    return b.node("Gather", ["x", "sample"], "rows", axis=0)


def computed_range(b: Builder) -> str:
    b.node("Cast", [b.node("Greater", ["x", "half"], "mask")], "ones", to=TensorProto.INT64)
    b.node("ReduceSum", ["ones"], "total", keepdims=0)
    b.node("Range", ["scalar 0", "total", "scalar 1"], "numbers")
    return b.node("Gather", ["x", "numbers"], "rows", axis=0)


def computed_top(b: Builder) -> str:
    """The best k samples, k computed."""
    b.node("Cast", [b.node("Greater", ["x", "half"], "mask")], "ones", to=TensorProto.INT64)
    b.node("ReduceSum", ["ones"], "k", keepdims=0)
    b.node("Unsqueeze", ["k", "0"], "how many")
    b.nodes.append(helper.make_node("TopK", ["x", "how many"], ["rows", "order"], axis=0))
    return "rows"


def computed_slice(b: Builder) -> str:
    b.node("Cast", [b.node("Greater", ["x", "half"], "mask")], "ones", to=TensorProto.INT64)
    b.node("Unsqueeze", [b.node("ReduceSum", ["ones"], "k", keepdims=0), "0"], "stop")
    return b.node("Slice", ["x", "0", "stop", "0"], "rows")


def expanded_to_a_count(b: Builder) -> str:
    """As many copies as there are detections, by the shape of what was found."""
    b.node("Shape", [found_places(b)], "shape")
    b.node("Gather", ["shape", "0"], "many", axis=0)
    b.node("Concat", ["many", "1"], "size", axis=0)
    b.node("ReduceSum", ["x", "0"], "total", keepdims=1)
    return b.node("Expand", ["total", "size"], "rows")


def filled_to_a_count(b: Builder) -> str:
    b.node("Shape", [found_places(b)], "shape")
    b.node("Gather", ["shape", "0"], "many", axis=0)
    b.node("Concat", ["many", "1"], "size", axis=0)
    b.node("ConstantOfShape", ["size"], "zeros")
    b.node("ReduceSum", ["x", "0"], "total", keepdims=1)
    return b.node("Add", ["zeros", "total"], "rows")


def reshaped_detections(b: Builder) -> str:
    rows_of_detections(b)
    b.node("Reshape", ["rows", b.constant("halves", np.array([-1, 2, 3]))], "pairs")
    b.node("Transpose", ["pairs"], "turned", perm=[2, 0, 1])
    b.node("Transpose", ["turned"], "returned", perm=[1, 2, 0])
    return b.node("Reshape", ["returned", b.constant("flat", np.array([0, -1]))], "back")


def detections_joined(b: Builder) -> str:
    rows_of_detections(b)
    none = b.node("Slice", ["rows", "0", "0", "0"], "none")
    return b.node("Concat", ["rows", none], "joined", axis=0)


def chosen_by_size(b: Builder) -> str:
    rows_of_detections(b)
    b.node("Where", [b.node("Greater", ["rows", "half"], "large"), "rows", "half"], "either")
    return "either"


COUNTED: dict[str, Callable[[Builder], str]] = {
    "NonZero, Gather": rows_of_detections,
    "NonZero, GatherND": gathered,
    "Compress along samples": compressed,
    "Compress of elements": compressed_elements,
    "Unique rows": distinct,
    "NonMaxSuppression": suppressed,
    "Range": computed_range,
    "TopK": computed_top,
    "Slice": computed_slice,
    "Expand by a shape": expanded_to_a_count,
    "ConstantOfShape": filled_to_a_count,
    "Reshape and Transpose": reshaped_detections,
    "Concat": detections_joined,
    "Where": chosen_by_size,
}


# Those in which a column says which sample each row is of.
INDEXED = {"NonZero, Gather", "NonZero, GatherND", "Reshape and Transpose", "Concat", "Where"}


def with_head(body: Callable[[Builder], str]) -> onnx.ModelProto:
    """Two layers over detections beside three over samples."""
    b = Builder(1)
    constants(b)
    rows = body(b)
    b.node("Relu", [b.node("MatMul", [rows, b.weight("h1", WIDTH, 5)], "head1")], "head1 active")
    b.node("MatMul", ["head1 active", b.weight("h2", 5, 5)], "head2")
    b.node("Relu", [b.node("MatMul", ["x", b.weight("b1", WIDTH, 7)], "body1")], "body1 active")
    b.node("Relu", [b.node("MatMul", ["body1 active", b.weight("b2", 7, 5)], "body2")], "active")
    b.node("MatMul", ["active", b.weight("b3", 5, 3)], "y")
    return b.model({"x": ("n", WIDTH)}, {"y": ("n", 3), "head2": ("k", 5)}, opset=15)


def probe_model(model: onnx.ModelProto, x: np.ndarray, folder: Path) -> ProbedNetwork:
    network = open_network(saved(model, folder / "net.onnx"))
    return network.probe(Samples({"x": x}), bound=None, run=RunOptions())


@pytest.mark.parametrize("kind", COUNTED)
def test_detections_are_no_samples(kind: str, tmp_path: Path) -> None:
    model = with_head(COUNTED[kind])
    x = one_each(3)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(["head2"], {"x": x})[0].shape == (3, 5)  # as many as there are samples
    found = probe_model(model, x, tmp_path)
    tensors = {tensor.name: tensor for tensor in found.tensors}
    assert {"body1", "body1 active", "body2", "active", "y"} <= set(tensors)
    assert found.mixed == ()
    heads = {"rows", "head1", "head1 active", "head2"}
    assert heads <= found.counted
    if kind in INDEXED:
        for name in heads:
            assert tensors[name].index == RowIndex("at", 0), name
            assert (tensors[name].varies, tensors[name].batch_axis) == (True, None)
        return
    assert not heads & set(tensors)
    reasons = {tensor.name: tensor.reason for tensor in found.skipped}
    assert re.match(
        "its rows count what was found in the data, .* no index says which", reasons["head1"]
    )


@pytest.mark.parametrize("kind", ["NonZero, GatherND", "Compress along samples", "Range", "TopK"])
def test_dump_and_score_leave_layers_of_detections_out(kind: str, tmp_path: Path) -> None:
    model = with_head(COUNTED[kind])
    x = one_each(40)
    x[20], x[30] = 0, 0
    x[30, :2] = 1, 1.3
    labels = np.random.default_rng(0).integers(0, 3, 40)
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    notes = Notes()
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", observer=notes)
    assert any(
        "2 layers, first 'head1', are applied to what is found" in text for text in notes.texts
    )
    assert [layer.per_sample for layer in store.layers] == [False, False, True, True, True]
    expected = ReferenceEvaluator(model).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(store.splits["all"].outputs()[:], expected, rtol=1e-4, atol=1e-5)
    result = cnatool.score(store, overrides={"range": "0:2"})
    assert [layer.name for layer in result.layers] == ["body1", "body2"]
    if kind in INDEXED:
        # What is found in each sample alone, by the reference evaluator.
        alone = [
            ReferenceEvaluator(model).run(["head2"], {"x": x[i : i + 1]})[0] for i in range(40)
        ]
        column = store.tensor("head2").number
        split = store.splits["all"]
        sums = split.statistics("sum")[:, column]
        np.testing.assert_allclose(sums, [rows.sum() for rows in alone], rtol=1e-4, atol=1e-5)
        counts = split.statistics("count")[:, column]
        np.testing.assert_array_equal(counts, [rows.size for rows in alone])
        return
    with pytest.raises(MetricError, match="head1"):
        store.tensor("head1")


# --- axes of samples, in graphs that count -------------------------------------------------------


def scattered_back(b: Builder) -> str:
    """What was found, put back in its place."""
    b.node("GatherND", ["x", found_places(b)], "roi")
    b.node("Mul", ["x", "half"], "less")
    return b.node("ScatterND", ["less", "at", "roi"], "h")


def summed_detections(b: Builder) -> str:
    rows_of_detections(b)
    b.node("ReduceMean", ["rows"], "mean", axes=[0], keepdims=0)
    return b.node(
        "Sub", ["x", b.node("Mul", ["mean", b.constant("none", np.float32(0))], "no")], "h"
    )


def longest(b: Builder) -> str:
    """Each sample cut to a computed length and summed."""
    b.node("Cast", [b.node("Greater", ["x", "half"], "mask")], "ones", to=TensorProto.INT64)
    b.node("ReduceSum", ["ones", "1"], "own", keepdims=0)
    b.node("Unsqueeze", [b.node("ReduceMax", ["own"], "k", keepdims=0), "0"], "stop")
    b.node("Slice", ["x", "0", "stop", "1"], "cut")
    b.node("ReduceSum", ["cut", "1"], "sums", keepdims=1)
    return b.node(
        "Sub", ["x", b.node("Mul", ["sums", b.constant("none", np.float32(0))], "no")], "h"
    )


def per_sample_shape(b: Builder) -> str:
    """A size of which the samples' share comes from the input's shape."""
    b.node("Shape", ["x"], "shape")
    b.node("Gather", ["shape", "0"], "count", axis=0)
    b.node("Concat", ["count", b.constant("own", np.array([2, 3]))], "size", axis=0)
    b.node("Reshape", ["x", "size"], "pairs")
    return b.node("Reshape", ["pairs", b.constant("flat", np.array([0, -1]))], "h")


@pytest.mark.parametrize("body", [scattered_back, summed_detections, longest, per_sample_shape])
def test_samples_stay_samples(body: Callable[[Builder], str], tmp_path: Path) -> None:
    b = Builder(1)
    constants(b)
    h = body(b)
    b.node("Relu", [b.node("MatMul", [h, b.weight("w1", WIDTH, 5)], "fc1")], "active")
    b.node("MatMul", ["active", b.weight("w2", 5, 3)], "y")
    model = b.model({"x": ("n", WIDTH)}, {"y": ("n", 3)}, opset=15)
    x = one_each(3)
    found = probe_model(model, x, tmp_path)
    tensors = {tensor.name: tensor for tensor in found.tensors}
    assert {"h", "fc1", "active", "y"} <= set(tensors)
    assert not any(tensors[name].varies for name in ("h", "fc1", "active", "y"))
    assert not {"h", "fc1", "y"} & set(found.mixed)
    np.savez(tmp_path / "data.npz", x=one_each(9, seed=1))
    store = cnatool.dump(tmp_path / "net.onnx", tmp_path / "data.npz", tmp_path / "s.zarr")
    expected = ReferenceEvaluator(model).run(None, {"x": one_each(9, seed=1)})[0]
    np.testing.assert_allclose(store.splits["all"].outputs()[:], expected, rtol=1e-4, atol=1e-5)


def test_counts_that_no_rule_follows_are_found_by_other_values(tmp_path: Path) -> None:
    """A loop that stops when the data say so: its outputs are as many as its steps."""
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "i"], ["row"], axis=0),
            helper.make_node("ReduceSum", ["row"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "half"], ["on"]),
            helper.make_node("Less", ["i", "end"], ["inside"]),
            helper.make_node("And", ["on", "inside"], ["go"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go in", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("row", TensorProto.FLOAT, None),
        ],
    )
    b = Builder(1)
    constants(b)
    b.constant("true", np.array(True))
    b.node("Shape", ["x"], "size", end=1)
    b.node("Squeeze", ["size", "0"], "n")
    b.node("Sub", ["n", "scalar 1"], "end")
    b.nodes.append(helper.make_node("Loop", ["", "true"], ["rows"], body=body))
    b.node("MatMul", ["rows", b.weight("w1", WIDTH, 5)], "head")
    b.node("MatMul", ["x", b.weight("w2", WIDTH, 3)], "y")
    model = b.model({"x": ("n", WIDTH)}, {"y": ("n", 3), "head": ("k", 5)})
    found = probe_model(model, one_each(3), tmp_path)
    assert [tensor.name for tensor in found.tensors] == ["y"]
    assert {"rows", "head"} <= found.counted


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((3, 4), (12,), [([0, 1], [0])]),
        ((12,), (3, 4), [([0], [0, 1])]),
        ((3, 4, 5), (3, 20), [([0], [0]), ([1, 2], [1])]),
        ((3, 1, 5), (3, 5), [([0], [0]), ([1, 2], [1])]),
        ((2, 6, 5), (4, 3, 5), [([0, 1], [0, 1]), ([2], [2])]),
        ((3,), (3, 1), [([0], [0]), ([], [1])]),
    ],
)
def test_groups_of_reshaped_axes(
    before: tuple[int, ...], after: tuple[int, ...], expected: list[tuple[list[int], list[int]]]
) -> None:
    assert list(pair_reshaped_axes(before, after)) == expected
