"""Dumps of models with If and Loop: interrupted ones, parts, and what is said of branches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper
from support.control_flow import Flow, branch_of_batch, branching, if_same_shapes, nested, parse
from support.dumps import commit_often, same_arrays
from support.networks import saved
from support.notes import Notes

import cnatool
from cnatool.errors import BackendError, MetricError

ROWS = 130
OVERRIDES = {"include_output": True}


def more_rows(flow: Flow) -> Flow:
    """Repeat a flow's samples, each time otherwise, so that several commits are made."""
    x = np.resize(flow.feeds["x"], (ROWS, *flow.feeds["x"].shape[1:]))
    return Flow(flow.name, flow.model, {"x": np.roll(x, 1, axis=-1) * 0.9}, flow.alone)


def write(flow: Flow, folder: Path) -> tuple[Path, Path]:
    np.savez(folder / "data.npz", **flow.feeds)
    return saved(flow.model, folder / "model.onnx"), folder / "data.npz"


@pytest.mark.parametrize(
    ("make", "keep"),
    [(nested, "statistics"), (if_same_shapes, "statistics"), (if_same_shapes, "full")],
)
@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_interrupted_and_in_parts(
    make: Any, keep: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    flow = more_rows(make())
    inputs = write(flow, tmp_path)
    options = {"batch_size": 1 if flow.alone else 16, "keep": keep}
    whole = cnatool.dump(*inputs, tmp_path / f"whole-{name}", **options)
    path = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(*inputs, path, observer=Notes("all", 70), **options)
    same_arrays(cnatool.dump(*inputs, path, resume=True, **options).path, whole.path)
    parts = [
        cnatool.dump(*inputs, tmp_path / f"{k}-{name}", part=(k, 2), **options).path for k in (1, 2)
    ]
    merged = cnatool.merge(parts, tmp_path / f"merged-{name}")
    for statistic in whole.record.statistics:
        np.testing.assert_array_equal(
            merged.splits["all"].statistics(statistic)[:],
            whole.splits["all"].statistics(statistic)[:],
        )


def dump_branching(folder: Path, notes: Notes | None = None, **options: Any) -> cnatool.Store:
    inputs = write(branching(), folder)
    return cnatool.dump(*inputs, folder / "s.zarr", batch_size=1, observer=notes, **options)


def test_layers_in_a_branch_are_left_out_of_scores_and_named(tmp_path: Path) -> None:
    notes = Notes()
    store = dump_branching(tmp_path, notes)
    names = [layer.linear for layer in store.layers]
    assert names == ["first", "choose/then_branch/inside", "repeat/body/again", "logits"]
    assert [layer.per_sample for layer in store.layers] == [True, False, True, True]
    said = (
        "1 layer, first 'choose/then_branch/inside', is in a branch that only some samples "
        "take: scores leave it out"
    )
    assert said in notes.texts
    result = cnatool.score(store, overrides=OVERRIDES)
    assert [layer.name for layer in result.layers] == ["first", "repeat/body/again", "logits"]
    assert said in result.notes
    # β from whole tensors; the layer of a loop counts with the sum over its iterations.
    split = store.splits["all"]
    sums = [
        split.activations(name)[:].astype(np.float64).reshape(len(split), -1).sum(axis=1)
        for name in ("first", "repeat/body/again", "logits")
    ]
    beta = cnatool.score_samples(store, overrides=OVERRIDES)["beta"].to_numpy()
    np.testing.assert_allclose(beta, (sums[2] - sums[0]) / 2, rtol=1e-5, atol=1e-6)


def test_tensors_in_a_branch_are_no_layers_by_another_rule(tmp_path: Path) -> None:
    store = dump_branching(tmp_path, keep="statistics")
    result = cnatool.score(store, overrides={"layers": "all", **OVERRIDES})
    assert "choose/then_branch/inside" not in [layer.name for layer in result.layers]
    result = cnatool.score(store, overrides={"layers": "*inside,first,logits", **OVERRIDES})
    assert [layer.name for layer in result.layers] == ["first", "logits"]
    named = {"layers": "choose/then_branch/inside,first,logits", **OVERRIDES}
    with pytest.raises(MetricError, match="'choose/then_branch/inside' is in a branch that only"):
        cnatool.score(store, overrides=named)


def test_counts_tell_which_samples_take_a_branch(tmp_path: Path) -> None:
    store = dump_branching(tmp_path, keep="statistics")
    taken = branching().feeds["x"].sum(axis=1) > 3
    counts = store.splits["all"].statistics("count")[:]
    for branch, expected in (("then", taken), ("else", ~taken)):
        tensors = [t for t in store.tensors if t.name.startswith(f"choose/{branch}_branch/")]
        assert tensors
        assert all(tensor.conditional for tensor in tensors)
        for tensor in tensors:
            np.testing.assert_array_equal(counts[:, tensor.number], np.where(expected, 6, 0))


@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_a_branch_that_the_size_of_the_batch_decides_about(tmp_path: Path, keep: str) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      shape = Shape<start=0, end=1>(x)
      one = Constant<value = int64[1] {1}>()
      alone = Equal(shape, one)
      [choose] y = If (alone) <
        then_branch = t () => (float[n,3] a) { a = Neg(x) },
        else_branch = e () => (float[n,3] b) { h = MatMul(x, w)  b = Relu(h) }
      >
    }"""
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    flow = Flow("if on the batch", parse(text, w=np.eye(3)), {"x": x})
    notes = Notes()
    store = cnatool.dump(
        *write(flow, tmp_path), tmp_path / "s.zarr", batch_size=2, keep=keep, observer=notes
    )
    # The last batch has one sample, which takes the other branch.
    split, number = store.splits["all"], store.tensor("choose/else_branch/h").number
    assert store.tensors[number].conditional
    np.testing.assert_array_equal(split.statistics("count")[:][:, number], [3, 3, 3, 3, 0])
    sums = [*x[:4].sum(axis=1), 0]
    np.testing.assert_allclose(split.statistics("sum")[:][:, number], sums, rtol=1e-5)
    assert any("depend on the other samples of a batch" in text for text in notes.texts)


def test_branches_of_different_shapes(tmp_path: Path) -> None:
    """Those of a later batch fit the store only if each sample has a batch of its own."""
    text = """<ir_version: 9, opset_import: ["": 18]>
    g (float[n, 3] x) => (float[n, k] y) <float zero = {0}> {
        m = ReduceMean <keepdims = 0> (x)
        c = Greater(m, zero)
        y = If (c) <
            then_branch = then () => (float[n, 6] twice) { twice = Concat <axis = 1> (x, x) },
            else_branch = else () => (float[n, 3] less) { less = Neg(x) }
        >
    }"""
    path = saved(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)
    np.savez(tmp_path / "x.npz", x=x)
    options: dict[str, Any] = {"scale": 1.0, "overwrite": True}
    for batch_size in (2, None):
        options["batch_size"] = batch_size
        with pytest.raises(BackendError, match="`batch_size=1` decides for each sample") as info:
            cnatool.dump(path, tmp_path / "x.npz", tmp_path / "s.zarr", **options)
        assert "may do" not in str(info.value)
    options["batch_size"] = 1
    store = cnatool.dump(path, tmp_path / "x.npz", tmp_path / "s.zarr", **options)
    got = store.splits["all"].activations("y")[:]
    for row, sample in zip(got, x, strict=True):
        expected = np.concatenate([sample, sample]) if sample.mean() > 0 else -sample
        np.testing.assert_array_equal(row, expected)


def test_branches_in_a_branch_that_no_sample_takes(tmp_path: Path) -> None:
    """ONNX Runtime crashes if it inlines these, so they are chosen by inputs, not by constants."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[n, 3] x) => (float[n, 3] y) <int64 one = {1}, bool true = {1}> {
        h = Identity(x)
        mean = ReduceMean <keepdims = 0> (h)
        zero = Constant <value = float {0.0}> ()
        c = Greater(mean, zero)
        y = If (c) <
            then_branch = t () => (float[n, 3] positive) { positive = Identity(x) },
            else_branch = e () => (float[n, 3] negative) {
                inner_mean = ReduceMean <keepdims = 0> (h)
                d = Greater(inner_mean, zero)
                inner = If (d) <
                    then_branch = tt () => (float[n, 3] never) {
                        last, all = Loop (one, true, h) <
                            body = b (int64 i, bool e, float[n, 3] s)
                            => (bool e2, float[n, 3] s2, float[n, 3] step) {
                                e2 = Identity(e)
                                copy = Identity(x)
                                s2 = Identity(copy)
                                step = Neg(s2)
                            }
                        >
                        never = Identity(x)
                    },
                    else_branch = ee () => (float[n, 3] minus) { minus = Neg(x) }
                >
                negative = Identity(inner)
            }
        >
    }"""
    path = saved(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    x = np.abs(np.random.default_rng(0).normal(size=(8, 3))).astype(np.float32) + 0.1
    x[5:] *= -1
    np.savez(tmp_path / "x.npz", x=x)
    script = "import sys, cnatool; cnatool.dump(*sys.argv[1:], scale=1.0, batch_size=1)"
    store = tmp_path / "s.zarr"
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "x.npz"), str(store)]
    # In a process of its own, which a crash ends.
    assert subprocess.run(command, check=False).returncode == 0
    split = cnatool.open(store).splits["all"]
    minus = split.activations("y/else_branch/inner/else_branch/minus")[:]
    assert [len(rows) for rows in minus] == [0] * 5 + [3] * 3
    np.testing.assert_array_equal(np.concatenate([*minus[5:]]), -x[5:].ravel())
    np.testing.assert_array_equal(split.activations("y")[:], np.abs(x))


def test_a_branch_of_the_first_iterations_of_a_loop_over_samples(tmp_path: Path) -> None:
    """All samples of the probe take it, and later ones of a larger batch do not."""
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      shape = Shape(x)
      zero = Constant<value = int64 {0}>()
      three = Constant<value = int64 {3}>()
      yes = Constant<value = bool {1}>()
      count = Gather(shape, zero)
      [samples] y = Loop (count, yes) <
        body = one (int64 i, bool go) => (bool on, float[3] row) {
          on = Identity(go)
          taken = Gather(x, i)
          first = Less(i, three)
          [choose] row = If (first) <
            then_branch = t () => (float[3] a) { a = Neg(taken) },
            else_branch = e () => (float[3] b) { b = Identity(taken) }
          >
        }
      >
    }"""
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    inputs = write(Flow("first samples", parse(text), {"x": x}), tmp_path)
    with pytest.raises(BackendError, match="'samples/body/choose/then_branch/a' has 0 elements"):
        cnatool.dump(*inputs, tmp_path / "l.zarr", batch_size=4, keep="statistics")
    store = cnatool.dump(*inputs, tmp_path / "s.zarr", batch_size=2, keep="statistics")
    number = store.tensor("samples/body/choose/then_branch/a").number
    sums = store.splits["all"].statistics("sum")[:][:, number]
    np.testing.assert_allclose(sums, -x.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_loop_that_never_runs(tmp_path: Path, batch_size: int) -> None:
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      never = Constant<value = int64 {0}>()
      [repeat] y = Loop (never, , x) <
        body = step (int64 i, bool go, float[n,3] s) => (bool on, float[n,3] r) {
          on = Identity(go)
          r = Tanh(s)
        }
      >
    }"""
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    inputs = write(Flow("no iterations", parse(text), {"x": x}), tmp_path)
    store = cnatool.dump(*inputs, tmp_path / "s.zarr", batch_size=batch_size)
    assert [tensor.name for tensor in store.tensors] == ["y"]
    assert "repeat/body/r" in [tensor.name for tensor in store.record.skipped]


def test_loops_in_a_scan_that_declare_no_shapes(tmp_path: Path) -> None:
    """One of them never runs."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
    g (float[n, 3] x) => (float[n, 3] y)
    <int64 zero = {0}, int64 two = {2}, bool true = {1}, int64[1] second = {1}> {
        steps = Unsqueeze(x, second)
        y = Scan <num_scan_inputs = 1, scan_input_axes = [1], body = b
            (float[n, 3] s, float[n, 3] step) => (float[n, 3] s2) {
                never = Loop (zero, true, s) <body = bb
                    (int64 i, bool c, float[n, 3] v) => (bool c2, float[n, 3] v2) {
                        c2 = Identity(c)
                        v2 = Neg(v)
                    }>
                twice = Loop (two, true, never) <body = bc
                    (int64 j, bool d, float[n, 3] w) => (bool d2, float[n, 3] w2) {
                        d2 = Identity(d)
                        bent = Sin(w)
                        w2 = Add(bent, step)
                    }>
                behind = Cos(twice)
                s2 = Tanh(behind)
            }
        > (x, steps)
    }""")
    (scan,) = [node for node in model.graph.node if node.op_type == "Scan"]
    (outer,) = [each.g for each in scan.attribute if each.HasField("g")]
    for loop in outer.node[:2]:
        for value in (*loop.attribute[0].g.input[2:], *loop.attribute[0].g.output[1:]):
            value.type.tensor_type.ClearField("shape")
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    path = saved(model, tmp_path / "net.onnx")
    store = cnatool.dump(path, tmp_path / "x.npy", tmp_path / "s.zarr", scale=1.0)
    split = store.splits["all"]
    first = np.sin(x)
    expected = {"bent": [first, np.sin(first + x)], "behind": [np.cos(np.sin(first + x) + x)]}
    for name, values in (("twice/body/bent", "bent"), ("behind", "behind")):
        got = split.activations(f"y/body/{name}")[:]
        steps = np.stack(expected[values], axis=1)
        np.testing.assert_allclose(got.reshape(steps.shape), steps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trips", [0, 1])
def test_a_sequence_that_grows_as_often_for_all_samples_of_the_probe(
    trips: int, tmp_path: Path
) -> None:
    """A decoder's, in a loop: later samples are longer, and have rows as many."""
    text = """
    g (float[1,3] x, int64[1] steps) => (float[1,3] y) {
      second = Constant<value_ints = [1]>()
      two = Constant<value = int64 {2}>()
      start = Unsqueeze(x, second)
      y = Loop (two, , x) <
        body = outer (int64 i, bool go, float[1,3] s) => (bool on, float[1,3] r) {
          on = Identity(go)
          all = Loop (steps, , start) <
            body = inner (int64 j, bool c, float[1,k,3] old) => (bool c2, float[1,l,3] longer) {
              c2 = Identity(c)
              last = Gather<axis = 1>(old, minus)
              next = Sin(last)
              longer = Concat<axis = 1>(old, next)
            }
          >
          r = ReduceMean<axes = [1], keepdims = 0>(all)
        }
      >
    }"""
    model = parse(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "minus"))
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    steps = np.array([trips] * 4 + [2, 0, 3])
    np.savez(tmp_path / "d.npz", x=x, steps=steps)
    store = cnatool.dump(
        saved(model, tmp_path / "net.onnx"), tmp_path / "d.npz", tmp_path / "s.zarr",
        scale=1.0, batch_size=1, inputs={"x": "x", "steps": "steps"},
    )  # fmt: skip
    grown = store.splits["all"].activations("y/body/all")[:]
    for got, row, count in zip(grown, x, steps, strict=True):
        expected = [row]
        for _ in range(count):
            expected.append(np.sin(expected[-1]))
        both = np.stack([expected, expected])  # of two iterations
        np.testing.assert_allclose(got, both, rtol=1e-5, atol=1e-6)


