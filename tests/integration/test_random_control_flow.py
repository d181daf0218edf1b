"""Random models with If, Loop and Scan in each other: a dump against the literal evaluation."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support.control_flow import Flow
from support.stored_flow import compare_with_literal

import cnatool
from cnatool.records.choices import Kept

EXAMPLES = int(os.environ.get("CNATOOL_RANDOM_CONTROL_FLOW", "15"))
ROWS = 5
WIDTH = 3
CONSTANTS = {
    "w": np.random.default_rng(0).normal(0, 0.6, (WIDTH, WIDTH)).astype(np.float32),
    "two": np.array(2),
    "odd": np.array(1),
    "most": np.array(3.0, np.float32),
    "none": np.array(0.0, np.float32),
    "second": np.array([1]),
    **{f"{trips} trips": np.array(trips) for trips in range(4)},
}


@dataclass
class Graphs:
    """Draws the nodes of graphs; every live tensor has one row of three numbers a sample."""

    draw: st.DrawFn
    # Conditions and numbers of iterations are those of a single sample.
    alone: bool
    # Whether branches and the bodies of loops declare shapes, which those of Scan have to.
    declared: bool
    made: int = 0
    # Iteration numbers of the loops around
    iterations: list[str] = field(default_factory=list)

    def name(self, kind: str) -> str:
        self.made += 1
        return f"{kind}{self.made}"

    def nodes(self, live: list[str], depth: int) -> tuple[list[onnx.NodeProto], str]:
        """Draw nodes that read live tensors, and return them with the last result."""
        live, nodes = list(live), []
        kinds = ["Tanh", "Add", "MatMul"]
        if depth < 3:
            kinds += ["Loop", "Loop", "Scan", "Grow"]
            kinds += ["If", "If"] if self.alone or self.iterations else []
        for _ in range(self.draw(st.integers(1, 3), label="steps")):
            kind = self.draw(st.sampled_from(kinds), label="kind")
            first, second = (self.draw(st.sampled_from(live[-3:])) for _ in range(2))
            nodes += getattr(self, f"_{kind.lower()}")(first, second, live, depth)
            live.append(nodes[-1].output[0])
        return nodes, live[-1]

    def _tanh(self, first: str, *_: object) -> list[onnx.NodeProto]:
        return [helper.make_node("Tanh", [first], [self.name("tanh")])]

    def _add(self, first: str, second: str, *_: object) -> list[onnx.NodeProto]:
        return [helper.make_node("Add", [first, second], [self.name("add")])]

    def _matmul(self, first: str, *_: object) -> list[onnx.NodeProto]:
        return [helper.make_node("MatMul", [first, "w"], [self.name("product")])]

    def _if(self, first: str, second: str, live: list[str], depth: int) -> list[onnx.NodeProto]:
        before, condition = self._condition(first)
        branches = {}
        for branch in ("then_branch", "else_branch"):
            nodes, result = self.nodes([*live, second], depth + 1)
            branches[branch] = helper.make_graph(nodes, branch, [], [self._rows(result)])
        name = self.name("if")
        return [*before, helper.make_node("If", [condition], [f"{name} result"], name, **branches)]

    def _condition(self, tensor: str) -> tuple[list[onnx.NodeProto], str]:
        """Draw a condition: whether the sum of a tensor is positive, or an iteration is odd."""
        name, number = self.name("condition"), f"{self.name('number')}"
        if self.iterations and (not self.alone or self.draw(st.booleans())):
            return [
                helper.make_node("Mod", [self.iterations[-1], "two"], [number]),
                helper.make_node("Equal", [number, "odd"], [name]),
            ], name
        return [
            helper.make_node("ReduceSum", [tensor], [number], keepdims=0),
            helper.make_node("Greater", [number, "none"], [name]),
        ], name

    def _trips(self, tensor: str) -> tuple[list[onnx.NodeProto], str]:
        """Draw a number of iterations: a constant, or up to three by the sum of a tensor."""
        if not self.alone or self.draw(st.booleans()):
            return [], f"{self.draw(st.integers(0, 3), label='trips')} trips"
        total, least, trips = (self.name("trips") for _ in range(3))
        return [
            helper.make_node("ReduceSum", [tensor], [total], keepdims=0),
            helper.make_node("Clip", [total, "none", "most"], [least]),
            helper.make_node("Cast", [least], [trips], to=TensorProto.INT64),
        ], trips

    def _loop(self, first: str, second: str, live: list[str], depth: int) -> list[onnx.NodeProto]:
        before, trips = self._trips(second)
        i, go, state, go_on = (self.name(kind) for kind in ("i", "go", "state", "on"))
        self.iterations.append(i)
        nodes, result = self.nodes([*live, state], depth + 1)
        self.iterations.pop()
        nodes.append(helper.make_node("Identity", [go], [go_on]))
        last = self.name("last")
        nodes.append(helper.make_node("Identity", [result], [last]))
        body = helper.make_graph(
            nodes,
            "body",
            [_scalar(i, TensorProto.INT64), _scalar(go, TensorProto.BOOL), self._rows(state)],
            [_scalar(go_on, TensorProto.BOOL), self._rows(last)],
        )
        name = self.name("loop")
        loop = helper.make_node("Loop", [trips, "", first], [f"{name} result"], name, body=body)
        return [*before, loop]

    def _scan(self, first: str, second: str, live: list[str], depth: int) -> list[onnx.NodeProto]:
        """Scan over two tensors as over time."""
        times = [self.name("time") for _ in range(2)]
        sequence, state, part = (self.name(kind) for kind in ("sequence", "state", "part"))
        around, self.iterations = self.iterations, []
        nodes, result = self.nodes([*live, state, part], depth + 1)
        self.iterations = around
        last = self.name("last")
        nodes.append(helper.make_node("Identity", [result], [last]))
        body = helper.make_graph(nodes, "body", [_rows(state), _rows(part)], [_rows(last)])
        name = self.name("scan")
        backwards = self.draw(st.integers(0, 1), label="backwards")
        return [
            helper.make_node("Unsqueeze", [first, "second"], [times[0]]),
            helper.make_node("Unsqueeze", [second, "second"], [times[1]]),
            helper.make_node("Concat", times, [sequence], axis=1),
            helper.make_node(
                "Scan", [first, sequence], [f"{name} result"], name, body=body,
                num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[backwards],
            ),
        ]  # fmt: skip

    def _grow(self, first: str, second: str, live: list[str], depth: int) -> list[onnx.NodeProto]:
        """Loop over a sequence that grows by a tensor in each iteration."""
        before, trips = self._trips(second)
        start, i, go, state, go_on, bent, longer, all_, mean = (
            self.name(kind)
            for kind in ("start", "i", "go", "state", "on", "bent", "longer", "all", "mean")
        )
        step = self.name("step")
        nodes = [
            helper.make_node("Identity", [go], [go_on]),
            helper.make_node("Tanh", [state], [bent]),
            helper.make_node("Unsqueeze", [second, "second"], [step]),
            helper.make_node("Concat", [bent, step], [longer], axis=1),
        ]
        sequence = ["n", None, WIDTH] if self.declared else None
        body = helper.make_graph(
            nodes,
            "body",
            [
                _scalar(i, TensorProto.INT64),
                _scalar(go, TensorProto.BOOL),
                helper.make_tensor_value_info(state, TensorProto.FLOAT, sequence),
            ],
            [
                _scalar(go_on, TensorProto.BOOL),
                helper.make_tensor_value_info(longer, TensorProto.FLOAT, sequence),
            ],
        )
        return [
            *before,
            helper.make_node("Unsqueeze", [first, "second"], [start]),
            helper.make_node("Loop", [trips, "", start], [all_], self.name("grow"), body=body),
            helper.make_node("ReduceMean", [all_], [mean], axes=[1], keepdims=0),
        ]

    def _rows(self, name: str) -> onnx.ValueInfoProto:
        if self.declared:
            return _rows(name)
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _rows(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH])


def _scalar(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [])


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    alone = draw(st.booleans(), label="alone")
    graphs = Graphs(draw, alone, draw(st.booleans(), label="declared"))
    kinds = ["loop", "scan", "grow", *(["if"] if alone else [])]
    outer = getattr(graphs, f"_{draw(st.sampled_from(kinds), label='outer')}")("x", "x", ["x"], 0)
    nodes, last = graphs.nodes(["x", outer[-1].output[0]], 1)
    nodes.append(helper.make_node("Neg", [last], ["y"]))
    count = 1 if alone else "n"
    graph = helper.make_graph(
        [*outer, *nodes],
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [count, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [count, WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    seed = draw(st.integers(0, 99), label="seed")
    x = np.random.default_rng(seed).normal(0, 1.5, (ROWS, WIDTH)).astype(np.float32)
    return Flow("random", model, {"x": x}, alone)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, report_multiple_bugs=False)
@given(flows(), st.sampled_from(["full", "statistics"]))
def test_inner_tensors_of_random_models(flow: Flow, keep: Kept) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        onnx.save(flow.model, folder / "model.onnx")
        np.save(folder / "x.npy", flow.feeds["x"])
        store = cnatool.dump(
            folder / "model.onnx",
            folder / "x.npy",
            folder / "s.zarr",
            keep=keep,
            batch_size=1 if flow.alone else 2,
            statistics=("sum", "min"),
        )
        compare_with_literal(store, flow)
        assert not [each for each in store.record.skipped if "not known" in each.reason]
    finally:
        shutil.rmtree(folder)
