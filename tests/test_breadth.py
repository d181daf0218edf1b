"""Whether the campaign over exported networks notices a wrong tensor, and keeps what it ran."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from breadth import RESULTS, run_case
from breadth_page import PAGE, describe
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.control_flow import Flow, nested, recurrent, same_names, trips_differ
from zoo.case import BuiltModel, Case, NoSamplesError
from zoo.equality import describe_difference
from zoo.isolation import Limits
from zoo.recompute import recompute
from zoo.rows import Results, Row, read_rows
from zoo.trial import compare, dump_samples, judge

from cnatool.backend.graph.graph import load_graph

PREAMBLE = "[ONNXRuntimeError] : 1 : FAIL : Load model from model.onnx failed:"
ROW = Row("tests", "convnet", "small", "helper", "failed")


def built(folder: Path, *, seed: int = 0, operator: str = "Relu") -> BuiltModel:
    """A convolution, a nonlinearity, and a product with constant weights."""
    rng = np.random.default_rng(seed)
    weights = {
        "kernel": rng.normal(size=(3, 2, 3, 3)).astype(np.float32),
        "matrix": rng.normal(size=(108, 4)).astype(np.float32),
        "shape": np.array([0, 108]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["conv"], pads=[1] * 4),
        helper.make_node(operator, ["conv"], ["relu"]),
        helper.make_node("Reshape", ["relu", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    folder.mkdir(exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    x = np.random.default_rng(9).normal(size=(3, 2, 6, 6)).astype(np.float32)
    return BuiltModel(folder / "model.onnx", {"x": x})


def test_all_tensors_of_a_right_dump_are_equal(tmp_path: Path) -> None:
    row = judge(built(tmp_path / "a"), ROW, tmp_path, lambda stage: None)
    assert (row.outcome, row.message) == ("equal", "")
    assert (row.operators, row.tensors, row.equal, row.layers) == (4, 4, 4, 2)


def test_wrong_tensors_are_found(tmp_path: Path) -> None:
    """The store of a network with other weights, as if its values had been mixed up."""
    right, wrong = built(tmp_path / "right"), built(tmp_path / "wrong", seed=1)
    stores = [dump_samples(wrong, tmp_path, keep) for keep in ("full", "statistics")]
    tally = compare(right, load_graph(right.path), *stores)
    # What follows from a wrong tensor is right, given that one.
    assert tally.different.keys() == {"conv", "y"}
    assert tally.equal == {"relu", "flat"}


def test_wrong_sums_are_found(tmp_path: Path) -> None:
    right, wrong = built(tmp_path / "right"), built(tmp_path / "wrong", operator="Identity")
    full, sums = dump_samples(right, tmp_path, "full"), dump_samples(wrong, tmp_path, "statistics")
    tally = compare(right, load_graph(right.path), full, sums)
    assert tally.different.keys() == {"relu", "flat", "y"}
    assert "sums" in tally.different["relu"]


@pytest.mark.parametrize("flow", [nested(), trips_differ(), recurrent(), same_names()], ids=str)
def test_tensors_inside_branches_and_loops_are_compared(flow: Flow, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(flow.model, path)
    row = judge(BuiltModel(path, flow.feeds), ROW, tmp_path, lambda stage: None)
    assert (row.outcome, row.message) == ("equal", "")
    assert row.equal + row.sums == row.tensors > 6


def test_rounding_is_no_difference_and_one_wrong_number_is() -> None:
    expected = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    assert describe_difference(expected * np.float32(1 + 1e-5), expected) is None
    wrong = expected.copy()
    wrong[3, 4] += 1e-2
    assert "1 of 35 elements" in (describe_difference(wrong, expected) or "")
    assert describe_difference(expected[:, ::-1], expected)
    assert describe_difference(np.array([1, 2]), np.array([1, 3]))
    assert describe_difference(np.array([1, 2]), np.array([1, 3]), "QLinearConv") is None
    # What cancels has the rounding errors of what it was made from.
    assert describe_difference(np.full(3, 1e-5), np.zeros(3), "Sub", magnitude=100.0) is None


IMAGE = (2, 4, 7, 6)
SLOW = {
    "Conv groups": ("Conv", {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}, (6, 2, 3, 3)),
    "Conv dilated": ("Conv", {"dilations": [2, 1]}, (3, 4, 2, 3)),
    "ConvTranspose": ("ConvTranspose", {"strides": [2, 2], "pads": [1] * 4}, (4, 3, 3, 3)),
    "MaxPool": ("MaxPool", {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1]}, None),
    "AveragePool": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4}, None),
    "AveragePool over pads": (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1, "strides": [2, 2]},
        None,
    ),
    "GridSample": ("GridSample", {"mode": "linear"}, (2, 5, 3, 2)),
    "GridSample aligned": (
        "GridSample",
        {"mode": "linear", "align_corners": 1, "padding_mode": "border"},
        (2, 5, 3, 2),
    ),
    "Resize linear": ("Resize", {"mode": "linear"}, "sizes"),
    "Resize cubic": ("Resize", {"mode": "cubic", "exclude_outside": 1}, "sizes"),
    "Resize nearest": ("Resize", {"mode": "nearest"}, "scales"),
}


@pytest.mark.parametrize("name", SLOW)
def test_fast_operators_compute_what_the_evaluator_does(name: str) -> None:
    operator, attributes, weight = SLOW[name]
    rng = np.random.default_rng(1)
    feeds: dict[str, Any] = {"x": rng.normal(size=IMAGE).astype(np.float32)}
    if weight == "sizes":
        feeds["sizes"] = np.array([2, 4, 5, 9])
        inputs = ["x", "", "", "sizes"]
    elif weight == "scales":
        feeds["scales"] = np.array([1, 1, 2, 1.5], np.float32)
        inputs = ["x", "", "scales"]
    elif weight is not None:
        feeds["w"] = rng.normal(size=weight).astype(np.float32)
        inputs = ["x", "w"]
    else:
        inputs = ["x"]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], **attributes)],
        "one",
        [
            helper.make_tensor_value_info(
                n, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape
            )
            for n, each in feeds.items()
        ],
        [onnx.ValueInfoProto(name="y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    [expected] = ReferenceEvaluator(model).run(None, feeds)
    [found] = recompute(model, feeds, {})
    np.testing.assert_allclose(found.value, expected, rtol=1e-5, atol=1e-5)


def _hang(folder: Path) -> BuiltModel:
    time.sleep(60)
    raise AssertionError


def _crash(folder: Path) -> BuiltModel:
    os.abort()


def _need_memory(folder: Path) -> BuiltModel:
    np.ones(1 << 40)
    raise AssertionError


def _have_no_samples(folder: Path) -> BuiltModel:
    raise NoSamplesError("a scalar")


@pytest.mark.parametrize(
    ("build", "outcome", "message"),
    [
        (built, "equal", ""),
        (_hang, "exporter", "export: more than 1 s"),
        (_crash, "exporter", "export: ended by SIGABRT"),
        (_need_memory, "exporter", "Unable to allocate"),
        (_have_no_samples, "no samples", "a scalar"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later
def test_every_end_is_a_row(build: object, outcome: str, message: str) -> None:
    limits = Limits(1, 200_000, patience=1) if build is _hang else Limits(60, 200_000)
    row = run_case(Case("tests", "convnet", "small", "helper", build), limits, "numpy 2")
    assert row.outcome == outcome, row.message
    assert message in row.message
    assert row.versions == "numpy 2"


def test_rows_outlive_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    results = Results(path)
    done = Row("a", "f", "n", "e", "refused", left_out={"random": 2}, reasons=["why"], layers=3)
    results.append(done)
    with path.with_suffix(".jsonl").open("a") as stream:
        stream.write('{"source": "a", "fam')  # the row that was being written
    again = Results(path)
    assert [*again.rows.values()] == [done]
    other = Row("b", "f", "n", "e", "equal", framework=True, linear_calls=4)
    again.append(other)
    again.save()
    assert [*Results(path).rows.values()] == [done, other]
    assert not path.with_suffix(".jsonl").exists()


def test_the_page_is_what_the_rows_say() -> None:
    assert PAGE.read_text("utf-8") == describe(read_rows(RESULTS))


def test_failures_are_on_the_page() -> None:
    rows = [
        Row("timm", "resnet", "a", "e", "equal", equal=7, layers=2, linear_calls=2),
        Row("timm", "resnet", "b", "e", "different", "conv: 3 of 4 elements", different=1),
        Row("timm", "vit", "c", "e", "refused", "no axis"),
        Row("timm", "vit", "d", "e", "equal", layers=2, linear_calls=3),
        Row("timm", "vit", "f", "e", "exporter", "no operator"),
        Row("onnx_package", "Add", "test_add", "as it is", "equal"),
        Row("onnx_package", "resnet50", "light_resnet50", "as it is", "equal"),
        Row("timm", "vit", "g", "e", "runtime", f"Fail: {PREAMBLE}Add {'word ' * 80}"),
    ]
    page = describe(rows)
    assert "Of 7 networks and other models, of 3 families, ONNX Runtime runs 5" in page
    assert "**3 of these (60.0 %) are dumped with every tensor equal**" in page
    assert "Of 1 tests of single operators from the `onnx` package, ONNX Runtime runs 1 " in page
    assert "| Fail: Add word" in page
    assert "word word …" in page
    for text in (
        "| b (e) | conv: 3 of 4",
        "| c (e) | no axis",
        "| d | e | 2 | 3 |  |",
        "no operator",
    ):
        assert text in page


def test_results_of_an_unsorted_top_k_may_have_any_order() -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], sorted=0)
    value = helper.make_tensor_value_info
    results = [value("y", TensorProto.FLOAT, None), value("i", TensorProto.INT64, None)]
    model = helper.make_model(
        helper.make_graph([node], "g", [value("x", TensorProto.FLOAT, [1, 4])], results)
    )
    given = {"x": np.array([[1, 5, 3, 5]], np.float32), "k": np.array([2])}

    def differ(values: list[float], places: list[int]) -> bool:
        stored = {"y": np.array([values], np.float32), "i": np.array([places])}
        found = {each.name: each.value for each in recompute(model, given, stored)}
        return any(not np.array_equal(found[name], stored[name]) for name in stored)

    assert not differ([5, 5], [3, 1])
    assert not differ([5, 5], [1, 3])
    assert differ([5, 5], [1, 1])
    assert differ([5, 5], [1, 2])
    assert differ([5, 3], [1, 2])
