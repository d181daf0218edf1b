"""Promoting intermediates to outputs, and statistics computed inside the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cnatool.store.records import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph import Graph

__all__ = ["SUM", "StatisticInput", "exposable", "promoted", "with_sums"]

# Name of the output that `with_sums` adds.
SUM = "cnatool::sum"


@dataclass(frozen=True, slots=True)
class StatisticInput:
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
    exact : bool
        Sum in float64 throughout.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batch_axis: int
    exact: bool


def exposable(graph: Graph) -> tuple[list[str], list[SkippedTensor]]:
    """Sort every tensor of a graph into those that can be exposed and those that are left out.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    names : list of str
        Tensors that depend on the values of an input, in execution order.
    skipped : list of SkippedTensor
        The others, each with its reason.
    """
    names: list[str] = []
    skipped: list[SkippedTensor] = []
    for node in graph.nodes:
        for name in node.output:
            if not name:
                continue
            if name in graph.dynamic:
                names.append(name)
            elif name in graph.shape_arithmetic:
                skipped.append(
                    SkippedTensor(name, node.op_type, "depends on an input's shape alone")
                )
            else:
                skipped.append(SkippedTensor(name, node.op_type, "constant"))
        for inner in _inner_nodes(node):
            reason = f"inside {node.op_type}: cannot be an output of the graph"
            skipped.extend(
                SkippedTensor(name, inner.op_type, reason) for name in inner.output if name
            )
    return names, skipped


def promoted(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Copy a model with more outputs.

    Outputs go in by name alone: the runtime infers type and shape, and a wrong one could not load.

    Parameters
    ----------
    model : onnx.ModelProto
    names : sequence of str
        Tensors to promote; those that are outputs already are left as they are.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in there
    )
    return copy


def with_sums(
    model: onnx.ModelProto, tensors: Sequence[StatisticInput], opset: int
) -> onnx.ModelProto:
    """Copy a model with one more output, `SUM`: each tensor's sum over one sample's elements.

    Reductions run in the graph, so that what leaves the runtime is a few numbers a sample. They are
    in float64, but for one shortcut: where no exact sum is asked for, the planes of a float32
    picture and the last axis of any other float32 tensor with several are summed in float32 before,
    which spares a large tensor the way through memory in twice its width. That costs some 1e-7 of
    the absolute sum.

    Parameters
    ----------
    model : onnx.ModelProto
    tensors : sequence of StatisticInput
        At least one.
    opset : int
        The model's default opset version.

    Returns
    -------
    onnx.ModelProto
        Its output `SUM` has shape (n, T), float64, columns in the order of ``tensors``.
    """
    copy = promoted(model, ())
    nodes = _SumNodes(opset)
    columns = [nodes.column(tensor) for tensor in tensors]
    nodes.add("Concat", columns, SUM, axis=1)
    copy.graph.node.extend(nodes.nodes)
    copy.graph.initializer.extend(nodes.constants.values())
    copy.graph.output.append(onnx.ValueInfoProto(name=SUM))
    return copy


class _SumNodes:
    """Collects the nodes that `with_sums` appends."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def add(
        self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any
    ) -> str:
        output = output or f"cnatool::{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def column(self, tensor: StatisticInput) -> str:
        name, dtype = tensor.name, tensor.dtype
        axes = [axis for axis in range(len(tensor.shape) + 1) if axis != tensor.batch_axis]
        if dtype == np.float16 and not tensor.exact:
            name, dtype = self._cast(name, np.float32), np.dtype(np.float32)
        if dtype == np.float32 and len(axes) > 1 and not tensor.exact:
            if len(axes) == 3 and tensor.batch_axis == 0:
                name = self._plane_sums(name, tensor.shape)
            else:
                name = self._sum(name, axes[-1:])
                # Removing the last axis moves the sample axis only if that lay behind it.
                axes = [axis - (axis > axes[-1]) for axis in axes[:-1]]
        name = self._cast(name, np.float64)
        if axes:
            name = self._sum(name, axes)
        return self.add("Reshape", [name, self._constant(np.array([-1, 1]))])

    def _plane_sums(self, name: str, shape: tuple[int, ...]) -> str:
        """Sum over height and width, as the mean of a plane times its size.

        ONNX Runtime keeps the results of convolutions in a blocked layout of its own. It can pool
        in that layout; for a ReduceSum it would first write the whole tensor anew.
        """
        means = self._cast(self.add("GlobalAveragePool", [name]), np.float64)
        return self.add("Mul", [means, self._constant(np.array(float(shape[1] * shape[2])))])

    def _cast(self, name: str, dtype: type[np.generic]) -> str:
        return self.add("Cast", [name], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _sum(self, name: str, axes: list[int]) -> str:
        if self._opset < 13:
            return self.add("ReduceSum", [name], axes=axes, keepdims=0)
        return self.add("ReduceSum", [name, self._constant(np.array(axes))], keepdims=0)

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"cnatool::constant {value.tolist()}"
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in graphs:
            for inner in graph.node:
                yield inner
                yield from _inner_nodes(inner)
