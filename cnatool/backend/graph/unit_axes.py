"""Along which axis the units of tensors lie, as far as the operators that compute them tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool.backend.graph.nodes import attributes
from cnatool.records.axes import CHANNELS_FIRST, ELEMENTWISE
from cnatool.records.unit_axis import find_unit_axis, list_unit_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from cnatool.backend.graph.graph import Graph
    from cnatool.records.store import TensorRecord

# Their results have features last.
_FEATURES_LAST = frozenset(
    {"LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization"}
)
# Their results have the axes of their first argument.
_SAME_AXES = ELEMENTWISE | {"Concat", "GroupNormalization", "Pad", "Resize", "Upsample"}


def add_unit_axes(graph: Graph, tensors: Sequence[TensorRecord]) -> list[TensorRecord]:
    """Add to tensors the axis of their units where it is not the one that their shape suggests."""
    axes = _find_axes(graph)
    return [_add_unit_axis(tensor, axes.get(tensor.name)) for tensor in tensors]


def _add_unit_axis(tensor: TensorRecord, axis: int | None) -> TensorRecord:
    if axis is None or tensor.batch_axis is None or tensor.merged is not None:
        return tensor
    place = axis % (len(tensor.shape) + 1)
    if place == tensor.batch_axis:
        return tensor
    place -= place > tensor.batch_axis
    if place == find_unit_axis(tensor) or place not in list_unit_axes(tensor):
        return tensor
    return msgspec.structs.replace(tensor, unit_axis=place)


def _find_axes(graph: Graph) -> dict[str, int]:
    """Find the axis of units in whole tensors; from the end, thus negative, where it is the last.

    Convolutions and poolings put channels behind the samples; products with weights and layer
    normalisation put features last. What is computed element by element keeps the axis, and
    transposing moves it.
    """
    axes: dict[str, int] = {}
    for node in graph.nodes:
        axis = _find_axis(graph, node, axes)
        if axis is not None:
            axes[node.output[0]] = axis
    return axes


def _find_axis(graph: Graph, node: onnx.NodeProto, axes: dict[str, int]) -> int | None:
    if not node.output:
        return None
    if node.op_type in CHANNELS_FIRST:
        return 1
    if node.op_type in _FEATURES_LAST:
        return -1
    if node.op_type == "MatMul" and node.input[1] in graph.constants:
        return -1
    known = [axes[name] for name in node.input if name in axes]
    if node.op_type in _SAME_AXES:
        return known[0] if known and len(set(known)) == 1 else None
    if node.op_type == "Transpose" and known:
        order = attributes(node).get("perm")
        return None if order is None else list(order).index(known[0] % len(order))
    return None
