"""The number of axes of what Loops carry, against what it is when they run."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest

from cnatool.backend.graph.loop_shapes import infer_shapes


def ranks(model: onnx.ModelProto) -> dict[str, int | None]:
    """Infer how many axes the tensors of a model and of its subgraphs have."""
    found: dict[str, int | None] = {}

    def read(graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            found[value.name] = len(kind.shape.dim) if kind.HasField("shape") else None
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    read(attribute.g)

    read(infer_shapes(model).graph)
    return found


def parse(text: str) -> onnx.ModelProto:
    """Make a model whose subgraphs declare no shapes, as those of scripted networks do not."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')

    def forget(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    for value in (*attribute.g.input, *attribute.g.output):
                        value.type.tensor_type.ClearField("shape")
                    forget(attribute.g)

    forget(model.graph)
    return model


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("s2 = Tanh(r)", 2),
        ("s2 = Concat<axis = 1>(r, r)", 2),  # of another length in each iteration
        ("s2 = Unsqueeze(r, axis)", None),
        ("s2 = ReduceMax<axes = [1], keepdims = 0>(r)", None),
        (
            "s2 = If (c) <then_branch = t () => (float[a, b] u) { u = Neg(r) }, "
            "else_branch = e () => (float[a, b] v) { v = Abs(r) }>",
            2,
        ),
        (
            "s2 = If (c) <then_branch = t () => (float[a, b] u) { u = Neg(r) }, "
            "else_branch = e () => (float[a] v) { v = ReduceMax<axes = [1], keepdims = 0>(r) }>",
            None,
        ),
    ],
)
def test_what_one_loop_carries(step: str, expected: int | None) -> None:
    model = parse(f"""
    g (float[n, 3] x) => (float[m, k] y)
    <int64 most = {{4}}, bool true = {{1}}, int64[1] axis = {{1}}> {{
        before = Relu(x)
        carried = Loop (most, true, before) <
            body = b (int64 i, bool c, float[p, q] s) => (bool c2, float[p, q] s2) {{
                c2 = Identity(c)
                r = Sin(s)
                {step}
            }}
        >
        after = Neg(carried)
        y = MatMul(after, after)
    }}""")  # fmt: skip
    found = ranks(model)
    assert found["after"] == found["carried"] == found["s"] == expected
    assert found["before"] == 2


def test_a_value_of_the_last_iteration_of_another_rank_opens_both() -> None:
    model = parse("""
    g (float[n, 3] x) => (float[m, k] y) <int64 most = {4}, bool true = {1}> {
        row = ReduceMax<axes = [1], keepdims = 0>(x)
        third = Loop (most, true, x, row, x) <
            body = b (int64 i, bool c, float[p, q] s, float[p] t, float[p, q] u)
            => (bool c2, float[p] s2, float[p, q] t2, float[p, q] u2) {
                c2 = Identity(c)
                s2 = Neg(t)
                t2 = Neg(s)
                u2 = Neg(u)
            }
        >
        y = Relu(third)
    }""")
    model.graph.node[1].output[:] = ["first", "second", "third"]
    model.graph.node[2].input[:] = ["third"]
    found = ranks(model)
    assert (found["s"], found["t"]) == (None, None)
    assert found["u"] == found["third"] == 2


def test_loops_in_each_other_and_axes_from_outside() -> None:
    model = parse("""
    g (float[n, 3] x) => (float[m, k, l] y)
    <int64 most = {4}, bool true = {1}, int64[1] axis = {1}> {
        first = Loop (most, true, x) <
            body = b (int64 i, bool c, float[p, q] s) => (bool c2, float[p, q] s2) {
                c2 = Identity(c)
                r = Loop (most, c, s) <
                    body = bb (int64 j, bool d, float[p, q] v) => (bool d2, float[p, q] v2) {
                        d2 = Identity(d)
                        wide = Unsqueeze(v, axis)
                        v2 = Squeeze(wide, axis)
                    }
                >
                s2 = Tanh(r)
            }
        >
        second = Loop (most, true, first) <
            body = e (int64 k, bool f, float[p, q] w) => (bool f2, float[p, q] w2) {
                f2 = Identity(f)
                w2 = Cos(w)
            }
        >
        y = Unsqueeze(second, axis)
    }""")
    found = ranks(model)
    assert {found[name] for name in ("s", "v", "v2", "r", "first", "w", "w2", "second")} == {2}
    assert found["wide"] == found["y"] == 3
