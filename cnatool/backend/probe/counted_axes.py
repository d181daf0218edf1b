"""Axes whose length the values of an input decide, such as one that counts detections.

Such an axis may happen to be as long as there are samples, and its rows are not samples. It is
followed through the graph from the operators that count (NonZero, Compress, Unique,
NonMaxSuppression, a Range or Reshape to a computed length) until it is reduced away.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.probe.axis_rules import CountedRules
from cnatool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples


def _negate(value: NDArray[Any]) -> NDArray[Any]:
    return -value if value.dtype.kind == "f" else value[..., ::-1]


# Ways to make samples unlike the data's.
PROVOKING = (np.zeros_like, _negate)


def find_counted_axes(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], *, guess: bool = True
) -> dict[str, frozenset[int]]:
    """Find the axes of a graph's tensors whose length depends on the values of an input.

    All axes of the results of an unknown operator count if one of its inputs has a counted axis;
    without ``guess``, none does.
    """
    if not graph.data_shaped:
        return {}
    inside = {name: shape[graph.loops(name) :] for name, shape in shapes.items()}
    rules = CountedRules(graph, inside, guess=guess)
    before: dict[str, frozenset[int]] | None = None
    while rules.axes != before:
        before = dict(rules.axes)
        for node in graph.nodes:
            rules.add(node)
        if not graph.results:
            break  # without loops, nothing is read before it is computed
    names = rules.axes.keys() | graph.inner.keys()
    return {name: axes for name in names if (axes := rules.outer_axes(name))}


def provoke_shapes(
    graph: Graph,
    samples: Samples,
    rows: NDArray[np.intp],
    run: Callable[[NDArray[np.intp], Samples], Mapping[str, Any]],
) -> list[dict[str, tuple[int, ...]]]:
    """Run a model on samples unlike the data's, where shapes may differ.

    Zeros and the negated samples change what is counted, also by operators of which nothing is
    known. The number of samples stays, and so must the length of a sample axis. There are no runs
    for a graph all of whose shapes follow from those of its inputs.
    """
    if not graph.data_shaped:
        return []
    shapes = []
    for provoke in PROVOKING:
        values = {name: provoke(value) for name, value in samples.values.items()}
        # Not every model takes such values.
        with suppress(BackendError):
            results = run(rows, replace(samples, values=values))
            shapes.append({name: np.shape(value) for name, value in results.items()})
    return shapes
