"""Per-sample statistics of tensors, computed inside the graph so that few numbers leave it.

Exact statistics are a Cast to float64 and a reduction. A float32 tensor is mostly summed in parts
instead: in float32 along a row or over a plane inside the graph, in float64 outside, so that
rounding averages out (1e-6 of the absolute sum). `benchmarks/statistics_speed.py` compares what
either takes with inference alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto

from cnatool._util.products import multiply
from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.statistics.inner_statistics import InnerMeasure, append_inner_statistics
from cnatool.backend.statistics.real_positions import reduce_real, sum_real_rows
from cnatool.backend.statistics.reductions import ALWAYS_EXACT, LARGEST_PLANE, ReductionNodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.statistics.reductions import MeasuredTensor
    from cnatool.records.choices import Statistic

_EXACT = f"{PREFIX}exact"
_PARTIAL = f"{PREFIX}partial"
_INNER = f"{PREFIX}inner"
_COUNTS = f"{PREFIX}counts"
# Channels in a block of that layout: 8 or 16.
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class _PartialSums:
    """Numbers in the output of partial sums, from ``start`` on, and what they add to columns."""

    start: int
    columns: list[int]
    weights: NDArray[np.float64]  # (numbers, columns)


@dataclass(frozen=True, slots=True)
class Measures:
    """How to read statistics from what a model returns."""

    statistics: tuple[Statistic, ...]
    # The outputs to fetch, with the columns that each has.
    widths: dict[str, int]
    # The output with the sizes of the tensors whose shape varies; None where there are none.
    counted: str | None
    _exact: list[int]
    # One for each statistic and tensor: what is added to every sample.
    _constants: NDArray[np.float64]
    _partial: list[_PartialSums]
    # Columns of the tensors in bodies; behind the statistics come numbers of elements.
    _inner: list[int]
    # Those of them that sums in float32 are part of, by their places.
    _inner_partial: list[int]

    def in_range(self, values: Sequence[NDArray[Any]]) -> bool:
        """Whether all partial sums are finite and far below the largest float32; as in `read`."""
        outputs = dict(zip(self.widths, values, strict=True))
        if self._inner_partial and not np.isfinite(outputs[_INNER][:, self._inner_partial]).all():
            return False
        if _PARTIAL not in outputs:
            return True
        # The square of a number beyond 1e19 is infinite. An operator overflows on inputs that are
        # hardly smaller than its results: where its own result is not read, its inputs tell.
        numbers = outputs[_PARTIAL].reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):
            return bool(np.isfinite(np.dot(numbers, numbers)))

    def read(self, values: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Return each statistic, (n, T), from a run's values of the outputs in ``widths``."""
        outputs = dict(zip(self.widths, values, strict=True))
        columns = np.tile(self._constants, (len(values[0]), 1))
        if self._exact:
            columns[:, self._exact] = outputs[_EXACT]
        places = [place for place, column in enumerate(self._inner) if column < columns.shape[1]]
        if places:
            columns[:, [self._inner[place] for place in places]] = outputs[_INNER][:, places]
        # A value that is not finite is a result like any other, and no reason for a warning.
        with np.errstate(invalid="ignore"):
            for part in self._partial:
                numbers = outputs[_PARTIAL][:, part.start : part.start + len(part.weights)]
                columns[:, part.columns] += multiply(numbers.astype(np.float64), part.weights)
        by_statistic = np.split(columns, len(self.statistics), axis=1)
        return dict(zip(self.statistics, by_statistic, strict=True))

    def read_inner_counts(self, values: Sequence[NDArray[Any]]) -> dict[int, NDArray[np.float64]]:
        """Return the numbers of elements, (n,) each, of the tensors in bodies that are counted."""
        numbers = dict(zip(self.widths, values, strict=True)).get(_INNER)
        counts, behind = {}, len(self._constants)
        for place, column in enumerate(self._inner):
            if column >= behind and numbers is not None:
                counts[column - behind] = numbers[:, place]
        return counts


