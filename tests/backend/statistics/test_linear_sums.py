"""Sums taken from a linear operator's input against the sum of what the operator gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.networks import Builder, saved
from support.reference import every_value

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.inputs import Samples
from cnatool.backend.network import open_network
from cnatool.backend.select import select_outputs, select_tensors
from cnatool.backend.session import RunOptions, Session
from cnatool.backend.statistics.checked import build_exposed_model
from cnatool.backend.statistics.exposed_model import ExposedModel
from cnatool.backend.statistics.linear_sums import LinearSums
from cnatool.backend.statistics.sum_terms import Leaf, LinearSum


def sums_of(model: onnx.ModelProto, path: Path, values: dict[str, np.ndarray]) -> LinearSums:
    shapes = {name: v.shape[1:] for name, v in values.items() if v.dtype == np.float32}
    return LinearSums(load_graph(saved(model, path / "model.onnx")), shapes)


def followed(model: onnx.ModelProto, found: LinearSum, values: dict[str, np.ndarray]) -> np.ndarray:
    """Take a sum as it says, with plain NumPy."""
    total = np.full(len(next(iter(values.values()))), found.constant)
    for leaf, weights in found.terms.items():
        value = values[leaf.tensor].astype(np.float64)
        if leaf.reading in ("elements", "product"):
            read = value.reshape(len(value), -1)
        elif leaf.reading == "rows":
            read = value.sum(axis=-1).reshape(len(value), -1)
        elif leaf.reading == "planes":
            read = value.sum(axis=(2, 3))
        elif leaf.reading == "edges":
            corners = value[:, :, [0, -1]][:, :, :, [0, -1]]
            parts = (value.sum(axis=3), value.sum(axis=2), corners)
            read = np.concatenate([part.reshape(len(value), -1) for part in parts], axis=1)
        else:
            total += windowed(model, leaf, weights, values[leaf.tensor])
            continue
        total += read @ weights.reshape(-1)
    return total


def windowed(
    model: onnx.ModelProto, leaf: Leaf, kernel: np.ndarray, value: np.ndarray
) -> np.ndarray:
    (conv,) = [node for node in model.graph.node if node.output[0] == leaf.convolution]
    node = onnx.NodeProto()
    node.CopyFrom(conv)
    node.input[:] = ["x", "w"]
    node.output[:] = ["y"]
    graph = onnx.helper.make_graph(
        [node],
        "window",
        [onnx.helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in "xw"],
        [onnx.helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opset))
    feeds = {"x": value.astype(np.float64), "w": kernel[None].astype(np.float64)}
    made: np.ndarray = evaluator.run(None, feeds)[0]
    return made.sum(axis=(1, 2, 3))


def assert_equal_sums(
    model: onnx.ModelProto, found: LinearSum, values: dict[str, np.ndarray], tensor: str
) -> None:
    truth = values[tensor].astype(np.float64).reshape(len(values[tensor]), -1)
    error = np.abs(followed(model, found, values) - truth.sum(axis=1))
    assert (error <= 1e-6 * np.abs(truth).sum(axis=1)).all()


def read_of(found: LinearSum) -> set[tuple[str, str]]:
    return {(leaf.tensor, leaf.reading) for leaf in found.terms}


def check(
    model: onnx.ModelProto, folder: Path, shape: tuple[int, ...], tensor: str = "y"
) -> LinearSum:
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    values = every_value(model, {"x": x})
    found = sums_of(model, folder, values).of(tensor)
    assert_equal_sums(model, found, values, tensor)
    return found


@settings(max_examples=60, deadline=None)
@given(
    axes=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    group=st.sampled_from([1, 2]),
    pads=st.sampled_from(["none", "given", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    bias=st.booleans(),
    size=st.integers(5, 7),
)
def test_convolutions(
    tmp_path_factory: pytest.TempPathFactory,
    axes: int,
    kernel: int,
    stride: int,
    dilation: int,
    group: int,
    pads: str,
    bias: bool,
    size: int,
) -> None:
    net = Builder()
    names = ["x", net.weight("w", 256, 4 // group, *[kernel] * axes)]
    if bias:
        names.append(net.weight("b", 256))
    # A size of its own for each axis and side shows what is mixed up.
    attributes: dict[str, object] = {"group": group, "strides": [stride] * axes}
    if pads not in ("SAME_UPPER", "SAME_LOWER"):  # the reference evaluator ignores dilation there
        attributes["dilations"] = [dilation] * axes
    if pads == "given":
        attributes["pads"] = [*range(axes), *[1] * axes]
    elif pads != "none":
        attributes["auto_pad"] = pads
    net.node("Conv", names, "y", **attributes)
    shape = (4, *(size + axis for axis in range(axes)))
    model = net.model({"x": ("n", *shape)}, {"y": ("n", *["?"] * len(shape))})
    found = check(model, tmp_path_factory.mktemp("conv"), shape)
    (made,) = ReferenceEvaluator(model).run(None, {"x": np.zeros((1, *shape), np.float32)})
    if made.size >= np.prod(shape):
        assert read_of(found) == {("x", "product")}  # the result is not the shorter one


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", [None, (40,), (1, 40), (1,)])
def test_gemm(turned: int, bias: tuple[int, ...] | None, tmp_path: Path) -> None:
    net = Builder()
    names = ["x", net.weight("w", *((40, 30) if turned else (30, 40)))]
    if bias:
        names.append(net.weight("b", *bias))
    net.node("Gemm", names, "y", transB=turned, alpha=0.5, beta=2.0)
    check(net.model({"x": ("n", 30)}, {"y": ("n", 40)}), tmp_path, (30,))


@pytest.mark.parametrize("order", [("xw", "b"), ("b", "xw")])
def test_matmul_and_bias(order: tuple[str, str], tmp_path: Path) -> None:
    net = Builder()
    net.node("MatMul", ["x", net.weight("w", 30, 40)], "xw")
    net.weight("b", 40)
    net.node("Add", list(order), "y")
    model = net.model({"x": ("n", 30)}, {"xw": ("n", 40), "y": ("n", 40)})
    check(model, tmp_path, (30,), "xw")
    check(model, tmp_path, (30,), "y")


def test_weights_in_external_files(tmp_path: Path) -> None:
    net = Builder()
    net.node("Gemm", ["x", net.weight("w", 30, 40)], "y")
    model = net.model({"x": ("n", 30)}, {"y": ("n", 40)})
    path = tmp_path / "model.onnx"
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    found = LinearSums(load_graph(path), {"x": (30,), "y": (40,)}).of("y")
    weights = numpy_helper.to_array(whole.graph.initializer[0])
    np.testing.assert_allclose(
        found.terms[Leaf("x", "product")], weights.astype(np.float64).sum(axis=1)
    )


def test_what_is_no_linear_function_of_something_shorter(tmp_path: Path) -> None:
    net = Builder()
    net.node("Relu", ["x"], "relu")
    net.node("Gemm", ["x", net.weight("turned", 3, 40)], "rows", transA=1)
    net.node("MatMul", ["x", "relu"], "product")
    net.node("Gemm", ["x", net.weight("few", 300, 40)], "few_out")
    net.node("Gemm", ["x", "relu"], "by_input", transB=1)
    half = numpy_helper.from_array(np.ones((300, 300), np.float16), "half")
    net.weights.append(half)
    net.node("Cast", ["x"], "x16", to=TensorProto.FLOAT16)
    net.node("MatMul", ["x16", "half"], "by_half")
    model = net.model({"x": ("n", 300)}, {"relu": ("n", 300)})
    shapes = {"x": (300,), "relu": (300,), "rows": (40,), "product": (300,), "few_out": (40,)}
    shapes |= {"by_input": (300,), "by_half": (300,)}
    sums = LinearSums(load_graph(saved(model, tmp_path / "m.onnx")), shapes)
    for tensor in shapes:
        assert read_of(sums.of(tensor)) == {(tensor, "product")}


def test_an_add_that_repeats_its_summand(tmp_path: Path) -> None:
    net = Builder()
    net.node("Gemm", ["x", net.weight("w", 16, 1)], "one")
    net.node("Add", ["one", net.weight("b", 40)], "gemm")
    net.node("Conv", ["p", net.weight("k", 1, 1, 3, 3)], "pixel")
    net.node("Add", ["pixel", net.weight("plane", 1, 1, 8, 8)], "conv")
    net.node("Relu", ["conv"], "relu")
    model = net.model({"x": ("n", 16), "p": ("n", 1, 3, 3)}, {"gemm": ("n", 40)})
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    shapes = {"x": (16,), "p": (1, 3, 3), "one": (1,), "gemm": (40,), "pixel": (1, 1, 1)}
    sums = LinearSums(graph, shapes | {"conv": (1, 8, 8), "relu": (1, 8, 8)})
    assert read_of(sums.of("gemm")) == {("gemm", "product")}
    assert read_of(sums.of("conv")) == {("conv", "planes")}


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
    values = every_value(model, {"x": x})
    sums = sums_of(model, tmp_path, values)
    expected = {
        "c1": {("x", "edges")},
        "n1": {("x", "edges")},
        "r1": {("r1", "planes")},
        "c2": {("r1", "planes")},
        "n2": {("r1", "planes")},
        "sum": {("r1", "planes")},
        "r2": {("r2", "planes")},
        "c3": {("r2", "windows")},
        "scaled": {("r2", "windows")},
        "shifted": {("r2", "windows")},
        "r3": {("r3", "planes")},
    }
    for tensor, read in expected.items():
        found = sums.of(tensor)
        assert read_of(found) == read
        assert_equal_sums(model, found, values, tensor)


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
    values = every_value(model, {"x": x})
    sums = sums_of(model, tmp_path, values)
    for tensor in ("joined", "normed", "scaled", "less"):
        found = sums.of(tensor)
        assert read_of(found) == {("r1", "planes"), ("c2", "planes")}
        assert_equal_sums(model, found, values, tensor)


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
    values = every_value(model, {"x": x})
    sums = sums_of(model, folder, values)
    network = open_network(folder / "model.onnx")
    probed = network.probe(Samples({"x": x}), bound=None, run=RunOptions(threads=1)).tensors
    tensors = select_tensors(network, probed, ["all"], keep="statistics", dtype=None)
    outputs = select_outputs(network, probed)
    inputs = {"x": (x.dtype, shape)}
    run = ExposedModel(network.graph, tensors, outputs, probed, inputs, RunOptions(threads=1))
    given = run.run([{"x": x}], 3).statistics["sum"]
    for tensor in tensors:
        flat = np.abs(values[tensor.name].astype(np.float64)).reshape(3, -1)
        truth = values[tensor.name].astype(np.float64).reshape(3, -1).sum(axis=1)
        # Sums of what cancels, as of a - a, are as wrong as what goes into them is large.
        scale = np.maximum(flat.sum(axis=1), 0.05 * flat.shape[1])
        found = followed(model, sums.of(tensor.name), values)
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
    sums = LinearSums(load_graph(saved(model, tmp_path / "m.onnx")), shapes)
    assert read_of(sums.of("t50")) == {("t0", "planes")}
    assert read_of(sums.of("t1499")) != {("t0", "planes")}


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
        {"x": (np.dtype(np.float32), (3, 40, 40))},
        run,
    )
    (column,) = [tensor.number for tensor in tensors if tensor.name == "normed"]
    whole = make_readable(network.graph.model, ["normed"])
    (values,) = Session(whole.model, network.graph.path, run).run(["normed"], samples.values)
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
    trained = every_value(net.model({"x": ("n", 3, 40, 40)}, {"c2": ("n", 16, 36, 36)}), {"x": x})
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
    found = LinearSums(load_graph(saved(model, tmp_path / "model.onnx")), shapes).of("first")
    assert found.terms.keys() == {Leaf("first", "planes")}
