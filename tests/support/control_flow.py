"""Small models with If, Loop and Scan, and the samples that they are run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper


@dataclass(frozen=True)
class Flow:
    """A model and its inputs, one row a sample."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]
    # The decisions are those of a single sample: each must run alone.
    alone: bool = False

    def __str__(self) -> str:
        return self.name


def parse(
    text: str, *, opset: int = 17, functions: str = "", **weights: np.ndarray
) -> onnx.ModelProto:
    """Make a model from its text, with weights as initializers of the main graph."""
    head = f'<ir_version: 8, opset_import: ["":{opset}, "local":1]>'
    model = onnx.parser.parse_model(f"{head}\n{text}\n{functions}")
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()
    )
    return model


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _weight(*shape: int, seed: int = 1) -> np.ndarray:
    return _normal(*shape, seed=seed) / np.sqrt(shape[0])


def if_same_shapes() -> Flow:
    """Either branch returns four numbers; both read tensors from outside, one has weights."""
    text = """
    g (float[1,4] x) => (float[1,4] y) {
      [first] h = MatMul(x, w)
      total = ReduceSum<keepdims=0>(x)
      zero = Constant<value = float {0.0}>()
      cond = Greater(total, zero)
      [choose] z = If (cond) <
        then_branch = positive () => (float[1,4] a)
          <float[4] b = {1.0, -2.0, 3.0, 0.5}>
          { d = Add(h, b)  a = Relu(d)  most = ReduceMax<keepdims=0>(d) },
        else_branch = negative () => (float[1,4] a)
          { d = MatMul(x, v)  e = Sub(d, h)  a = Tanh(e) }
      >
      y = MatMul(z, w)
    }"""
    model = parse(text, w=_weight(4, 4), v=_weight(4, 4, seed=2))
    return Flow("if with the same shapes", model, {"x": _normal(11, 4)}, alone=True)


def if_different_shapes() -> Flow:
    """Branches that return four and six numbers, and hold matrices of other sizes still."""
    text = """
    g (float[1,4] x) => (float[1] y) {
      zero = Constant<value = float {0.0}>()
      first = Constant<value = int64 {0}>()
      row = Gather<axis=1>(x, first)
      value = Squeeze(row)
      cond = Less(value, zero)
      z = If (cond) <
        then_branch = wide () => (float[1,k] a) { a = MatMul(x, w) },
        else_branch = narrow () => (float[1,k] a)
          {
            outer = Transpose(x)
            square = MatMul(outer, x)
            s = ReduceMax<axes=[0], keepdims=1>(square)
            a = Neg(s)
          }
      >
      axes = Constant<value = int64[1] {1}>()
      y = ReduceSum<keepdims=0>(z, axes)
    }"""
    model = parse(text, w=_weight(4, 6))
    return Flow("if with different shapes", model, {"x": _normal(11, 4, seed=3)}, alone=True)


def nested() -> Flow:
    """A Scan over time whose body loops, and chooses by whether the iteration is even."""
    text = """
    g (float[n,5,3] x) => (float[n,3] last, float[n,5,3] states) {
      start = ReduceMean<axes=[1], keepdims=0>(x)
      two = Constant<value = int64 {2}>()
      three = Constant<value = int64 {3}>()
      zero = Constant<value = int64 {0}>()
      [time] last, states = Scan (start, x) <
        num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
        body = step (float[n,3] state, float[n,3] slice) => (float[n,3] after, float[n,3] shown) {
          u = MatMul(slice, w)
          mixed = Add(u, state)
          [repeat] after = Loop (three, , mixed) <
            body = again (int64 i, bool go, float[n,3] inner) => (bool go_on, float[n,3] result) {
              go_on = Identity(go)
              rest = Mod(i, two)
              even = Equal(rest, zero)
              [choose] half = If (even) <
                then_branch = do (  ) => (float[n,3] a) { b = MatMul(inner, w)  a = Tanh(b) },
                else_branch = leave () => (float[n,3] a) { a = Sub(inner, slice) }
              >
              result = Sub(half, inner)
            }
          >
          shown = Relu(after)
        }
      >
    }"""
    model = parse(text, w=_weight(3, 3))
    return Flow("if in loop in scan", model, {"x": _normal(9, 5, 3)})


