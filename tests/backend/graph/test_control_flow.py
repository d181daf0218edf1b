"""Tensors inside If, Loop and Scan: what they depend on, and how they are handed out.

The truth is the literal evaluation of a model in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import pytest
from support.control_flow import FLOWS, Flow, parse
from support.literal import literal_values, stack
from support.networks import saved

from cnatool.backend.graph.constants import Constants
from cnatool.backend.graph.control_flow import hand_out
from cnatool.backend.graph.graph import Graph, load_graph
from cnatool.backend.graph.layers import find_layers
from cnatool.backend.graph.outputs import list_exposable, make_readable
from cnatool.backend.session import RunOptions, Session
from cnatool.errors import ModelError

ONES = np.ones((3, 3), np.float32)
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


def load(model: onnx.ModelProto, folder: Path) -> Graph:
    return load_graph(saved(model, folder / "model.onnx"))


def read(graph: Graph, names: list[str], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a model and return tensors of it, wherever they lie."""
    kinds = {name: graph.inner[name].kind for name in names if name in graph.inner}
    exposed = make_readable(graph.model, names, kinds, graph.inner)
    values = Session(exposed.model, graph, RunOptions()).run(exposed.outputs, feeds)
    return dict(zip(names, values, strict=True))


def given(graph: Graph) -> set[str]:
    """Name what subgraphs are given."""
    return {node.output[0] for node in graph.nodes if node.op_type == "SubgraphInput"}


@pytest.mark.parametrize("make", FLOWS)
def test_what_is_handed_out_is_what_the_bodies_compute(
    make: Callable[[], Flow], tmp_path: Path
) -> None:
    flow = make()
    graph = load(flow.model, tmp_path)
    exposable, skipped = list_exposable(graph)
    model = onnx.inliner.inline_local_functions(flow.model)
    seen = set()
    for row in range(2):
        feeds = {name: x[row : row + 1] for name, x in flow.feeds.items()}
        values = literal_values(model, feeds)
        listed = {*exposable, *(tensor.name for tensor in skipped)}
        assert (values.keys() - flow.feeds.keys()) & graph.producer.keys() <= listed | given(graph)
        names = []
        for name in exposable:
            arrays = [value for value in values.get(name, {}).values() if value is not None]
            operators = [body.operator for body in graph.bodies(name)]
            every = "If" not in operators or operators[0] == "If"  # iteration, or none
            if arrays and every and len({np.shape(array) for array in arrays}) == 1:
                names.append(name)
        for name, value in read(graph, names, feeds).items():
            expected = stack(values[name])
            assert value.shape == expected.shape, name
            np.testing.assert_allclose(value, expected, rtol=2e-2, atol=1e-4, err_msg=name)
        seen.update(names)
    assert seen & graph.inner.keys()


def test_a_branch_that_does_not_run_gives_no_elements(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      zero = Constant<value = float {0.0}>()
      trips = Constant<value = int64 {2}>()
      total = ReduceSum<keepdims=0>(x)
      cond = Greater(total, zero)
      [choose] y = If (cond) <
        then_branch = a () => (float[n,3] last) {
          [repeat] last = Loop (trips, , x) <body = b (int64 i, bool go, float[n,3] s)
            => (bool on, float[n,3] t) { on = Identity(go)  t = MatMul(s, w) }>
        },
        else_branch = c () => (float[n,3] n) { n = Neg(x)  size = Size(x)  whole = Cast<to=11>(n) }
      >
    }"""
    graph = load(parse(text, w=ONES), tmp_path)
    inside, other = "choose/then_branch/repeat/body/t", "choose/else_branch/whole"
    taken = read(graph, [inside, other], {"x": abs(ROWS)})
    assert taken[inside].shape == (2, 2, 3)
    np.testing.assert_array_equal(taken[inside][0], abs(ROWS) @ ONES)
    assert (taken[other].shape, taken[other].dtype) == ((0, 0), np.float64)
    left = read(graph, [inside, other], {"x": -abs(ROWS)})
    assert (left[inside].size, left[inside].dtype) == (0, np.float32)
    np.testing.assert_array_equal(left[other], abs(ROWS))
    assert graph.conditional == {name for name in graph.inner if name.startswith("choose/")}
    names = [tensor.name for tensor in list_exposable(graph)[1]]
    assert "choose/else_branch/size" in names  # arithmetic on shapes


def test_a_scan_keeps_the_axes_of_its_own_results(tmp_path: Path) -> None:
    text = """
    g (float[n,4,3] x) => (float[n,3] last, float[n,3,4] states) {
      start = ReduceMax<axes=[1], keepdims=0>(x)
      [time] last, states = Scan (start, x) <
        num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
        scan_output_axes = [-1], scan_output_directions = [1],
        body = step (float[n,3] s, float[n,3] slice) => (float[n,3] s2, float[n,3] shown) {
          mixed = Add(s, slice)  s2 = Tanh(mixed)  shown = Identity(s2)
        }
      >
    }"""
    graph = load(parse(text), tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    names = ["time/body/s2", "time/body/shown", "states", "last"]
    found = read(graph, names, {"x": x})
    state, steps = x.max(axis=1), []
    for t in (3, 2, 1, 0):
        state = np.tanh(state + x[:, t])
        steps.append(state)
    np.testing.assert_allclose(found["time/body/s2"], np.stack(steps), rtol=1e-5)
    np.testing.assert_array_equal(found["time/body/shown"], found["time/body/s2"])
    np.testing.assert_allclose(found["states"], np.stack(steps[::-1], axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(found["last"], found["time/body/s2"][-1])


def test_tensors_of_ones_own_are_handed_out(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      trips = Constant<value = int64 {3}>()
      [repeat] y = Loop (trips, , x) <body = b (int64 i, bool go, float[n,3] s)
        => (bool on, float[n,3] t) {
          on = Identity(go)
          two = Constant<value = int64 {2}>()
          rest = Mod(i, two)
          odd = Cast<to=9>(rest)
          [odd] t = If (odd) <
            then_branch = a () => (float[n,3] u) { u = Neg(s) },
            else_branch = c () => (float[n,3] v) { v = Exp(s) }
          >
      }>
    }"""
    graph = load(parse(text, nothing=np.full((2, 3), 7)), tmp_path)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    inner = graph.inner["repeat/body/odd/then_branch/u"]
    hand_out(model, [replace(inner, name="mine", absent="nothing")])
    model.graph.output.append(onnx.ValueInfoProto(name="mine"))
    (mine,) = Session(model, graph, RunOptions()).run(["mine"], {"x": ROWS})
    seven = np.full((2, 3), 7)
    np.testing.assert_allclose(mine, [seven, -np.exp(ROWS), seven], rtol=1e-5)


