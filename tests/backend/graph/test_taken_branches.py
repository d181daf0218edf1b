from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.branching import branch, branch_if, one_node
from support.networks import Builder, saved

from cnatool.backend.graph.graph import Graph, load_graph
from cnatool.backend.graph.inner_names import walk_graphs
from cnatool.backend.graph.outputs import list_exposable, make_readable
from cnatool.backend.graph.taken_branches import InlinedGraph, take_branches
from cnatool.backend.inputs import ConstantInput
from cnatool.backend.session import RunOptions, Session

SAMPLES = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)


def load(
    b: Builder, folder: Path, shape: tuple[int | str, ...] = ("n", 4), opset: int = 17
) -> Graph:
    model = b.model({"x": shape}, {"out": ()}, opset=opset)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return load_graph(saved(model, folder / "m.onnx"))


def check_equal(graph: Graph, inlined: Graph, feeds: dict[str, np.ndarray]) -> None:
    """Check that the outputs are those of the file, as ONNX Runtime computes them."""
    session = ort.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    names = list(graph.output_names)
    expected = session.run(names, feeds)
    for value, other in zip(
        expected, Session(inlined.model, inlined, RunOptions()).run(names, feeds), strict=True
    ):
        np.testing.assert_array_equal(value, other)


def values(graph: Graph, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    exposed = make_readable(graph.model, names)
    return Session(exposed.model, graph, RunOptions()).run(names, feeds)


def ifs(graph: Graph) -> int:
    places = walk_graphs(graph.model.graph)
    return sum(node.op_type == "If" for place in places for node in place.graph.node)


def taken(inlined: InlinedGraph) -> dict[str, str]:
    return {name: way for name, way, _ in inlined.branches}


@pytest.mark.parametrize("truth", [True, False])
def test_a_constant_condition_takes_its_branch(truth: bool, tmp_path: Path) -> None:
    b = Builder()
    weights = {"w": np.full(4, 3, np.float32)}
    scaled = [helper.make_node("Mul", ["x", "w"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    b.nodes.append(
        branch_if(
            b.constant("truth", np.array(truth)),
            ["if_out"],
            branch(scaled, ["y"], weights),
            one_node("Abs", ["x"], "y"),
            name="gate",
        )
    )
    b.node("Relu", ["if_out"], "out")
    graph = load(b, tmp_path)
    inlined = take_branches(graph)
    check_equal(graph, inlined.graph, {"x": SAMPLES})
    if truth:
        assert taken(inlined) == {"gate": "then_branch"}
        names = ["gate/then_branch/h", "gate/then_branch/y", "if_out", "out"]
        h, y, result, out = values(inlined.graph, names, {"x": SAMPLES})
        np.testing.assert_array_equal(h, 3 * SAMPLES)
        np.testing.assert_array_equal(y, -3 * SAMPLES)
        np.testing.assert_array_equal(result, y)
        np.testing.assert_array_equal(out, np.maximum(y, 0))
    else:
        assert taken(inlined) == {"gate": "else_branch"}
        (y,) = values(inlined.graph, ["gate/else_branch/y"], {"x": SAMPLES})
        np.testing.assert_array_equal(y, np.abs(SAMPLES))
    assert {n for node in inlined.graph.nodes for n in node.output} >= {"if_out", "out"}
    assert ifs(graph) == 1
    assert ifs(inlined.graph) == 0


def test_nested_ifs_are_named_by_where_they_lay(tmp_path: Path) -> None:
    # The inner If has no name; both branches use the same names, one of them the outer graph's.
    b = Builder()
    inner = branch_if("no", ["r"], one_node("Neg", ["h"], "y"), one_node("Abs", ["h"], "y"))
    outer = branch([helper.make_node("Exp", ["x"], ["h"]), inner], ["r"])
    b.constant("no", np.array(False))
    b.nodes.append(
        branch_if(b.constant("yes", np.array(True)), ["out"], outer, one_node("Neg", ["x"], "y"))
    )
    graph = load(b, tmp_path)
    inlined = take_branches(graph)
    assert taken(inlined) == {"out": "then_branch", "out/then_branch/r": "else_branch"}
    names = [name for node in inlined.graph.nodes for name in node.output]
    assert names == [
        "out/then_branch/h",
        "out/then_branch/r/else_branch/y",
        "out/then_branch/r",
        "out",
    ]
    check_equal(graph, inlined.graph, {"x": SAMPLES})


def test_names_are_unique(tmp_path: Path) -> None:
    b = Builder()
    yes = b.constant("yes", np.array(True))
    b.node("Exp", ["x"], "gate/then_branch/y")
    for name in ("a", "b"):
        node = branch_if(yes, [name], one_node("Neg", ["x"], "y"), one_node("Abs", ["x"], "y"))
        node.name = "gate"
        b.nodes.append(node)
    b.nodes[-1].name = "other"
    b.node("Sum", ["a", "b", "gate/then_branch/y"], "out")
    graph = load(b, tmp_path)
    inlined = take_branches(graph)
    names = [name for node in inlined.graph.nodes for name in node.output]
    assert len(names) == len(set(names))
    assert "gate/then_branch/y~" in names
    check_equal(graph, inlined.graph, {"x": SAMPLES})
    # Nodes that share a name are called by their results.
    for node in b.nodes[1:3]:
        node.name = "gate"
    shared = take_branches(load(b, tmp_path))
    assert taken(shared) == {"a": "then_branch", "b": "then_branch"}


def squeeze_if(axis: int) -> Builder:
    """What PyTorch exports for ``squeeze``: an If on the length of an axis."""
    b = Builder()
    b.node("Shape", ["x"], "shape")
    b.node("Gather", ["shape", b.constant("axis", np.array(axis))], "length")
    b.node("Equal", ["length", b.constant("one", np.array(1))], "is_one")
    b.constant("axes", np.array([axis]))
    squeezed, same = one_node("Squeeze", ["x", "axes"], "s"), one_node("Identity", ["x"], "i")
    b.nodes.append(branch_if("is_one", ["squeezed"], squeezed, same, name="squeeze"))
    b.node("Relu", ["squeezed"], "out")
    return b


@pytest.mark.parametrize(("length", "branch_taken"), [(1, "then_branch"), (4, "else_branch")])
def test_a_shape_without_samples_decides(length: int, branch_taken: str, tmp_path: Path) -> None:
    rows = SAMPLES[:, :length]
    declared = load(squeeze_if(1), tmp_path, ("n", length))
    assert taken(take_branches(declared)) == {"squeeze": branch_taken}
    (out,) = values(take_branches(declared).graph, ["out"], {"x": rows})
    np.testing.assert_array_equal(out, np.maximum(rows.squeeze(1) if length == 1 else rows, 0))
    # The same where the data decide the length.
    free = load(squeeze_if(1), tmp_path, ("n", "length"))
    assert taken(take_branches(free)) == {}
    inlined = take_branches(free, shapes={"x": (length,)})
    assert taken(inlined) == {"squeeze": branch_taken}
    check_equal(free, inlined.graph, {"x": rows})
    # An axis whose length is not known, because samples differ.
    assert take_branches(free, shapes={"x": (None,)}).graph is free


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_the_number_of_samples_decides_nothing(batch: int | str, tmp_path: Path) -> None:
    graph = load(squeeze_if(0), tmp_path, (batch, 4))
    assert take_branches(graph, shapes={"x": (4,)}).graph is graph


def test_products_with_the_number_of_samples_decide_nothing(tmp_path: Path) -> None:
    # The length of the axis is that of (n, 4) without the axis of samples, then times n.
    b = Builder()
    b.node("Reshape", ["x", b.constant("flat", np.array([-1]))], "flattened")
    b.node("Shape", ["flattened"], "shape")
    b.node("Equal", ["shape", b.constant("four", np.array([4]))], "is_four")
    neg, absolute = one_node("Neg", ["x"], "y"), one_node("Abs", ["x"], "y")
    b.nodes.append(branch_if("is_four", ["out"], neg, absolute))
    graph = load(b, tmp_path)
    assert take_branches(graph, shapes={"x": (4,)}).graph is graph


def test_a_reshape_that_keeps_the_samples_is_followed(tmp_path: Path) -> None:
    # (n, 4) is reshaped to (n, 2, 2) by its own number of samples; then the rank decides.
    b = Builder()
    b.node("Shape", ["x"], "shape")
    b.node("Slice", ["shape", *(b.constant(n, np.array([i])) for i, n in enumerate("st"))], "rows")
    b.node("Concat", ["rows", b.constant("rest", np.array([2, -1]))], "sizes", axis=0)
    b.node("Reshape", ["x", "sizes"], "cube")
    b.node("Shape", ["cube"], "cube_shape")
    b.node("Size", ["cube_shape"], "rank")
    b.node("Equal", ["rank", b.constant("three", np.array(3))], "is_three")
    neg, absolute = one_node("Neg", ["cube"], "y"), one_node("Abs", ["cube"], "y")
    b.nodes.append(branch_if("is_three", ["out"], neg, absolute, name="gate"))
    graph = load(b, tmp_path)
    inlined = take_branches(graph)
    assert taken(inlined) == {"gate": "then_branch"}
    check_equal(graph, inlined.graph, {"x": SAMPLES})


def rate_model(b: Builder) -> onnx.ModelProto:
    """Two networks in one, of which an input chooses one."""
    b.node("Equal", ["rate", b.constant("high", np.array(16000))], "is_high")
    b.nodes.append(
        branch_if(
            "is_high",
            ["out"],
            one_node("Gemm", ["x", b.weight("w", 4, 4)], "y"),
            one_node("Gemm", ["x", b.weight("v", 4, 4)], "y"),
            name="gate",
        )
    )
    model = b.model({"x": ("n", 4)}, {"out": ("n", 4)})
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, ()))
    return model


@pytest.mark.parametrize(("rate", "way"), [(16000, "then_branch"), (8000, "else_branch")])
def test_a_constant_input_decides(rate: int, way: str, tmp_path: Path) -> None:
    graph = load_graph(saved(rate_model(Builder()), tmp_path / "m.onnx"))
    assert take_branches(graph).graph is graph
    constant = ConstantInput("rate", np.array(rate), None)
    inlined = take_branches(graph, [constant])
    assert taken(inlined) == {"gate": way}
    assert inlined.branches[0].condition == "is_high"
    check_equal(graph, inlined.graph, {"x": SAMPLES, "rate": np.array(rate)})


def test_a_constant_with_a_row_for_each_sample_decides_nothing(tmp_path: Path) -> None:
    graph = load_graph(saved(rate_model(Builder()), tmp_path / "m.onnx"))
    constant = ConstantInput("rate", np.array([16000]), 0)
    assert take_branches(graph, [constant]).graph is graph


def test_an_initializer_that_is_also_an_input_counts_with_its_value(tmp_path: Path) -> None:
    # The tool never feeds such an input, and the runtime then takes the initializer.
    model = rate_model(Builder())
    model.graph.initializer.append(numpy_helper.from_array(np.array(16000), "rate"))
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    assert [value.name for value in graph.inputs] == ["x"]
    inlined = take_branches(graph)
    assert taken(inlined) == {"gate": "then_branch"}
    check_equal(graph, inlined.graph, {"x": SAMPLES})


def test_a_condition_on_the_samples_decides_nothing(tmp_path: Path) -> None:
    b = Builder()
    b.node("ReduceSum", ["x"], "sum", keepdims=0)
    b.node("Greater", ["sum", b.constant("zero", np.array(0, np.float32))], "positive")
    neg, absolute = one_node("Neg", ["x"], "y"), one_node("Abs", ["x"], "y")
    b.nodes.append(branch_if("positive", ["out"], neg, absolute))
    graph = load(b, tmp_path)
    assert take_branches(graph).graph is graph


def test_an_if_inside_a_loop_is_replaced_there(tmp_path: Path) -> None:
    b = Builder()
    b.constant("yes", np.array(True))
    neg, absolute = one_node("Neg", ["state"], "y"), one_node("Abs", ["state"], "y")
    halved = one_node("Mul", ["state", "half"], "y")
    copies = [
        branch_if("yes", ["halved"], halved, absolute, name="gate"),
        branch_if("flag", ["next"], one_node("Neg", ["halved"], "y"), neg, name="state_gate"),
        helper.make_node("Identity", ["go_on"], ["again"]),
        helper.make_node("Not", ["flag"], ["next_flag"]),
    ]
    kinds = {"flag": TensorProto.BOOL, "state": TensorProto.FLOAT}

    def value(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, () if kind != TensorProto.FLOAT else None)

    body = helper.make_graph(
        copies,
        "body",
        [
            value("i", TensorProto.INT64),
            value("go_on", TensorProto.BOOL),
            *(value(name, kind) for name, kind in kinds.items()),
        ],
        [
            value("again", TensorProto.BOOL),
            value("next_flag", TensorProto.BOOL),
            value("next", TensorProto.FLOAT),
        ],
    )
    b.constant("half", np.array(0.5, np.float32))
    b.constant("trips", np.array(3))
    b.constant("initial", np.array(True))
    b.nodes.append(
        helper.make_node(
            "Loop", ["trips", "yes", "initial", "x"], ["last_flag", "out"], name="loop", body=body
        )
    )
    graph = load(b, tmp_path)
    inlined = take_branches(graph)
    assert taken(inlined) == {"loop/body/gate": "then_branch"}
    assert inlined.branches[0].condition == ""
    (loop,) = inlined.graph.model.graph.node
    (inside,) = (attribute.g for attribute in loop.attribute if attribute.name == "body")
    assert [node.op_type for node in inside.node] == ["Mul", "Identity", "If", "Identity", "Not"]
    assert inside.node[0].output[0] == "gate/then_branch/y"
    check_equal(graph, inlined.graph, {"x": SAMPLES})


def test_a_body_may_use_the_names_of_another_one(tmp_path: Path) -> None:
    # Both branches of an If that stays hold an If of the same name, which goes.
    b = Builder()
    b.node("ReduceSum", ["x"], "sum", keepdims=0)
    b.node("Greater", ["sum", b.constant("zero", np.array(0, np.float32))], "positive")
    yes = b.constant("yes", np.array(True))

    def inner(operator: str) -> onnx.GraphProto:
        chosen = one_node(operator, ["x"], "y")
        return branch([branch_if(yes, ["z"], chosen, one_node("Exp", ["x"], "y"), "gate")], ["z"])

    b.nodes.append(branch_if("positive", ["out"], inner("Neg"), inner("Abs"), name="outer"))
    graph = load(b, tmp_path)
    inlined = take_branches(graph)
    assert taken(inlined) == {
        "outer/then_branch/gate": "then_branch",
        "outer/else_branch/gate": "then_branch",
    }
    assert {"outer/then_branch/gate/then_branch/y", "outer/else_branch/gate/then_branch/y"} <= set(
        inlined.graph.inner
    )
    for rows in (SAMPLES, -SAMPLES):
        check_equal(graph, inlined.graph, {"x": rows})


def test_large_weights_of_a_branch_are_held_once(tmp_path: Path) -> None:
    b = Builder()
    large = b.rng.normal(size=(4, 5000)).astype(np.float32)
    taken_branch = branch([helper.make_node("MatMul", ["x", "w"], ["y"])], ["y"], {"w": large})
    other = one_node("Abs", ["x"], "y")
    b.nodes.append(branch_if(b.constant("yes", np.array(True)), ["out"], taken_branch, other))
    graph = load(b, tmp_path)
    inlined = take_branches(graph).graph
    np.testing.assert_array_equal(inlined.weights["out/then_branch/w"], large)
    assert inlined.model.ByteSize() < 2000 < graph.model.ByteSize()
    check_equal(graph, inlined, {"x": SAMPLES})


def test_sequences_stay_in_their_if_where_nothing_copies_them(tmp_path: Path) -> None:
    def sequence(operator: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node(operator, ["x"], ["y"]),
            helper.make_node("SequenceConstruct", ["y"], ["s"]),
        ]
        kind = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, "branch", [], [kind])

    for opset, left in ((13, 1), (17, 0)):
        b = Builder()
        yes = b.constant("yes", np.array(True))
        b.nodes.append(branch_if(yes, ["rows"], sequence("Neg"), sequence("Abs")))
        b.node("SequenceAt", ["rows", b.constant("first", np.array(0))], "out")
        graph = load(b, tmp_path, opset=opset)
        inlined = take_branches(graph).graph
        assert ifs(inlined) == left
        check_equal(graph, inlined, {"x": SAMPLES})


def test_names_are_those_of_a_model_whose_ifs_stay(tmp_path: Path) -> None:
    # Nested Ifs, with and without names; once the condition is an input, once it is a constant.
    b = Builder()
    b.weight("w", 4, 4)
    inner = branch_if("gate", ["r"], one_node("Neg", ["h"], "y"), one_node("Abs", ["h"], "y"))
    deep = branch(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            branch_if("gate", ["s"], branch([inner], ["r"]), one_node("Exp", ["h"], "z"), "deep"),
        ],
        ["s"],
    )
    b.nodes.append(branch_if("gate", ["chosen"], deep, one_node("Neg", ["x"], "y"), "outer"))
    b.node("Relu", ["chosen"], "out")
    model = b.model({"x": ("n", 4)}, {"out": ("n", 4)})
    model.graph.input.append(helper.make_tensor_value_info("gate", TensorProto.BOOL, ()))
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    gate = ConstantInput("gate", np.array(True), None)
    inlined = take_branches(graph, [gate]).graph
    assert ifs(inlined) == 0
    names, kept = list_exposable(graph)[0], list_exposable(inlined)[0]
    assert kept == [name for name in names if "else_branch" not in name]
    feeds = {"x": SAMPLES, "gate": np.array(True)}
    exposed = make_readable(graph.model, kept, inner=graph.inner)
    expected = Session(exposed.model, graph, RunOptions()).run(exposed.outputs, feeds)
    for value, other in zip(expected, values(inlined, kept, feeds), strict=True):
        np.testing.assert_array_equal(value, other)


def test_a_branch_need_not_declare_that_it_returns_tensors(tmp_path: Path) -> None:
    b = Builder()
    yes = b.constant("yes", np.array(True))
    b.nodes.append(
        branch_if(yes, ["out"], one_node("Neg", ["x"], "y"), one_node("Abs", ["x"], "y"))
    )
    model = b.model({"x": ("n", 4)}, {"out": ()}, opset=13)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for attribute in model.graph.node[0].attribute:
        attribute.g.output[0].ClearField("type")
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    inlined = take_branches(graph).graph
    assert ifs(inlined) == 0
    check_equal(graph, inlined, {"x": SAMPLES})
