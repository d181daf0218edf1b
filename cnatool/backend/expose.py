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

    from cnatool.backend.graph import Graph

__all__ = ["SUM", "StatisticInput", "exposable", "promoted", "with_sums"]

# Name of the output that `with_sums` adds.
SUM = "cnatool::sum"


@dataclass(frozen=True, slots=True)
class StatisticInput:
    """What `with_sums` must know of a tensor: name, element type, rank, sample axis."""

    name: str
    dtype: np.dtype[np.generic]
    rank: int
    batch_axis: int


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

    Reductions run in the graph, so that what leaves the runtime is a few numbers a sample. The
    inner axes (height and width of a picture, the features of a token or of a flat layer) are
    summed in float32, which keeps the large reads narrow; one number a channel is left, and those
    are summed in float64, so that the error does not grow with the number of channels.

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
        name = tensor.name
        axes = [axis for axis in range(tensor.rank) if axis != tensor.batch_axis]
        # float16 overflows at 65504, and integers wrap around.
        if tensor.dtype not in (np.float32, np.float64):
            kind = TensorProto.FLOAT if tensor.dtype == np.float16 else TensorProto.DOUBLE
            name = self.add("Cast", [name], to=kind)
        if len(axes) > 1:
            name = self._sum(name, axes[1:])
            # Removing inner axes moves the sample axis only if it lies behind the kept one.
            axes = [0 if tensor.batch_axis > axes[0] else 1]
            name = self.add("Cast", [name], to=TensorProto.DOUBLE)
        if axes:
            name = self._sum(name, axes)
        name = self.add("Cast", [name], to=TensorProto.DOUBLE)
        return self.add("Reshape", [name, self._constant([-1, 1])])

    def _sum(self, name: str, axes: list[int]) -> str:
        if self._opset < 13:
            return self.add("ReduceSum", [name], axes=axes, keepdims=0)
        return self.add("ReduceSum", [name, self._constant(axes)], keepdims=0)

    def _constant(self, values: list[int]) -> str:
        name = "cnatool::constant " + ",".join(map(str, values))
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in graphs:
            for inner in graph.node:
                yield inner
                yield from _inner_nodes(inner)
