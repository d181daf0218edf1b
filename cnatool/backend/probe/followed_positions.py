"""Positions followed from the inputs of a model through its operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool.backend.probe.axis_rules import CountedRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.records.masks import MaskRecord
    from cnatool.records.store import TensorRecord

# A number of samples that is no length, so that axes of a reshaped tensor are told apart.
_SAMPLES = 7919


class KnownRules(CountedRules):
    """Passes on positions where every length is known: none is computed from another."""

    def _value_counts(self, name: str) -> frozenset[int]:
        return frozenset()


def follow_positions(
    graph: Graph,
    tensors: Sequence[TensorRecord],
    sample: Samples,
    mask: MaskRecord,
    by: type[CountedRules],
) -> dict[str, frozenset[int]]:
    """Follow positions from the inputs through the operators; by tensor, axes of one sample."""
    fed = sample.feeds(np.zeros(1, np.intp))
    shapes = {name: (_SAMPLES, *fed[name].shape[1:]) for name in sample.sample_axes}
    for tensor in tensors:
        shape = list(tensor.shape)
        if tensor.batch_axis is not None and tensor.merged is not None:
            shape[tensor.batch_axis] *= _SAMPLES
        elif tensor.batch_axis is not None:
            shape.insert(tensor.batch_axis, _SAMPLES)
        shapes[tensor.name] = tuple(shape[graph.loops(tensor.name) :])
    rules = by(graph, shapes)
    for name, along in mask.axes.items():
        rules.axes[name] = frozenset(axis + 1 for axis in along)
    for node in graph.nodes:
        rules.add(node)
    followed = {}
    for tensor in tensors:
        axis = tensor.batch_axis
        axes = frozenset(rules.axes.get(tensor.name, ()))
        if axis is not None and tensor.merged is None:
            axes = frozenset(k - (k > axis) for k in axes if k != axis)
        followed[tensor.name] = frozenset(k for k in axes if k < len(tensor.shape))
    return followed