def test_names_are_unique_and_bodies_may_be_empty(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      trips = Constant<value = int64 {2}>()
      zero = Constant<value = float {0.0}>()
      least = ReduceMin<keepdims=0>(x)
      cond = Less(least, zero)
      h = Neg(x)
      z = If (cond) <
        then_branch = same () => (float[n,3] a) <float[1] a = {1.0}> { },
        else_branch = same () => (float[n,3] b) { b = Sin(h) }
      >
      y, all = Loop (trips, , z) <body = same (int64 i, bool go, float[n,3] a)
        => (bool go, float[n,3] b, float[n,3] a) { b = Relu(a) }>
      w = Loop (trips, , y) <body = same (int64 i, bool go, float[n,3] a)
        => (bool go, float[n,3] a) { }>
    }"""
    model = parse(text)
    # What a tensor in a body would be named, another one is named already.
    model.graph.node[4].output[0] = "y/body/b"
    model.graph.node[5].attribute[1].g.node[0].input[0] = "y/body/b"
    graph = load(model, tmp_path)
    assert set(graph.inner) == {"z/else_branch/b", "y/body/b~"}
    names, skipped = list_exposable(graph)
    assert names == [
        "least", "cond", "y/body/b", "z/else_branch/b", "z", "y/body/b~", "y", "all", "w",
    ]  # fmt: skip
    assert [tensor.name for tensor in skipped] == ["trips", "zero"]
    assert Constants(graph).value("z/then_branch/a") == 1
    found = read(graph, names, {"x": abs(ROWS)})
    sine = np.sin(-abs(ROWS))
    np.testing.assert_allclose(found["z/else_branch/b"], sine, rtol=1e-5)
    relu = np.maximum(found["z"], 0)
    np.testing.assert_array_equal(found["y/body/b~"], [relu, relu])
    np.testing.assert_array_equal(found["all"], [found["z"], relu])
    np.testing.assert_array_equal(found["w"], relu)


def test_what_flows_around_a_loop_is_followed(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[3,3] last, int64 count, float[3,3] kept, float[k,3,3] every) {
      trips = Constant<value = int64 {3}>()
      none = Constant<value = int64 {0}>()
      last, other, count, kept, every = Loop (trips, , start, start, none, weights) <
        body = b (int64 i, bool go, float[3,3] late, float[3,3] early, int64 k, float[3,3] kept)
          => (bool on, float[3,3] early2, float[3,3] fed, int64 k2,
            float[3,3] same, float[3,3] at) {
          on = Identity(go)
          early2 = Identity(early)
          flat = ReduceSum(x)
          fed = Mul(flat, weights)
          k2 = Add(k, i)
          same = Identity(kept)
          half = Constant<value = float {0.5}>()
          at = Mul(kept, half)
          twice = Mul(kept, two)
          by = Cast<to=1>(k2)
          changing = Mul(kept, by)
          product = MatMul(late, twice)
          other = MatMul(late, changing)
        }
      >
    }"""
    graph = load(parse(text, start=ONES, weights=2 * ONES, two=np.array(2)), tmp_path)
    loop = "last/body/"
    # It is the second state of the iteration before, which reads the input.
    assert {"last", "other", f"{loop}late", f"{loop}early"} <= graph.dynamic
    assert not {"count", "kept", "every", f"{loop}k", f"{loop}at"} & graph.dynamic
    constants = Constants(graph)
    np.testing.assert_array_equal(constants.value(f"{loop}twice"), 4 * ONES)
    np.testing.assert_array_equal(constants.value(f"{loop}at"), ONES)
    with pytest.raises(ModelError, match="Loop, which computes it, depends on the input"):
        constants.value("count")
    assert constants.source(f"{loop}same") == "weights"
    # Whatever the input is, iterations differ.
    assert not any(map(constants.has, (f"{loop}k", f"{loop}k2", f"{loop}by", f"{loop}changing")))
    reasons = {tensor.name: tensor.reason for tensor in list_exposable(graph)[1]}
    assert reasons[f"{loop}k2"] == "depends on the iteration or an input's shape alone"
    assert reasons[f"{loop}at"] == reasons["count"] == "constant"
    layers = find_layers(graph).layers
    assert [layer.linear for layer in layers] == [f"{loop}product", f"{loop}other"]


