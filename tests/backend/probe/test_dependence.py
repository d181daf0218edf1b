"""Samples that depend on each other, random numbers, and state between runs.

The truth is each sample in a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import Builder, mlp, residual_convnet, saved
from support.notes import Notes

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.inputs import Samples
from cnatool.backend.network import ProbedNetwork, open_network
from cnatool.backend.probe.repeatability import find_changes, unrepeatable_error
from cnatool.backend.session import RunOptions

WIDTH = 4


def probe_model(
    model: onnx.ModelProto, folder: Path, *shape: int, count: int = 3, bound: int | None = None
) -> ProbedNetwork:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(count, *shape)).astype(np.float32)
    network = open_network(saved(model, folder / "net.onnx"))
    return network.probe(Samples({"x": x}), bound=bound, run=RunOptions())


def values(model: onnx.ModelProto, name: str, x: np.ndarray) -> np.ndarray:
    """Run a model without optimisation and return one of its tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if name not in {output.name for output in copy.graph.output}:
        copy.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run([name], {"x": x})[0]
    return found


# --- graphs in which a sample depends on others --------------------------------------------------

Body = Callable[[Builder, str], str]


def cumulative(**attributes: int) -> Body:
    def body(b: Builder, x: str) -> str:
        return b.node("CumSum", [x, b.constant("first axis", np.array(0))], "h", **attributes)

    return body


def first_sample(row: int) -> Body:
    def body(b: Builder, x: str) -> str:
        one = b.node("Gather", [x, b.constant("row", np.array([row]))], "one", axis=0)
        return b.node("Sub", [x, one], "h")

    return body


def over_samples(operator: str, **attributes: object) -> Body:
    def body(b: Builder, x: str) -> str:
        return b.node(operator, [x], "h", **attributes)

    return body


def minus_extreme(operator: str) -> Body:
    def body(b: Builder, x: str) -> str:
        return b.node("Sub", [x, b.node(operator, [x], "extreme", keepdims=1)], "h")

    return body


def sorted_samples(b: Builder, x: str) -> str:
    size = b.node("Shape", [x], "size", end=1)
    b.nodes.append(helper.make_node("TopK", [x, size], ["h", "places"], axis=0))
    return "h"


def rolled_samples(b: Builder, x: str) -> str:
    """Each sample replaced by the one before it, the first by the last."""
    zero, last = b.constant("begin", np.array([0])), b.constant("last", np.array([-1]))
    many = b.constant("many", np.array([2**40]))
    b.node("Slice", [x, last, many, zero], "tail")
    b.node("Slice", [x, zero, last, zero], "head")
    return b.node("Concat", ["tail", "head"], "h", axis=0)


def shifted_samples(b: Builder, x: str) -> str:
    pads = b.constant("pads", np.array([1, 0, -1, 0]))
    return b.node("Pad", [x, pads], "h")


def fixed_row(b: Builder, x: str) -> str:
    one = b.node("Gather", [x, b.constant("row", np.array([0]))], "one", axis=0)
    return b.node("Expand", [one, b.node("Shape", [x], "size")], "h")


def causal_attention(b: Builder, x: str) -> str:
    b.node("MatMul", [x, b.node("Transpose", [x], "keys", perm=[1, 0])], "scores")
    b.node("Trilu", ["scores"], "lower", upper=0)
    return b.node("MatMul", ["lower", x], "h")


def attention(b: Builder, x: str) -> str:
    b.node("MatMul", [x, b.node("Transpose", [x], "keys", perm=[1, 0])], "scores")
    b.node("Softmax", ["scores"], "weights", axis=-1)
    return b.node("MatMul", ["weights", x], "h")


