"""Sums over each sample's elements, computed inside the graph so that few numbers leave it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cnatool.backend.expose import PREFIX, promoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.backend.linear_sums import LinearSum
    from cnatool.store.records import Merged

__all__ = ["SummedModel", "SummedTensor", "with_counts", "with_sums"]

_EXACT = f"{PREFIX}exact"
_PARTIAL = f"{PREFIX}partial"
_COUNTS = f"{PREFIX}counts"
# Partial sums of a flat layer: few enough to be cheap, many enough for their errors to average out.
_BLOCKS = 16
# So few numbers leave the graph as they are.
_UNSUMMED = 32


@dataclass(frozen=True, slots=True)
class SummedTensor:
    """What `with_sums` must know of a tensor.

    Attributes
    ----------
    name : str
        Its name.
    dtype : numpy.dtype
        Its element type.
    shape : tuple of int
        Its shape for one sample, the sample axis left out.
    batch_axis : int
        Where the sample axis is.
    merged : {"NT", "TN"} or None
        Whether it is merged with another, and which of the two is the outer one.
    exact : bool
        It must be summed in float64 throughout.
    linear : LinearSum or None
        Where the sum is cheaper taken from what comes before.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batch_axis: int
    exact: bool
    merged: Merged | None = None
    linear: LinearSum | None = None

    @property
    def summed_exactly(self) -> bool:
        """Whether it has to be, or is not of the kind that is summed in parts."""
        plain = self.dtype == np.float32 and self.batch_axis == 0 and self.merged is None
        return self.exact or not plain or math.prod(self.shape) == 0 or not self.shape


