"""From which of some tensors each of them is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from cnatool.backend.graph.graph import Graph


def find_sources(graph: Graph, names: Collection[str]) -> dict[str, list[str]]:
    """Find the nearest of the named tensors that each of them is computed from.

    They are in execution order; tensors between them that are not named are passed over.
    """
    order = {name: place for place, name in enumerate(names)}
    nearest: dict[str, frozenset[str]] = {}
    sources: dict[str, list[str]] = {}
    for node in graph.nodes:
        read = frozenset[str]().union(*(nearest.get(name, ()) for name in node.input))
        for name in node.output:
            nearest[name] = frozenset((name,)) if name in order else read
            if name in order:
                sources[name] = sorted(read, key=order.__getitem__)
    return sources
