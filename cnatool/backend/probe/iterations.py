"""Shapes of the tensors in loops, which may change from one iteration to the next.

The runtime stacks the iterations of a tensor only if all have the same shape, and inside another
loop only if there are as many of them each time. Of other tensors, statistics can be stored.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx

from cnatool.backend.graph.appended_nodes import AppendedNodes
from cnatool.backend.graph.body_rows import ONE_ROW, Row, gather_rows
from cnatool.backend.graph.body_rows import Samples as SampleRows
from cnatool.backend.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.control_flow import InnerTensor
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions

# No tensor of a network has more axes.
_MOST_AXES: Final = 12
# Length in the place of an axis that a tensor does not have.
_NO_AXIS: Final = -1


@dataclass(frozen=True, slots=True)
class IteratedShape:
    """The shape of a tensor over all iterations of a run, in which it was computed."""

    # Iterations of each loop around it, the outermost first; the most where they differ
    iterations: tuple[int, ...]
    least: tuple[int, ...]  # the least length of each axis
    most: tuple[int, ...]
    changes: bool  # iterations cannot be stacked

    @property
    def shape(self) -> tuple[int, ...]:
        """Iterations and lengths, the most where they differ."""
        return (*self.iterations, *self.most)


def read_iterated_shapes(
    graph: Graph,
    names: Iterable[str],
    samples: Samples,
    groups: Sequence[NDArray[np.intp]],
    run: RunOptions,
) -> list[dict[str, IteratedShape]]:
    """Read the shapes of tensors in loops, in runs of groups of the samples.

    Tensors that are not computed in a run are left out.
    """
    tensors = [graph.inner[name] for name in names if graph.loops(name)]
    if not tensors:
        return [{} for _ in groups]
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = AppendedNodes(graph.opset)
    folds = _append_folds(nodes, model.graph, tensors, next(iter(samples.values)))
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants.values())
    del model.graph.output[:]
    outputs = [row.name for rows in folds.values() for row in rows]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    session = Session(model, graph, run, frugal=True)
    shapes = []
    for group in groups:
        values = dict(zip(outputs, session.run(outputs, samples.feeds(group)), strict=True))
        read = {
            fold: {
                column: number
                for row in rows
                for column, number in zip(row.columns, values[row.name][0], strict=True)
            }
            for fold, rows in folds.items()
        }
        found = ((tensor.name, _read_shape(i, tensor, read)) for i, tensor in enumerate(tensors))
        shapes.append({name: shape for name, shape in found if shape is not None})
    return shapes


# What is combined over iterations, and how: lengths of axes, or by level of a loop how often a
# tensor is computed in one of its iterations; in a whole run at level -1.
_Fold = tuple[str, int | None]
_LENGTHS: Final = None


def _append_folds(
    nodes: AppendedNodes, graph: onnx.GraphProto, tensors: Sequence[InnerTensor], fed: str
) -> dict[_Fold, list[Row]]:
    """Make a graph return what shapes are read from, in columns of tensors."""
    items = [(tensor.bodies, (i, tensor)) for i, tensor in enumerate(tensors)]
    deepest = max(len(tensor.bodies) for tensor in tensors)
    gather = partial(gather_rows, nodes, graph)
    samples = SampleRows(nodes, fed)
    folds: dict[_Fold, list[Row]] = {}
    for extreme in ("Min", "Max"):
        folds[extreme, _LENGTHS] = gather(
            items, _measure_lengths, partial(_choose, extreme, deepest), ONE_ROW, samples
        )
        for level in range(-1, deepest):
            inside = [item for item in items if level < 0 or _repeats(item[1][1], level)]
            folds[extreme, level] = gather(
                inside, _measure_once, partial(_choose, extreme, level), ONE_ROW, samples
            )
    return folds


def _choose(extreme: str, counted: int, level: int) -> str:
    """Return the operator for a node at some level: what is inside ``counted`` is added up."""
    return "Add" if level > counted else extreme


def _repeats(tensor: InnerTensor, level: int) -> bool:
    return level < len(tensor.bodies) and tensor.bodies[level].repeats


def _measure_lengths(item: tuple[int, InnerTensor], nodes: AppendedNodes, _: bool) -> Iterator[Row]:
    number, tensor = item
    lengths = nodes.add("Shape", [tensor.own])
    lengths = nodes.add("Concat", [lengths, nodes.integers([_NO_AXIS] * _MOST_AXES)], axis=0)
    lengths = nodes.add("Gather", [lengths, nodes.integers(range(_MOST_AXES))])
    row = nodes.add("Cast", [nodes.reshape(lengths, [1, -1])], to=onnx.TensorProto.DOUBLE)
    yield Row(row, [number * _MOST_AXES + axis for axis in range(_MOST_AXES)])


def _measure_once(item: tuple[int, InnerTensor], nodes: AppendedNodes, _: bool) -> Iterator[Row]:
    yield Row(nodes.constant("once", np.ones((1, 1))), [item[0]])


def _read_shape(
    number: int, tensor: InnerTensor, read: Mapping[_Fold, Mapping[int, float]]
) -> IteratedShape | None:
    """Read the shape of a tensor; None where it was not computed."""
    times = int(read["Max", -1][number])
    if not times:
        return None
    axes = range(number * _MOST_AXES, (number + 1) * _MOST_AXES)
    least, most = (
        tuple(int(read[extreme, _LENGTHS][axis]) for axis in axes) for extreme in ("Min", "Max")
    )
    rank = sum(length != _NO_AXIS for length in most)
    levels = [level for level, body in enumerate(tensor.bodies) if body.repeats]
    inside = [(read["Min", level][number], read["Max", level][number]) for level in levels]
    counts = [times, *(max(1, int(largest)) for _, largest in inside)]
    return IteratedShape(
        iterations=tuple(-(-outer // inner) for outer, inner in itertools.pairwise(counts)),
        least=least[:rank],
        most=most[:rank],
        changes=least != most or any(fewest != largest for fewest, largest in inside),
    )
