"""The path norm: every parameter squared, the network run once on an all-ones input.

Neyshabur et al. 2015; in the form of Jiang et al. 2019, with biases squared like weights.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.products import multiply
from cnatool._util.text import count_text
from cnatool.backend.graph.evaluate import evaluate_node
from cnatool.backend.graph.nodes import attributes
from cnatool.backend.graph.preactivation_walk import FLOATS, QUANTIZATION, SHAPE_CHANGES
from cnatool.backend.weights.fold import along, fold_scales, linear_operators
from cnatool.backend.weights.homogeneous import apply_homogeneous
from cnatool.backend.weights.matrix import linear_map
from cnatool.backend.weights.windows import convolve, convolve_transposed
from cnatool.errors import ModelError
from cnatool.layers.output_paths import MEAN_POOLING, OUTPUT_FUNCTIONS
from cnatool.store.block_matrix import BlockMatrix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.constants import Constants
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.layers import LayerTable
    from cnatool.backend.graph.linear_operators import LinearOperator

# Binary digits by which the greatest value of a tensor may differ from 1.
_NEAR = 64
_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class _Scaled:
    """An array times a power of two, so that nothing overflows however deep the network is."""

    values: NDArray[np.float64]
    exponent: int

    @classmethod
    def of(cls, values: NDArray[np.float64], exponent: int = 0) -> _Scaled:
        """Scale values that are far from 1; a ModelError if one is not finite."""
        largest = float(values.max(initial=0.0))
        if not math.isfinite(largest):
            raise ModelError("a squared weight is not finite")
        shift = math.frexp(largest)[1] if largest else 0
        if abs(shift) <= _NEAR:
            return cls(values, exponent)
        return cls(np.ldexp(values, -shift), exponent + shift)

    def at(self, exponent: int) -> NDArray[np.float64]:
        """Return the array as a multiple of another power of two."""
        if exponent == self.exponent:
            return self.values
        return np.ldexp(self.values, max(self.exponent - exponent, -(1 << 14)))


def compute_log_path_norm(
    graph: Graph,
    layers: LayerTable,
    constants: Constants,
    shape: Sequence[int],
    ranks: Mapping[str, int],
    sizes: Mapping[str, int] | None = None,
    check: Callable[[], None] = lambda: None,
) -> float:
    """Compute the natural logarithm of sqrt(Σ_k f_{w²}(1)_k), -inf where the sum is zero.

    BatchNormalization and constant scales and shifts are first folded into the linear operator
    that they follow. The run is in float64, each tensor with an exponent of its own.

    ``shape`` is the input's, the sample axis first; all samples are the same. Where ``sizes`` are
    given, the elements of tensors for one sample, a run must compute as many of the tensor that is
    summed over: a Reshape may hold another number of samples. The message of a ModelError is the
    reason why the path norm is not defined. ``check`` is called before each node.
    """
    target = _target(graph, layers)
    size = None if sizes is None else sizes.get(target, -1)
    return _Run(graph, constants, ranks, check).log_norm(target, tuple(shape), size)


def _target(graph: Graph, layers: LayerTable) -> str:
    """Find the tensor whose units are summed over: the scores before a softmax or the like."""
    last = [layer for layer in layers.layers if layer.output]
    if len(last) > 1:
        names = ", ".join(layer.linear for layer in last[:3])
        raise ModelError(f"{len(last)} layers lead to outputs ({names})")
    if last:
        return _follow_mean(graph, layers, last[0].preactivation)
    if len(graph.output_names) > 1:
        raise ModelError(f"it has several outputs ({', '.join(graph.output_names[:3])})")
    return graph.output_names[0]


def _follow_mean(graph: Graph, layers: LayerTable, tensor: str) -> str:
    """Follow the last layer to the scores: past a mean over positions, where there is one."""
    target, averaged = tensor, False
    while True:
        nodes = graph.consumers.get(tensor, [])
        ways = [node for node in nodes if node.output[0] in layers.output_tensors]
        ways = [node for node in ways if node.op_type not in OUTPUT_FUNCTIONS]
        if not ways:
            return target
        tensor = ways[0].output[0]
        averaged = averaged or ways[0].op_type in MEAN_POOLING
        if averaged and ways[0].op_type not in SHAPE_CHANGES:
            target = tensor


class _Run:
    """One run of the squared network."""

    def __init__(
        self,
        graph: Graph,
        constants: Constants,
        ranks: Mapping[str, int],
        check: Callable[[], None],
    ) -> None:
        self._graph = graph
        self._check = check
        self._constants = constants
        self._ranks = ranks
        self._linear = {op.result: op for op in linear_operators(graph)}
        self._tensors: dict[str, _Scaled] = {}
        # Shapes, axes, indices: whatever is not computed from the input's values.
        self._settings: dict[str, NDArray[Any]] = {}

    def log_norm(self, target: str, shape: tuple[int, ...], size: int | None) -> float:
        self._tensors[self._only_input()] = _Scaled.of(np.ones(shape))
        nodes = self._list_needed(target)
        left = Counter(name for node in nodes for name in node.input)
        for node in nodes:
            self._check()
            operator = self._linear.get(node.output[0])
            if node.output[0] in self._tensors:
                pass  # folded into the operator before it
            elif operator is not None:
                self._run_linear(operator, target)
            elif node.output[0] in self._graph.dynamic:
                self._run_homogeneous(node)
            else:
                self._settings.update(evaluate_node(node, self._arrays(node), self._graph))
            left.subtract(node.input)
            for name in node.input:
                if left[name] <= 0:
                    self._tensors.pop(name, None)
        result = self._tensors[target]
        if size is not None and result.values.size != size * shape[0]:
            raise ModelError(f"{target!r} is not of {count_text(shape[0], 'sample')}")
        total = float(result.values.sum()) / shape[0]
        return 0.5 * (math.log(total) + result.exponent * math.log(2)) if total else -math.inf

    def _only_input(self) -> str:
        inputs = self._graph.inputs
        if len(inputs) > 1:
            raise ModelError(f"it takes {len(inputs)} inputs")
        if inputs[0].type.tensor_type.elem_type not in FLOATS:
            raise ModelError(f"its input {inputs[0].name!r} does not hold floating-point numbers")
        return str(inputs[0].name)

    def _list_needed(self, target: str) -> list[onnx.NodeProto]:
        """List the nodes on which a tensor depends, apart from those that compute weights."""
        wanted = {target}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self._graph.nodes):
            if wanted.isdisjoint(node.output):
                continue
            nodes.insert(0, node)
            if not self._graph.results.keys().isdisjoint(node.output):
                raise ModelError(_refusal(node, "has branches inside"))
            operator = self._linear.get(node.output[0])
            # A bias may depend on the shape of the data, such as zeros where there is none.
            reads = node.input if operator is None else [operator.data, operator.bias]
            wanted.update(name for name in reads if name and not self._constants.has(name))
        return nodes

    def _run_linear(self, operator: LinearOperator, target: str) -> None:
        """Run a linear operator and what is folded into it."""
        node = operator.node
        if node.op_type not in _LINEAR or node.domain not in ("", "ai.onnx"):
            raise ModelError(_refusal(node, "is quantised or fused, or sums over named axes"))
        if operator.summand or operator.nonlinearity:
            raise ModelError(_refusal(node, "has more fused into it"))
        if operator.bias in self._graph.dynamic:
            raise ModelError(_refusal(node, "has a bias that depends on the input"))
        linear = linear_map(operator, self._constants)
        fold = fold_scales(
            self._graph, operator, linear, self._constants, self._ranks, until=target
        )
        for name in fold.used:
            if self._graph.operator(name) in QUANTIZATION:
                raise ModelError(_refusal(self._graph.producer[name], "is of a quantised graph"))
        matrix = BlockMatrix(linear.blocks, linear.row_scale(fold.scale))
        data = self._tensors[operator.data]
        result = _Scaled.of(_multiply(operator, matrix, linear.shape, data.values), data.exponent)
        result = _add_shift(result, fold.shift, node)
        if operator.bias in self._graph.shape_arithmetic:
            bias = self._setting(operator.bias).astype(np.float64) * fold.scale
            result = _add_shift(result, along(bias, linear.axis), node)
        # Of the tensors in between only the shape is ever used.
        self._tensors.update(dict.fromkeys(fold.used, result))

    def _run_homogeneous(self, node: onnx.NodeProto) -> None:
        names = [name for name in node.input if name in self._tensors]
        if not names:
            raise ModelError(_refusal(node, "reads nothing that is known"))
        exponent = max(self._tensors[name].exponent for name in names)
        arrays = {name: self._tensors[name].at(exponent) for name in names}
        for name, values in apply_homogeneous(node, arrays, self._setting, self._graph).items():
            self._tensors[name] = _Scaled.of(np.asarray(values, np.float64), exponent)

    def _arrays(self, node: onnx.NodeProto) -> dict[str, NDArray[Any]]:
        """Read the inputs of a node that computes with shapes or constants."""
        return {
            name: self._tensors[name].values if name in self._tensors else self._setting(name)
            for name in node.input
            if name
        }

    def _setting(self, name: str) -> NDArray[Any]:
        """Read what does not depend on the input's values: a shape, axes, indices, a bound."""
        if name not in self._settings:
            node = self._graph.producer.get(name)
            if node is None or node.op_type == "Constant" or not self._constants.has(name):
                self._settings[name] = self._constants.value(name)
            else:
                self._settings.update(evaluate_node(node, self._arrays(node), self._graph))
        return self._settings[name]