def append_statistics(
    model: onnx.ModelProto,
    tensors: Sequence[MeasuredTensor | InnerMeasure],
    statistics: Sequence[Statistic],
    shapes: Mapping[str, tuple[int, ...]],
    opset: int,
    fed: str,
    counted: Sequence[str] = (),
) -> Measures:
    """Make a model return statistics of each tensor over one sample's elements.

    ``shapes`` are those of the tensors that channel sums name. Of the tensors in ``counted``,
    whose shape varies, the model returns the number of elements as well. ``fed`` is an input with
    samples first.
    """
    nodes = ReductionNodes(opset, fed=fed)
    exact: dict[int, str] = {}
    constants = np.zeros(len(statistics) * len(tensors))
    # By tensor (C, H, W): the weights of its channel sums in each column.
    planes: dict[str, dict[int, NDArray[np.float64]]] = {}
    # By tensor of any shape: the weights of its elements in each column.
    elements: dict[str, dict[int, NDArray[np.float64]]] = {}
    shapes = dict(shapes)
    parts = _Parts()
    for number, statistic in enumerate(statistics):
        for place, tensor in enumerate(tensors):
            column = number * len(tensors) + place
            if isinstance(tensor, InnerMeasure):
                continue
            if statistic in ALWAYS_EXACT or not tensor.in_parts:
                reduce = reduce_real if tensor.positions else ReductionNodes.reduce
                exact[column] = reduce(nodes, tensor, statistic)
                continue
            if tensor.positions:
                parts.add(*sum_real_rows(nodes, tensor, statistic), [column])
                continue
            if statistic == "sum" and tensor.sum is not None:
                constants[column] = tensor.sum.constant
                for name, weights in tensor.sum.terms.items():
                    planes.setdefault(name, {})[column] = weights
                for name, weights in tensor.sum.elements.items():
                    elements.setdefault(name, {})[column] = weights
                continue
            name = nodes.apply_elementwise(tensor.name, statistic, TensorProto.FLOAT)
            if len(tensor.shape) == 3 and statistic != "nonzero_count":
                shapes[name] = tensor.shape
                planes.setdefault(name, {})[column] = np.ones(tensor.shape[0])
            else:
                parts.add(*nodes.sum_rows(name, tensor.shape), [column])
    for name, by_column in elements.items():
        matrix = np.stack([weights.reshape(-1) for weights in by_column.values()], axis=-1)
        parts.add(nodes.weigh_elements(name, matrix), np.eye(len(by_column)), list(by_column))
    _add_planes(nodes, parts, planes, shapes)
    bodies = {p: each for p, each in enumerate(tensors) if isinstance(each, InnerMeasure)}
    rows = append_inner_statistics(nodes, model.graph, bodies, statistics, len(tensors), fed)
    inner = [column for row in rows for column in row.columns]
    widths = {}
    for output, results, size in (
        (_EXACT, list(exact.values()), len(exact)),
        (_PARTIAL, parts.names, parts.width),
        (_INNER, [row.name for row in rows], len(inner)),
    ):
        if results:
            widths[nodes.add("Concat", results, output, axis=1)] = size
    added = list(widths)
    if counted:
        added.append(nodes.count_elements(counted, _COUNTS))
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants.values())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    return Measures(
        statistics=tuple(statistics),
        widths=widths,
        counted=_COUNTS if counted else None,
        _exact=list(exact),
        _constants=constants,
        _partial=parts.sums,
        _inner=inner,
        _inner_partial=[
            place
            for place, column in enumerate(inner)
            if column < len(constants)
            and statistics[column // len(tensors)] not in ALWAYS_EXACT
            and bodies[column % len(tensors)].tensor.in_parts
        ],
    )


def _add_planes(
    nodes: ReductionNodes,
    parts: _Parts,
    planes: Mapping[str, Mapping[int, NDArray[np.float64]]],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Add partial sums of channels, by tensor (C, H, W) with their weights in each column."""
    # Means in the runtime's blocked layout are joined there, and written anew together.
    joined = _Parts()
    for name, by_column in planes.items():
        channels, height, width = shapes[name]
        averages, scale = nodes.average_planes(name, shapes[name])
        stacked = np.stack(list(by_column.values()), axis=-1)
        weights = np.repeat(stacked * scale[0], len(scale) // len(stacked), axis=0)
        if channels % _BLOCK == 0 and height * width <= LARGEST_PLANE:
            joined.add(averages, weights, list(by_column))
        else:
            parts.add(nodes.columns(averages, len(scale)), weights, list(by_column))
    if joined.names:
        whole = nodes.add("Concat", joined.names, axis=1)
        parts.join(nodes.columns(whole, joined.width), joined)


@dataclass(slots=True)
class _Parts:
    """Partial sums as they are lined up in one output."""

    names: list[str] = field(default_factory=list)
    sums: list[_PartialSums] = field(default_factory=list)
    width: int = 0

    def add(self, name: str, weights: NDArray[np.float64], columns: list[int]) -> None:
        self.names.append(name)
        self.sums.append(_PartialSums(self.width, columns, weights))
        self.width += len(weights)

    def join(self, name: str, others: _Parts) -> None:
        """Add the partial sums of ``others``, lined up under one name."""
        self.names.append(name)
        self.sums += [
            _PartialSums(self.width + part.start, part.columns, part.weights)
            for part in others.sums
        ]
        self.width += others.width
