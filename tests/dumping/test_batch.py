"""Models that run with some numbers of samples only, against each sample run alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.command import run
from support.networks import Builder, saved
from support.notes import Notes
from support.reference import made_values

import cnatool
from cnatool.backend import tensor_sizes
from cnatool.backend.inputs import ModelInput, make_constant
from cnatool.backend.probe import in_parts
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import BackendError, ModelError, UsageError
from cnatool.records.choices import Kept

ROWS = 21


def pictures(folder: Path, *shape: int, rows: int = ROWS) -> tuple[np.ndarray, Path]:
    x = np.random.default_rng(5).normal(size=(rows, *shape)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    return x, folder / "data.npz"


def alone(model: onnx.ModelProto, x: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Compute every tensor of a model for each sample in a run of its own."""
    return [made_values(model, {"x": x[i : i + 1]}) for i in range(len(x))]


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
            assert tensor.varies or got.shape == tensor.shape
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


# --- a batch declared free that is not ----------------------------------------------------------


def baked_model(kind: str, size: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A model that declares any number of samples and runs with some only."""
    b = Builder(4)
    shape: tuple[int, ...] = (2, 4, 4)
    if kind == "reshape":
        b.node("Relu", [b.conv("x", "c1", 2, 3, 3)], "r1")
        b.node("Reshape", ["r1", b.constant("shape", np.array([size, 48]))], "row")
    elif kind == "divided":
        # Groups of so many samples, and back again.
        b.node("Relu", [b.conv("x", "c1", 2, 3, 3)], "r1")
        b.node("Reshape", ["r1", b.constant("groups", np.array([-1, size * 48]))], "grouped")
        b.node("Reshape", ["grouped", b.constant("back", np.array([-1, 48]))], "row")
    elif kind == "at least":
        # A slice of that length is taken off the batch and must be there.
        b.node("Relu", [b.conv("x", "c1", 2, 3, 3)], "r1")
        b.node("Reshape", ["r1", b.constant("shape", np.array([-1, 48]))], "row")
        b.constant("start", np.array([0]))
        b.constant("end", np.array([size]))
        b.node("Slice", ["row", "start", "end", b.constant("axis", np.array([0]))], "some")
        b.node("ReduceSum", ["some", b.constant("second", np.array([1]))], "sums", keepdims=0)
        b.node("Reshape", ["sums", b.constant("length", np.array([size]))], "exactly")
    else:
        shape = (5, 3)
        b.node("Transpose", ["x"], "steps", perm=[1, 0, 2])
        w, r = b.weight("W", 1, 16, 3), b.weight("R", 1, 16, 4)
        h, c = b.weight("h", 1, size, 4), b.weight("c", 1, size, 4)
        b.node("LSTM", ["steps", w, r, "", "", h, c], "hidden", hidden_size=4)
        b.node("Transpose", ["hidden"], "turned", perm=[2, 0, 1, 3])
        b.node("Flatten", ["turned"], "row")
    width = 20 if kind == "state" else 48
    b.node("Relu", [b.gemm("row", "f1", width, 6)], "active")
    b.gemm("active", "y", 6, 3)
    return b.model({"x": ("n", *shape)}, {"y": ("n", 3)}), shape


@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("kind", ["reshape", "state"])
def test_free_batch_of_which_only_one_runs(
    kind: str, batch_size: int | None, tmp_path: Path
) -> None:
    model, shape = baked_model(kind, 1)
    x, data = pictures(tmp_path, *shape)
    path = saved(model, tmp_path / "net.onnx")
    notes = Notes()
    store = cnatool.dump(path, data, tmp_path / "s.zarr", batch_size=batch_size, observer=notes)
    check(store, alone(model, x))
    assert store.record.runtime is not None
    if batch_size == 1:
        assert store.record.runtime.batch_size == 1
    else:
        assert any("only runs with 1 sample a run" in text for text in notes.texts)


def in_batches(model: onnx.ModelProto, x: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Compute the tensors with rows of samples, the last batch padded with its last sample."""
    missing = -len(x) % size
    filled = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)])
    runs = [made_values(model, {"x": filled[i : i + size]}) for i in range(0, len(filled), size)]
    return {name: np.concatenate([run[name] for run in runs])[: len(x)] for name in runs[0]}


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize(
    ("kind", "size", "batch_size"),
    [
        ("reshape", 8, None),
        ("reshape", 8, 8),
        ("reshape", 7, None),
        ("reshape", 11, 11),
        ("divided", 4, None),
        ("divided", 4, 4),
        ("divided", 4, 12),
        ("divided", 5, None),
        ("at least", 5, None),
        ("at least", 5, 9),
        ("state", 6, None),
        ("state", 6, 6),
    ],
)
def test_free_batch_that_runs_with_some_numbers(
    kind: str, size: int, batch_size: int | None, keep: Kept, tmp_path: Path
) -> None:
    model, shape = baked_model(kind, size)
    x, data = pictures(tmp_path, *shape)
    path = saved(model, tmp_path / "net.onnx")
    notes = Notes()
    store = cnatool.dump(
        path, data, tmp_path / "s.zarr", batch_size=batch_size, keep=keep, observer=notes
    )
    truth = in_batches(model, x, batch_size or size)
    split = store.splits["all"]
    numbers = {tensor.name: tensor.number for tensor in store.tensors}
    for name in ("row", "f1", "active", "y"):
        sums = split.statistics("sum")[:][:, numbers[name]]
        np.testing.assert_allclose(sums, truth[name].sum(axis=1), rtol=1e-4, atol=1e-4)
        if keep == "full":
            got = split.activations(name)[:]
            np.testing.assert_allclose(got, truth[name], rtol=1e-4, atol=1e-5)
    assert [layer.linear for layer in store.record.layers][-2:] == ["f1", "y"]


