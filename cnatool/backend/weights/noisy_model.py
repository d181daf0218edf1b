"""A model whose weights are inputs, so that one session runs with any noise on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from cnatool.backend.graph.constants import Constants
from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.session import Session
from cnatool.backend.weights.fold import linear_operators
from cnatool.backend.weights.parameters import find_unseen_weights
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.session import RunOptions
    from cnatool.records.store import TensorRecord

# Types that NumPy has; other floats are fed as float32 and cast in the graph.
_FED = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_FLOATS = (
    *_FED,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.FLOAT8E4M3FN,
    onnx.TensorProto.FLOAT8E5M2,
)
# Numbers in memory at a time.
_PART = 1 << 20


class Weights:
    """The weights of a model's linear operators as its file has them, shared ones once.

    A ModelError is raised if some cannot be read, or are codes of a quantised operator.
    """

    def __init__(self, graph: Graph, custom_ops: tuple[Path, ...] = ()) -> None:
        constants = Constants(graph, custom_ops)
        unseen = find_unseen_weights(graph, constants)
        if unseen is not None:
            raise ModelError(unseen)
        # The first layer with each, counted from 0.
        self.layers: dict[str, int] = {}
        self._names: list[str] = []
        self._forms: list[tuple[str, ...]] = []
        for number, operator in enumerate(linear_operators(graph)):
            name = constants.weights(operator.weights)
            if constants.element_type(name) not in _FLOATS:
                raise ModelError(
                    f"the weights of layer {number + 1} ({operator.weights!r}) are codes of the "
                    f"quantised operator {operator.node.op_type}, which takes no noise"
                )
            if graph.lies_inside(name):
                raise ModelError(
                    f"the weights of layer {number + 1} ({operator.weights!r}) lie inside an If, "
                    "Loop or Scan, where they take no noise"
                )
            self.layers.setdefault(name, number)
            self._names.append(name)
            self._forms.append(_form(graph, operator.node, operator.weights, name))
        if not self.layers:
            raise ModelError("the model has no linear operator with weights")
        self.types = {name: constants.element_type(name) for name in self.layers}
        self._constants = constants

    def values(self, name: str) -> NDArray[Any]:
        """Read the weights of a name, in a type that NumPy computes with."""
        value = self._constants.value(name)
        fed = self.types[name] in _FED and value.dtype.kind == "f"
        return np.ascontiguousarray(value if fed else value.astype(np.float32))

    def of_layer(self, number: int, like: Weights) -> NDArray[Any]:
        """Read the weights of a layer, counted from 0, where another model keeps them alike."""
        values = self.values(self._names[number])
        shape = like.values(like._names[number]).shape
        if self._forms[number] != like._forms[number] or values.shape != shape:
            raise ModelError(
                f"{self._constants.graph.path} keeps the weights of layer {number + 1} in another "
                f"form than {like._constants.graph.path}: export both in the same way"
            )
        return values


class NoisyModel:
    """A model ready to compute an output with noise on its weights.

    Beside the session it holds the weights twice: as they are, and with noise.
    """

    def __init__(
        self, graph: Graph, weights: Weights, output: TensorRecord, run: RunOptions
    ) -> None:
        self.values = {name: weights.values(name) for name in weights.layers}
        self._fed = {
            name: name if kind in _FED else f"{PREFIX}weights {name}"
            for name, kind in weights.types.items()
        }
        model = _with_weights_fed(graph.model, self.values, weights.types, self._fed)
        model.graph.output.extend(v for v in graph.model.graph.output if v.name == output.name)
        exposed = make_readable(model, [output.name], {output.name: output.onnx_type or ""})
        self._session = Session(exposed.model, graph, run)
        self._outputs = exposed.outputs
        self._axis = SampleAxis.of(output.shape, output.batch_axis, output.merged)
        self._noisy = {name: np.empty_like(value) for name, value in self.values.items()}

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(value.size for value in self.values.values())

    def add_noise(self, seed: Sequence[int], sigma: float, epsilon: float | None = None) -> None:
        """Replace the noise on the weights."""
        rng = np.random.default_rng(list(seed))
        with np.errstate(over="ignore"):
            for name, value in self.values.items():
                for part, noisy in zip(_parts(value), _parts(self._noisy[name]), strict=True):
                    noise = rng.standard_normal(part.size, np.float32)
                    if epsilon is None:
                        noise *= np.float32(sigma)
                    else:
                        wide = part.astype(np.promote_types(part.dtype, np.float32), copy=False)
                        noise = noise * np.sqrt(np.square(sigma * wide) + epsilon**2)
                    np.add(part, noise, out=noisy, casting="same_kind")

    def run(self, feeds: Mapping[str, NDArray[Any]], *, noise: bool = True) -> NDArray[Any]:
        """Compute the output for a batch of samples, the sample axis first."""
        values = self._noisy if noise else self.values
        fed = {self._fed[name]: value for name, value in values.items()}
        (result,) = self._session.run(self._outputs, {**feeds, **fed})
        return self._axis.samples_first(np.asarray(result))


def _form(graph: Graph, operator: onnx.NodeProto, read: str, kept: str) -> tuple[str, ...]:
    """Describe how an operator reads its weights from the constant that holds them."""
    nodes = [operator]
    while read != kept:
        nodes.append(graph.producer[read])
        read = nodes[-1].input[0]
    return tuple(f"{node.op_type} {sorted(map(str, node.attribute))}" for node in nodes)


def square_sum(value: NDArray[Any], less: NDArray[Any] | None = None) -> float:
    """Sum the squares of numbers, or of their differences to others of the same shape."""
    return math.fsum(float(np.square(part).sum()) for part in _exact(value, less))


def log_sum(
    value: NDArray[Any], sigma: float, epsilon: float, less: NDArray[Any] | None = None
) -> float:
    """Compute Σ ln(ε² + σ²v²) over numbers v, or their differences to others of the same shape."""
    return math.fsum(
        float(np.log(epsilon**2 + np.square(sigma * part)).sum()) for part in _exact(value, less)
    )


def _exact(value: NDArray[Any], less: NDArray[Any] | None) -> Iterator[NDArray[np.float64]]:
    for number, part in enumerate(_parts(value)):
        exact = part.astype(np.float64)
        if less is not None:
            exact -= less.reshape(-1)[number * _PART : (number + 1) * _PART]
        yield exact


def _parts(value: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = value.reshape(-1)
    for start in range(0, flat.size, _PART):
        yield flat[start : start + _PART]


def _with_weights_fed(
    whole: onnx.ModelProto,
    values: Mapping[str, NDArray[Any]],
    types: Mapping[str, int],
    fed: Mapping[str, str],
) -> onnx.ModelProto:
    """Copy a model without its outputs, with constants as inputs, which are never copied."""
    model = onnx.ModelProto(ir_version=whole.ir_version)
    model.opset_import.extend(whole.opset_import)
    graph = model.graph
    graph.name = whole.graph.name or "graph"
    for name, value in values.items():
        kind = types[name] if fed[name] == name else onnx.TensorProto.FLOAT
        graph.input.append(onnx.helper.make_tensor_value_info(fed[name], kind, value.shape))
        if fed[name] != name:
            graph.node.append(onnx.helper.make_node("Cast", [fed[name]], [name], to=types[name]))
    graph.input.extend(v for v in whole.graph.input if v.name not in values)
    graph.value_info.extend(v for v in whole.graph.value_info if v.name not in values)
    graph.initializer.extend(t for t in whole.graph.initializer if t.name not in values)
    graph.sparse_initializer.extend(
        t for t in whole.graph.sparse_initializer if t.values.name not in values
    )
    for node in whole.graph.node:
        results = set(node.output) - {""}
        if results <= values.keys():
            continue
        graph.node.append(node)
        if results & values.keys():
            kept = [f"{PREFIX}unused {n}" if n in values else n for n in node.output]
            del graph.node[-1].output[:]
            graph.node[-1].output.extend(kept)
    return model