def test_layers_of_bodies(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y, float[n,3] state) {
      zero = Constant<value = float {0.0}>()
      trips = Constant<value = int64 {2}>()
      first = MatMul(x, w)
      total = ReduceSum<keepdims=0>(x)
      cond = Greater(total, zero)
      [loop] state = Loop (trips, , first) <body = b (int64 i, bool go, float[n,3] s)
        => (bool on, float[n,3] r) {
          on = Identity(go)
          bias = Constant<value = float[3] {1.0, 2.0, 3.0}>()
          biased = Add(first, bias)
          p = MatMul(s, w)
          q = Add(p, bias)
          both = Add(q, biased)
          r = Relu(both)
      }>
      y = If (cond) <
        then_branch = t () => (float[n,3] u) <float[3,3] v = {1,2,3,4,5,6,7,8,9}> {
          h = MatMul(state, v)  e = Relu(h)  l = MatMul(e, v)  u = Softmax(l)
        },
        else_branch = f () => (float[n,3] k) { k = Neg(state) }
      >
    }"""
    graph = load(parse(text, w=ONES), tmp_path)
    layers = find_layers(graph).layers
    assert [(r.linear, r.preactivation, r.path) for r in layers] == [
        ("first", "first", 1),
        ("loop/body/q", "loop/body/q", 2),
        ("y/then_branch/h", "y/then_branch/h", 3),
        ("y/then_branch/l", "y/then_branch/l", 4),
    ]
    assert [r.output for r in layers] == [False, False, False, True]
    assert [r.leads_to for r in layers] == [(), (), (), ("y",)]
    assert [r.per_sample for r in layers] == [True, True, False, False]
    weights = Constants(graph).value("y/then_branch/v")
    np.testing.assert_array_equal(weights, np.arange(1, 10, dtype=np.float32).reshape(3, 3))


def test_the_last_layer_of_a_loop_leads_to_its_result(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[k,n,3] logits, float[n,3] state) {
      trips = Constant<value = int64 {2}>()
      [loop] state, logits = Loop (trips, , start) <body = b (int64 i, bool go, float[n,3] s)
        => (bool on, float[n,3] r, float[k,n,3] o) {
          on = Identity(go)  p = MatMul(s, w)  z = Add(p, x)  r = Tanh(z)  o = MatMul(r, w)
      }>
    }"""
    layers = find_layers(load(parse(text, w=ONES, start=ROWS), tmp_path)).layers
    assert [(r.linear, r.path, r.leads_to) for r in layers] == [
        ("loop/body/p", 1, ()),
        ("loop/body/o", 2, ("logits",)),
    ]


