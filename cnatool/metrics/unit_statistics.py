"""All that is known of the units of a tensor, counted in one pass over its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from cnatool.metrics.histogram import Histogram, HistogramCounter
from cnatool.metrics.selectivity import ClassMeans
from cnatool.metrics.unit_extremes import UnitExtremes
from cnatool.metrics.unit_moments import UnitMoments
from cnatool.metrics.unit_values import as_unit_values, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# Bytes of memory for a unit: counts of some 2,000 bins, in a table and in a histogram.
UNIT_BYTES = 24 << 10
# Bytes of memory for each class of a unit: a sum and a count.
CLASS_BYTES = 16


@dataclass(slots=True)
class UnitStatistics:
    """What is known of the units of a tensor.

    Attributes
    ----------
    moments : UnitMoments
        Moments, extremes and counts.
    histogram : Histogram or None
        Values by bins; None if they were not counted.
    extremes : UnitExtremes
        The samples that excite each unit most.
    classes : ClassMeans or None
        Sums over the samples of each class; None without labels.
    """

    moments: UnitMoments
    histogram: Histogram | None
    extremes: UnitExtremes
    classes: ClassMeans | None

    @property
    def units(self) -> int:
        """Number of units."""
        return self.moments.units

    def merge(self, other: UnitStatistics) -> None:
        """Add what is known of further samples."""
        self.moments.merge(other.moments)
        self.extremes.merge(other.extremes)
        if self.histogram is None or other.histogram is None:
            self.histogram = None
        else:
            self.histogram = self.histogram.merge(other.histogram)
        if self.classes is None or other.classes is None:
            self.classes = None
        else:
            self.classes.merge(other.classes)

    @classmethod
    def join(cls, parts: Sequence[UnitStatistics]) -> Self:
        """Put the units of several behind one another."""
        histograms = [part.histogram for part in parts if part.histogram is not None]
        classes = [part.classes for part in parts if part.classes is not None]
        return cls(
            UnitMoments.join([part.moments for part in parts]),
            Histogram.join(histograms) if len(histograms) == len(parts) else None,
            UnitExtremes.join([part.extremes for part in parts]),
            ClassMeans.join(classes) if len(classes) == len(parts) else None,
        )


def spread_classes(
    means: ClassMeans | None, places: NDArray[np.intp], classes: int, units: int
) -> ClassMeans:
    """Return sums of classes by other numbers, ``places``, among more of them."""
    spread = ClassMeans.empty(classes, units)
    if means is not None:
        spread.sums[places], spread.counts[places] = means.sums, means.counts
    return spread


class UnitCounter:
    """Counts all statistics of units, tile by tile, while the values are in the cache.

    Parameters
    ----------
    units : int
        Number of units.
    k : int
        Samples that are kept of each unit.
    classes : int
        Number of classes; 0 without labels.
    histogram : bool
        Whether to count values by bins.
    dense : bool, optional
        As in `HistogramCounter`.
    before : UnitStatistics, optional
        What was counted before, of so many units, ``k`` and ``classes``; it changes.
    """

    def __init__(
        self,
        units: int,
        k: int,
        *,
        classes: int = 0,
        histogram: bool = True,
        dense: bool | None = None,
        before: UnitStatistics | None = None,
    ) -> None:
        self.units = units
        if before is None:
            none = ClassMeans.empty(classes, units) if classes else None
            extremes = UnitExtremes.empty(units, k)
            before = UnitStatistics(UnitMoments.empty(units), None, extremes, none)
        self._moments = before.moments
        self._extremes = before.extremes
        self._histogram = None
        if histogram:
            self._histogram = HistogramCounter(units, dense=dense, before=before.histogram)
        self._classes = before.classes

    def update(
        self,
        values: ArrayLike,
        rows: ArrayLike,
        positions: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        start: int = 0,
    ) -> None:
        """Add values.

        Parameters
        ----------
        values : array_like, (n, units) or (n, units, positions)
            Values of the units from ``start`` on.
        rows : array_like of int, (n,)
            Number of the sample that each row is of.
        positions : array_like of int, (n,), optional
            The position of the first value of each row; 0 by default.
        classes : array_like of int, (n,), optional
            Class of the sample of each row, from 0; negative for none.
        start : int
            The first of the units.
        """
        array = np.asarray(values)
        array = array[:, :, None] if array.ndim == 2 else array
        samples = np.asarray(rows, np.int64)
        places = np.zeros(len(samples), np.int64) if positions is None else np.asarray(positions)
        labels = None if self._classes is None or classes is None else np.asarray(classes)
        for part, units in tiles(array.shape):
            # Converted a tile at a time, so that the copy stays in the cache.
            tile = as_unit_values(array[part, units])
            first = start + units.start
            here = slice(first, first + tile.shape[1])
            sums = self._moments.add_tile(tile, here)
            if self._histogram is not None:
                self._histogram.add_tile(tile, first)
            largest = None if sums is None else sums.row_maxima
            self._extremes.add_tile(tile, samples[part], places[part], first, largest)
            if self._classes is not None and labels is not None:
                row_sums = None if sums is None else sums.row_sums
                self._classes.add_tile(tile, row_sums, labels[part], first)
        self._moments.settle()

    def spread_classes(self, places: NDArray[np.intp], classes: int) -> None:
        """Renumber the classes so far, in order, among more of them."""
        self._classes = spread_classes(self._classes, places, classes, self.units)

    def histogram(self) -> Histogram | None:
        """Return the histogram of all values so far, if they are counted by bins."""
        return None if self._histogram is None else self._histogram.histogram()

    def statistics(self, *, histogram: bool = True) -> UnitStatistics:
        """Return the statistics of all values so far, with or without the histogram."""
        self._extremes.settle()
        counts = self.histogram() if histogram else None
        return UnitStatistics(self._moments, counts, self._extremes, self._classes)
