"""A tensor as small runs describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.probe.sample_axis import SampleAxis

if TYPE_CHECKING:
    from cnatool.records.row_index import RowIndex
    from cnatool.records.store import Merged


@dataclass(frozen=True, slots=True)
class ProbedTensor:
    """A tensor as a probe describes it."""

    name: str  # name in the graph, and the operator that makes it
    operator: str
    onnx_type: str  # element type in the graph, as ONNX names it
    dtype: np.dtype[Any]  # element type of the arrays that are read
    shape: tuple[int, ...]  # shape for one sample, the sample axis left out
    # Where the sample axis is; None for a tensor that is one sample, and has none
    batch_axis: int | None
    # Whether the graph merges the sample axis with another, and which of the two is outer
    merged: Merged | None = None
    varies: bool = False  # the rest of the shape depends on the data
    # The axis of ``shape`` that varies; None if none does, or several
    varying_axis: int | None = None
    # What says which sample each row is of, in place of a sample axis
    index: RowIndex | None = None
    # A sample's values are the same whatever samples are beside it, apart from random ones
    independent: bool = True
    # The operator whose random numbers make its values differ from run to run
    random: str | None = None

    @property
    def axis(self) -> SampleAxis:
        """Where its samples are."""
        return SampleAxis.of(self.shape, self.batch_axis, self.merged)

    @property
    def is_summed_in_parts(self) -> bool:
        """Whether its sums may be added up from sums of its parts, and lose digits."""
        plain = self.dtype == np.float32 and self.batch_axis == 0
        return plain and self.merged is None and not self.varies
