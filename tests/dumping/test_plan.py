"""Dumps of models that are not one float input of one free batch: what users' exports hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import Builder, saved
from support.notes import Notes
from support.reference import every_value

import cnatool
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import DataError, ModelError, UsageError
from cnatool.records.choices import Kept

ROWS = 40


def typed_model(
    b: Builder,
    inputs: dict[str, tuple[int, tuple[int | str, ...]]],
    outputs: dict[str, int],
    *,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A model whose inputs and outputs have types of their own."""
    graph = helper.make_graph(
        b.nodes,
        "test",
        [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs.items()],
        b.weights,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )


def reference(
    model: onnx.ModelProto, names: list[str], feeds: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    values = every_value(model, feeds)
    return {name: values[name] for name in names}


# --- several inputs -----------------------------------------------------------------------------


def token_model() -> onnx.ModelProto:
    """Embeds tokens, masks them, scales by one number, adds a state, projects."""
    b = Builder()
    b.node("Gather", [b.weight("table", 20, 8), "ids"], "embedded")
    b.node("Cast", ["mask"], "mask_float", to=TensorProto.FLOAT)
    b.constant("last", np.array([-1]))
    b.node("Unsqueeze", ["mask_float", "last"], "mask_column")
    b.node("Mul", ["embedded", "mask_column"], "masked")
    b.node("Div", ["masked", "rate"], "scaled")
    b.constant("first", np.array([0]))
    b.node("Transpose", ["state"], "state_turned", perm=[1, 0, 2])
    b.node("Add", ["scaled", "state_turned"], "moved")
    b.node("MatMul", ["moved", b.weight("w", 8, 4)], "projected")
    b.node("ReduceMean", ["projected"], "y", axes=[1], keepdims=0)
    return typed_model(
        b,
        {
            "ids": (TensorProto.INT64, ("batch", "length")),
            "mask": (TensorProto.INT64, ("batch", "length")),
            "rate": (TensorProto.FLOAT, ()),
            "state": (TensorProto.FLOAT, (1, "batch", 8)),
        },
        {"y": TensorProto.FLOAT},
    )


def token_data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "ids": rng.integers(0, 20, (ROWS, 6)),
        "mask": (rng.random((ROWS, 6)) < 0.7).astype(np.int64),
        "labels": rng.integers(0, 4, ROWS),
    }