def _multiply(
    operator: LinearOperator,
    matrix: BlockMatrix,
    shape: tuple[int, ...],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Multiply by squared weights, which have this shape in the model."""
    node = operator.node
    settings = attributes(node)
    if node.op_type in ("Conv", "ConvTranspose"):
        transposed = node.op_type == "ConvTranspose"
        automatic = settings.get("auto_pad", b"NOTSET") != b"NOTSET"
        if "output_shape" in settings or (transposed and automatic):
            raise ModelError(_refusal(node, "has its padding left open"))
        group, rows, _ = matrix.blocks.shape
        kernel = _square_weights(matrix).reshape(group, rows, -1, *shape[2:])
        return (convolve_transposed if transposed else convolve)(values, kernel, settings)
    left = operator.weights == node.input[0]
    if settings.get("transB" if left else "transA", 0):
        values = values.T
    if len(shape) == 2:
        # In parts, as these may be the largest weights of all.
        parts = (np.square(part[0], out=part[0]) for part in matrix.parts())
        if not left:
            lines = values.reshape(-1, values.shape[-1])
            products = [multiply(lines, part.T) for part in parts]
            return np.concatenate(products, axis=-1).reshape(*values.shape[:-1], -1)
        products = [multiply(part, values) for part in parts]
        return np.concatenate(products, axis=-2 if values.ndim > 1 else -1)
    weights = _square_weights(matrix)
    if len(shape) == 1:
        whole = weights[0, 0]
    else:
        turned = weights if left else weights.swapaxes(1, 2)
        whole = turned.reshape(*shape[:-2], *turned.shape[1:])
    return multiply(whole, values) if left else multiply(values, whole)


def _square_weights(matrix: BlockMatrix) -> NDArray[np.float64]:
    whole = matrix.blocks * matrix.scale[:, :, None]
    return np.square(whole, out=whole)


def _add_shift(
    result: _Scaled, values: NDArray[np.float64] | None, node: onnx.NodeProto
) -> _Scaled:
    """Add a squared shift."""
    if values is None:
        return result
    shift = _Scaled.of(np.square(values))
    exponent = max(result.exponent, shift.exponent)
    total = result.at(exponent) + shift.at(exponent)
    if total.shape != result.values.shape:
        raise ModelError(_refusal(node, "has a bias of another shape"))
    return _Scaled.of(total, exponent)


def _refusal(node: onnx.NodeProto, why: str) -> str:
    return f"{node.op_type} (tensor {node.output[0]!r}) {why}"