def test_number_of_samples_that_fails_where_another_runs(tmp_path: Path) -> None:
    model, shape = baked_model("reshape", 8)
    _, data = pictures(tmp_path, *shape)
    path = saved(model, tmp_path / "net.onnx")
    with pytest.raises(UsageError, match=r"`batch_size=4`: .* it runs with 8\."):
        cnatool.dump(path, data, tmp_path / "s.zarr", batch_size=4)


# --- outputs that are no rows of samples --------------------------------------------------------


def three_layers(b: Builder) -> None:
    b.node("Relu", [b.gemm("x", "l1", 6, 5)], "r1")
    b.node("Relu", [b.gemm("r1", "l2", 5, 4)], "r2")
    b.gemm("r2", "l3", 4, 3)


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize("kind", ["scalar", "input", "constant", "sequence", "strings"])
def test_model_without_an_output_that_can_be_stored(kind: str, keep: Kept, tmp_path: Path) -> None:
    b = Builder()
    three_layers(b)
    outputs: dict[str, tuple[int | str, ...]] = {"y": ("n", 3)}
    if kind == "scalar":
        b.node("ReduceMean", ["l3"], "y", keepdims=0)
        outputs, reason = {"y": ()}, "'y' (no sample axis: shape () whatever"
    elif kind == "input":
        outputs, reason = {"x": ("n", 6)}, "'x' (a model input, returned unchanged)"
    elif kind == "constant":
        b.weight("y", 3, 3)
        outputs, reason = {"y": (3, 3)}, "'y' (constant)"
    elif kind == "sequence":
        b.node("SequenceConstruct", ["l3"], "y")
        reason = "'y' (a sequence, not an array of numbers)"
    else:
        b.node("Cast", ["l3"], "y", to=onnx.TensorProto.STRING)
        reason = "'y' (strings, not an array of numbers)"
    model = b.model({"x": ("n", 6)}, outputs)
    if kind == "sequence":
        element = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
        model.graph.output[0].type.CopyFrom(onnx.helper.make_sequence_type_proto(element))
    elif kind == "strings":
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    x, data = pictures(tmp_path, 6)
    notes = Notes()
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr", keep=keep, observer=notes)
    assert any(reason in text and "no accuracy" in text for text in notes.texts)
    truth = alone(b.model({"x": ("n", 6)}, {"l3": ("n", 3)}), x)
    assert [tensor.name for tensor in store.tensors] == ["l1", "r1", "l2", "r2", "l3"]
    check(store, truth)
    result = cnatool.score(tmp_path / "s.zarr", overrides={"range": "-9:9"})
    split = result.splits["all"]
    assert split.beta.mean is not None
    assert split.accuracy is None
    assert result.output.name is None
    assert store.record.outputs == ()
    with pytest.raises(UsageError, match="It has none"):
        cnatool.score(tmp_path / "s.zarr", output="y")
    assert cnatool.verify(tmp_path / "s.zarr").faults == ()
    cnatool.convert(tmp_path / "s.zarr", tmp_path / "s.h5")
    assert cnatool.compare(tmp_path / "s.zarr", tmp_path / "s.h5").same