def trips_differ() -> Flow:
    """A Loop as long as an input says, from none to four times; the last result is stacked."""
    text = """
    g (float[1,4] x, int64[1,1] count) => (float[1,4] y, float[t,1,4] every) {
      shape = Constant<value = int64[1] {-1}>()
      flat = Reshape(count, shape)
      trips = Squeeze(flat)
      [repeat] y, every = Loop (trips, , x) <
        body = step (int64 i, bool go, float[1,4] state)
          => (bool go_on, float[1,4] after, float[1,4] shown) {
          go_on = Identity(go)
          h = Gemm<transB=1>(state, w)
          after = Relu(h)
          shown = Sub(after, x)
        }
      >
    }"""
    model = parse(text, w=_weight(4, 4))
    count = np.array([2, 0, 4, 1, 3, 0, 2, 4, 1])[:, None]
    return Flow("trips differ", model, {"x": _normal(9, 4), "count": count}, alone=True)


def trips_of_batch() -> Flow:
    """A Loop as long as the largest number in the batch says, on rows that share an axis."""
    text = """
    g (float[n,2,4] x, int64[n,1] count) => (float[n,2,4] y, float[t,n,2,4] every) {
      most = ReduceMax<keepdims=0>(count)
      yes = Constant<value = bool {1}>()
      [repeat] y, every = Loop (most, yes, x) <
        body = step (int64 i, bool go, float[n,2,4] state)
          => (bool go_on, float[n,2,4] after, float[n,2,4] shown) {
          go_on = Identity(go)
          rows = Constant<value = int64[2] {-1, 4}>()
          back = Constant<value = int64[3] {-1, 2, 4}>()
          flat = Reshape(state, rows)
          product = MatMul(flat, w)
          bent = Tanh(product)
          after = Reshape(bent, back)
          shown = Relu(after)
        }
      >
    }"""
    count = np.array([2, 3, 1, 2, 0, 0, 0, 0, 4, 1, 3])[:, None]
    feeds = {"x": _normal(11, 2, 4), "count": count}
    return Flow("trips of a batch", parse(text, w=_weight(4, 4)), feeds)


def branch_of_batch() -> Flow:
    """An If on the sum of the batch, whose branch holds tensors with samples second."""
    text = """
    g (float[n,3,4] x) => (float[n,3,4] y) {
      total = ReduceSum<keepdims=0>(x)
      zero = Constant<value = float {0.0}>()
      cond = Greater(total, zero)
      [choose] y = If (cond) <
        then_branch = t () => (float[n,3,4] r)
          { u = Exp(x)  v = Transpose<perm=[1,0,2]>(u)  r = Transpose<perm=[1,0,2]>(v) },
        else_branch = e () => (float[n,3,4] r) { r = Neg(x) }
      >
    }"""
    x = np.abs(_normal(11, 3, 4))
    x[4:8] *= -1
    return Flow("a branch of a batch", parse(text), {"x": x})


def decided_twice() -> Flow:
    """A Loop around a branch that each iteration chooses, and a Loop as long as an input says."""
    text = """
    g (float[1,4] x, int64[1,1] count) => (float[1,4] y) {
      shape = Constant<value = int64[1] {-1}>()
      flat = Reshape(count, shape)
      inner_trips = Squeeze(flat)
      two = Constant<value = int64 {2}>()
      zero = Constant<value = float {0.0}>()
      [outer] y = Loop (two, , x) <
        body = o (int64 i, bool go, float[1,4] state) => (bool go_on, float[1,4] after) {
          go_on = Identity(go)
          [inner] mixed = Loop (inner_trips, , state) <
            body = b (int64 j, bool more, float[1,4] v) => (bool more_on, float[1,4] w_v) {
              more_on = Identity(more)
              product = MatMul(v, w)
              w_v = Tanh(product)
            }
          >
          total = ReduceSum<keepdims=0>(mixed)
          positive = Greater(total, zero)
          [choose] after = If (positive) <
            then_branch = t () => (float[1,4] r) { r = Exp(mixed) },
            else_branch = e () => (float[1,4] r) { s = Abs(mixed)  r = Sub(s, x) }
          >
        }
      >
    }"""
    count = np.array([2, 1, 3, 0, 2, 4, 1, 0, 2])[:, None]
    feeds = {"x": _normal(9, 4), "count": count}
    return Flow("decided twice", parse(text, w=_weight(4, 4)), feeds, alone=True)