def check_tokens(store: cnatool.Store, rate: float, state: float) -> None:
    data = token_data()
    feeds = {
        "ids": data["ids"],
        "mask": data["mask"],
        "rate": np.array(rate, np.float32),
        "state": np.full((1, ROWS, 8), state, np.float32),
    }
    names = [tensor.name for tensor in store.tensors]
    assert {"embedded", "masked", "scaled", "moved", "projected", "y"} <= set(names)
    truth = reference(token_model(), names, feeds)
    split = store.splits["all"]
    for name in names:
        np.testing.assert_allclose(split.activations(name)[:], truth[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(split.inputs(0)[:], data["ids"])
    np.testing.assert_array_equal(split.inputs(1)[:], data["mask"])
    assert [array.name for array in store.record.inputs][1:] == ["mask"]
    assert split.labels is not None
    np.testing.assert_array_equal(split.labels[:], data["labels"])


def test_named_arrays_and_constants(tmp_path: Path) -> None:
    path = saved(token_model(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **token_data())
    store = cnatool.dump(
        path,
        tmp_path / "data.npz",
        tmp_path / "s.zarr",
        constants={"rate": 2, "state": 0.5},
        batch_size=16,
    )
    check_tokens(store, 2.0, 0.5)
    rate, state = store.record.constants
    assert (rate.input, rate.value, rate.shape) == ("rate", 2.0, ())
    assert (state.input, state.dtype, state.shape) == ("state", "float32", (1, 1, 8))


def test_parquet_columns_under_other_names(tmp_path: Path) -> None:
    path = saved(token_model(), tmp_path / "net.onnx")
    data = token_data()
    frame = pl.DataFrame(
        {
            "tokens": data["ids"].tolist(),
            "mask": data["mask"].tolist(),
            "text": ["not a number"] * ROWS,
            "labels": data["labels"],
        }
    )
    frame.write_parquet(tmp_path / "data.parquet", row_group_size=7)
    store = cnatool.dump(
        path,
        tmp_path / "data.parquet",
        tmp_path / "s.zarr",
        inputs={"ids": "tokens"},
        constants={"rate": 3.0, "state": np.zeros((1, 1, 8))},
        batch_size=9,
    )
    check_tokens(store, 3.0, 0.0)
    assert store.record.inputs[0].name == "tokens"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"constants": {"speed": 1}}, "`constants`: .* has no input 'speed'. It takes 'ids' int"),
        ({"inputs": {"speed": "x"}}, "`inputs`: .* has no input 'speed'"),
        (
            {"inputs": {"ids": "token"}, "constants": {"rate": 1, "state": 0}},
            "an array called token and holds ids, mask",
        ),
        ({"constants": {"rate": 1}}, "no array for 1 of the model's 3 inputs: state"),
        (
            {"constants": {"rate": [1, 2], "state": 0}},
            r"constant 'rate': its shape is \(2,\), and the model takes 'rate' float32 \(\)",
        ),
        ({"constants": {"rate": "fast", "state": 0}}, "constant 'rate': <U4 is not numeric"),
        ({"constants": {"rate": 1e300, "state": 0}}, "does not fit float32"),
        (
            {"constants": {"rate": 1, "state": 0, "ids": 0.5}},
            "constant 'ids': the value does not fit int64",
        ),
        (
            {"constants": {"rate": 1, "state": 0, "ids": 1, "mask": 1}},
            "`constants` sets every input",
        ),
        (
            {"constants": {"rate": 1, "state": 0}, "scale": 2.0},
            "only floating input of a model, or to its only image, and this one has 0",
        ),
    ],
)
def test_inputs_that_cannot_be_meant(tmp_path: Path, options: dict[str, object], text: str) -> None:
    path = saved(token_model(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **token_data())
    with pytest.raises((UsageError, DataError, ModelError), match=text):
        cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", **options)
    assert not (tmp_path / "s.zarr").exists()


def test_scalar_input_asks_for_a_constant(tmp_path: Path) -> None:
    b = Builder()
    b.node("Mul", ["x", "rate"], "y")
    inputs = {"x": (TensorProto.FLOAT, ("n", 4)), "rate": (TensorProto.FLOAT, ())}
    path = saved(typed_model(b, inputs, {"y": TensorProto.FLOAT}), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((5, 4), np.float32), rate=np.ones(5, np.float32))
    with pytest.raises(ModelError, match="Set it with `constants={'rate': VALUE}`"):
        cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr")


def test_inspect_with_open_shapes(tmp_path: Path) -> None:
    path = saved(token_model(), tmp_path / "net.onnx")
    found = inspect_model(path, {"ids": (5,), "mask": (5,)}, constants={"rate": 1.0, "state": 0.0})
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    assert shapes["embedded"] == (5, 8)
    with pytest.raises(ModelError, match="'ids' has a dynamic shape"):
        inspect_model(path, constants={"rate": 1.0, "state": 0.0})
    with pytest.raises(UsageError, match="Name the one that is meant"):
        inspect_model(path, (5,), constants={"rate": 1.0, "state": 0.0})


# --- axes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_sample_axis_merged_with_another(keep: Kept, tmp_path: Path) -> None:
    b = Builder()
    b.node("Reshape", ["x", b.constant("rows", np.array([-1, 4]))], "rows_of_samples")
    b.node("MatMul", ["rows_of_samples", b.weight("w", 4, 40)], "projected")
    b.node("Transpose", ["x"], "turned", perm=[1, 0, 2])
    b.node("Reshape", ["turned", b.constant("rows2", np.array([-1, 4]))], "rows_of_places")
    b.node("Relu", ["rows_of_places"], "positive")
    b.node("Reshape", ["projected", b.constant("back", np.array([-1, 160]))], "y")
    model = b.model({"x": ("n", 4, 4)}, {"y": ("n", 160)})
    x = np.random.default_rng(0).normal(size=(ROWS, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", keep=keep, batch_size=16)
    assert not store.record.skipped
    merged = {tensor.name: tensor.merged for tensor in store.tensors}
    assert merged["rows_of_samples"] == merged["projected"] == "NT"
    assert merged["rows_of_places"] == merged["positive"] == "TN"
    truth = reference(model, list(merged), {"x": x})
    by_sample = {
        "rows_of_samples": truth["rows_of_samples"].reshape(ROWS, 4, 4),
        "projected": truth["projected"].reshape(ROWS, 4, 40),
        "rows_of_places": truth["rows_of_places"].reshape(4, ROWS, 4).swapaxes(0, 1),
        "positive": truth["positive"].reshape(4, ROWS, 4).swapaxes(0, 1),
    }
    split = store.splits["all"]
    for name, expected in by_sample.items():
        number = store.tensor(name).number
        total = expected.reshape(ROWS, -1).astype(np.float64).sum(axis=1)
        np.testing.assert_allclose(split.statistics()[:][:, number], total, atol=1e-4)
        if keep == "full":
            np.testing.assert_allclose(split.activations(name)[:], expected, rtol=1e-4, atol=1e-6)


def test_shape_that_depends_on_the_data(tmp_path: Path) -> None:
    """Sequences cut to the longest of the batch, as exporters of language models write it."""
    b = Builder()
    b.node("ReduceMax", ["length"], "longest", keepdims=0)
    b.constant("zero", np.array([0]))
    b.node("Unsqueeze", ["longest", "zero"], "stop")
    b.node("Slice", ["x", "zero", "stop", b.constant("one", np.array([1]))], "cut")
    b.node("MatMul", ["cut", b.weight("w", 3, 5)], "projected")
    b.node("Relu", ["projected"], "active")
    b.node("MatMul", ["active", b.weight("w2", 5, 5)], "second")
    b.node("ReduceSum", ["second", "one"], "y", keepdims=0)
    model = typed_model(
        b,
        {"x": (TensorProto.FLOAT, ("n", 9, 3)), "length": (TensorProto.INT64, ("n",))},
        {"y": TensorProto.FLOAT},
    )
    path = saved(model, tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, 9, 3), np.float32)
    # The first samples, on which a probe looks, differ in length as well.
    length = rng.integers(2, 10, ROWS)
    length[:3] = 4, 5, 7
    np.savez(tmp_path / "data.npz", x=x, length=length)
    notes = Notes()
    store = cnatool.dump(
        path, tmp_path / "data.npz", tmp_path / "s.zarr", batch_size=8, observer=notes
    )
    varying = {tensor.name for tensor in store.tensors if tensor.varies}
    assert varying == {"cut", "projected", "active", "second"}
    assert any("4 tensors differ in shape from sample to sample" in text for text in notes.texts)
    sums, counts = (store.splits["all"].statistics(name)[:] for name in ("sum", "count"))
    for start in range(0, ROWS, 8):
        rows = slice(start, start + 8)
        truth = reference(model, ["cut", "active"], {"x": x[rows], "length": length[rows]})
        for name, value in truth.items():
            number = store.tensor(name).number
            flat = value.reshape(len(value), -1)
            np.testing.assert_allclose(sums[rows, number], flat.sum(axis=1), rtol=1e-5)
            assert (counts[rows, number] == flat.shape[1]).all()
    z = {name: sums[:, store.tensor(name).number] for name in ("projected", "second")}
    n = {name: counts[:, store.tensor(name).number] for name in z}
    overrides = {"layers": "linear", "include_output": True, "range": (0, 1)}
    for aggregate, values in (
        ("sum", z["second"] - z["projected"]),
        ("mean", z["second"] / n["second"] - z["projected"] / n["projected"]),
    ):
        frame = cnatool.score_samples(store, overrides=overrides | {"aggregate": aggregate})
        np.testing.assert_allclose(frame["beta"].to_numpy(), values, rtol=1e-6, atol=1e-9)
    with pytest.raises(cnatool.MetricError, match="aggregate=channel-mean is not defined for it"):
        cnatool.score(store, overrides=overrides | {"aggregate": "channel-mean"})


@pytest.mark.parametrize("kind", ["mask", "bool", "tokens"])
def test_order_of_a_merged_axis_where_values_tell_little(kind: str, tmp_path: Path) -> None:
    """A huge mask value, rare trues, equal first samples: the order still comes out right."""
    b = Builder()
    b.node("Transpose", ["x"], "turned", perm=[1, 0, 2])
    b.node("Reshape", ["turned", b.constant("rows", np.array([-1, 4]))], "merged")
    if kind == "mask":
        mask = np.array([0, 0, 0, np.finfo(np.float32).min], np.float32)
        b.node("Add", ["merged", b.constant("mask", mask)], "last")
    elif kind == "bool":
        b.node("Greater", ["merged", b.constant("high", np.float32(2))], "last")
    else:
        b.node("Identity", ["merged"], "last")
    b.node("Identity", ["x"], "y")
    kind_of_x = TensorProto.INT64 if kind == "tokens" else TensorProto.FLOAT
    model = typed_model(b, {"x": (kind_of_x, ("n", 5, 4))}, {"y": kind_of_x})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 5, 4)).astype(np.float32)
    if kind == "tokens":
        x = rng.integers(0, 9, (ROWS, 5, 4))
        x[:4] = x[0]
    np.savez(tmp_path / "data.npz", x=x)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", batch_size=8)
    assert store.tensor("last").merged == "TN"
    truth = reference(model, ["last"], {"x": x})["last"].reshape(5, ROWS, 4).swapaxes(0, 1)
    np.testing.assert_array_equal(store.splits["all"].activations("last")[:], truth)