def test_outputs_can_be_left_out(tmp_path: Path) -> None:
    b = Builder()
    three_layers(b)
    model = b.model({"x": ("n", 6)}, {"l3": ("n", 3), "r1": ("n", 5)})
    x, data = pictures(tmp_path, 6)
    path = saved(model, tmp_path / "net.onnx")
    truth = alone(model, x)
    for patterns, outputs, tensors in (
        (["!r1"], ["l3"], ["l1", "l2", "r2", "l3"]),
        (["l*", "!l3"], ["r1"], ["l1", "l2"]),
        (["all", "!r*"], ["l3"], ["l1", "l2", "l3"]),
        (["layers", "!r1", "!l3"], [], ["l1", "l2"]),
    ):
        store = cnatool.dump(path, data, tmp_path / "s.zarr", tensors=patterns, overwrite=True)
        assert [array.name for array in store.record.outputs] == outputs
        assert [tensor.name for tensor in store.tensors] == tensors
        check(store, truth)
    with pytest.raises(UsageError, match="`tensors='!none'`: .* has no such tensor"):
        cnatool.dump(path, data, tmp_path / "t.zarr", tensors="!none")


def test_layout_of_the_one_picture_among_several_inputs(tmp_path: Path) -> None:
    b = Builder()
    b.conv("picture", "c1", 3, 4, 3)
    b.node("ReduceMean", ["c1"], "pooled", axes=[2, 3], keepdims=0)
    b.node("Concat", ["pooled", "row"], "both", axis=1)
    b.gemm("both", "y", 6, 3)
    model = b.model({"picture": ("n", 3, 3, 3), "row": ("n", 2)}, {"y": ("n", 3)})
    rng = np.random.default_rng(0)
    picture = rng.random((ROWS, 3, 3, 3), np.float32)
    row = rng.random((ROWS, 2), np.float32)
    np.savez(tmp_path / "data.npz", picture=picture, row=row)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", layout="hwc->chw")
    feeds = {"picture": picture.transpose(0, 3, 1, 2), "row": row}
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_allclose(store.splits["all"].outputs()[:], expected, rtol=1e-4, atol=1e-5)


def test_last_batch_that_is_too_small_is_filled_up(tmp_path: Path) -> None:
    """A Squeeze without axes takes the batch axis away where one sample is left over."""
    b = Builder()
    b.conv("x", "c1", 2, 5, 3)
    b.node("GlobalAveragePool", ["c1"], "pooled")
    b.node("Squeeze", ["pooled"], "row")
    b.gemm("row", "y", 5, 3)
    model = b.model({"x": ("n", 2, 4, 4)}, {"y": ("n", 3)})
    x, data = pictures(tmp_path, 2, 4, 4)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr", batch_size=ROWS - 1)
    truth = in_batches(model, x, ROWS - 1)
    for name in ("row", "y"):
        got = store.splits["all"].activations(name)[:]
        np.testing.assert_allclose(got, truth[name], rtol=1e-4, atol=1e-5)


# --- inputs whose first axis is not that of the samples -----------------------------------------