def test_a_sequence_that_grows_around_another_loop_of_the_data(tmp_path: Path) -> None:
    model = parse("""
    g (float[1,3] x, int64[1] steps) => (float[1,k,3] all) {
      second = Constant<value_ints = [1]>()
      start = Unsqueeze(x, second)
      all = Loop (steps, , start) <
        body = outer (int64 i, bool go, float[1,k,3] old) => (bool on, float[1,l,3] longer) {
          on = Identity(go)
          bent = Loop (steps, , x) <
            body = inner (int64 j, bool c, float[1,3] s) => (bool c2, float[1,3] r) {
              c2 = Identity(c)
              r = Sin(s)
            }
          >
          next = Unsqueeze(bent, second)
          longer = Concat<axis = 1>(old, next)
        }
      >
    }""")
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    steps = np.array([1, 1, 1, 1, 0, 3])
    np.savez(tmp_path / "d.npz", x=x, steps=steps)
    store = cnatool.dump(
        saved(model, tmp_path / "net.onnx"), tmp_path / "d.npz", tmp_path / "s.zarr",
        scale=1.0, batch_size=1, inputs={"x": "x", "steps": "steps"},
    )  # fmt: skip
    grown = store.splits["all"].activations("all")[:]
    for got, row, count in zip(grown, x, steps, strict=True):
        bent = row
        for _ in range(count):
            bent = np.sin(bent)
        np.testing.assert_allclose(got, [row, *[bent] * count], rtol=1e-5, atol=1e-6)