def test_width_that_varies_with_the_batch_shifts_no_other_sum(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "features", 6, 40)
    b.node("Gemm", ["features", "features"], "similar", transB=1)
    b.node("Concat", ["features", "similar"], "both", axis=1)
    b.node("Relu", ["both"], "active")
    b.node("Relu", ["features"], "y")
    model = b.model({"x": ("n", 6)}, {"y": ("n", 40)})
    x, data = digits(tmp_path)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr", keep="statistics", batch_size=8)
    assert store.tensor("active").varies
    truth = reference(model, ["features", "y"], {"x": x})
    sums = store.splits["all"].statistics()[:]
    for name, value in truth.items():
        expected = value.sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(sums[:, store.tensor(name).number], expected, atol=1e-4)


@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_rows_that_are_no_samples_in_a_larger_batch(keep: Kept, tmp_path: Path) -> None:
    """The first three rows: as many as samples in a small run, fewer in the others."""
    b = Builder()
    b.constant("zero", np.array([0]))
    b.node("Slice", ["x", "zero", b.constant("three", np.array([3])), "zero"], "head")
    b.node("Relu", ["x"], "y")
    b.gemm("head", "z", 6, 2)
    _, data = digits(tmp_path)
    path = saved(b.model({"x": ("n", 6)}, {"y": ("n", 6), "z": ("m", 2)}), tmp_path / "m.onnx")
    with pytest.raises(cnatool.BackendError, match=r"for .*\b8 samples"):
        cnatool.dump(path, data, tmp_path / "s.zarr", batch_size=8, keep=keep)
    assert not (tmp_path / "s.zarr").exists()


