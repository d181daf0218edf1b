"""A probe that takes a graph part by part finds what a probe of the whole finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, mlp, residual_convnet, saved

import cnatool
from cnatool.backend import tensor_sizes
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.inputs import Samples
from cnatool.backend.probe import in_parts
from cnatool.backend.probe.in_parts import probe_in_parts
from cnatool.backend.probe.probe import probe
from cnatool.backend.session import RunOptions
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cnatool.records.choices import Statistic

STATISTICS: tuple[Statistic, ...] = ("sum", "abs_sum")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(in_parts, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(in_parts, "_PART_BYTES", getattr(request, "param", 1))


def computed_constants() -> onnx.ModelProto:
    """Constants that nodes compute, one of them inside a branch, and arithmetic on shapes."""
    b = Builder(1)
    b.node("Neg", [b.weight("w", 4)], "negative")
    b.node("Mul", ["x", "negative"], "scaled")
    b.node("Relu", ["scaled"], "active")
    b.node("Shape", ["active"], "shape")
    bodies = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["negative"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "Exp"), ("else", "Abs"))
    }
    b.node("If", [b.constant("yes", np.array(True))], "chosen", **bodies)
    b.node("Add", ["active", "chosen"], "added")
    b.node("Reshape", ["added", "shape"], "shaped")
    b.node("Add", ["shaped", "negative"], "y")
    return b.model({"x": ("n", 4)}, {"y": ("n", 4)})


@pytest.mark.parametrize("small_parts", [1, 3000], indirect=True)
@pytest.mark.parametrize(
    ("model", "shape"),
    [(mlp(), (64,)), (residual_convnet(), (1, 8, 8)), (computed_constants(), (4,))],
    ids=["mlp", "residual", "constants"],
)
def test_as_a_probe_of_the_whole(
    model: onnx.ModelProto, shape: tuple[int, ...], tmp_path: Path
) -> None:
    graph = load_graph(saved(model, tmp_path / "net.onnx"))
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    found = probe_in_parts(graph, Samples({"x": x}), RunOptions(), STATISTICS)
    expected = probe(graph, Samples({"x": x}), bound=None, run=RunOptions(), statistics=STATISTICS)
    assert found is not None
    assert found.tensors == expected.tensors
    assert found.skipped == expected.skipped
    assert found.one_runs == expected.one_runs
    assert found.counted == expected.counted
    assert found.reference.keys() == expected.reference.keys()
    for name, statistics in expected.reference.items():
        for statistic, values in statistics.items():
            np.testing.assert_allclose(found.reference[name][statistic], values, 1e-5, 1e-5)


def mixing(operator: str) -> onnx.ModelProto:
    b = Builder(2)
    b.node("Relu", ["x"], "active")
    if operator == "mean of the batch":
        b.node("ReduceMean", ["active"], "mean", axes=[0])
        b.node("Sub", ["active", "mean"], "y")
    elif operator == "merged axis":
        b.node("Reshape", ["active", b.constant("rows", np.array([-1, 2]))], "merged")
        b.node("Reshape", ["merged", b.constant("back", np.array([-1, 4]))], "y")
    elif operator == "an axis lost by one sample":
        b.node("Squeeze", ["active"], "y")
    elif operator == "random numbers":
        b.node("RandomNormalLike", ["active"], "noise")
        b.node("Add", ["active", "noise"], "y")
    else:
        b.node("NonZero", ["active"], "places")
        b.node("Cast", ["places"], "y", to=TensorProto.FLOAT)
    return b.model({"x": ("n", 4)}, {"y": ("m", 4)}, opset=13)


@pytest.mark.parametrize(
    "operator",
    [
        "mean of the batch",
        "merged axis",
        "an axis lost by one sample",
        "random numbers",
        "counted places",
    ],
)
def test_exceptions_are_left_to_a_probe_of_the_whole(operator: str, tmp_path: Path) -> None:
    graph = load_graph(saved(mixing(operator), tmp_path / "net.onnx"))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert probe_in_parts(graph, Samples({"x": x}), RunOptions()) is None


def test_a_small_model_is_probed_as_a_whole_unless_its_operators_separate_samples(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(in_parts, "_WHOLE_BYTES", 1 << 20)
    for model, width, taken in ((mlp(), 64, True), (computed_constants(), 4, False)):
        graph = load_graph(saved(model, tmp_path / "net.onnx"))
        samples = Samples({"x": np.eye(3, width, dtype=np.float32)})
        assert (probe_in_parts(graph, samples, RunOptions()) is not None) == taken


def test_samples_that_differ_in_a_batch_are_an_exception_whatever_the_operators_show(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(in_parts, "separates_samples", lambda *_: True)
    for operator in ("mean of the batch", "merged axis", "an axis lost by one sample"):
        graph = load_graph(saved(mixing(operator), tmp_path / "net.onnx"))
        x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        assert probe_in_parts(graph, Samples({"x": x}), RunOptions()) is None


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make so many bytes of memory available."""

    def limit(size: int) -> None:
        for module in (in_parts, tensor_sizes):
            monkeypatch.setattr(module, "available_memory", lambda: size)

    return limit