def recurrent(operator: str, direction: str = "forward") -> Body:
    """The samples taken for the steps of one sequence."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[operator]

    def body(b: Builder, x: str) -> str:
        b.node("Unsqueeze", [x, b.constant("batch axis", np.array([1]))], "sequence")
        directions = 2 if direction == "bidirectional" else 1
        weights = [
            b.weight(name, directions, gates * WIDTH, WIDTH) for name in ("input", "recurrence")
        ]
        b.node(operator, ["sequence", *weights], "states", hidden_size=WIDTH, direction=direction)
        shape = b.constant("flat", np.array([-1, directions * WIDTH]))
        b.node("Reshape", ["states", shape], "flattened")
        return b.node("MatMul", ["flattened", b.weight("back", directions * WIDTH, WIDTH)], "h")

    return body


def training_norm(b: Builder, x: str) -> str:
    parts = [b.weight(name, WIDTH) for name in ("scale", "shift", "mean")]
    parts.append(b.constant("variance", np.ones(WIDTH, np.float32)))
    b.nodes.append(
        helper.make_node(
            "BatchNormalization", [x, *parts], ["h", "new mean", "new variance"], training_mode=1
        )
    )
    return "h"


def dynamic_quantisation(b: Builder, x: str) -> str:
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], ["codes", "step", "zero point"]))
    return b.node("DequantizeLinear", ["codes", "step", "zero point"], "h")


def merged_less_its_first_row(b: Builder, x: str) -> str:
    b.node("Reshape", [x, b.constant("rows of two", np.array([-1, 2]))], "merged")
    one = b.node("Gather", ["merged", b.constant("row", np.array([0]))], "one", axis=0)
    b.node("Sub", ["merged", one], "less")
    return b.node("Reshape", ["less", b.constant("rows", np.array([-1, WIDTH]))], "h")


def sequence_split_over_samples(b: Builder, x: str) -> str:
    """The elements of all samples as one sequence, cut anew with the axes exchanged."""
    b.node("Transpose", [x], "turned", perm=[1, 0])
    return b.node("Reshape", ["turned", b.constant("rows", np.array([-1, WIDTH]))], "h")


def shares_of_the_batch(b: Builder, x: str) -> str:
    size = b.node("Cast", [b.node("Shape", [x], "size", end=1)], "count", to=1)
    return b.node("Div", [x, size], "h")


DEPENDENT: dict[str, Body] = {
    "cumulative sum": cumulative(),
    "exclusive cumulative sum": cumulative(exclusive=1),
    "reverse cumulative sum": cumulative(reverse=1),
    "exclusive reverse cumulative sum": cumulative(exclusive=1, reverse=1),
    "RNN": recurrent("RNN"),
    "GRU": recurrent("GRU"),
    "LSTM": recurrent("LSTM"),
    "LSTM backwards": recurrent("LSTM", "reverse"),
    "GRU both ways": recurrent("GRU", "bidirectional"),
    "causal attention": causal_attention,
    "attention": attention,
    "less the first": first_sample(0),
    "less the second": first_sample(1),
    "less the last": first_sample(-1),
    "less the largest": minus_extreme("ReduceMax"),
    "less the smallest": minus_extreme("ReduceMin"),
    "less the mean": minus_extreme("ReduceMean"),
    "batch normalisation in training mode": training_norm,
    "softmax": over_samples("Softmax", axis=0),
    "norm": over_samples("LpNormalization", axis=0),
    "sort": sorted_samples,
    "roll": rolled_samples,
    "shift": shifted_samples,
    "first row everywhere": fixed_row,
    "dynamic quantisation": dynamic_quantisation,
    "merged axis less its first row": merged_less_its_first_row,
    "sequence split over samples": sequence_split_over_samples,
    "divided by their number": shares_of_the_batch,
}


def network(body: Body, batch: int | str = "n") -> onnx.ModelProto:
    b = Builder(2)
    h = body(b, b.node("MatMul", ["x", b.weight("w0", WIDTH, WIDTH)], "projected"))
    b.node("LeakyRelu", [b.gemm(h, "fc", WIDTH, 6)], "active")
    b.gemm("active", "y", 6, 3)
    return b.model({"x": (batch, WIDTH)}, {"y": (batch, 3)})


@pytest.mark.parametrize("kind", DEPENDENT)
def test_dependence_on_other_samples_is_found(kind: str, tmp_path: Path) -> None:
    model = network(DEPENDENT[kind])
    x = np.random.default_rng(3).normal(size=(7, WIDTH)).astype(np.float32)
    # As few samples as the graph takes: one, but for one of the kinds.
    size = 1 if kind != "less the second" else 2
    for start in range(7 - size + 1):
        apart = values(model, "y", x[start : start + size])
        if not np.allclose(values(model, "y", x)[start : start + size], apart, rtol=1e-3):
            break
    else:
        pytest.fail("no sample depends on the others")
    found = probe_model(model, tmp_path, WIDTH)
    assert {"fc", "active", "y"} <= set(found.mixed)
    assert "projected" not in found.mixed


@pytest.mark.parametrize("kind", sorted(set(DEPENDENT) - {"less the second"}))
def test_dump_says_so_and_one_sample_a_run_is_exact(kind: str, tmp_path: Path) -> None:
    model = network(DEPENDENT[kind])
    x = np.random.default_rng(4).normal(size=(6, WIDTH)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    path = saved(model, tmp_path / "net.onnx")
    texts = {}
    for size in (4, 1):
        notes = Notes()
        store = cnatool.dump(
            path,
            tmp_path / "data.npz",
            tmp_path / f"{size}.zarr",
            batch_size=size,
            observer=notes,
        )
        texts[size] = [text for text in notes.texts if "on the other samples of a batch" in text]
    assert len(texts[4]) == 1
    assert "for batches of 4 in this order; `batch_size=1` runs each sample alone" in texts[4][0]
    assert not texts[1]
    alone = np.concatenate([values(model, "y", x[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(store.splits["all"].outputs()[:], alone, rtol=1e-4, atol=1e-5)


def test_no_advice_where_one_sample_does_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(4).random((6, WIDTH), np.float32))
    notes = Notes()
    path = saved(network(DEPENDENT["less the second"]), tmp_path / "net.onnx")
    cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", observer=notes)
    (text,) = [text for text in notes.texts if "on the other samples of a batch" in text]
    assert "batch_size" not in text


@pytest.mark.parametrize("largest", [0, 1, 2])
def test_extreme_of_any_sample_is_found(largest: int, tmp_path: Path) -> None:
    """Leaving out one sample changes nothing unless it is the largest."""
    b = Builder()
    b.node("Sub", ["x", b.node("ReduceMax", ["x"], "extreme", keepdims=1)], "y")
    model = b.model({"x": ("n", WIDTH)}, {"y": ("n", WIDTH)})
    x = np.random.default_rng(0).random((3, WIDTH)).astype(np.float32)
    x[largest, 2] = 9
    opened = open_network(saved(model, tmp_path / "net.onnx"))
    assert opened.probe(Samples({"x": x}), bound=None, run=RunOptions()).mixed == ("y",)


@pytest.mark.parametrize("kind", ["cumulative sum", "less the first", "less the largest", "roll"])
def test_without_runs_of_one_sample(kind: str, tmp_path: Path) -> None:
    """A graph that drops the axis of a single sample is tried with other groups."""
    b = Builder(2)
    h = DEPENDENT[kind](b, b.node("MatMul", ["x", b.weight("w0", WIDTH, WIDTH)], "projected"))
    b.node("Unsqueeze", [h, b.constant("axis", np.array([1]))], "tall")
    b.node("Squeeze", ["tall"], "y")
    model = b.model({"x": ("n", WIDTH)}, {"y": ("n", WIDTH)})
    found = probe_model(model, tmp_path, WIDTH)
    assert found.mixed == ("h", "tall", "y")


@pytest.mark.parametrize(
    "kind",
    ["cumulative sum", "less the mean", "less the largest", "batch normalisation in training mode"],
)
def test_bound_to_a_batch(kind: str, tmp_path: Path) -> None:
    found = probe_model(network(DEPENDENT[kind], batch=5), tmp_path, WIDTH, count=5, bound=5)
    stored = {tensor.name for tensor in found.tensors}
    # What is not among the tensors is not stored.
    assert not stored & {"h", "fc", "active", "y"} - set(found.mixed)
    assert "projected" not in found.mixed


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_time_first_recurrence_fed_samples_first(operator: str, tmp_path: Path) -> None:
    gates = {"GRU": 3, "LSTM": 4}[operator]
    b = Builder(1)
    weights = [b.weight("input", 1, gates * 5, WIDTH), b.weight("recurrence", 1, gates * 5, 5)]
    b.node(operator, ["x", *weights], "states", hidden_size=5)
    b.node("Squeeze", ["states", b.constant("directions", np.array([1]))], "rows")
    b.node("MatMul", ["rows", b.weight("w", 5, 3)], "y")
    model = b.model({"x": ("n", 6, WIDTH)}, {"y": ("n", 6, 3)})
    assert probe_model(model, tmp_path, 6, WIDTH).mixed == ("states", "rows", "y")


# --- ordinary models -----------------------------------------------------------------------------


def batch_first_lstm() -> onnx.ModelProto:
    b = Builder(1)
    b.node("Transpose", ["x"], "steps", perm=[1, 0, 2])
    weights = [b.weight("input", 1, 20, WIDTH), b.weight("recurrence", 1, 20, 5)]
    b.node("LSTM", ["steps", *weights], "states", hidden_size=5)
    b.node("Squeeze", ["states", b.constant("directions", np.array([1]))], "rows")
    b.node("Transpose", ["rows"], "samples", perm=[1, 0, 2])
    b.node("MatMul", ["samples", b.weight("w", 5, 3)], "y")
    return b.model({"x": ("n", 6, WIDTH)}, {"y": ("n", 6, 3)})


def transformer() -> onnx.ModelProto:
    b = Builder(1)
    for name in ("q", "k", "v"):
        b.node("MatMul", ["x", b.weight(f"w{name}", WIDTH, WIDTH)], name)
    b.node("MatMul", ["q", b.node("Transpose", ["k"], "kt", perm=[0, 2, 1])], "scores")
    b.node("Softmax", ["scores"], "weights", axis=-1)
    b.node("Add", [b.node("MatMul", ["weights", "v"], "attended"), "x"], "sum")
    scale, shift = b.weight("scale", WIDTH), b.weight("shift", WIDTH)
    b.node("LayerNormalization", ["sum", scale, shift], "normed")
    b.node("CumSum", ["normed", b.constant("time", np.array(1))], "summed")
    b.node("MatMul", ["summed", b.weight("w", WIDTH, 3)], "y")
    return b.model({"x": ("n", 6, WIDTH)}, {"y": ("n", 6, 3)})


def merged_axes() -> onnx.ModelProto:
    b = Builder(1)
    b.node("Reshape", ["x", b.constant("rows", np.array([-1, WIDTH]))], "merged")
    b.node("Relu", [b.gemm("merged", "fc", WIDTH, 5)], "active")
    b.gemm("active", "fc2", 5, 3)
    b.node("Reshape", ["fc2", b.constant("back", np.array([-1, 6, 3]))], "y")
    return b.model({"x": ("n", 6, WIDTH)}, {"y": ("n", 6, 3)})


def sorted_within() -> onnx.ModelProto:
    b = Builder(1)
    b.nodes.append(
        helper.make_node("TopK", ["x", b.constant("k", np.array([4]))], ["top", "places"], axis=1)
    )
    b.node("Cast", ["places"], "whole", to=TensorProto.FLOAT)
    b.node("Add", ["top", "whole"], "y")
    return b.model({"x": ("n", 6, WIDTH)}, {"y": ("n", 4, WIDTH)})


def dropout(training: bool) -> onnx.ModelProto:
    b = Builder(1)
    b.gemm("x", "fc", WIDTH, 8)
    ratio, mode = b.constant("ratio", np.float32(0.5)), b.constant("mode", np.array(training))
    b.node("Relu", [b.node("Dropout", ["fc", ratio, mode], "dropped")], "active")
    b.gemm("active", "y", 8, 3)
    return b.model({"x": ("n", WIDTH)}, {"y": ("n", 3)})


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (mlp(), (64,)),
        (residual_convnet(), (1, 8, 8)),
        (batch_first_lstm(), (6, WIDTH)),
        (transformer(), (6, WIDTH)),
        (merged_axes(), (6, WIDTH)),
        (sorted_within(), (6, WIDTH)),
        (dropout(training=False), (WIDTH,)),
    ],
    ids=["mlp", "convnet", "lstm", "transformer", "merged axes", "sort", "dropout not training"],
)
@pytest.mark.parametrize("count", [3, 5])
def test_no_false_alarm(
    model: onnx.ModelProto, shape: tuple[int, ...], count: int, tmp_path: Path
) -> None:
    found = probe_model(model, tmp_path, *shape, count=count)
    assert found.mixed == ()
    assert found.random == {}
    assert found.run == RunOptions()
    assert not found.counted


# --- random numbers ------------------------------------------------------------------------------


def noisy(operator: str) -> onnx.ModelProto:
    b = Builder(1)
    b.gemm("x", "fc", WIDTH, 8)
    if operator == "Dropout":
        return dropout(training=True)
    if operator == "Bernoulli":
        b.node("Bernoulli", [b.node("Sigmoid", ["fc"], "share")], "noise")
    elif operator == "Multinomial":
        b.node("Multinomial", ["fc"], "class", sample_size=8)
        b.node("Cast", ["class"], "noise", to=TensorProto.FLOAT)
    elif operator.endswith("Like"):
        b.node(operator, ["fc"], "noise")
    else:
        b.node(operator, [], "noise", shape=[8])
    b.gemm(b.node("Add", ["fc", "noise"], "noisy"), "y", 8, 3)
    return b.model({"x": ("n", WIDTH)}, {"y": ("n", 3)})


@pytest.mark.parametrize(
    "operator",
    [
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    ],
)
def test_random_numbers_are_not_blamed_on_other_samples(operator: str, tmp_path: Path) -> None:
    found = probe_model(noisy(operator), tmp_path, WIDTH)
    assert found.mixed == ()
    assert found.random["y"] == operator
    assert "fc" not in found.random
    assert not any(s.reason == "constant" and s.name == "noise" for s in found.skipped)


def test_random_numbers_are_noted(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    notes = Notes()
    path = saved(noisy("Dropout"), tmp_path / "net.onnx")
    cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", observer=notes)
    assert any("3 tensors, first 'dropped', are random (Dropout)" in t for t in notes.texts)
    assert not any("on the other samples" in text for text in notes.texts)


# --- state between runs --------------------------------------------------------------------------


def training_model(parts: str, opset: int, *, eaten: bool = False) -> onnx.ModelProto:
    """A batch normalisation whose scale, shift, mean and variance are the named weights."""
    b = Builder(3)
    for name in sorted(set(parts)):
        b.constant(name, b.rng.uniform(0.5, 2, WIDTH).astype(np.float32))
    b.node("MatMul", ["x", b.weight("w0", WIDTH, WIDTH)], "h")
    old = opset < 14
    outputs = ["normed", "mean", "variance", *(["saved mean", "saved variance"] if old else [])]
    mode = {} if old else {"training_mode": 1}
    b.nodes.append(helper.make_node("BatchNormalization", ["h", *parts], outputs, **mode))
    result = "normed"
    if eaten:  # the running mean goes on as well
        result = b.node("Add", ["normed", "mean"], "moved")
    b.node("Relu", [result], "active")
    b.node("MatMul", ["active", b.weight("w", WIDTH, 3)], "y")
    return b.model({"x": ("n", WIDTH)}, {"y": ("n", 3)}, opset=opset)


def normalised(model: onnx.ModelProto, parts: str, x: np.ndarray, *, eaten: bool) -> np.ndarray:
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    scale, shift, mean, _ = (weights[name] for name in parts)
    h = x.astype(np.float64) @ weights["w0"]
    normed = (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5) * scale + shift
    if eaten:
        normed = normed + 0.9 * mean + 0.1 * h.mean(axis=0)
    found: np.ndarray = np.maximum(normed, 0) @ weights["w"]
    return found


@pytest.mark.parametrize("eaten", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("opset", [9, 15, 17])
@pytest.mark.parametrize("parts", ["sbmv", "sbms", "sbmb", "sbsv", "sbbv", "ssss", "sbsb"])
@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_training_mode_overwrites_no_weight(
    keep: str, parts: str, opset: int, eaten: bool, tmp_path: Path
) -> None:
    model = training_model(parts, opset, eaten=eaten)
    x = np.random.default_rng(5).normal(size=(12, WIDTH)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(
        path,
        tmp_path / "data.npz",
        tmp_path / "s.zarr",
        batch_size=4,
        keep=keep,  # type: ignore[arg-type]
    )
    expected = np.concatenate(
        [normalised(model, parts, x[i : i + 4], eaten=eaten) for i in (0, 4, 8)]
    )
    split = store.splits["all"]
    np.testing.assert_allclose(split.outputs()[:], expected, rtol=1e-3, atol=1e-4)
    number = store.tensor("y").number
    sums = split.statistics("sum")[:][:, number]
    np.testing.assert_allclose(sums, expected.sum(axis=1), rtol=1e-3, atol=1e-4)


def hidden_state() -> onnx.ModelProto:
    """A batch normalisation inside a branch, which updates its statistics in every run."""
    normalisation = helper.make_node(
        "BatchNormalization",
        ["h", "s", "b", "m", "s"],
        ["inner", "new mean", "new variance"],
        training_mode=1,
    )
    branches = {
        name: helper.make_graph(
            [*nodes], name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        )
        for name, nodes, output in (
            ("then_branch", [normalisation], "inner"),
            ("else_branch", [helper.make_node("Neg", ["h"], ["negated"])], "negated"),
        )
    }
    b = Builder(3)
    for name in "sbm":
        b.constant(name, b.rng.uniform(0.5, 2, WIDTH).astype(np.float32))
    b.node("MatMul", ["x", b.weight("w0", WIDTH, WIDTH)], "h")
    b.node("ReduceSum", [b.node("Abs", ["x"], "sizes")], "total", keepdims=0)
    b.node("Greater", ["total", b.constant("nothing", np.float32(0))], "positive")
    b.nodes.append(helper.make_node("If", ["positive"], ["normed"], **branches))
    b.node("MatMul", ["normed", b.weight("w", WIDTH, 3)], "y")
    return b.model({"x": ("n", WIDTH)}, {"y": ("n", 3)})


def test_state_inside_a_branch_is_undone(tmp_path: Path) -> None:
    found = probe_model(hidden_state(), tmp_path, WIDTH)
    assert {tensor.name for tensor in found.tensors} >= {"h", "normed", "y"}


def test_state_that_cannot_be_undone_is_refused(tmp_path: Path) -> None:
    graph = load_graph(saved(hidden_state(), tmp_path / "m.onnx"))
    runs = [{"h": np.zeros(3), "y": np.full(3, value)} for value in (1.0, 2.0)]
    assert find_changes(graph, *runs, {}).state == ("y",)
    message = str(unrepeatable_error(graph, "y"))
    assert "'y' (MatMul) has different values each time" in message
    assert "evaluation mode" in message