# --- models bound to a batch --------------------------------------------------------------------


def digits(tmp_path: Path) -> tuple[np.ndarray, Path]:
    x = np.random.default_rng(3).normal(size=(ROWS, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    return x, tmp_path / "data.npz"


def one_by_one(model: onnx.ModelProto, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    runs = [reference(model, names, {"x": x[i : i + 1]}) for i in range(len(x))]
    return {name: np.concatenate([run[name] for run in runs]) for name in names}


def test_batch_of_one_runs_with_more_where_that_is_the_same(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("x", "hidden", 6, 40)
    b.node("Relu", ["hidden"], "active")
    b.node("Reshape", ["active", b.constant("parts", np.array([1, 8, 5]))], "parted")
    b.node("Reshape", ["parted", b.constant("whole", np.array([1, 40]))], "flat", allowzero=1)
    b.gemm("flat", "y", 40, 3)
    model = b.model({"x": (1, 6)}, {"y": (1, 3)})
    x, data = digits(tmp_path)
    notes = Notes()
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr", observer=notes)
    assert any("it is run with more, which gives the same" in text for text in notes.texts)
    assert store.record.runtime is not None
    assert store.record.runtime.batch_size > 1
    for name, expected in one_by_one(model, ["hidden", "active", "y"], x).items():
        got = store.splits["all"].activations(name)[:]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["fails", "mixes", "normalises"])
def test_batch_of_one_is_kept_where_more_would_be_something_else(kind: str, tmp_path: Path) -> None:
    b = Builder()
    if kind == "fails":
        b.node("Reshape", ["x", b.constant("shape", np.array([2, 3]))], "hidden")
        b.node("Reshape", ["hidden", b.constant("flat", np.array([1, 6]))], "y")
    elif kind == "mixes":
        # With n samples, every sixth number of all of them: it runs, and means something else.
        b.node("Reshape", ["x", b.constant("shape", np.array([6, -1]))], "columns")
        b.node("Transpose", ["columns"], "y", perm=[1, 0])
    else:
        b.node("ReduceMax", ["x"], "largest", keepdims=1)
        b.node("Div", ["x", "largest"], "y")
    model = b.model({"x": (1, 6)}, {"y": (1, 6)})
    x, data = digits(tmp_path)
    notes = Notes()
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr", observer=notes)
    assert any("bound to 1 sample a run; exported" in text for text in notes.texts)
    expected = one_by_one(model, ["y"], x)["y"]
    np.testing.assert_allclose(store.splits["all"].outputs()[:], expected, rtol=1e-5)


def test_values_that_depend_on_the_batch_are_said(tmp_path: Path) -> None:
    b = Builder()
    b.node("ReduceMean", ["x"], "mean", axes=[0], keepdims=1)
    b.node("Sub", ["x", "mean"], "y")
    _, data = digits(tmp_path)
    path = saved(b.model({"x": ("n", 6)}, {"y": ("n", 6)}), tmp_path / "net.onnx")
    notes = Notes()
    cnatool.dump(path, data, tmp_path / "s.zarr", observer=notes)
    assert any("1 tensor, first 'y', depends on the other samples" in t for t in notes.texts)


def test_equal_samples_free_no_batch(tmp_path: Path) -> None:
    """Attention over a reshape with -1: with more samples these would attend to each other."""
    b = Builder()
    b.node("Gather", [b.weight("table", 9, 8), "ids"], "embedded")
    b.node("Reshape", ["embedded", b.constant("rows", np.array([-1, 8]))], "rows_of_all")
    b.node("Transpose", ["rows_of_all"], "turned", perm=[1, 0])
    b.node("MatMul", ["rows_of_all", "turned"], "scores")
    b.node("Softmax", ["scores"], "weights", axis=-1)
    b.node("MatMul", ["weights", "rows_of_all"], "mixed")
    b.node("Reshape", ["mixed", b.constant("back", np.array([-1, 6, 8]))], "y")
    model = typed_model(b, {"ids": (TensorProto.INT64, (1, 6))}, {"y": TensorProto.FLOAT})
    path = saved(model, tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (ROWS, 6))
    ids[:64] = ids[0]
    ids[20:] = rng.integers(0, 9, (ROWS - 20, 6))
    for rows in (ids, ids[:20]):
        np.savez(tmp_path / "data.npz", ids=rows)
        store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", overwrite=True)
        runs = [reference(model, ["y"], {"ids": rows[i : i + 1]})["y"] for i in range(len(rows))]
        got = store.splits["all"].outputs()[:]
        np.testing.assert_allclose(got, np.concatenate(runs), rtol=1e-4, atol=1e-5)


def test_bound_batch_says_that_samples_are_mixed(tmp_path: Path) -> None:
    b = Builder()
    b.node("ReduceMean", ["x"], "mean", axes=[0], keepdims=1)
    b.node("Sub", ["x", "mean"], "y")
    _, data = digits(tmp_path)
    path = saved(b.model({"x": (9, 6)}, {"y": (9, 6)}), tmp_path / "net.onnx")
    notes = Notes()
    cnatool.dump(path, data, tmp_path / "s.zarr", observer=notes)
    assert any("batches of 9 in this order, the last one filled up" in t for t in notes.texts)


# --- element types ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "dtype"),
    [
        (TensorProto.BFLOAT16, "bfloat16", "float32"),
        (TensorProto.FLOAT8E4M3FN, "float8e4m3fn", "float32"),
        (TensorProto.FLOAT8E5M2, "float8e5m2", "float32"),
        (TensorProto.INT4, "int4", "int8"),
        (TensorProto.UINT4, "uint4", "uint8"),
        (TensorProto.FLOAT16, "float16", "float16"),
        (TensorProto.DOUBLE, "double", "float64"),
        (TensorProto.INT16, "int16", "int16"),
        (TensorProto.BOOL, "bool", "bool"),
    ],
)
@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_element_types(kind: int, name: str, dtype: str, keep: Kept, tmp_path: Path) -> None:
    b = Builder()
    if name in ("int4", "uint4"):
        # Only a quantiser makes these on a CPU.
        b.constant("step", np.float32(1))
        zero = helper.make_tensor("zero", kind, [], [0])
        b.weights.append(zero)
        b.node("QuantizeLinear", ["x", "step", "zero"], "narrow")
        b.node("DequantizeLinear", ["narrow", "step", "zero"], "y")
    else:
        b.node("Cast", ["x"], "narrow", to=kind)
        b.node("Cast", ["narrow"], "y", to=TensorProto.FLOAT)
    inputs = {"x": (TensorProto.FLOAT, ("n", 6))}
    model = typed_model(b, inputs, {"y": TensorProto.FLOAT}, opset=21, ir_version=10)
    x = np.random.default_rng(0).integers(0, 7, (ROWS, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", keep=keep)
    narrow = store.tensor("narrow")
    assert (narrow.onnx_type, narrow.dtype) == (name, dtype)
    expected = (x != 0) if name == "bool" else x
    split = store.splits["all"]
    np.testing.assert_array_equal(split.statistics()[:][:, 0], expected.sum(axis=1))
    if keep == "full":
        values = split.activations("narrow")[:]
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, expected)


def test_what_is_no_array_is_skipped_with_the_reason(tmp_path: Path) -> None:
    b = Builder()
    b.node("SplitToSequence", ["x"], "parts", axis=1, keepdims=1)
    b.node("ConcatFromSequence", ["parts"], "y", axis=1)
    _, data = digits(tmp_path)
    path = saved(b.model({"x": ("n", 6)}, {"y": ("n", 6)}), tmp_path / "net.onnx")
    store = cnatool.dump(path, data, tmp_path / "s.zarr")
    assert [(s.name, s.reason) for s in store.record.skipped] == [
        ("parts", "a sequence, not an array of numbers")
    ]


# --- files --------------------------------------------------------------------------------------


def test_model_above_two_gigabytes(tmp_path: Path) -> None:
    """Weights of 2.2 GB in a sparse file: no protobuf message could hold them."""
    rows = 550_000
    b = Builder()
    b.node("Gather", ["table", "ids"], "embedded")
    b.node("MatMul", ["embedded", b.weight("w", 1000, 5)], "y")
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, 1000])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "table.bin"), ("offset", "0"), ("length", str(rows * 4000))):
        table.external_data.add(key=key, value=value)
    b.weights.append(table)
    with (tmp_path / "table.bin").open("wb") as file:
        file.truncate(rows * 4000)
        file.seek(4000 * 7)
        file.write(np.arange(1000, dtype=np.float32).tobytes())
    inputs = {"ids": (TensorProto.INT64, ("n",))}
    path = saved(typed_model(b, inputs, {"y": TensorProto.FLOAT}), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", ids=np.array([0, 7, rows - 1]))
    store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", keep="statistics")
    sums = store.splits["all"].statistics()[:]
    np.testing.assert_allclose(sums[:, 0], [0, 499_500, 0])
    assert store.record.model is not None
    assert store.record.model.files[1].bytes == rows * 4000


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_weights_stay_in_the_models_folder(place: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(6, np.float32).tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    b = Builder()
    if place == "initializer":
        b.weights.append(weight)
        b.node("Add", ["x", "w"], "y")
    elif place == "attribute":
        b.node("Constant", [], "w", value=weight)
        b.node("Add", ["x", "w"], "y")
    else:
        inner = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["inner"])],
            "then",
            [],
            [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
            [weight],
        )
        b.weights.append(numpy_helper.from_array(np.array(True), "yes"))
        b.node("If", ["yes"], "y", then_branch=inner, else_branch=inner)
    path = saved(b.model({"x": ("n", 6)}, {"y": ("n", 6)}), folder / "net.onnx")
    with pytest.raises(ModelError, match="lies outside the model's folder, at '../secret.bin'"):
        inspect_model(path)


