"""Per-sample statistics of tensors, computed inside the graph so that few numbers leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto

from cnatool.backend.graph.outputs import PREFIX
from cnatool.backend.statistics.reductions import ALWAYS_EXACT, MeasuredTensor, Reductions
from cnatool.backend.statistics.sum_terms import Leaf, LinearSum, direct_sum, edges_from_planes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.records.choices import Statistic

_EXACT = f"{PREFIX}exact"
_PARTIAL = f"{PREFIX}partial"
_COUNTS = f"{PREFIX}counts"


@dataclass(frozen=True, slots=True)
class Measures:
    """How to read statistics from what a model gives.

    Attributes
    ----------
    statistics : tuple of Statistic
        Which ones.
    widths : dict of str to int
        The outputs to fetch, with the columns that each has.
    counted : str or None
        The output that holds the numbers of elements in the batch of the tensors whose shape
        varies; None where there are none.
    """

    statistics: tuple[Statistic, ...]
    widths: dict[str, int]
    counted: str | None
    _exact: list[int]
    _constants: NDArray[np.float64]
    _partial: list[_Read]

    def finite(self, values: Sequence[NDArray[Any]]) -> bool:
        """Say whether all partial sums are finite numbers; parameters as of `read`."""
        given = dict(zip(self.widths, values, strict=True))
        return _PARTIAL not in given or bool(np.isfinite(given[_PARTIAL]).all())

    def read(self, values: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Give each statistic, (n, T), a column for each tensor in the order they were given.

        Parameters
        ----------
        values : sequence of ndarray
            What a run gave for the outputs in ``widths``.
        """
        given = dict(zip(self.widths, values, strict=True))
        found = np.tile(self._constants, (len(values[0]), 1))
        if self._exact:
            found[:, self._exact] = given[_EXACT]
        if self._partial:
            partial = given[_PARTIAL]
            # What is not finite is a result like any other: nobody must be warned of it.
            with np.errstate(invalid="ignore"):
                for part in self._partial:
                    taken = partial[:, part.start : part.start + len(part.weights)]
                    found[:, part.columns] += taken.astype(np.float64) @ part.weights
        columns = np.split(found, len(self.statistics), axis=1)
        return dict(zip(self.statistics, columns, strict=True))


@dataclass(frozen=True, slots=True)
class _Read:
    """Numbers in the output of partial sums, and what they add to which columns.

    Attributes
    ----------
    start : int
        The first of them.
    columns : list of int
        Statistic times tensors, plus tensor.
    weights : ndarray, shape (numbers, columns)
    """

    start: int
    columns: list[int]
    weights: NDArray[np.float64]


def append_statistics(
    model: onnx.ModelProto,
    tensors: Sequence[MeasuredTensor],
    statistics: Sequence[Statistic],
    shapes: Mapping[str, tuple[int, ...]],
    opset: int,
    counted: Sequence[str] = (),
) -> Measures:
    """Make a model give statistics of each tensor over one sample's elements.

    Exact ones are taken in float64: a Cast and a reduction, which cost as much as a small layer.
    Of a float32 tensor that needs no exact ones a few partial sums in float32 are taken instead: of
    a channel's rows and columns, a token's features, a sixteenth of a flat layer. What is summed of
    them outside the graph is summed in float64, so that their rounding averages out: some 1e-8 of
    the absolute sum for flat layers, 1e-6 for pictures.
    """
    nodes = Reductions(opset)
    exact: dict[int, str] = {}
    sums: dict[int, LinearSum] = {}
    sizes = dict(shapes)
    for number, statistic in enumerate(statistics):
        for place, tensor in enumerate(tensors):
            column = number * len(tensors) + place
            if statistic in ALWAYS_EXACT or not tensor.in_parts:
                exact[column] = nodes.exact(tensor, statistic)
            elif statistic == "sum" and tensor.sum is not None:
                sums[column] = tensor.sum
            else:
                name = nodes.elementwise(tensor.name, statistic, TensorProto.FLOAT)
                sizes[name] = tensor.shape
                whole = statistic == "nonzero_count"
                sums[column] = direct_sum(name, tensor.shape, whole=whole)
    reads, parts, width = _partial_sums(nodes, sums, sizes, model)
    widths = {}
    for output, results, size in (
        (_EXACT, list(exact.values()), len(exact)),
        (_PARTIAL, parts, width),
    ):
        if results:
            widths[nodes.add("Concat", results, output, axis=1)] = size
    added = list(widths)
    if counted:
        added.append(nodes.element_counts(counted, _COUNTS))
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants.values())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    constants = np.zeros(len(statistics) * len(tensors))
    for column, found in sums.items():
        constants[column] = found.constant
    return Measures(
        statistics=tuple(statistics),
        widths=widths,
        counted=_COUNTS if counted else None,
        _exact=list(exact),
        _constants=constants,
        _partial=reads,
    )


def _partial_sums(
    nodes: Reductions,
    sums: Mapping[int, LinearSum],
    shapes: Mapping[str, tuple[int, ...]],
    model: onnx.ModelProto,
) -> tuple[list[_Read], list[str], int]:
    """Add what sums are taken from, each once, and say how the sums follow."""
    users: dict[Leaf, dict[int, NDArray[np.float64]]] = {}
    edged = {leaf.tensor for one in sums.values() for leaf in one.terms if leaf.reading == "edges"}
    for column, found in sums.items():
        for leaf, weights in found.terms.items():
            if leaf.reading == "planes" and leaf.tensor in edged:
                # One reading serves both.
                leaf = Leaf(leaf.tensor, "edges")
                weights = edges_from_planes(weights, shapes[leaf.tensor])
            columns = users.setdefault(leaf, {})
            columns[column] = columns[column] + weights if column in columns else weights
    convolutions = {node.output[0]: node for node in model.graph.node if node.op_type == "Conv"}
    reads: list[_Read] = []
    names: list[str] = []
    start = 0
    for leaf, by_column in users.items():
        stacked = np.stack(list(by_column.values()), axis=-1)
        shape = shapes[leaf.tensor]
        if leaf.reading == "product":
            name, weights = nodes.products(leaf.tensor, stacked)
        elif leaf.reading == "windows":
            name, weights = nodes.windows(leaf.tensor, stacked, convolutions[leaf.convolution])
        elif leaf.reading == "edges":
            name, scale = nodes.edges(leaf.tensor, shape)
            weights = stacked * scale[:, None]
        elif leaf.reading == "planes":
            name, repeats = nodes.planes(leaf.tensor, shape)
            weights = np.repeat(stacked * float(shape[1] * shape[2] // repeats), repeats, axis=0)
        elif leaf.reading == "rows":
            name, weights = nodes.row_sums(leaf.tensor, shape), stacked
        else:
            name, weights = leaf.tensor, stacked
        names.append(name)
        reads.append(_Read(start, list(by_column), weights))
        start += len(weights)
    return reads, names, start