def found_in_loops() -> Flow:
    """Loops over what is found outside, and inside: equally many in each of the first samples."""
    text = """
    g (float[1,6] x) => (float[1,6] y) {
      trips = Constant<value = int64 {3}>()
      places = NonZero(x)
      start = Cast<to=1>(places)
      [outside] found = Loop (trips, , start) <
        body = a (int64 i, bool go, float[2,k] state) => (bool go_on, float[2,k] after)
          { go_on = Identity(go)  after = Tanh(state) }
      >
      [inside] last = Loop (trips, , x) <
        body = b (int64 i, bool go, float[1,6] state) => (bool go_on, float[1,6] after) {
          go_on = Identity(go)
          inner = NonZero(state)
          numbers = Cast<to=1>(inner)
          total = ReduceSum<keepdims=0>(numbers)
          half = Mul(state, total)
          after = Floor(half)
        }
      >
      y = MatMul(last, w)
    }"""
    x = np.abs(_normal(14, 6)) + np.float32(1)
    x[:8, 3:] = 0
    x[8:] *= np.arange(6) < np.arange(6)[:, None]
    x[8:, ::2] /= 60
    return Flow("found in loops", parse(text, w=_weight(6, 6)), {"x": x}, alone=True)


def growing() -> Flow:
    """A sequence that grows by an element in each iteration, read whole in each."""
    text = """
    g (float[n,1,3] x) => (float[n,3] y) {
      trips = Constant<value = int64 {4}>()
      [decode] all = Loop (trips, , x) <
        body = step (int64 i, bool go, float[n,l,3] sequence)
          => (bool go_on, float[n,k,3] longer) {
          go_on = Identity(go)
          hidden = MatMul(sequence, w)
          active = Relu(hidden)
          mean = ReduceMean<axes=[1], keepdims=1>(active)
          longer = Concat<axis=1>(sequence, mean)
        }
      >
      y = ReduceSum<keepdims=0>(all, axes)
    }"""
    model = parse(text, w=_weight(3, 3))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    return Flow("a sequence that grows", model, {"x": _normal(8, 1, 3)})


def decoder() -> Flow:
    """Greedy decoding, which its condition ends at a certain token, or the number of steps."""
    text = """
    g (float[1,4] x) => (float[1,5] y) {
      limit = Constant<value = int64 {6}>()
      end = Constant<value = int64 {0}>()
      yes = Constant<value = bool {1}>()
      begin = Constant<value = int64[1,1] {1}>()
      [decode] tokens, state = Loop (limit, yes, begin, x) <
        body = step (int64 i, bool go, int64[1,l] before, float[1,4] hidden)
          => (bool go_on, int64[1,k] longer, float[1,4] next) {
          place = Constant<value = int64[1] {-1}>()
          last = Gather<axis=1>(before, place)
          row = Squeeze(last)
          embedded = Gather<axis=0>(table, row)
          mixed = Add(hidden, embedded)
          projected = MatMul(mixed, w)
          next = Tanh(projected)
          logits = MatMul(next, heads)
          best = ArgMax<axis=1, keepdims=1>(logits)
          longer = Concat<axis=1>(before, best)
          word = Squeeze(best)
          done = Equal(word, end)
          go_on = Not(done)
        }
      >
      y = MatMul(state, heads)
    }"""
    model = parse(
        text, w=_weight(4, 4) * 2, heads=_weight(4, 5, seed=5) * 3, table=_normal(5, 4, seed=6)
    )
    return Flow("a decoder", model, {"x": _normal(10, 4, seed=4) * 2}, alone=True)


