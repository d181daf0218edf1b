"""What is reported of each unit: one array a column, whatever counted the units."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from cnatool.per_unit.gather import locate_positions
from cnatool.per_unit.results import TensorUnits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.unit_statistics import UnitStatistics
    from cnatool.per_unit.select import SelectedTensor

# Numbers of dead units that a summary lists.
_LISTED = 100


@dataclass(slots=True)
class UnitColumns:
    """The units of one tensor over a split; arrays have a row for each unit, NaN for undefined.

    Attributes
    ----------
    selected : SelectedTensor
        The tensor and its axis of units.
    count, nan, infinite, zeros, positives : ndarray of int64, (units,)
        Finite values, those that are not, and finite ones that are 0 and above 0.
    mean, deviation, skewness, minimum, maximum : ndarray of float64, (units,)
        Of the finite values.
    quantiles : ndarray of float64, (units, q)
        The quantiles that were asked for.
    label : ndarray of int64, (units,)
        The label with the highest mean.
    labelled : ndarray of bool, (units,)
        Whether there is one such label: no constant unit has, and none where labels share it.
    class_mean, ccmas : ndarray of float64, (units,)
        The highest mean of a label, and class selectivity.
    top_values, top_rows, top_positions : ndarray, (units, k), and (units, k, axes) for positions
        The samples that excite a unit most; row −1 for none.
    source : {"arrays", "statistics"}
        Where the numbers come from.
    ids : dict of int to str
        Ids of the samples by row.
    names : dict of int to str
        Names of labels, as far as the store has them.
    """

    selected: SelectedTensor
    count: NDArray[np.int64]
    nan: NDArray[np.int64]
    infinite: NDArray[np.int64]
    zeros: NDArray[np.int64]
    positives: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    skewness: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    label: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    class_mean: NDArray[np.float64]
    ccmas: NDArray[np.float64]
    top_values: NDArray[np.float64]
    top_rows: NDArray[np.int64]
    top_positions: NDArray[np.int64]
    source: Literal["arrays", "statistics"] = "arrays"
    ids: dict[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Units of which no finite value is above 0."""
        dead: NDArray[np.bool_] = (self.count > 0) & (self.positives == 0)
        return dead

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Units all finite values of which are equal."""
        constant: NDArray[np.bool_] = (self.count > 0) & (self.minimum == self.maximum)
        return constant

    @classmethod
    def join(cls, parts: Sequence[UnitColumns]) -> Self:
        """Put the units of several parts of a tensor behind one another."""
        columns: dict[str, Any] = {
            each.name: np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(cls)
            if isinstance(getattr(parts[0], each.name), np.ndarray)
        }
        return cls(parts[0].selected, **columns, source=parts[0].source)

    def summary(self) -> TensorUnits:
        """Sum up the units of the tensor."""
        tensor, values = self.selected.tensor, int(self.count.sum())
        known, defined = self.count > 0, ~np.isnan(self.ccmas)
        dead = np.flatnonzero(self.dead)
        return TensorUnits(
            tensor=tensor.name,
            operator=tensor.operator,
            role=tensor.role,
            shape=tuple(
                None if axis == tensor.ragged_axis else size
                for axis, size in enumerate(tensor.shape)
            ),
            unit_axis=self.selected.axis,
            units=len(self.count),
            values=values,
            nan=int(self.nan.sum()),
            infinite=int(self.infinite.sum()),
            dead=len(dead),
            dead_units=tuple(dead[:_LISTED].tolist()),
            constant=int(self.constant.sum()),
            empty=int((~known).sum()),
            zeros=int(self.zeros.sum()) / values if values else None,
            positives=int(self.positives.sum()) / values if values else None,
            mean=_median(self.mean[known]),
            deviation=_median(self.deviation[known]),
            ccmas=_median(self.ccmas[defined]),
            ccmas_units=int(defined.sum()),
            source=self.source,
        )


def make_columns(
    selected: SelectedTensor,
    statistics: UnitStatistics,
    labels: NDArray[np.int64],
    quantiles: Sequence[float],
    source: Literal["arrays", "statistics"] = "arrays",
) -> UnitColumns:
    """Turn statistics of units into the columns that are reported.

    Parameters
    ----------
    selected : SelectedTensor
        The tensor and its axis of units.
    statistics : UnitStatistics
        What was counted, in a store's arrays or while they were dumped.
    labels : ndarray of int64, (classes,)
        Label of each class.
    quantiles : sequence of float
        The quantiles to estimate.
    source : {"arrays", "statistics"}
        Where the statistics come from.
    """
    moments, extremes = statistics.moments, statistics.extremes
    known = moments.count > 0
    nothing = np.full(moments.units, np.nan)
    label, class_mean, ccmas = np.zeros(moments.units, np.int64), nothing, nothing
    labelled = np.zeros(moments.units, np.bool_)
    if statistics.classes is not None and len(labels):
        best = statistics.classes.best
        label = labels[np.maximum(best, 0)]
        # The means of classes differ by rounding even where all values are equal.
        labelled = (best >= 0) & (moments.minimum < moments.maximum)
        class_mean = np.fmax.reduce(statistics.classes.means, axis=0)
        ccmas = statistics.classes.ccmas
    estimated = np.full((moments.units, len(quantiles)), np.nan)
    if statistics.histogram is not None and len(quantiles):
        whole = np.dtype(selected.tensor.dtype).kind in "iub"
        for place, q in enumerate(quantiles):
            values = statistics.histogram.quantile(q, whole=whole)
            with np.errstate(invalid="ignore"):
                estimated[:, place] = np.clip(values, moments.minimum, moments.maximum)
    return UnitColumns(
        selected=selected,
        count=moments.count,
        nan=moments.nan,
        infinite=moments.below + moments.above,
        zeros=moments.zeros,
        positives=moments.positives,
        mean=np.where(known, moments.mean, np.nan),
        deviation=moments.deviation,
        skewness=moments.skewness,
        minimum=np.where(known, moments.minimum, np.nan),
        maximum=np.where(known, moments.maximum, np.nan),
        quantiles=estimated,
        label=label,
        labelled=labelled,
        class_mean=class_mean,
        ccmas=ccmas,
        top_values=extremes.values,
        top_rows=extremes.rows,
        top_positions=locate_positions(extremes.positions, selected.tensor, selected.axis),
        source=source,
    )


def _median(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None