def test_custom_operators_run_only_from_a_library_that_is_named(tmp_path: Path) -> None:
    extensions = pytest.importorskip("onnxruntime_extensions")
    b = Builder()
    b.nodes.append(
        helper.make_node("NegPos", ["x"], ["negative", "positive"], domain="ai.onnx.contrib")
    )
    b.node("Add", ["negative", "positive"], "y")
    model = b.model({"x": ("n", 6)}, {"y": ("n", 6)})
    model.opset_import.append(helper.make_opsetid("ai.onnx.contrib", 1))
    path = saved(model, tmp_path / "net.onnx")
    x, data = digits(tmp_path)
    with pytest.raises(ModelError, match=r"name its library with `custom_ops=\[FILE\]`"):
        cnatool.dump(path, data, tmp_path / "s.zarr")
    with pytest.raises(UsageError, match=r"`custom_ops=.*nothing.so"):
        cnatool.dump(path, data, tmp_path / "s.zarr", custom_ops=[tmp_path / "nothing.so"])
    store = cnatool.dump(
        path, data, tmp_path / "s.zarr", custom_ops=[extensions.get_library_path()]
    )
    split = store.splits["all"]
    np.testing.assert_array_equal(split.activations("negative")[:], np.minimum(x, 0))
    np.testing.assert_array_equal(split.activations("positive")[:], np.maximum(x, 0))