def recurrent() -> Flow:
    """A Scan over time with two sequences, one backwards and along another axis, and two states."""
    text = """
    g (float[n,6,3] x, float[n,3,6] z) => (float[n,4] h, float[n,6,4] outputs) {
      place = Constant<value = int64 {0}>()
      first = Gather<axis=1>(x, place)
      start = MatMul(first, w)
      [cells] h, c, outputs = Scan (start, start, x, z) <
        num_scan_inputs = 2, scan_input_axes = [1, 2], scan_input_directions = [0, 1],
        scan_output_axes = [1], scan_output_directions = [1],
        body = cell (float[n,4] h_in, float[n,4] c_in, float[n,3] x_t, float[n,3] z_t)
          => (float[n,4] h_out, float[n,4] c_out, float[n,4] shown) {
          a = Gemm(x_t, w, bias)
          b = MatMul(h_in, r)
          d = MatMul(z_t, w)
          gate = Add(a, b)
          open = Sigmoid(gate)
          kept = Mul(open, c_in)
          c_out = Add(kept, d)
          h_out = Tanh(c_out)
          shown = Identity(h_out)
        }
      >
    }"""
    model = parse(text, w=_weight(3, 4), r=_weight(4, 4, seed=2), bias=_normal(4, seed=3))
    feeds = {"x": _normal(9, 6, 3), "z": _normal(9, 3, 6, seed=8)}
    return Flow("scan over time", model, feeds)


def over_samples() -> Flow:
    """A Scan over the samples themselves, each of which a Loop inside works on."""
    text = """
    g (float[n,4] x) => (float[n,4] y) {
      trips = Constant<value = int64 {3}>()
      [samples] y = Scan (x) <
        num_scan_inputs = 1,
        body = one (float[4] row) => (float[4] out) {
          [repeat] inner, shown = Loop (trips, , row) <
            body = step (int64 i, bool go, float[4] v)
              => (bool go_on, float[4] w_v, float[4] shown_v) {
              go_on = Identity(go)
              product = MatMul(v, w)
              w_v = Tanh(product)
              shown_v = Relu(product)
            }
          >
          out = Sub(inner, row)
        }
      >
    }"""
    return Flow("scan over samples", parse(text, w=_weight(4, 4)), {"x": _normal(10, 4)})


def inside_function() -> Flow:
    """A local function, called twice, with an If inside."""
    text = """
    g (float[1,4] x) => (float[1,4] y) {
      h = local.choose(x)
      k = MatMul(h, w)
      y = local.choose(k)
    }"""
    function = """
    <domain: "local", opset_import: ["":17]>
    choose (x) => (y) {
      total = ReduceSum<keepdims=0>(x)
      zero = Constant<value = float {0.0}>()
      cond = Greater(total, zero)
      y = If (cond) <
        then_branch = a () => (float[1,4] r) { s = Exp(x)  r = Neg(s) },
        else_branch = b () => (float[1,4] r) { r = Abs(x) }
      >
    }"""
    model = parse(text, functions=function, w=_weight(4, 4))
    return Flow("if in a function", model, {"x": _normal(10, 4)}, alone=True)


def linear_layers() -> Flow:
    """Conv, Gemm and MatMul in a Loop, with weights of the body and of the main graph."""
    text = """
    g (float[n,2,6,6] x) => (float[n,3] y) {
      trips = Constant<value = int64 {2}>()
      [blocks] image = Loop (trips, , x) <
        body = block (int64 i, bool go, float[n,2,6,6] image_in)
          => (bool go_on, float[n,2,6,6] image_out)
          <float[2,2,1,1] kernel = {0.5, -1.0, 2.0, 0.25}, float[2] shift = {0.5, -0.5}> {
          go_on = Identity(go)
          wide = Conv<pads=[1,1,1,1]>(image_in, k3)
          mid = Relu(wide)
          point = Conv(mid, kernel, shift)
          normal = Tanh(point)
          image_out = Add(normal, image_in)
        }
      >
      flat = Flatten(image)
      hidden = Gemm<transB=1>(flat, wf)
      active = Relu(hidden)
      y = MatMul(active, wl)
    }"""
    model = parse(
        text, k3=_normal(2, 2, 3, 3, seed=2) / 4, wf=_weight(5, 72), wl=_weight(5, 3, seed=3)
    )
    return Flow("linear layers", model, {"x": _normal(9, 2, 6, 6)})