def recurrent(steps: int | str, batch: int | str, *, last: bool, named: bool) -> onnx.ModelProto:
    """An LSTM, (T, N, F) in, and the last hidden state or all of them out."""
    b = Builder(6)
    w, r = b.weight("W", 1, 16, 3), b.weight("R", 1, 16, 4)
    node = onnx.helper.make_node("LSTM", ["x", w, r], ["all", "final"], hidden_size=4)
    b.nodes.append(node)
    b.node("Squeeze", ["final" if last else "all", b.constant("at", np.array([0 if last else 1]))],
           "hidden")  # fmt: skip
    b.node("MatMul", ["hidden", b.weight("dense", 4, 3)], "y")
    shape = (batch, 3) if last else (steps, batch, 3)
    return b.model({"x": (steps, batch, 3)}, {"y": shape if named else ("a", "b")[: len(shape)]})


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("steps", [2, 5])
def test_time_first(steps: int, last: bool, tmp_path: Path) -> None:
    model = recurrent(steps, "n", last=last, named=last)
    path = saved(model, tmp_path / "net.onnx")
    x, data = pictures(tmp_path, steps, 3)
    notes = Notes()
    if last:  # the output says which axis is that of the samples
        store = cnatool.dump(path, data, tmp_path / "s.zarr", observer=notes)
        runs = ReferenceEvaluator(model)
        for row, sample in enumerate(x):
            (truth,) = runs.run(None, {"x": sample[:, None]})
            np.testing.assert_allclose(store.splits["all"].outputs()[row], truth[0], rtol=1e-4)
    else:
        with pytest.raises(ModelError, match=r"'x' float32 .*batch first, or with a Transpose"):
            cnatool.dump(path, data, tmp_path / "s.zarr", observer=notes)
    assert not any("gave the same" in text for text in notes.texts)


