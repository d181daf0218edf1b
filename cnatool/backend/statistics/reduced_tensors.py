"""Reduced tensors: what is kept of a tensor, and the positions that are kept of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cnatool.backend.graph.nodes import PREFIX
from cnatool.errors import DataError
from cnatool.metrics.projection import DenseProjection, spread_positions
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.projection import SparseProjection
    from cnatool.records.ragged import Rows
    from cnatool.records.reductions import Reduction
    from cnatool.records.store import TensorRecord

# What an output of the model that holds a reduced tensor is called.
_REDUCED = f"{PREFIX}reduced "
# The inputs with the places of kept positions, by form.
_PLACES = f"{PREFIX}places "
# Positions of which a run has as many as its samples have real ones.
_SINGLE: Final = frozenset({"cls", "last", "index", "sample"})


@dataclass(frozen=True, slots=True)
class ProjectedAxes:
    """The axes of principal components: (x − mean) · componentsᵀ, in the type of the graph."""

    mean: NDArray[Any]  # (D,)
    components: NDArray[Any]  # (K, D)


@dataclass(frozen=True, slots=True)
class ReducedTensor:
    """A tensor of the store and what it is made from."""

    tensor: TensorRecord
    source: TensorRecord  # with its positions, where padding is left out
    reduction: Reduction
    unit_axis: int | None = None  # of the source; None if all elements are projected
    seed: int = 0
    matrix: DenseProjection | SparseProjection | ProjectedAxes | None = None

    @property
    def finds_places(self) -> bool:
        """Whether the places of its positions are found by sample, by which are real."""
        return bool(self.source.positions) and self.reduction.positions in _SINGLE

    @property
    def masks(self) -> bool:
        """Whether padding is left out of what it is computed from inside the graph."""
        return bool(self.source.positions) and not self.finds_places

    @property
    def output(self) -> str:
        """The name of the model's output that holds it."""
        return f"{_REDUCED}{self.tensor.name}"

    @property
    def places(self) -> str:
        """The name of the model's input with the places of its positions."""
        form = self.reduction
        return f"{_PLACES}{form.positions} {form.place} {self.seed}"

    def find_places(self, real: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Find the places of the positions that are kept of each sample, (n, K) or (n, 1).

        ``real`` says which positions are real, (n, T). Where a sample has fewer than K, those that
        are too many are 0.
        """
        form = self.reduction
        places = np.zeros((len(real), form.place if form.positions == "sample" else 1), np.int64)
        for row, known in enumerate(map(np.flatnonzero, real)):
            if not len(known):
                raise DataError(
                    f"a sample is all padding, so {self.tensor.name!r} has no position to keep. "
                    "Leave such samples out of the data."
                )
            if form.positions == "sample":
                kept = known[spread_positions(len(known), form.place, self.seed)]
                places[row, : len(kept)] = kept
            else:
                places[row] = known[-1 if form.positions == "last" else 0]
        return places

    def trim(self, rows: Rows, real: NDArray[np.bool_]) -> Rows:
        """Leave out of the rows of a sample what it has no positions for."""
        if not self.finds_places or self.reduction.positions != "sample":
            return rows
        if not isinstance(rows, Ragged):
            return rows
        lengths = np.minimum(real.sum(axis=1), self.reduction.place)
        inside = np.arange(self.reduction.place) < lengths[:, None]
        return Ragged.from_lengths(rows.values[inside.reshape(-1)], lengths, rows.axis)


def find_all_places(
    reduced: Sequence[ReducedTensor], real: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """Find the places of kept positions, by the input of the model that takes them."""
    return {each.places: each.find_places(real) for each in reduced if each.finds_places}