def test_single_numbers_of_a_scan_in_a_branch(tmp_path: Path) -> None:
    text = """
    g (float[1,3] x) => (float[1,3] y) {
      zero = Constant<value = float {0.0}>()
      second = Constant<value_ints = [1]>()
      total = ReduceSum<keepdims=0>(x)
      cond = Greater(total, zero)
      y = If (cond) <
        then_branch = positive () => (float[1,3] a) {
          steps = Concat<axis=1>(x, x, x, x)
          rows = Reshape(steps, shape)
          a = Scan <num_scan_inputs=1, scan_input_axes=[1], body = b
            (float[1,3] s, float[1,3] row) => (float[1,3] s2) {
              s2 = Sub(row, s)
              mean = ReduceMean<keepdims=0>(s2)
            }
          > (x, rows)
        },
        else_branch = negative () => (float[1,3] a) { a = Neg(x) }
      >
    }"""
    model = parse(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4, 3]), "shape"))
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    store = cnatool.dump(
        saved(model, tmp_path / "net.onnx"), tmp_path / "x.npy", tmp_path / "s.zarr", scale=1.0
    )
    means = store.splits["all"].activations("y/then_branch/a/body/mean")[:]
    for got, row in zip(means, x, strict=True):
        # The state is x first, then alternates between nothing and x.
        steps = [0, row.mean(), 0, row.mean()] if row.sum() > 0 else []
        np.testing.assert_allclose(np.ravel(got), steps, atol=1e-6)


