"""Random graphs with random names: what is stored, and that nothing gets lost."""

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
from support.reference import difference, every_value
from zoo.equality import as_in_graph

import cnatool

EXAMPLES = int(os.environ.get("CNATOOL_RANDOM_GRAPHS", "40"))
ROWS = 5
SHAPES = ((6,), (4, 3), (2, 5, 5))
NAMES = (
    *("/", "/a", "/a/b", "a", "a/b", "a/b:0", "a:0", "a:0/qdq_0", "a ", " a", "a b", "a;b", "."),
    *("..", "../a", "a/../b", "zarr.json", "0", "1", "all", "layers", "*", "[ab]", "a?", "%s"),
    *("{0}", "'", '"', "\\", "ünïcode", "层/ReLU", "🙂", "a\nb", "a\tb", "x" * 300, "x" * 299, "Å"),
    *("sum", "n", "None", "cnatool", "cnatool:", "cnatool::"),
)
names = st.one_of(
    st.sampled_from(NAMES),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
)


@dataclass(frozen=True)
class Live:
    """A tensor that an operator may read: shape with the sample axis, where that is, and ties."""

    name: str
    shape: tuple[int, ...]
    axis: int = 0
    ties: bool = False


@dataclass
class Graph:
    """A graph as it grows; every choice is drawn, so that a failing graph shrinks."""

    data: st.DataObject
    names: list[str]
    live: list[Live]
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def pick(self, choices: object, label: str) -> object:
        return self.data.draw(st.sampled_from(choices), label=label)

    def constant(self, value: np.ndarray) -> str:
        # An initializer's name is one among all: it is drawn like a tensor's.
        name = self.names.pop()
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.normal(0, 0.5, shape).astype(np.float32))

    def add(
        self, operator: str, inputs: list[str], count: int = 1, **attributes: object
    ) -> list[str]:
        outputs = [self.names.pop() for _ in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def grow(self) -> None:
        """Add one operator that fits a tensor chosen at random."""
        t = self.pick(self.live, "tensor")
        fitting = ["Relu", "Neg", "Sigmoid", "Add", "Mul", "AddConstant", "Transpose"]
        if t.axis == 0:
            fitting += ["Reshape", "Flatten", "Unsqueeze", "Merge", "Mean", "Shape"]
            if len(t.shape) == 2:
                fitting += ["Gemm"]
            if len(t.shape) >= 2:
                fitting += ["MatMul", "Concat"]
                fitting += ["Split"] * (t.shape[-1] % 2 == 0) + ["TopK"] * (not t.ties)
            if len(t.shape) == 4:
                fitting += ["Conv"]
            if 1 in t.shape[1:]:
                fitting += ["Squeeze"]
        operator = self.pick(fitting, "operator")
        self.live.extend(getattr(self, f"_{operator.lower()}", self._unary)(t, operator))

    def _unary(self, t: Live, operator: str) -> list[Live]:
        [name] = self.add(operator, [t.name])
        return [Live(name, t.shape, t.axis, t.ties or operator != "Neg")]

    def _add(self, t: Live, operator: str) -> list[Live]:
        others = [o for o in self.live if (o.shape, o.axis) == (t.shape, t.axis)]
        other = self.pick(others, "other")
        [name] = self.add(operator, [t.name, other.name])
        return [Live(name, t.shape, t.axis, True)]

    _mul = _add

    def _addconstant(self, t: Live, operator: str) -> list[Live]:
        shape = [1 if axis == t.axis else size for axis, size in enumerate(t.shape)]
        [name] = self.add("Add", [t.name, self.weight(*shape)])
        return [Live(name, t.shape, t.axis, t.ties)]

    def _transpose(self, t: Live, operator: str) -> list[Live]:
        perm = list(self.data.draw(st.permutations(range(len(t.shape))), label="perm"))
        [name] = self.add("Transpose", [t.name], perm=perm)
        return [Live(name, tuple(t.shape[p] for p in perm), perm.index(t.axis), t.ties)]

    def _reshape(self, t: Live, operator: str) -> list[Live]:
        size = int(np.prod(t.shape[1:]))
        factors = [k for k in range(1, size + 1) if size % k == 0]
        k = self.pick(factors, "factor")
        target = self.pick([[0, -1], [-1, size], [0, k, -1], [-1, k, size // k]], "target")
        [name] = self.add("Reshape", [t.name, self.constant(np.array(target, np.int64))])
        shape = (ROWS, size) if len(target) == 2 else (ROWS, k, size // k)
        return [Live(name, shape, 0, t.ties)]

    def _flatten(self, t: Live, operator: str) -> list[Live]:
        [name] = self.add("Flatten", [t.name], axis=1)
        return [Live(name, (ROWS, int(np.prod(t.shape[1:]))), 0, t.ties)]

    def _unsqueeze(self, t: Live, operator: str) -> list[Live]:
        axis = self.data.draw(st.integers(1, len(t.shape)), label="axis")
        [name] = self.add("Unsqueeze", [t.name, self.constant(np.array([axis]))])
        return [Live(name, (*t.shape[:axis], 1, *t.shape[axis:]), 0, t.ties)]

    def _squeeze(self, t: Live, operator: str) -> list[Live]:
        axis = 1 + t.shape[1:].index(1)
        [name] = self.add("Squeeze", [t.name, self.constant(np.array([axis]))])
        return [Live(name, (*t.shape[:axis], *t.shape[axis + 1 :]), 0, t.ties)]

    def _gemm(self, t: Live, operator: str) -> list[Live]:
        width = self.pick([1, 3, 40], "width")
        turned = self.pick([0, 1], "transB")
        shape = (width, t.shape[1]) if turned else (t.shape[1], width)
        inputs = [t.name, self.weight(*shape), self.weight(width)]
        [name] = self.add("Gemm", inputs, transB=turned, alpha=0.5, beta=2.0)
        return [Live(name, (ROWS, width), 0, True)]

    def _matmul(self, t: Live, operator: str) -> list[Live]:
        width = self.pick([1, 4, 40], "width")
        [name] = self.add("MatMul", [t.name, self.weight(t.shape[-1], width)])
        return [Live(name, (*t.shape[:-1], width), 0, True)]

    def _conv(self, t: Live, operator: str) -> list[Live]:
        channels = self.pick([1, 3], "channels")
        kernel = self.pick([k for k in (1, 2, 3) if k <= min(t.shape[2:])], "kernel")
        inputs = [t.name, self.weight(channels, t.shape[1], kernel, kernel), self.weight(channels)]
        [name] = self.add("Conv", inputs)
        sizes = [size - kernel + 1 for size in t.shape[2:]]
        return [Live(name, (ROWS, channels, *sizes), 0, True)]

    def _concat(self, t: Live, operator: str) -> list[Live]:
        others = [o for o in self.live if (o.shape, o.axis) == (t.shape, 0)]
        other = self.pick(others, "other")
        [name] = self.add("Concat", [t.name, other.name], axis=-1)
        return [Live(name, (*t.shape[:-1], 2 * t.shape[-1]), 0, True)]

    def _split(self, t: Live, operator: str) -> list[Live]:
        half = t.shape[-1] // 2
        sizes = self.constant(np.array([half, half]))
        outputs = self.add("Split", [t.name, sizes], 2, axis=-1)
        return [Live(name, (*t.shape[:-1], half), 0, t.ties) for name in outputs]

    def _topk(self, t: Live, operator: str) -> list[Live]:
        k = self.data.draw(st.integers(1, t.shape[-1]), label="k")
        values, _ = self.add("TopK", [t.name, self.constant(np.array([k]))], 2)
        return [Live(values, (*t.shape[:-1], k), 0, False)]

    def _merge(self, t: Live, operator: str) -> list[Live]:
        """Merge the sample axis with what follows it; nothing reads the result."""
        self.add(
            "Reshape",
            [
                t.name,
                self.constant(
                    np.array([-1, t.shape[-1] if t.axis == 0 and len(t.shape) > 1 else 1])
                ),
            ],
        )
        return []

    def _mean(self, t: Live, operator: str) -> list[Live]:
        """Mix the samples; nothing reads the result."""
        self.add("ReduceMean", [t.name], axes=[0])
        return []

    def _shape(self, t: Live, operator: str) -> list[Live]:
        self.add("Shape", [t.name])
        return []


@st.composite
def graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, str, np.ndarray, set[str]]:
    steps = draw(st.integers(1, 8), label="steps")
    pool = draw(st.lists(names, unique=True, min_size=5 * steps + 2, max_size=5 * steps + 2))
    shape = draw(st.sampled_from(SHAPES), label="shape")
    rng = np.random.default_rng(draw(st.integers(0, 999), label="seed"))
    graph = Graph(draw(st.data()), pool, [Live(pool.pop(), (ROWS, *shape))], rng)
    source = graph.live[0]
    # The first operator gives an output that has samples.
    [first] = graph.add("Neg", [source.name])
    graph.live.append(Live(first, source.shape))
    for _ in range(steps):
        graph.grow()
    last = draw(st.sampled_from(graph.live[1:]), label="output")
    output = onnx.ValueInfoProto(name=last.name)
    output.type.tensor_type.elem_type = TensorProto.FLOAT
    value = helper.make_tensor_value_info(source.name, TensorProto.FLOAT, ["n", *shape])
    proto = helper.make_graph(graph.nodes, "random", [value], [output], graph.weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    samples = rng.normal(size=(ROWS, *shape)).astype(np.float32)
    return model, source.name, samples, {tensor.name for tensor in graph.live[1:]}


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, report_multiple_bugs=False)
@given(graphs())
def test_every_tensor_of_a_random_graph(
    case: tuple[onnx.ModelProto, str, np.ndarray, set[str]],
) -> None:
    model, source, samples, with_samples = case
    folder = Path(tempfile.mkdtemp())
    try:
        path, data = folder / "model.onnx", folder / "x.npy"
        onnx.save(model, path)
        np.save(data, samples)
        # In three runs, the last of one sample: rows must come in order whatever the batches.
        full = cnatool.dump(path, data, folder / "full.zarr", batch_size=2)
        thin = cnatool.dump(path, data, folder / "thin.zarr", batch_size=2, keep="statistics")
        truth = every_value(model, {source: samples})
        made = [name for node in model.graph.node for name in node.output]
        stored = [tensor.name for tensor in full.tensors]
        assert sorted([*stored, *(s.name for s in full.record.skipped)]) == sorted(made)
        assert all(s.reason for s in full.record.skipped)
        assert with_samples <= set(stored)
        assert [tensor.name for tensor in thin.tensors] == stored
        for tensor in full.tensors:
            value = full.splits["all"].activations(tensor.name)[:]
            expected = truth[tensor.name]
            assert difference(as_in_graph(value, tensor), expected) is None, tensor.name
            flat = full.splits["all"].activations(tensor.name)[:].reshape(ROWS, -1)
            flat = flat.astype(np.float64)
            for store in (full, thin):
                sums = store.splits["all"].statistics("sum")[:][:, tensor.number]
                error = np.abs(sums - flat.sum(axis=1))
                assert (error <= 1e-6 * np.abs(flat).sum(axis=1)).all(), (tensor.name, error)
    finally:
        shutil.rmtree(folder)
