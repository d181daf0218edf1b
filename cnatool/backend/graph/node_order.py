"""The order in which a model runs the nodes that are appended to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.nodes import captured_names

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

# The group of nodes that read no tensor of the model, only inputs and constants.
_NONE = -1


def order_appended(graph: onnx.GraphProto, appended: Collection[str]) -> None:
    """Put appended nodes, named by their results, where each runs once its tensor is computed.

    An eager session runs the first node of the model that is ready. So the nodes that read a tensor
    come before the model's own: the tensor is read while it is in the cache, and then its memory is
    used again. Behind the model's own nodes, they would wait for the end of the run. ONNX Runtime
    sorts nodes itself, and does not need them in the order of what they read.

    Where it replaces nodes to change the layout of tensors, as it does for convolutions, it visits
    the graph from its last nodes on, each after what it needs, and puts the new nodes behind all
    others in that order. So the nodes that join what was computed of several tensors stay last, and
    those that read the model's last tensors come first.
    """
    results = frozenset(appended)
    own = [node for node in graph.node if results.isdisjoint(node.output)]
    place = {name: at for at, node in enumerate(own) for name in node.output}
    groups: dict[int, list[onnx.NodeProto]] = {}
    joins: list[onnx.NodeProto] = []
    of_result: dict[str, int | None] = {}
    for node in graph.node:
        if results.isdisjoint(node.output):
            continue
        names = {*node.input, *captured_names(node)}
        read = {of_result.get(name, place.get(name, _NONE)) for name in names} - {_NONE}
        group = _NONE if not read else read.pop() if len(read) == 1 else None
        of_result.update(dict.fromkeys(node.output, group))
        (joins if group is None else groups.setdefault(group, [])).append(node)
    ordered = groups.pop(_NONE, [])
    for group in sorted(groups, reverse=True):
        ordered += groups[group]
    del graph.node[:]
    graph.node.extend([*ordered, *own, *joins])