def test_what_a_whole_batch_decides_is_said_once(tmp_path: Path) -> None:
    notes = Notes()
    inputs = write(branch_of_batch(), tmp_path)
    cnatool.dump(*inputs, tmp_path / "s.zarr", observer=notes)
    decided = [text for text in notes.texts if "decided for a whole batch" in text]
    assert len(decided) == 1
    assert decided[0].startswith("If '")
    assert "`batch_size=1` decides for each sample" in decided[0]
    alone = Notes()
    cnatool.dump(*inputs, tmp_path / "alone.zarr", observer=alone, batch_size=1)
    assert not any("decided for a whole batch" in text for text in alone.texts)


def test_a_branch_that_samples_choose_in_some_iterations(tmp_path: Path) -> None:
    """Together the samples take it in each iteration; alone, the first does so in some."""
    text = """
    g (float[n,3,2] x) => (float[n,2] y) {
      start = Constant<value = float[1,2] {0.0, 0.0}>()
      limit = Constant<value = float {1.0}>()
      least = ReduceMin<axes=[1], keepdims=0>(x)
      zeros = Sub(least, least)
      [time] y = Scan (zeros, x) <
        num_scan_inputs = 1, scan_input_axes = [1],
        body = step (float[n,2] state, float[n,2] now) => (float[n,2] after) {
          largest = ReduceMax<keepdims=0>(now)
          many = Greater(largest, limit)
          [choose] after = If (many) <
            then_branch = t () => (float[n,2] a) { a = Tanh(now) },
            else_branch = e () => (float[n,2] b) { b = Neg(state) }
          >
        }
      >
    }"""
    x = np.full((4, 3, 2), 2, np.float32) + np.arange(24, dtype=np.float32).reshape(4, 3, 2) / 99
    x[0, 1] = 0
    notes = Notes()
    inputs = write(Flow("chosen by time", parse(text), {"x": x}), tmp_path)
    store = cnatool.dump(*inputs, tmp_path / "s.zarr", observer=notes)
    assert "time/body/choose/else_branch/b" in [tensor.name for tensor in store.record.skipped]
    assert any("`batch_size=1` runs each sample alone" in text for text in notes.texts)