def test_quantised_model_gives_what_its_graph_says(tmp_path: Path) -> None:
    b = Builder()
    scale, zero = b.constant("scale", np.float32(0.05)), b.constant("zero", np.int8(3))
    b.node("QuantizeLinear", ["x", scale, zero], "codes")
    b.node("DequantizeLinear", ["codes", scale, zero], "values")
    weights = np.random.default_rng(0).integers(-127, 128, (6, 40)).astype(np.int8)
    b.constant("weight_codes", weights)
    b.constant("weight_scale", np.float32(0.01))
    b.constant("weight_zero", np.int8(0))
    b.node("DequantizeLinear", ["weight_codes", "weight_scale", "weight_zero"], "weight")
    b.node("MatMul", ["values", "weight"], "linear")
    b.node("QuantizeLinear", ["linear", b.constant("wide", np.float32(0.2)), zero], "codes2")
    b.node("DequantizeLinear", ["codes2", "wide", zero], "y")
    model = b.model({"x": ("n", 6)}, {"y": ("n", 40)}, opset=21)
    x, data = digits(tmp_path)
    store = cnatool.dump(saved(model, tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    assert store.record.runtime is not None
    assert store.record.runtime.optimization == "ORT_ENABLE_BASIC"
    names = [tensor.name for tensor in store.tensors]
    assert names == ["codes", "values", "linear", "codes2", "y"]
    truth = reference(model, names, {"x": x})
    for name in names:
        got = store.splits["all"].activations(name)[:]
        np.testing.assert_allclose(got, truth[name], rtol=1e-5, atol=1e-5)