def test_shortcuts_inside_a_body_and_around_a_loop(tmp_path: Path) -> None:
    text = """
    g (float[n,5,3] x) => (float[n,3] y) {
      start = ReduceMean<axes=[1], keepdims=0>(x)
      [cell] last, all = Scan (start, x) <
        num_scan_inputs = 1, scan_input_axes = [1],
        body = b (float[n,3] h, float[n,3] slice) => (float[n,3] h2, float[n,3] o) {
          a = MatMul(slice, w)  r = Relu(a)  c = MatMul(r, w)
          recurrent = MatMul(h, w)
          total = Add(c, recurrent)
          h2 = Tanh(total)
          d = MatMul(h2, w)  e = Relu(d)  f = MatMul(e, w)
          bypass = MatMul(h2, w)
          o = Add(f, bypass)
        }
      >
      y = MatMul(last, w)
    }"""
    layers = find_layers(load(parse(text, w=ONES), tmp_path)).layers
    assert [layer.linear.removeprefix("cell/body/") for layer in layers] == [
        "a", "c", "recurrent", "d", "f", "bypass", "y",
    ]  # fmt: skip
    # What was a state of the iteration before bypasses nothing, though all comes from the input.
    assert [layer.linear for layer in layers if layer.shortcut] == ["cell/body/bypass"]
    assert [layer.path for layer in layers] == [1, 2, 1, 3, 4, 3, 3]


def test_what_cannot_be_handed_out_has_its_reason(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      zero = Constant<value = float {0.0}>()
      total = ReduceSum<keepdims=0>(x)
      cond = Greater(total, zero)
      y = If (cond) <
        then_branch = t () => (float[n,3] u) {
          s = SequenceConstruct(x, x)  u = ConcatFromSequence<axis=0>(s)
        },
        else_branch = f () => (float[n,3] k) {
          c = CastLike(x, zero)  k = Neg(c)
        }
      >
    }"""
    graph = load(parse(text), tmp_path)
    names, skipped = list_exposable(graph)
    assert {tensor.name: tensor.reason for tensor in skipped} == {
        "zero": "constant",
        "y/then_branch/s": "a sequence, not an array of numbers",
    }
    assert read(graph, names, {"x": abs(ROWS)})["y/then_branch/u"].shape == (4, 3)


SCAN = """
g (float[n,4,3] x, float[n,3] start) => (float[n,3] last) {
  last = Scan (, start, x) <num_scan_inputs = 1,
    body = b (float[3] s, float[3] slice) => (float[3] r) { m = Add(s, slice)  r = Tanh(m) }>
}"""
BRANCH = """
g (float[n,3] x, bool cond) => (float[n,3] y) {
  y = If (cond) <
    then_branch = t () => (float[n,3] u) { u = Neg(x) },
    else_branch = f () => (float[n,3] k) { k = Abs(x) }
  >
}"""
REPEATED = """
g (float[n,3] x) => (float[n,3] y) {
  trips = Constant<value = int64 {2}>()
  y = Loop (trips, , x) <body = b (int64 i, bool go, float[n,3] s)
    => (bool on, float[n,3] r) { on = Identity(go)  r = Tanh(s) }>
}"""


@pytest.mark.parametrize(
    ("text", "last", "name"),
    [(SCAN, 8, "last/body/r"), (BRANCH, 10, "y/then_branch/u"), (REPEATED, 7, "y/body/r")],
)
def test_operators_of_old_opsets_stay_closed(
    text: str, last: int, name: str, tmp_path: Path
) -> None:
    graph = load(parse(text, opset=last), tmp_path)
    reasons = {tensor.name: tensor.reason for tensor in list_exposable(graph)[1]}
    assert reasons[name].endswith(f": exposed since opset {last + 1}")
    # They decide nothing by the values of the data, but where they have a condition.
    assert bool(graph.decided) == (text is BRANCH)
    if text is not SCAN:
        assert name in list_exposable(load(parse(text, opset=last + 1), tmp_path))[0]


def test_layers_inside_an_operator_that_only_it_knows(tmp_path: Path) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      h = MatMul(x, w)
      y = local.Repeat (h) <body = b (float[n,3] s) => (float[n,3] r) {
        p = MatMul(s, w)  r = Relu(p)
      }>
    }"""
    graph = load(parse(text, w=ONES), tmp_path)
    assert [layer.linear for layer in find_layers(graph).layers] == ["h", "y/body/p"]
    names, skipped = list_exposable(graph)
    assert names == ["h", "y"]
    reason = "inside Repeat: the operator cannot return more"
    assert {tensor.name: tensor.reason for tensor in skipped} == {
        "y/body/p": reason,
        "y/body/r": reason,
    }


def test_a_state_that_is_returned_as_another_one(tmp_path: Path) -> None:
    """The second state never changes, so it is ``x``, and becomes the first."""
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      trips = Constant<value = int64 {2}>()
      [repeat] y, same = Loop (trips, , start, x) <
        body = step (int64 i, bool go, float[n,3] a, float[n,3] b)
          => (bool on, float[n,3] b, float[n,3] kept) {
          on = Identity(go)
          kept = Identity(b)
          h = MatMul(a, w)
        }
      >
    }"""
    graph = load(parse(text, start=np.zeros((1, 3)), w=ONES), tmp_path)
    assert "repeat/body/h" in graph.dynamic
    assert find_layers(graph).layers[0].linear == "repeat/body/h"
