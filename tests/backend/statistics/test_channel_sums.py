"""Sums computed from the tensors before a chain of operators, against the sum of its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import Builder, saved
from support.reference import made_values

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.inputs import Samples
from cnatool.backend.network import open_network
from cnatool.backend.select import select_outputs, select_tensors
from cnatool.backend.session import RunOptions, Session
from cnatool.backend.statistics.channel_sums import (
    ChannelSum,
    ChannelSums,
    find_rearranged,
)
from cnatool.backend.statistics.checked import build_exposed_model
from cnatool.backend.statistics.exposed_model import ExposedModel


def sums_of(model: onnx.ModelProto, path: Path, values: dict[str, np.ndarray]) -> ChannelSums:
    shapes = {name: v.shape[1:] for name, v in values.items() if v.dtype == np.float32}
    return ChannelSums(load_graph(saved(model, path / "model.onnx")), shapes)


def evaluate(found: ChannelSum, values: dict[str, np.ndarray]) -> np.ndarray:
    total = np.full(len(next(iter(values.values()))), found.constant)
    for tensor, weights in found.terms.items():
        total += values[tensor].astype(np.float64).sum(axis=(2, 3)) @ weights
    for tensor, weights in found.elements.items():
        total += (values[tensor].astype(np.float64) * weights).sum(axis=(1, 2, 3))
    return total


def assert_equal_sums(found: ChannelSum, values: dict[str, np.ndarray], tensor: str) -> None:
    truth = values[tensor].astype(np.float64).reshape(len(values[tensor]), -1)
    error = np.abs(evaluate(found, values) - truth.sum(axis=1))
    assert (error <= 1e-6 * np.abs(truth).sum(axis=1)).all()


def read_of(found: ChannelSum | None) -> set[str]:
    assert found is not None
    return {*found.terms, *found.elements}


def test_an_add_that_repeats_its_summand(tmp_path: Path) -> None:
    net = Builder()
    net.node("Conv", ["x", net.weight("k", 1, 1, 3, 3)], "pixel")
    net.node("Add", ["pixel", net.weight("plane", 1, 1, 8, 8)], "sum")
    net.node("Relu", ["sum"], "relu")
    model = net.model({"x": ("n", 1, 3, 3)}, {"relu": ("n", 1, 8, 8)})
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    shapes = {"x": (1, 3, 3), "pixel": (1, 1, 1), "sum": (1, 8, 8), "relu": (1, 8, 8)}
    assert read_of(ChannelSums(graph, shapes).find("sum")) == {"sum"}


@pytest.mark.parametrize("where", ["file", "constant", "identity"])
def test_weights_wherever_they_are(where: str, tmp_path: Path) -> None:
    net = Builder()
    weight = net.weight("w", 40, 3, 1, 1)
    if where == "constant":
        net.node("Constant", [], "c", value=net.weights.pop())
        weight = "c"
    elif where == "identity":
        weight = net.node("Identity", ["w"], "c")
    net.node("Relu", [net.node("Conv", ["x", weight], "y")], "out")
    model = net.model({"x": ("n", 3, 4, 4)}, {"out": ("n", 40, 4, 4)})
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    values = {"x": x} | made_values(model, {"x": x})
    path = tmp_path / "model.onnx"
    external = {"location": "w.bin", "size_threshold": 0} if where == "file" else {}
    onnx.save(model, path, save_as_external_data=where == "file", **external)
    found = ChannelSums(load_graph(path), {"x": (3, 4, 4), "y": (40, 4, 4)}).find("y")
    assert read_of(found) == {"x"}
    assert_equal_sums(found, values, "y")


def test_a_chain_before_a_nonlinearity_is_not_read(tmp_path: Path) -> None:
    """The runtime makes one operator of each of these chains, unless someone asks for its parts."""
    net = Builder()
    net.conv("x", "c1", 3, 40, 3, bias=True)
    net.batch_norm("c1", "n1", 40)
    net.node("Relu", ["n1"], "r1")
    net.node("Conv", ["r1", net.weight("w2", 40, 40, 1, 1)], "c2")
    net.batch_norm("c2", "n2", 40)
    net.node("Relu", [net.node("Add", ["n2", "r1"], "sum")], "r2")
    net.node("Conv", ["r2", net.weight("w3", 48, 40, 3, 3)], "c3", strides=[2, 2], pads=[1] * 4)
    net.node("Mul", ["c3", net.weight("factor", 48, 1, 1)], "scaled")
    net.node("Add", ["scaled", net.weight("shift", 1, 48, 1, 1)], "shifted")
    net.node("Relu", ["shifted"], "r3")
    model = net.model({"x": ("n", 3, 41, 40)}, {"r3": ("n", 48, 21, 20)})
    x = np.random.default_rng(1).normal(size=(2, 3, 41, 40)).astype(np.float32)
    values = {"x": x} | made_values(model, {"x": x})
    sums = sums_of(model, tmp_path, values)
    expected = {
        "c1": {"c1"},  # x has more elements than get a weight each
        "n1": {"c1"},
        "r1": {"r1"},
        "c2": {"r1"},
        "n2": {"r1"},
        "sum": {"r1"},
        "r2": {"r2"},
        "c3": {"c3"},
        "scaled": {"c3"},
        "shifted": {"c3"},
        "r3": {"r3"},
    }
    for tensor, read in expected.items():
        found = sums.find(tensor)
        assert read_of(found) == read
        assert_equal_sums(found, values, tensor)


@pytest.mark.parametrize("padding", [{"pads": [0, 1, 2, 1]}, {"auto_pad": "SAME_LOWER"}])
def test_a_convolution_of_the_input_is_not_read(padding: dict[str, object], tmp_path: Path) -> None:
    net = Builder()
    kernel = net.weight("k", 8, 1, 3, 4)
    net.node("Conv", ["x", kernel, net.weight("b", 8)], "c", strides=[2, 1], group=2, **padding)
    net.batch_norm("c", "n", 8)
    net.node("Relu", [net.node("Add", ["n", "n"], "twice")], "out")
    model = net.model({"x": ("n", 2, 9, 7)}, {"out": ("n", 8, "?", "?")})
    x = np.random.default_rng(1).normal(size=(2, 2, 9, 7)).astype(np.float32)
    values = {"x": x} | made_values(model, {"x": x})
    sums = sums_of(model, tmp_path, values)
    for tensor in ("c", "n"):
        found = sums.find(tensor)
        assert (set(found.terms), set(found.elements)) == (set(), {"x"})
        assert_equal_sums(found, values, tensor)


def test_normalised_concatenation(tmp_path: Path) -> None:
    """As in DenseNet: what a concatenation and its normalisation sum to follows from the parts."""
    net = Builder()
    net.node("Relu", [net.conv("x", "c1", 3, 8, 3)], "r1")
    net.conv("r1", "c2", 8, 4, 3)
    net.node("Concat", ["r1", "c2"], "joined", axis=1)
    net.batch_norm("joined", "normed", 12)
    scale = net.node(
        "Unsqueeze", [net.weight("s", 12), net.constant("axes", np.array([1, 2]))], "u"
    )
    net.node("Mul", ["normed", scale], "scaled")
    net.node("Relu", [net.node("Sub", ["scaled", net.weight("m", 12, 1, 1)], "less")], "r2")
    model = net.model({"x": ("n", 3, 9, 7)}, {"r2": ("n", 12, 9, 7)})
    x = np.random.default_rng(1).normal(size=(2, 3, 9, 7)).astype(np.float32)
    values = {"x": x} | made_values(model, {"x": x})
    sums = sums_of(model, tmp_path, values)
    for tensor in ("joined", "normed", "scaled", "less"):
        found = sums.find(tensor)
        assert read_of(found) == {"r1", "c2"}
        assert_equal_sums(found, values, tensor)


@st.composite
def chains(draw: st.DrawFn) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Random graphs of the operators that sums are followed through."""
    net = Builder(draw(st.integers(0, 100)))
    height, width = draw(st.integers(2, 7)), draw(st.integers(2, 7))
    tensors = {"x": (draw(st.sampled_from([1, 4])), height, width)}
    for number in range(draw(st.integers(1, 9))):
        source = draw(st.sampled_from(list(tensors)))
        channels, high, wide = tensors[source]
        name = f"t{number}"
        kinds = ["conv", "norm", "relu", "add", "mul", "concat", "same", "bias"]
        kind = draw(st.sampled_from(kinds))
        alike = [other for other, shape in tensors.items() if shape == tensors[source]]
        if kind == "conv":
            group = draw(st.sampled_from([1, channels]))
            made = draw(st.sampled_from([4, 40])) * group
            size = draw(st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 5), (2, 2)]))
            names = [source, net.weight(f"{name}.w", made, channels // group, *size)]
            if draw(st.booleans()):
                names.append(net.weight(f"{name}.b", made))
            steps = draw(st.sampled_from([1, 1, 2]))
            pads = [draw(st.integers(0, 2)) for _ in range(4)]
            shape = tuple(
                (length + pads[axis] + pads[axis + 2] - size[axis]) // steps + 1
                for axis, length in enumerate((high, wide))
            )
            if min(shape) < 1 or made > 160:
                continue
            net.node("Conv", names, name, group=group, strides=[steps] * 2, pads=pads)
            tensors[name] = (made, *shape)
            continue
        if kind == "norm":
            net.batch_norm(source, name, channels)
        elif kind == "relu":
            net.node("Relu", [source], name)
        elif kind == "same":
            net.node("Identity", [source], name)
        elif kind == "add":
            operator = draw(st.sampled_from(["Add", "Sub", "Sum"]))
            net.node(operator, [source, draw(st.sampled_from(alike))], name)
        elif kind == "mul":
            operator = draw(st.sampled_from(["Mul", "Div"]))
            factor = net.rng.uniform(0.5, 2, (channels, 1, 1)).astype(np.float32)
            net.node(operator, [source, net.constant(f"{name}.f", factor)], name)
        elif kind == "bias":
            shape = draw(st.sampled_from([(), (channels, 1, 1), (1, channels, high, 1), (wide,)]))
            net.node("Add", [net.weight(f"{name}.b", *shape), source], name)
        else:
            net.node("Concat", [source, draw(st.sampled_from(alike))], name, axis=1)
            tensors[name] = (2 * channels, high, wide)
            continue
        tensors[name] = tensors[source]
    net.node("Relu", [list(tensors)[-1]], "out")
    shape = tensors["x"]
    return net.model({"x": ("n", *shape)}, {"out": ("n", *["?"] * 3)}), shape


@settings(max_examples=150, deadline=None)
@given(made=chains())
def test_random_chains(
    made: tuple[onnx.ModelProto, tuple[int, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    model, shape = made
    folder = tmp_path_factory.mktemp("chain")
    x = np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
    values = {"x": x} | made_values(model, {"x": x})
    sums = sums_of(model, folder, values)
    network = open_network(folder / "model.onnx")
    probed = network.probe(Samples({"x": x}), bound=None, run=RunOptions(threads=1)).tensors
    tensors = select_tensors(network, probed, ["all"], keep="statistics", dtype=None)
    outputs = select_outputs(network, probed)
    run = ExposedModel(network.graph, tensors, outputs, probed, "x", RunOptions(threads=1))
    given = run.run([{"x": x}], 3).statistics["sum"]
    for tensor in tensors:
        flat = np.abs(values[tensor.name].astype(np.float64)).reshape(3, -1)
        truth = values[tensor.name].astype(np.float64).reshape(3, -1).sum(axis=1)
        # Sums of what cancels, as of a - a, are as wrong as what goes into them is large.
        scale = np.maximum(flat.sum(axis=1), 0.05 * flat.shape[1])
        found = evaluate(sums.find(tensor.name), values)
        assert (np.abs(found - truth) <= 1e-5 * scale).all()
        assert (np.abs(given[:, tensor.number] - truth) <= 1e-5 * scale).all()


def test_a_long_chain(tmp_path: Path) -> None:
    net = Builder()
    tensor = net.node("Relu", ["x"], "t0")
    half = net.constant("half", np.full((3, 1, 1), 0.999, np.float32))
    for number in range(1, 1500):
        tensor = net.node("Mul", [tensor, half], f"t{number}")
    net.node("Relu", [tensor], "out")
    model = net.model({"x": ("n", 3, 5, 5)}, {"out": ("n", 3, 5, 5)})
    shapes = {"x": (3, 5, 5)} | {f"t{number}": (3, 5, 5) for number in range(1500)}
    sums = ChannelSums(load_graph(saved(model, tmp_path / "m.onnx")), shapes)
    assert read_of(sums.find("t50")) == {"t0"}
    assert read_of(sums.find("t1499")) != {"t0"}


def test_what_loses_digits_is_summed_in_float64(tmp_path: Path) -> None:
    """A normalisation that takes off a mean far larger than what is left."""
    net = Builder()
    far = net.constant("far", np.full((40,), 3000, np.float32))
    net.node("Relu", [net.node("Conv", ["x", net.weight("w", 40, 3, 3, 3), far], "c")], "r")
    net.node("Conv", ["r", net.constant("one", np.eye(40, dtype=np.float32)[..., None, None])], "d")
    ones, zeros = (net.constant(n, np.full(40, v, np.float32)) for n, v in (("1", 1), ("0", 0)))
    net.node("BatchNormalization", ["d", ones, zeros, far, ones], "normed")
    net.node("Relu", ["normed"], "out")
    model = net.model({"x": ("n", 3, 40, 40)}, {"out": ("n", 40, 38, 38)})
    rng = np.random.default_rng(0)
    samples = Samples({"x": (rng.normal(size=(3, 3, 40, 40)) * 1e-2).astype(np.float32)})
    network = open_network(saved(model, tmp_path / "model.onnx"))
    run = RunOptions(threads=1)
    probed = network.probe(samples, bound=None, run=run, statistics=("sum",))
    tensors = select_tensors(network, probed.tensors, ["all"], keep="statistics", dtype=None)
    outputs = select_outputs(network, probed.tensors)
    trusted = build_exposed_model(network, probed, tensors, outputs, ("sum",), run)
    given = trusted.run([samples.values], 3).statistics["sum"]
    plain = ExposedModel(
        network.graph,
        tensors,
        outputs,
        probed.tensors,
        "x",
        run,
    )
    (column,) = [tensor.number for tensor in tensors if tensor.name == "normed"]
    whole = make_readable(network.graph.model, ["normed"])
    (values,) = Session(whole.model, network.graph, run).run(["normed"], samples.values)
    flat = values.astype(np.float64).reshape(3, -1)
    scale = np.abs(flat).sum(axis=1)
    lost = np.abs(plain.run([samples.values], 3).statistics["sum"][:, column] - flat.sum(axis=1))
    kept = np.abs(given[:, column] - flat.sum(axis=1))
    assert (kept <= 1e-5 * scale).all()
    assert (lost > 1e-5 * scale).any()


@pytest.mark.parametrize("scale", [1, 1e-3, 1e-5])
def test_samples_far_smaller_than_one(scale: float, tmp_path: Path) -> None:
    """A normalisation takes off a mean that only such samples make far larger than what is left."""
    net = Builder()
    x = (np.random.default_rng(0).normal(size=(6, 3, 40, 40)) * scale).astype(np.float32)
    first = ["x", net.weight("w1", 16, 3, 3, 3), net.weight("b1", 16)]
    net.node("Relu", [net.node("Conv", first, "c1")], "r1")
    net.node("Conv", ["r1", net.weight("w2", 16, 16, 3, 3), net.weight("b2", 16)], "c2")
    trained = made_values(net.model({"x": ("n", 3, 40, 40)}, {"c2": ("n", 16, 36, 36)}), {"x": x})
    c2 = trained["c2"].astype(np.float64)
    given = {"scale": np.ones(16), "shift": np.zeros(16)}
    given |= {"mean": c2.mean(axis=(0, 2, 3)), "variance": c2.var(axis=(0, 2, 3))}
    parts = [net.constant(name, value.astype(np.float32)) for name, value in given.items()]
    net.node("Relu", [net.node("BatchNormalization", ["c2", *parts], "normed")], "out")
    saved(
        net.model({"x": ("n", 3, 40, 40)}, {"out": ("n", 16, 36, 36)}),
        tmp_path / "model.onnx",
    )
    np.save(tmp_path / "x.npy", x)
    full, sums = (
        cnatool.dump(
            tmp_path / "model.onnx",
            tmp_path / "x.npy",
            tmp_path / f"{keep}.zarr",
            keep=keep,  # type: ignore[arg-type]
        )
        for keep in ("full", "statistics")
    )
    truth = full.splits["all"].activations("normed")[:].astype(np.float64).reshape(6, -1)
    (column,) = [t.number for t in sums.tensors if t.name == "normed"]
    error = np.abs(sums.splits["all"].statistics("sum")[:][:, column] - truth.sum(axis=1))
    assert (error <= 1e-5 * np.abs(truth).sum(axis=1)).all()


@pytest.mark.parametrize("spread", [0, 1e-3, 0.1, 4.0])
def test_later_samples_whose_mean_is_filtered_out(spread: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(16, 1, 5, 5)).astype(np.float32)
    kernels -= kernels.mean(axis=(1, 2, 3), keepdims=True)
    net = Builder()
    net.node("Relu", [net.node("Conv", ["x", net.constant("k", kernels)], "c")], "out")
    model = net.model({"x": ("n", 1, 28, 28)}, {"out": ("n", 16, 24, 24)})
    x = rng.normal(size=(60, 1, 28, 28)).astype(np.float32)
    x[40:] = 1000 + spread * x[40:]
    np.save(tmp_path / "x.npy", x)
    full, sums = (
        cnatool.dump(
            saved(model, tmp_path / "model.onnx"),
            tmp_path / "x.npy",
            tmp_path / f"{keep}.zarr",
            keep=keep,  # type: ignore[arg-type]
            batch_size=10,
        )
        for keep in ("full", "statistics")
    )
    truth = full.splits["all"].activations("c")[:].astype(np.float64).reshape(60, -1)
    (column,) = [t.number for t in sums.tensors if t.name == "c"]
    error = np.abs(sums.splits["all"].statistics("sum")[:][:, column] - truth.sum(axis=1))
    assert (error <= 1e-5 * np.abs(truth).sum(axis=1)).all()


@pytest.mark.parametrize("operator", ["Dropout", "BatchNormalization"])
def test_further_results_of_an_operator(operator: str, tmp_path: Path) -> None:
    """A mask is no linear function; a normalisation that gives its batch's mean goes by it."""
    net = Builder()
    net.conv("x", "c", 3, 4, 3)
    parts = [net.weight(name, 4) for name in ("scale", "shift", "mean")]
    parts.append(net.constant("variance", np.ones(4, np.float32)))
    names = ["first", "m", "v", "sm", "sv"] if operator == "BatchNormalization" else ["_", "first"]
    inputs = ["c", *parts] if operator == "BatchNormalization" else ["c"]
    net.nodes.append(onnx.helper.make_node(operator, inputs, names))
    net.node("Relu", ["first"], "out")
    model = net.model({"x": ("n", 3, 8, 8)}, {"out": ("n", 4, 8, 8)}, opset=9)
    shapes = {"x": (3, 8, 8), "c": (4, 8, 8), "first": (4, 8, 8), "out": (4, 8, 8)}
    found = ChannelSums(load_graph(saved(model, tmp_path / "model.onnx")), shapes).find("first")
    assert read_of(found) == {"first"}


def test_rearranged_elements(tmp_path: Path) -> None:
    """Elements that stay in their sample are found; samples that lose some, or mix, are not."""
    net = Builder()
    net.node("Relu", ["x"], "relu")
    net.node("Transpose", ["relu"], "turned", perm=[0, 2, 3, 1])
    net.node("Flatten", ["turned"], "flat")
    net.node("Transpose", ["flat"], "mixed", perm=[1, 0])
    net.node("Neg", ["flat"], "out")
    model = net.model({"x": ("n", 3, 4, 5)}, {"out": ("n", 60)})
    graph = load_graph(saved(model, tmp_path / "model.onnx"))
    shapes = {"relu": (3, 4, 5), "turned": (4, 5, 3), "flat": (60,), "mixed": (60,), "out": (60,)}
    found = {name: find_rearranged(graph, name, shapes) for name in shapes}
    assert found == {
        "relu": "relu", "turned": "relu", "flat": "relu", "mixed": "mixed", "out": "out",
    }  # fmt: skip
    assert find_rearranged(graph, "flat", shapes | {"turned": (20,)}) == "flat"
