"""The blocks of a network: layers that belong to one repeated part of it.

Blocks follow from residual additions and are named after what the layers' names have in common; a
network without such additions has those that names alone show.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.linear_operators import LinearOperator
    from cnatool.backend.graph.residual import ResidualSum

# A block has no more additions than this: of self-attention, cross-attention, and a perceptron.
_MOST_SUMS = 4
_SCOPES = "pkg.torch.onnx.name_scopes"

Scope = tuple[str, ...]


def find_blocks(
    graph: Graph, linear: Mapping[str, LinearOperator], sums: Sequence[ResidualSum]
) -> dict[str, str]:
    """Name the block of each layer that lies in one, by the result of its linear operator."""
    scopes = {name: _scope(operator) for name, operator in linear.items()}
    groups = [
        {layer for each in group for layer in each.layers}
        for stream in _divide_streams(sums)
        for group in _group_sums(stream, scopes)
    ]
    if not groups:
        return _name_by_scope(linear, scopes)
    names = [_common_scope([scopes[layer] for layer in group]) for group in groups]
    if not all(names) or len(set(names)) < len(names):
        return {
            layer: str(number)
            for number, group in reversed(list(enumerate(groups, start=1)))
            for layer in group
        }
    blocks = {
        layer: ".".join(name) for name, group in zip(names, groups, strict=True) for layer in group
    }
    for layer, scope in scopes.items():
        # Such as keys and values of cross-attention, which are computed from another stream.
        name = next((name for name in names if scope[: len(name)] == name), None)
        if name is not None:
            blocks.setdefault(layer, ".".join(name))
    return blocks


def _divide_streams(sums: Sequence[ResidualSum]) -> list[list[ResidualSum]]:
    """Divide residual additions into streams, in each of which one follows another."""
    streams: list[list[ResidualSum]] = []
    place: dict[int, int] = {}
    for number, each in enumerate(sums):
        if each.before is None:
            place[number] = len(streams)
            streams.append([each])
        else:
            place[number] = place[each.before]
            streams[place[number]].append(each)
    return streams


def _group_sums(
    stream: Sequence[ResidualSum], scopes: Mapping[str, Scope]
) -> Iterator[list[ResidualSum]]:
    """Group the additions of a stream by block: those that repeat, or that names hold together."""
    kinds = [each.operators for each in stream]
    for period in range(2, _MOST_SUMS + 1):
        times, rest = divmod(len(kinds), period)
        differ = len(set(kinds[:period])) > 1
        if times > 1 and not rest and differ and kinds == kinds[:period] * times:
            yield from (list(stream[i : i + period]) for i in range(0, len(stream), period))
            return
    group: list[ResidualSum] = []
    before: Scope = ()
    for each in stream:
        name = _common_scope([scopes[layer] for layer in each.layers])
        if group and (not name or name != before):
            yield group
            group = []
        group.append(each)
        before = name
    if group:
        yield group


def _common_scope(scopes: Sequence[Scope]) -> Scope:
    """Return what scopes have in common, up to the last number in it; empty without one."""
    common: list[str] = []
    known = [scope for scope in scopes if scope]  # exporters rename weights that they fold
    for parts in zip(*known, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    numbers = [place for place, part in enumerate(common) if part.isdigit()]
    return tuple(common[: numbers[-1] + 1]) if numbers else ()


def _scope(operator: LinearOperator) -> Scope:
    """Return the path of the module that a layer is of, without its own name for the weights."""
    node = operator.node
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scope = _read_scopes(entry.value)
            if any(part.isdigit() for part in scope):
                return scope
    weights = operator.weights.rpartition(".")[0]
    for name in (node.name.rpartition("/")[0], weights, operator.result.rpartition("/")[0]):
        parts = tuple(part for part in name.replace("/", ".").split(".") if part)
        if any(part.isdigit() for part in parts):
            return parts
    return ()


def _read_scopes(text: str) -> Scope:
    """Read the innermost scope of a node that PyTorch exported, from its list of scopes."""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    if not isinstance(scopes, list) or not all(isinstance(each, str) for each in scopes):
        return ()
    inner = max(scopes[:-1], key=lambda scope: scope.count("."), default="")
    return tuple(part for part in inner.split(".") if part)


def _name_by_scope(
    linear: Mapping[str, LinearOperator], scopes: Mapping[str, Scope]
) -> dict[str, str]:
    """Find blocks by names alone: numbered parts with several layers, of which two are alike."""
    containers: dict[Scope, dict[str, list[str]]] = {}
    for layer, scope in scopes.items():
        for place, part in enumerate(scope):
            if part.isdigit():
                containers.setdefault(scope[:place], {}).setdefault(part, []).append(layer)
    blocks: dict[str, str] = {}
    for container, parts in sorted(containers.items(), key=lambda item: len(item[0])):
        kinds = [
            tuple(linear[layer].node.op_type for layer in layers)
            for layers in parts.values()
            if len(layers) > 1
        ]
        if len(set(kinds)) < len(kinds):
            for part, layers in parts.items():
                for layer in layers:
                    blocks.setdefault(layer, ".".join((*container, part)))
    return blocks