def test_one_sequence_whose_batch_is_squeezed_away_is_not_time_first(tmp_path: Path) -> None:
    b = Builder(7)
    b.node("Squeeze", ["x", b.constant("first", np.array([0]))], "rows")
    b.node("MatMul", ["rows", b.weight("w", 3, 4)], "y")
    model = b.model({"x": (1, "t", 3)}, {"y": ("t", 4)})
    x, data = pictures(tmp_path, 5, 3)
    store = cnatool.dump(saved(model, tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    check(store, alone(model, x))


@pytest.mark.parametrize("shape", [(3, 2, 2), (12,), (2, 6)])
def test_input_that_takes_one_sample(shape: tuple[int, ...], tmp_path: Path) -> None:
    b = Builder()
    b.node("Reshape", ["x", b.constant("row", np.array([1, 12]))], "row of it")
    b.gemm("row of it", "y", 12, 3)
    path = saved(b.model({"x": shape}, {"y": (1, 3)}), tmp_path / "net.onnx")
    _, data = pictures(tmp_path, *shape)
    with pytest.raises(ModelError, match="takes one sample, .* no axis for several"):
        cnatool.dump(path, data, tmp_path / "s.zarr")


@pytest.mark.parametrize("state", ["one", "equal", "differing"])
def test_constant_along_the_batch(state: str, tmp_path: Path) -> None:
    b = Builder(8)
    w, r = b.weight("W", 1, 16, 3), b.weight("R", 1, 16, 4)
    b.node("Transpose", ["x"], "steps", perm=[1, 0, 2])
    b.node("LSTM", ["steps", w, r, "", "", "h"], "hidden", hidden_size=4)
    b.node("ReduceMean", ["hidden"], "y", axes=[0, 1], keepdims=0)
    model = b.model({"x": ("n", 5, 3), "h": (1, "n", 4)}, {"y": ("n", 4)})
    path = saved(model, tmp_path / "net.onnx")
    x, data = pictures(tmp_path, 5, 3)
    rng = np.random.default_rng(1)
    row = rng.normal(size=(1, 1, 4)).astype(np.float32)
    given = {"one": row, "equal": np.repeat(row, 6, axis=1)}.get(
        state, rng.normal(size=(1, 6, 4)).astype(np.float32)
    )
    if state == "differing":
        with pytest.raises(UsageError, match=r"constant 'h': .* axis 1 is that of the samples"):
            cnatool.dump(path, data, tmp_path / "s.zarr", constants={"h": given})
        return
    store = cnatool.dump(path, data, tmp_path / "s.zarr", constants={"h": given})
    evaluator = ReferenceEvaluator(model)
    truth = [evaluator.run(None, {"x": x[i : i + 1], "h": row})[0][0] for i in range(ROWS)]
    np.testing.assert_allclose(store.splits["all"].outputs()[:], truth, rtol=1e-4, atol=1e-5)


def test_state_of_one_sample_whose_axis_has_no_name(tmp_path: Path) -> None:
    """A detector of voices: a state of shape (2, ?, H) that is fed as one array."""
    b = Builder(9)
    w, r = b.weight("W", 1, 16, 6), b.weight("R", 1, 16, 4)
    at = [b.constant(f"at {i}", np.array([i])) for i in range(3)]
    b.node("Unsqueeze", ["x", at[0]], "step")
    b.node("Slice", ["state", at[0], at[1], at[0]], "h")
    b.node("Slice", ["state", at[1], at[2], at[0]], "c")
    b.node("LSTM", ["step", w, r, "", "", "h", "c"], "hidden", hidden_size=4)
    b.node("Reshape", ["hidden", b.constant("flat", np.array([-1, 4]))], "row")
    b.gemm("row", "y", 4, 2)
    model = b.model({"x": ("n", 6), "state": (2, "", 4)}, {"y": ("n", 2)})
    path = saved(model, tmp_path / "net.onnx")
    x, data = pictures(tmp_path, 6)
    state = np.random.default_rng(2).normal(size=(2, 1, 4)).astype(np.float32)
    store = cnatool.dump(path, data, tmp_path / "s.zarr", constants={"state": state})
    evaluator = ReferenceEvaluator(model)
    truth = [evaluator.run(None, {"x": x[i : i + 1], "state": state})[0][0] for i in range(ROWS)]
    np.testing.assert_allclose(store.splits["all"].outputs()[:], truth, rtol=1e-4, atol=1e-5)


def test_batch_that_is_too_large(tmp_path: Path) -> None:
    """The rows of a table are as many as the model can take."""
    b = Builder(5)
    b.gemm("x", "l1", 6, 5)
    b.constant("step", np.array(1))
    b.node("Shape", ["x"], "shape")
    b.node("Gather", ["shape", b.constant("first", np.array(0))], "count", axis=0)
    b.node("Range", [b.constant("zero", np.array(0)), "count", "step"], "places")
    b.node("Gather", [b.weight("table", 4, 5), "places"], "rows", axis=0)
    b.node("Add", ["l1", "rows"], "y")
    path = saved(b.model({"x": ("n", 6)}, {"y": ("n", 5)}), tmp_path / "net.onnx")
    x, data = pictures(tmp_path, 6)
    with pytest.raises(BackendError, match="It ran with 3 samples, so `batch_size=3` may do"):
        cnatool.dump(path, data, tmp_path / "s.zarr")
    store = cnatool.dump(path, data, tmp_path / "s.zarr", batch_size=3)
    assert len(store.splits["all"]) == len(x)


def test_a_number_of_samples_that_takes_too_much_memory_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that runs with even numbers of samples only, and has a large number in it."""
    model, shape = baked_model("divided", 2)
    constant = helper.make_node("Reshape", ["table", "long"], ["row of table"])
    model.graph.node.insert(0, constant)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in (("table", np.ones((2, 512), np.float32)), ("long", np.array([512, 2])))
    )
    path = saved(model, tmp_path / "net.onnx")
    x, data = pictures(tmp_path, *shape)
    for module in (in_parts, tensor_sizes):
        monkeypatch.setattr(module, "available_memory", lambda: 1 << 18)
    store = cnatool.dump(path, data, tmp_path / "s.zarr", keep="statistics")
    assert len(store.splits["all"]) == len(x)
    with pytest.raises(UsageError, match="it runs with 8"):
        cnatool.dump(path, data, tmp_path / "s2.zarr", keep="statistics", batch_size=512)


def test_inspect_says_with_how_many_samples_a_model_runs(tmp_path: Path) -> None:
    model, _ = baked_model("reshape", 8)
    path = saved(model, tmp_path / "net.onnx")
    assert inspect_model(path).batch == 8
    assert "run with 8 samples at a time" in run("inspect", path).stdout


def test_number_for_a_constant_whose_shape_is_open() -> None:
    spec = ModelInput("ids", np.dtype(np.int64), ("n", "length"))
    with pytest.raises(UsageError, match="whose shape is dynamic, so one number is not enough"):
        make_constant(spec, 1, "n")