def same_names() -> Flow:
    """The names of inner tensors occur in both branches, in the next If, and in two Loops."""
    text = """
    g (float[n,3] x) => (float[n,3] y) {
      trips = Constant<value = int64 {2}>()
      one = Constant<value = int64 {1}>()
      y1 = Loop (trips, , x) <
        body = step (int64 i, bool go, float[n,3] s) => (bool go_on, float[n,3] r) {
          go_on = Identity(go)
          first = Less(i, one)
          r = If (first) <
            then_branch = a () => (float[n,3] t) { u = Exp(s)  t = Neg(u) },
            else_branch = b () => (float[n,3] t) { u = Sin(s)  t = Abs(u) }
          >
        }
      >
      y = Loop (trips, , y1) <
        body = step (int64 i, bool go, float[n,3] s) => (bool go_on, float[n,3] r) {
          go_on = Identity(go)
          u = Cos(s)
          r = Mul(u, s)
        }
      >
    }"""
    return Flow("the same names", parse(text), {"x": _normal(9, 3)})


def merged() -> Flow:
    """A Loop inside of which samples and time steps share an axis."""
    text = """
    g (float[n,4,3] x) => (float[n,4,3] y) {
      trips = Constant<value = int64 {3}>()
      rows = Constant<value = int64[2] {-1, 3}>()
      back = Constant<value = int64[3] {-1, 4, 3}>()
      [repeat] y = Loop (trips, , x) <
        body = step (int64 i, bool go, float[n,4,3] s) => (bool go_on, float[n,4,3] r) {
          go_on = Identity(go)
          flat = Reshape(s, rows)
          product = MatMul(flat, w)
          bent = Tanh(product)
          r = Reshape(bent, back)
        }
      >
    }"""
    return Flow("merged axes", parse(text, w=_weight(3, 3)), {"x": _normal(9, 4, 3)})


def element_types() -> Flow:
    """Tensors of float16, bfloat16, float64, integers and booleans in a Loop."""
    text = """
    g (float[n,6] x) => (float[n,6] y) {
      trips = Constant<value = int64 {3}>()
      [repeat] y = Loop (trips, , x) <
        body = step (int64 i, bool go, float[n,6] s) => (bool go_on, float[n,6] r) {
          go_on = Identity(go)
          half = Cast<to=10>(s)
          brain = Cast<to=16>(s)
          double = Cast<to=11>(s)
          bent = Tanh(double)
          whole = Cast<to=7>(s)
          sign = Cast<to=9>(whole)
          back = Cast<to=1>(brain)
          other = Cast<to=1>(half)
          r = Add(back, other)
        }
      >
    }"""
    return Flow("element types", parse(text), {"x": _normal(9, 6) * 4})


def branching() -> Flow:
    """A network with one layer in a branch, and one in a Loop behind it."""
    text = """
    g (float[1,6] x) => (float[1,3] logits) {
      first = MatMul(x, w1)
      a = Relu(first)
      total = ReduceSum<keepdims=0>(x)
      limit = Constant<value = float {3.0}>()
      cond = Greater(total, limit)
      [choose] b = If (cond) <
        then_branch = t () => (float[1,6] r) { inside = MatMul(a, w2)  r = Relu(inside) },
        else_branch = e () => (float[1,6] r) { r = Neg(a) }
      >
      trips = Constant<value = int64 {3}>()
      [repeat] c = Loop (trips, , b) <
        body = step (int64 i, bool go, float[1,6] s) => (bool go_on, float[1,6] r) {
          go_on = Identity(go)
          again = MatMul(s, w3)
          r = Relu(again)
        }
      >
      logits = MatMul(c, w4)
    }"""
    weights = {f"w{k}": _weight(6, 6, seed=k) for k in (1, 2, 3)}
    model = parse(text, **weights, w4=_weight(6, 3, seed=4))
    x = np.random.default_rng(0).random((40, 6)).astype(np.float32)
    return Flow("a layer in a branch", model, {"x": x}, alone=True)


FLOWS: tuple[Callable[[], Flow], ...] = (
    if_same_shapes,
    if_different_shapes,
    nested,
    trips_differ,
    decided_twice,
    growing,
    decoder,
    recurrent,
    over_samples,
    inside_function,
    linear_layers,
    same_names,
    merged,
    element_types,
)