def stacked(folder: Path, samples: str | int, *, summed: bool = False) -> Path:
    """Make forty maps of 0.8 MB for three samples, each computed from the last one."""
    builder, names, shape = Builder(), ["x"], (samples, 16, 64, 64)
    for number in range(40):
        names.append(builder.conv(names[-1], f"h{number}", 16, 16, 1))
    if summed:
        builder.node("Sum", names[1:], "y")
        names.append("y")
    np.save(folder / "x.npy", np.random.default_rng(0).random((3, 16, 64, 64), np.float32))
    return saved(builder.model({"x": shape}, {names[-1]: shape}), folder / "m.onnx")


def test_tensors_that_do_not_fit_together(tmp_path: Path, limited: Callable[[int], None]) -> None:
    """A regular model is probed in parts, and needs memory for a few of its tensors only."""
    data, model = tmp_path / "x.npy", stacked(tmp_path, "N")
    limited(8 << 20)
    store = cnatool.dump(model, data, tmp_path / "s.zarr", keep="statistics")
    assert len(store.tensors) == 40
    limited(4 << 20)
    with pytest.raises(ModelError, match="its tensors take, in 2 runs of 3 samples, 64.5 MB"):
        cnatool.dump(model, data, tmp_path / "s2.zarr", keep="statistics")
    limited(24 << 20)
    # What the last node reads is held until then, and one sample of it takes a third.
    model = stacked(tmp_path, "N", summed=True)
    with pytest.raises(ModelError, match="in 2 runs of 3 samples, .* Give `batch_size=1`, run it"):
        cnatool.dump(model, data, tmp_path / "s3.zarr", keep="statistics")
    store = cnatool.dump(model, data, tmp_path / "s3.zarr", keep="statistics", batch_size=1)
    assert len(store.tensors) == 41


def test_tensors_of_a_fixed_batch_that_do_not_fit_together(
    tmp_path: Path, limited: Callable[[int], None]
) -> None:
    model = stacked(tmp_path, 3)
    limited(24 << 20)
    with pytest.raises(ModelError, match=r"in 3 runs of 3 samples, 96\.\d MB"):
        cnatool.dump(model, tmp_path / "x.npy", tmp_path / "s.zarr", keep="statistics")
    with pytest.raises(ModelError, match=r"its tensors take, for 3 samples, 32\.\d MB"):
        inspect_model(model)


@pytest.mark.parametrize("summed", [False, True])
def test_memory_that_a_probe_in_parts_takes(
    summed: bool, tmp_path: Path, limited: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate counts at least the arrays that are held while it runs."""
    limited(1 << 30)
    graph = load_graph(stacked(tmp_path, "N", summed=summed))
    samples = Samples({"x": np.load(tmp_path / "x.npy")})
    estimated: list[int] = []
    held = [0]
    estimate, run = in_parts._Runs.estimate_memory, in_parts._Runs._run_part

    def estimate_memory(runs: Any, *given: Any) -> int:
        estimated.append(estimate(runs, *given))
        return estimated[-1]

    def run_part(runs: Any, part: Any, number: int) -> Any:
        results = run(runs, part, number)
        arrays = [results, *runs.values]
        distinct = {id(array): array.nbytes for each in arrays for array in each.values()}
        held.append(sum(distinct.values()))
        return results

    monkeypatch.setattr(in_parts._Runs, "estimate_memory", estimate_memory)
    monkeypatch.setattr(in_parts._Runs, "_run_part", run_part)
    assert probe_in_parts(graph, samples, RunOptions()) is not None
    assert max(held) < estimated[0] < 4 * max(held) + (4 << 20)
