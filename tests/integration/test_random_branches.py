"""Random graphs with Ifs on shapes: replaced by branches, they compute what they did."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from support.branching import branch_if, one_node

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.taken_branches import take_branches
from cnatool.backend.session import RunOptions, Session
from cnatool.errors import ModelError

GRAPHS = 60
COMPARISONS = ["Equal", "Less", "Greater"]


class RandomGraph:
    """Changes of shape in a row, with Ifs whose conditions are arithmetic on shapes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = tuple(int(size) for size in self.rng.integers(1, 4, 2))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        tensor = "x"
        for _ in range(self.rng.integers(1, 4)):
            for _ in range(self.rng.integers(0, 3)):
                tensor = self.reshape(tensor)
            branches = (one_node(operator, [tensor], self.name()) for operator in ("Neg", "Exp"))
            result = self.name()
            self.nodes.append(branch_if(self.condition(tensor), [result], *branches))
            tensor = result
        self.add("Identity", tensor, output="out")

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", *self.shape))],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def name(self) -> str:
        return f"t{len(self.nodes)}.{self.rng.integers(1 << 40)}"

    def constant(self, *value: int) -> str:
        name = self.name()
        self.weights.append(numpy_helper.from_array(np.array(value), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **settings: Any) -> str:
        output = output or self.name()
        self.nodes.append(helper.make_node(operator, inputs, [output], **settings))
        return output

    def reshape(self, tensor: str) -> str:
        """Change the shape of a tensor in one of several ways, which may fail."""
        kind, axis = self.rng.integers(0, 7), int(self.rng.integers(0, 2))
        if kind == 0:
            return self.add("Transpose", tensor)
        if kind == 1:
            return self.add("Reshape", tensor, self.constant(0, -1))
        if kind == 2:
            return self.add("Reshape", tensor, self.constant(-1, self.shape[axis]))
        if kind == 3:
            return self.add("ReduceSum", tensor, self.constant(axis), keepdims=axis)
        if kind == 4:
            return self.add("Concat", tensor, tensor, axis=axis)
        if kind == 5:
            return self.add("Squeeze", tensor)
        rows = self.add("Slice", self.add("Shape", tensor), self.constant(0), self.constant(1))
        return self.add("Reshape", tensor, self.add("Concat", rows, self.constant(-1), axis=0))

    def condition(self, tensor: str) -> str:
        """Compare a length, a product of lengths, or the rank, with a number."""
        shape, kind = self.add("Shape", tensor), self.rng.integers(0, 4)
        if kind == 0:
            number = self.add("Size", shape)
        elif kind == 1:
            number = self.add("ReduceProd", shape, keepdims=0)
        else:
            number = self.add("Gather", shape, self.constant(int(self.rng.integers(-2, 2))))
        number = self.add("Mul", number, self.constant(int(self.rng.integers(1, 3))))
        compared = self.constant(int(self.rng.integers(0, 7)))
        return self.add(str(self.rng.choice(COMPARISONS)), number, compared)


def test_random_graphs_keep_their_results_for_any_number_of_samples(tmp_path: Path) -> None:
    tally: Counter[str] = Counter()
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 4
    for seed in range(GRAPHS):
        drawn = RandomGraph(seed)
        path = tmp_path / "m.onnx"
        onnx.save(drawn.model(), path)
        try:
            session = ort.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
        except ort.capi.onnxruntime_pybind11_state.Fail:  # shapes that do not fit
            continue
        inlined = take_branches(load_graph(path))
        tally["replaced"] += len(inlined.branches)
        tally["left"] += sum(node.op_type == "If" for node in inlined.graph.model.graph.node)
        try:
            other = Session(inlined.graph.model, inlined.graph, RunOptions())
        except ModelError:
            other = None  # Without Ifs the runtime sees sooner that no number of samples runs.
        for count in (1, 2, 3, 5):
            rows = drawn.rng.normal(size=(count, *drawn.shape)).astype(np.float32)
            try:
                (expected,) = session.run(None, {"x": rows})
            except Exception:  # shapes that do not fit this number; of several classes
                continue
            assert other is not None, f"graph {seed} runs with {count} samples"
            np.testing.assert_array_equal(other.run(["out"], {"x": rows})[0], expected)
            tally["compared"] += 1
    assert tally["replaced"] > GRAPHS / 4
    assert tally["left"] > GRAPHS / 4
    assert tally["compared"] > GRAPHS