@dataclass(frozen=True, slots=True)
class SummedModel:
    """A model with sums among its outputs.

    Attributes
    ----------
    model : onnx.ModelProto
        The model.
    outputs : tuple of str
        Names of the outputs that `sums` takes.
    """

    model: onnx.ModelProto
    outputs: tuple[str, ...]
    _exact: tuple[int, ...]
    _partial: dict[int, _Partial]

    @property
    def widths(self) -> dict[str, int]:
        """Columns that each of `outputs` has."""
        partial = sum(parts.width for parts in self._partial.values())
        return {_EXACT: len(self._exact), _PARTIAL: partial}

    def sums(self, values: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Give the sums, (n, T), a column for each tensor in the order given to `with_sums`.

        Parameters
        ----------
        values : sequence of ndarray
            What a run gave for `outputs`.
        """
        given = dict(zip(self.outputs, values, strict=True))
        sums = np.empty((len(values[0]), len(self._exact) + len(self._partial)))
        if self._exact:
            sums[:, self._exact] = given[_EXACT]
        if self._partial:
            columns, partial = list(self._partial), list(self._partial.values())
            starts = np.cumsum([0, *(parts.width for parts in partial[:-1])])
            sums[:, columns] = np.add.reduceat(given[_PARTIAL].astype(np.float64), starts, axis=1)
            sums[:, columns] *= [parts.scale for parts in partial]
            sums[:, columns] += [parts.added for parts in partial]
        return sums


def with_sums(model: onnx.ModelProto, tensors: Sequence[SummedTensor], opset: int) -> SummedModel:
    """Copy a model that also gives each tensor's sum over one sample's elements.

    An exact sum is a Cast to float64 and a ReduceSum. That costs as much as a small layer, so a
    float32 tensor that needs no exact sum gives a few partial sums in float32 instead: a channel's
    plane of a picture, a token's features, a sixteenth of a flat layer. Their sum is taken in
    float64 outside the graph. The rounding of many short sums averages out: some 1e-8 of the
    absolute sum for flat layers; 1e-6 for planes, whose many equal values round alike. A linear
    operator's sum may be taken from its input, in parts as well.

    Parameters
    ----------
    model : onnx.ModelProto
    tensors : sequence of SummedTensor
        At least one.
    opset : int
        The model's default opset version.
    """
    nodes = _Nodes(opset)
    exact = {i: nodes.exact_sum(t) for i, t in enumerate(tensors) if t.summed_exactly}
    partial = {i: nodes.partial_sums(t) for i, t in enumerate(tensors) if not t.summed_exactly}
    outputs = []
    for name, results in (
        (_EXACT, list(exact.values())),
        (_PARTIAL, [parts.name for parts in partial.values()]),
    ):
        if results:
            outputs.append(nodes.add("Concat", results, name, axis=1))
    copy = promoted(model, ())
    copy.graph.node.extend(nodes.nodes)
    copy.graph.initializer.extend(nodes.constants.values())
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return SummedModel(copy, tuple(outputs), tuple(exact), partial)


def with_counts(
    model: onnx.ModelProto, tensors: Sequence[str]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Copy a model that also gives the number of elements of some tensors in a batch.

    Parameters
    ----------
    model : onnx.ModelProto
    tensors : sequence of str

    Returns
    -------
    model : onnx.ModelProto
    outputs : tuple of str
        The output that holds the counts, (len(tensors),) int64; none where there are no tensors.
    """
    if not tensors:
        return model, ()
    copy = promoted(model, ())
    sizes = [f"{_COUNTS} {i}" for i in range(len(tensors))]
    shape = f"{_COUNTS} shape"
    copy.graph.initializer.append(numpy_helper.from_array(np.array([1]), shape))
    for tensor, size in zip(tensors, sizes, strict=True):
        copy.graph.node.append(helper.make_node("Size", [tensor], [f"{size} scalar"]))
        copy.graph.node.append(helper.make_node("Reshape", [f"{size} scalar", shape], [size]))
    copy.graph.node.append(helper.make_node("Concat", sizes, [_COUNTS], axis=0))
    copy.graph.output.append(onnx.ValueInfoProto(name=_COUNTS))
    return copy, (_COUNTS,)


@dataclass(frozen=True, slots=True)
class _Partial:
    """Partial sums in the graph, (n, width) float32; the sum is scale times theirs, plus added."""

    name: str
    width: int
    scale: float = 1.0
    added: float = 0.0


class _Nodes:
    """Collects the nodes that `with_sums` appends."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, inputs: list[str], output: str | None = None, **kw: Any) -> str:
        output = output or f"{PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **kw))
        return output

    def exact_sum(self, tensor: SummedTensor) -> str:
        """Add the sum of a tensor, (n, 1) float64."""
        name = self.add("Cast", [self._apart(tensor)], to=onnx.TensorProto.DOUBLE)
        sample_axis = tensor.batch_axis + (tensor.merged == "TN")
        axes = [axis for axis in range(len(tensor.shape) + 1) if axis != sample_axis]
        return self._columns(self._sum(name, axes) if axes else name, 1)

    def partial_sums(self, tensor: SummedTensor) -> _Partial:
        """Add partial sums of a float32 tensor."""
        if tensor.linear is not None:
            return self._linear_sums(tensor.name, tensor.linear)
        if len(tensor.shape) == 1:
            (size,) = tensor.shape
            if size <= _UNSUMMED:
                return _Partial(tensor.name, size)
            return _Partial(self.add("MatMul", [tensor.name, self._blocks(size)]), _BLOCKS)
        *outer, last = tensor.shape
        if len(tensor.shape) == 3:
            # The runtime keeps the results of convolutions in a blocked layout of its own. It can
            # pool in that layout; for a ReduceSum it would first write the whole tensor anew.
            means = self.add("GlobalAveragePool", [tensor.name])
            return _Partial(self._columns(means, outer[0]), outer[0], float(outer[1] * last))
        width = math.prod(outer)
        sums = self._sum(tensor.name, [len(tensor.shape)])
        return _Partial(self._columns(sums, width), width)

    def _apart(self, tensor: SummedTensor) -> str:
        """Give the tensor with its sample axis apart from the one that it is merged with."""
        if tensor.merged is None:
            return tensor.name
        axis = tensor.batch_axis + (tensor.merged == "TN")
        shape = np.insert(np.array(tensor.shape, np.int64), axis, -1)
        return self.add("Reshape", [tensor.name, self._constant(shape)])

    def _linear_sums(self, name: str, linear: LinearSum) -> _Partial:
        size = len(linear.weights)
        flat = self._columns(linear.source, size)
        weights = (linear.weights[:, None] * _block_mask(size)).astype(np.float32)
        constant = f"{PREFIX}linear {name}"
        self.constants[constant] = numpy_helper.from_array(weights, constant)
        product = self.add("MatMul", [flat, constant])
        return _Partial(product, weights.shape[1], 1.0, linear.constant)

    def _columns(self, name: str, width: int) -> str:
        return self.add("Reshape", [name, self._constant(np.array([-1, width]))])

    def _sum(self, name: str, axes: list[int]) -> str:
        if self._opset < 13:
            return self.add("ReduceSum", [name], axes=axes, keepdims=0)
        return self.add("ReduceSum", [name, self._constant(np.array(axes))], keepdims=0)

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"{PREFIX}constant {value.tolist()}"
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def _blocks(self, size: int) -> str:
        """Give the matrix of ones and zeros that sums ``size`` numbers in blocks, (size, k)."""
        name = f"{PREFIX}blocks {size}"
        if name not in self.constants:
            mask = _block_mask(size).astype(np.float32)
            self.constants[name] = numpy_helper.from_array(mask, name)
        return name


def _block_mask(size: int) -> NDArray[np.bool_]:
    """Say which of ``size`` numbers belongs to which block, (size, k)."""
    count = min(size, _BLOCKS)
    mask: NDArray[np.bool_] = np.arange(size)[:, None] * count // size == np.arange(count)
    return mask