def test_iterations_that_a_constant_counts_are_stored_whole(tmp_path: Path) -> None:
    """A number of iterations set with `constants` is the same for every sample."""
    text = """
    g (float[n,4] x, int64 trips, int64 width) => (float[n,4] y, float[t,n,m] every) {
      start = Constant<value = int64[1] {0}>()
      one = Constant<value = int64[1] {1}>()
      end = Reshape(width, one)
      [repeat] y, every = Loop (trips, , x) <
        body = step (int64 i, bool go, float[n,4] state)
          => (bool go_on, float[n,4] after, float[n,m] shown) {
          go_on = Identity(go)
          h = Gemm<transB=1>(state, w)
          after = Relu(h)
          shown = Slice(h, start, end, one)
        }
      >
    }"""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(2, 4, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    model = saved(parse(text, w=w), tmp_path / "m.onnx")
    notes = Notes()
    store = cnatool.dump(
        model,
        tmp_path / "x.npy",
        tmp_path / "s.zarr",
        constants={"trips": 3, "width": 2},
        batch_size=2,
        observer=notes,
    )
    assert not any("of a batch" in text for text in notes.texts)
    steps, state = [], x
    for _ in range(3):
        steps.append(state @ w.T)
        state = np.maximum(steps[-1], 0)
    expected = np.stack(steps, axis=1)
    split = store.splits["all"]
    for name, value in {
        "repeat/body/h": expected,
        "repeat/body/after": np.maximum(expected, 0),
        "every": expected[:, :, :2],
        "y": state,
    }.items():
        record = store.tensor(name)
        assert not record.varies, name
        assert record.kept == "full", name
        np.testing.assert_allclose(split.activations(name)[:], value, rtol=1e-5, atol=1e-6)
