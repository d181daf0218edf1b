"""Every exposed tensor against ONNX's reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, mlp, residual_convnet, saved
from support.reference import made_values

import cnatool
from cnatool.backend.inputs import Samples
from cnatool.backend.network import Network, open_network
from cnatool.backend.select import select_outputs, select_tensors
from cnatool.backend.session import CPU, RunOptions, provider_name
from cnatool.backend.statistics.exposed_model import ExposedModel, Results
from cnatool.errors import BackendError, ModelError, UsageError
from cnatool.records.choices import Kept, Statistic
from cnatool.records.store import TensorRecord


def exposed(
    model: onnx.ModelProto,
    tmp_path: Path,
    feeds: dict[str, np.ndarray],
    keep: Kept = "full",
    statistics: tuple[Statistic, ...] = ("sum",),
) -> tuple[Network, tuple[TensorRecord, ...], Results]:
    network = open_network(saved(model, tmp_path / "model.onnx"))
    count = len(next(iter(feeds.values())))
    fixed = network.fixed_batch(list(feeds))
    small = feeds if fixed is not None else {name: value[:3] for name, value in feeds.items()}
    probed = network.probe(Samples(small), bound=fixed, run=RunOptions()).tensors
    tensors = select_tensors(network, probed, ["all"], keep=keep, dtype=None)
    outputs = select_outputs(network, probed)
    fed = next(iter(feeds))
    run = ExposedModel(
        network.graph, tensors, outputs, probed, fed, RunOptions(threads=1), statistics
    )
    return network, tensors, run.run([feeds], count)


def probed_tensors(network: Network, size: int) -> list[TensorRecord]:
    samples = Samples({"x": np.random.default_rng(0).random((3, size), np.float32)})
    return network.probe(samples, bound=None, run=RunOptions()).tensors


@pytest.mark.parametrize(
    ("model", "shape"), [(mlp(), (64,)), (residual_convnet(), (1, 8, 8))], ids=["mlp", "residual"]
)
def test_every_tensor_and_sum(
    model: onnx.ModelProto, shape: tuple[int, ...], tmp_path: Path
) -> None:
    feeds = {"x": np.random.default_rng(1).normal(size=(7, *shape)).astype(np.float32)}
    truth = made_values(model, feeds)
    _, tensors, results = exposed(model, tmp_path, feeds)
    _, _, fast = exposed(model, tmp_path, feeds, keep="statistics")
    assert [tensor.name for tensor in tensors] == list(truth)
    for tensor in tensors:
        value = (
            results.outputs[tensor.output]
            if tensor.output is not None
            else results.activations[tensor.number]
        )
        expected = truth[tensor.name]
        assert value.shape == expected.shape == (7, *tensor.shape)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
        # the sum in the graph is the sum of exactly what the graph gives
        flat = value.reshape(7, -1).astype(np.float64)
        scale = np.abs(flat).sum(axis=1)
        error = np.abs(results.statistics["sum"][:, tensor.number] - flat.sum(axis=1))
        assert (error <= 1e-14 * scale).all()
        error = np.abs(fast.statistics["sum"][:, tensor.number] - flat.sum(axis=1))
        assert (error <= 1e-6 * scale).all()


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize("opset", [11, 12, 13, 18, 21])
@pytest.mark.parametrize("axes", [(), (5,), (4, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_sums_of_any_rank_and_opset(
    axes: tuple[int, ...], opset: int, keep: Kept, tmp_path: Path
) -> None:
    b = Builder()
    b.node("Neg", ["x"], "y")
    b.node("Abs", ["y"], "out")
    model = b.model({"x": ("n", *axes)}, {"out": ("n", *axes)}, opset=opset)
    x = np.random.default_rng(2).normal(size=(4, *axes)).astype(np.float32)
    _, _, results = exposed(model, tmp_path, {"x": x}, keep)
    assert results.statistics["sum"].dtype == np.float64
    flat = -x.reshape(4, -1).astype(np.float64)
    error = np.abs(results.statistics["sum"][:, 0] - flat.sum(axis=1))
    assert (error <= {"full": 1e-14, "statistics": 1e-6}[keep] * np.abs(flat).sum(axis=1)).all()


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (np.float16, TensorProto.FLOAT16),
        (np.float64, TensorProto.DOUBLE),
        (np.int32, TensorProto.INT32),
        (np.int64, TensorProto.INT64),
        (np.uint8, TensorProto.UINT8),
        (np.bool_, TensorProto.BOOL),
    ],
)
def test_sums_of_any_dtype(dtype: type[np.generic], kind: int, keep: Kept, tmp_path: Path) -> None:
    b = Builder()
    b.node("Transpose", ["x"], "y", perm=[0, 2, 1])
    b.node("Transpose", ["y"], "out", perm=[0, 2, 1])
    model = b.model({"x": ("n", 300, 4)}, {"out": ("n", 300, 4)}, dtype=kind)
    x = np.random.default_rng(3).integers(0, 200, size=(4, 300, 4)).astype(dtype)
    _, tensors, results = exposed(model, tmp_path, {"x": x}, keep)
    assert tensors[0].dtype == np.dtype(dtype).name
    # up to 1200 × 199: beyond float16 and uint8
    np.testing.assert_array_equal(
        results.statistics["sum"][:, 0], x.reshape(4, -1).astype(np.float64).sum(axis=1)
    )


ALL: tuple[Statistic, ...] = get_args(Statistic)


def numpy_statistics(values: np.ndarray) -> dict[Statistic, np.ndarray]:
    rows = values.reshape(len(values), -1).astype(np.float64)
    return {
        "sum": rows.sum(axis=1),
        "abs_sum": np.abs(rows).sum(axis=1),
        "square_sum": (rows**2).sum(axis=1),
        "positive_sum": rows.sum(axis=1, where=rows > 0),
        "nonzero_count": np.count_nonzero(rows, axis=1).astype(np.float64),
        "min": rows.min(axis=1),
        "max": rows.max(axis=1),
    }


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize("opset", [11, 12, 13, 18, 21])
@pytest.mark.parametrize("axes", [(), (5,), (50,), (4, 5), (3, 4, 5), (3, 40, 50), (2, 3, 4, 5)])
def test_every_statistic(axes: tuple[int, ...], opset: int, keep: Kept, tmp_path: Path) -> None:
    b = Builder()
    b.node("LeakyRelu", ["x"], "y", alpha=0.25)
    b.node("Relu", ["y"], "out")
    model = b.model({"x": ("n", *axes)}, {"out": ("n", *axes)}, opset=opset)
    x = np.random.default_rng(2).normal(size=(4, *axes)).astype(np.float32)
    x[np.abs(x) < 0.3] = 0
    _, tensors, results = exposed(model, tmp_path, {"x": x}, keep, ALL)
    y = np.where(x < 0, x * np.float32(0.25), x)
    for tensor, values in zip(tensors, (y, np.maximum(x, 0)), strict=True):
        truth = numpy_statistics(values)
        for name in ALL:
            found = results.statistics[name][:, tensor.number]
            if name in ("nonzero_count", "min", "max"):
                np.testing.assert_array_equal(found, truth[name], err_msg=name)
            scale = truth["square_sum" if name == "square_sum" else "abs_sum"]
            error = np.abs(found - truth[name])
            assert (error <= {"full": 1e-14, "statistics": 1e-6}[keep] * scale).all(), name


@pytest.mark.parametrize("side", [32, 112, 181, 512, 1100])
def test_sums_over_planes_of_equal_values_do_not_drift(side: int, tmp_path: Path) -> None:
    """One after another, float32 sums of 112 by 112 tenths are wrong by 3e-5."""
    b = Builder()
    b.node("Relu", ["x"], "y")
    b.node("Relu", ["y"], "out")
    model = b.model({"x": ("n", 2, side, side)}, {"out": ("n", 2, side, side)})
    x = np.full((3, 2, side, side), 0.1, np.float32)
    _, _, results = exposed(model, tmp_path, {"x": x}, "statistics", ("sum", "abs_sum"))
    for values in results.statistics.values():
        np.testing.assert_allclose(values[:, 0], x[0].astype(np.float64).sum(), rtol=5e-6)


def test_half_floats_are_summed_as_they_are_stored(tmp_path: Path) -> None:
    """The runtime computes them in float32, and would leave out the rounding in between."""
    b = Builder()
    for name in ("w1", "w2"):
        b.constant(name, b.rng.normal(0, 0.2, (64, 64)).astype(np.float16))
    b.node("MatMul", ["x", "w1"], "h")
    b.node("MatMul", [b.node("Relu", ["h"], "r"), "w2"], "out")
    model = b.model({"x": ("n", 64)}, {"out": ("n", 64)}, dtype=TensorProto.FLOAT16)
    x = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float16)
    _, _, whole = exposed(model, tmp_path, {"x": x}, "full", ALL)
    _, _, sums = exposed(model, tmp_path, {"x": x}, "statistics", ALL)
    for name in ALL:
        np.testing.assert_array_equal(sums.statistics[name], whole.statistics[name], err_msg=name)


@pytest.mark.parametrize("value", [1e30, 3e38, -np.inf, np.inf, np.nan])
@pytest.mark.parametrize("convolved", [False, True])
def test_a_sample_beyond_float32_is_summed_in_float64(
    value: float, convolved: bool, tmp_path: Path
) -> None:
    b = Builder()
    if convolved:
        b.node("Relu", [b.batch_norm(b.conv("x", "c", 2, 40, 3), "n", 40)], "r")
        shape: tuple[int, ...] = (2, 8, 8)
    else:
        b.node("Relu", [b.gemm("x", "c", 128, 40)], "r")
        shape = (128,)
    model = b.model({"x": ("n", *shape)}, {"r": ("n", *["?"] * len(shape))})
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    x[4].flat[5] = value
    statistics: tuple[Statistic, ...] = ("sum", "abs_sum", "square_sum", "positive_sum")
    _, _, whole = exposed(model, tmp_path, {"x": x}, "full", statistics)
    _, _, sums = exposed(model, tmp_path, {"x": x}, "statistics", statistics)
    for name in statistics:
        found, truth = sums.statistics[name], whole.statistics[name]
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(truth), err_msg=name)
        np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-3, err_msg=name)


def test_what_overflows_before_a_nonlinearity_that_hides_it(tmp_path: Path) -> None:
    """Neither the input, nor its sum with these weights, nor what is rectified is infinite."""
    b = Builder()
    kernel = np.full((2, 2, 3, 3), [[[[-20]]], [[[5]]]], np.float32)
    b.node("Relu", [b.node("Conv", ["x", b.constant("k", kernel)], "c")], "r")
    model = b.model({"x": ("n", 2, 3, 3)}, {"r": ("n", 2, 1, 1)})
    x = np.random.default_rng(0).random((6, 2, 3, 3), np.float32)
    x[4] = 1e36
    _, tensors, sums = exposed(model, tmp_path, {"x": x}, "statistics")
    (column,) = [tensor.number for tensor in tensors if tensor.name == "c"]
    found = sums.statistics["sum"][:, column]
    assert found[4] == -np.inf  # -3.6e38 is beyond float32
    assert np.isfinite(found[[0, 1, 2, 3, 5]]).all()


def test_weights_whose_sums_are_beyond_float32(tmp_path: Path) -> None:
    b = Builder()
    kernel = np.full((8, 1, 2, 2), 1e38, np.float32)
    b.node("Relu", [b.node("Conv", ["x", b.constant("k", kernel)], "c")], "r")
    model = b.model({"x": ("n", 1, 4, 4)}, {"r": ("n", 8, 3, 3)})
    x = np.random.default_rng(0).random((6, 1, 4, 4), np.float32) * 0.1
    x[4] = 0
    truth = made_values(model, {"x": x})["c"].astype(np.float64).sum(axis=(1, 2, 3))
    _, tensors, sums = exposed(model, tmp_path, {"x": x}, "statistics")
    (column,) = [tensor.number for tensor in tensors if tensor.name == "c"]
    np.testing.assert_allclose(sums.statistics["sum"][:, column], truth, rtol=1e-6)


@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_every_statistic_of_integers_and_half_floats(keep: Kept, tmp_path: Path) -> None:
    for number, (dtype, kind) in enumerate(
        ((np.int32, TensorProto.INT32), (np.bool_, TensorProto.BOOL), (np.float16, 10))
    ):
        b = Builder()
        b.node("Transpose", ["x"], "y", perm=[0, 2, 1])
        b.node("Transpose", ["y"], "out", perm=[0, 2, 1])
        model = b.model({"x": ("n", 30, 4)}, {"out": ("n", 30, 4)}, dtype=kind)
        x = np.random.default_rng(number).integers(-200, 200, size=(4, 30, 4)).astype(dtype)
        _, _, results = exposed(model, tmp_path, {"x": x}, keep, ALL)
        for name, truth in numpy_statistics(x).items():
            np.testing.assert_array_equal(results.statistics[name][:, 0], truth, err_msg=name)


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize("axis", [1, 2])
def test_sample_axis_elsewhere_comes_to_the_front(axis: int, keep: Kept, tmp_path: Path) -> None:
    b = Builder()
    order = [1, 0, 2] if axis == 1 else [1, 2, 0]
    b.node("Transpose", ["x"], "turned", perm=order)
    back = np.argsort(order).tolist()
    b.node("Transpose", ["turned"], "y", perm=back)
    model = b.model({"x": ("n", 5, 6)}, {"y": ("n", 5, 6)})
    x = np.random.default_rng(4).normal(size=(4, 5, 6)).astype(np.float32)
    _, tensors, results = exposed(model, tmp_path, {"x": x}, keep)
    assert (tensors[0].batch_axis, tensors[0].shape) == (axis, (5, 6))
    if keep == "full":
        np.testing.assert_array_equal(results.activations[0], x)
    truth = x.astype(np.float64).sum(axis=(1, 2))
    np.testing.assert_allclose(results.statistics["sum"][:, 0], truth, atol=1e-5)


def test_tensors_without_a_sample_axis_are_skipped_with_the_reason(tmp_path: Path) -> None:
    b = Builder()
    b.node("ReduceMean", ["x"], "batch_mean", axes=[0], keepdims=0)
    b.node("Sub", ["x", "batch_mean"], "centred")
    b.node("Reshape", ["centred", b.constant("two", np.array([-1, 2]))], "pairs")
    b.node("Reshape", ["pairs", b.constant("four", np.array([-1, 4]))], "y")
    b.node("Gemm", ["x", "x"], "square", transB=1)
    path = saved(b.model({"x": ("n", 4)}, {"y": ("n", 4)}), tmp_path / "m.onnx")
    feeds = {"x": np.random.default_rng(0).random((3, 4), np.float32)}
    found = open_network(path).probe(Samples(feeds), bound=None, run=RunOptions())
    assert [tensor.name for tensor in found.tensors] == ["centred", "pairs", "y"]
    assert [(t.merged, t.shape) for t in found.tensors] == [
        (None, (4,)),
        ("NT", (2, 2)),
        (None, (4,)),
    ]
    assert found.mixed == ("centred", "pairs", "y")
    assert {s.name: s.reason for s in found.skipped} == {
        "batch_mean": "no sample axis: shape (4,) whatever the number of samples",
        "square": "no one sample axis: (3, 3) for 3 samples, (2, 2) for 2",
    }


def test_names_that_are_no_paths(tmp_path: Path) -> None:
    names = ["a/b", "a", "/a/b:0", "a/b/" + "x" * 300, "ünïcode;", "a b", "cnatool::0 "]
    b = Builder()
    tensor = "x"
    for name in names:
        tensor = b.node("Relu", [tensor], name)
    model = b.model({"x": ("n", 4)}, {names[-1]: ("n", 4)})
    x = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
    _, tensors, results = exposed(model, tmp_path, {"x": x})
    assert [tensor.name for tensor in tensors] == names
    for value in results.activations.values():
        np.testing.assert_array_equal(value, np.maximum(x, 0))


def test_shape_that_depends_on_the_data(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    model = b.model({"x": ("n", "m")}, {"y": ("n", "m")})
    network = open_network(saved(model, tmp_path / "m.onnx"))
    probed = network.probe(
        Samples({"x": np.ones((3, 4), np.float32)}), bound=None, run=RunOptions()
    ).tensors
    tensors = select_tensors(network, probed, ["all"], keep="full", dtype=None)
    run = ExposedModel(network.graph, tensors, tensors, probed, "x", RunOptions(threads=1))
    with pytest.raises(BackendError, match=r"tensor 'y' has shape \(5,\) for a sample"):
        run.run([{"x": np.ones((3, 5), np.float32)}], 3)


def test_choice_by_glob_name_and_group(tmp_path: Path) -> None:
    network = open_network(saved(mlp(), tmp_path / "m.onnx"))
    probed = network.probe(
        Samples({"x": np.ones((3, 64), np.float32)}), bound=None, run=RunOptions()
    ).tensors

    def names(*patterns: str) -> list[str]:
        return [
            tensor.name
            for tensor in select_tensors(network, probed, patterns, keep="full", dtype=None)
        ]

    assert names("layers") == ["fc1", "fc2", "fc3", "logits"]
    assert names("relu[12]", "logits") == ["relu1", "relu2", "logits"]
    assert names("all") == ["fc1", "relu1", "fc2", "relu2", "fc3", "relu3", "logits"]
    with pytest.raises(UsageError, match="`tensors='conv'`: .* has no such tensor"):
        names("fc1", "conv")


def test_narrowing_never_widens(tmp_path: Path) -> None:
    network = open_network(saved(mlp(), tmp_path / "m.onnx"))
    probed = network.probe(
        Samples({"x": np.ones((3, 64), np.float32)}), bound=None, run=RunOptions()
    ).tensors
    for dtype, stored in (("float16", "float16"), ("float32", "float32"), (None, "float32")):
        tensors = select_tensors(network, probed, ["fc1"], keep="full", dtype=dtype)
        assert [tensor.stored for tensor in tensors] == [stored]


def test_provider_that_is_not_there() -> None:
    assert provider_name("cpu") == provider_name("CPUExecutionProvider") == CPU
    with pytest.raises(UsageError, match="`provider='warp'`: the installed ONNX Runtime"):
        provider_name("warp")


def test_model_that_the_runtime_refuses(tmp_path: Path) -> None:
    b = Builder()
    b.nodes.append(helper.make_node("NoSuchOperator", ["x"], ["y"]))
    network = open_network(saved(b.model({"x": ("n", 4)}, {"y": ("n", 4)}), tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="ONNX Runtime refuses the model"):
        network.probe(Samples({"x": np.ones((3, 4), np.float32)}), bound=None, run=RunOptions())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.inf, 1e30])
def test_what_is_beyond_float32_in_one_sample_warns_nobody_and_stays_there(
    value: float, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32)
    x[5, 0, 3, 3] = value
    np.save(tmp_path / "x.npy", x)
    store = cnatool.dump(
        saved(residual_convnet(), tmp_path / "model.onnx"),
        tmp_path / "x.npy",
        tmp_path / "s.zarr",
        keep="statistics",
        statistics="all",
    )
    squares = store.splits["all"].statistics("square_sum")[:]
    assert np.isfinite(squares[np.arange(8) != 5]).all()
    assert np.isfinite(squares[5]).all() == np.isfinite(value)
