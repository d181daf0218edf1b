"""How far the units of one tensor drift: all their values, and their means over each sample.

The values of both sets go into histograms of the same bins. As differences of bins are relative to
the value, a unit whose values all lie far from 0 is counted from the mean of the first rows; and
values that occur often, such as what a convolution makes of a blank background, divide their bins.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.comparing.drift.atoms import find_atoms, find_centre
from cnatool.comparing.drift.numbers import (
    HeldNumbers,
    NumberDifferences,
    compare_numbers,
    hold_numbers,
    mean_or_nan,
    sample_deviation,
    within_rounding,
)
from cnatool.metrics.drift import ks_bounds, standardised_difference
from cnatool.metrics.histogram import Histogram, HistogramCounter
from cnatool.metrics.unit_moments import UnitMoments
from cnatool.records.ragged import Ragged
from cnatool.store.ragged import RaggedArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.records.unit_axis import UnitAxis
    from cnatool.store.stored_array import StoredArray

# Units that are counted in one pass over a tensor; others take further passes.
UNITS_AT_ONCE = 2048
# Rows of either set from which is found what values to count apart.
_HEAD = 256


@dataclass(frozen=True, slots=True)
class UnitDifferences:
    """How far apart the units of a tensor are, (units,) each; NaN where undefined."""

    count: NDArray[np.int64]  # finite values
    count2: NDArray[np.int64]
    nonfinite: NDArray[np.int64]
    nonfinite2: NDArray[np.int64]
    mean: NDArray[np.float64]
    mean2: NDArray[np.float64]
    std: NDArray[np.float64]
    std2: NDArray[np.float64]
    smd: NDArray[np.float64]
    ks: NDArray[np.float64]  # at least
    ks_high: NDArray[np.float64]
    samples: NumberDifferences  # of means over the positions of a sample
    rounded: NDArray[np.bool_]  # units whose distance rounding can cause, so that it is set to 0


def compare_units(
    first: StoredArray | RaggedArray,
    second: StoredArray | RaggedArray,
    axis: UnitAxis,
    units: int,
    rounding: float,
    progress: Callable[[int, int], None],
) -> UnitDifferences:
    """Compare the units of a tensor in two arrays.

    Parameters
    ----------
    first, second : StoredArray or RaggedArray
        Its values in the two sets.
    axis : int, "element" or None
        The axis of a sample's shape that has the units, as in `find_unit_axis`.
    units : int
        Their number.
    rounding : float
        Share of values that rounding can change them by.
    progress : callable
        Receives the rows that were read, and all that are to be read.
    """
    heads = [_read_head(array) for array in (first, second)]
    parts = [slice(low, low + UNITS_AT_ONCE) for low in range(0, units, UNITS_AT_ONCE)]
    rows, done = (len(first) + len(second)) * len(parts), 0
    found = []
    for part in parts:
        width = len(range(units)[part])
        held = hold_numbers(len(first), len(second), width)
        values: list[_Values] = []
        known = [_select_units(head, axis, part) for head in heads]
        centre, atoms = find_centre(known), find_atoms(known)
        for array, numbers in zip((first, second), held, strict=True):
            side = _Values(width, centre, atoms)
            for start, block in array.blocks():
                side.add(start, _select_units(block, axis, part), _offsets(block), numbers)
                done += len(block)
                progress(done, rows)
            side.finish()
            values.append(side)
        found.append(
            _compare(
                (values[0].moments, values[1].moments),
                (values[0].histogram, values[1].histogram),
                (values[0].around, values[1].around),
                compare_numbers(*held),
                rounding,
            )
        )
    return _join(found)


def compare_counted_units(
    moments: tuple[UnitMoments, UnitMoments],
    histograms: tuple[Histogram, Histogram],
    rounding: float,
) -> UnitDifferences:
    """Compare units of which a dump counted the values; no number of single samples is known."""
    return _compare(
        moments, histograms, None, NumberDifferences.unknown(moments[0].units), rounding
    )


def _read_head(array: StoredArray | RaggedArray) -> Rows:
    rows = array.end_of_block(0, len(array)) if isinstance(array, RaggedArray) else array.block_rows
    head: Rows = array[: min(rows, _HEAD)]
    return head


def _offsets(block: Rows) -> NDArray[np.int64] | None:
    return block.offsets if isinstance(block, Ragged) else None


def _select_units(block: Rows, axis: UnitAxis, part: slice) -> NDArray[Any]:
    """Return the values of some units, (rows, units, positions); rows are those of all samples."""
    values: NDArray[Any]
    if axis is None:
        values = block.values if isinstance(block, Ragged) else block
        return values.reshape(len(values), 1, -1)[:, part]
    if isinstance(block, Ragged):
        assert axis != "element"
        # The ragged axis comes first, in place of the samples.
        place = axis + 1 if axis < block.axis else axis
        values = np.moveaxis(block.values, place, 1)[:, part]
    elif axis == "element":
        values = block.reshape(len(block), -1)[:, part]
    else:
        values = np.moveaxis(block, axis + 1, 1)[:, part]
    return values.reshape(*values.shape[:2], math.prod(values.shape[2:]))


class _Values:
    """All values of some units in one set."""

    def __init__(self, units: int, centre: NDArray[np.float64], atoms: NDArray[np.float64]) -> None:
        self.centre = centre  # what values are counted from, (units,)
        self.atoms = atoms  # values that occur often, (units, a); NaN where there are fewer
        self.around = np.zeros((*atoms.shape, 2), np.int64)  # values below, and at most as large
        self.moments = UnitMoments.empty(units)
        self._counter: HistogramCounter | None = HistogramCounter(units)
        self.histogram = Histogram.empty(units)

    def add(
        self,
        start: int,
        values: NDArray[Any],
        offsets: NDArray[np.int64] | None,
        numbers: HeldNumbers,
    ) -> None:
        """Add the values of samples from row ``start`` on, and their means to the numbers."""
        self.moments.update(values)
        assert self._counter is not None
        if self.centre.any():
            self._counter.update(values - self.centre[:, None])
        else:
            self._counter.update(values)
        for slot in range(self.atoms.shape[1]):
            atom = self.atoms[:, slot, None]
            self.around[:, slot, 0] += np.count_nonzero(values < atom, axis=(0, 2))
            self.around[:, slot, 1] += np.count_nonzero(values <= atom, axis=(0, 2))
        numbers.add(start, _sample_means(values, offsets))

    def finish(self) -> None:
        """Make the histogram, which takes less memory than counting."""
        assert self._counter is not None
        self.histogram = self._counter.histogram()
        self._counter = None
        # −∞ has no bin.
        self.around -= np.where(np.isnan(self.atoms), 0, self.moments.below[:, None])[:, :, None]


def _sample_means(values: NDArray[Any], offsets: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Compute the mean of each sample over its positions, (samples, units); NaN without any."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        sums = values.sum(axis=2, dtype=np.float64)
        if offsets is None:
            positions = np.full((len(values), 1), values.shape[2])
        else:
            positions = (np.diff(offsets) * values.shape[2])[:, None]
            filled = positions[:, 0] > 0
            added = np.zeros((len(positions), values.shape[1]))
            if filled.any():
                added[filled] = np.add.reduceat(sums, offsets[:-1][filled], axis=0)
            sums = added
        return np.where(positions > 0, sums / positions, np.nan)


def _compare(
    moments: tuple[UnitMoments, UnitMoments],
    histograms: tuple[Histogram, Histogram],
    atoms: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    samples: NumberDifferences,
    rounding: float,
) -> UnitDifferences:
    first, second = moments
    bound = rounding * np.maximum(_root_mean_square(first), _root_mean_square(second))
    numbers = samples
    samples = numbers.without_rounding(bound)
    bins = np.union1d(*(each.bins for each in histograms))
    counts = [_align(each, bins) for each in histograms]
    low, high = ks_bounds(counts[0], counts[1], bins == 0, atoms)
    means = mean_or_nan(first), mean_or_nan(second)
    deviations = sample_deviation(first), sample_deviation(second)
    equal = within_rounding(means, deviations, bound)
    rounded = (samples.ks < numbers.ks) | (equal & (low > 0))
    low, high = (np.where(equal, 0.0, each) for each in (low, high))
    smd = standardised_difference(
        (first.count, first.mean, first.m2), (second.count, second.mean, second.m2)
    )
    # Where each sample has one value, and all are held, the distance is known.
    exact = (samples.tested > 0) & (samples.tested2 > 0)
    exact &= (first.count == samples.tested) & (second.count == samples.tested2)
    return UnitDifferences(
        count=first.count,
        count2=second.count,
        nonfinite=_count_nonfinite(first),
        nonfinite2=_count_nonfinite(second),
        mean=means[0],
        mean2=means[1],
        std=deviations[0],
        std2=deviations[1],
        smd=np.where(equal, np.nan, smd),
        ks=np.where(exact, samples.ks, low),
        ks_high=np.where(exact, samples.ks, high),
        samples=samples,
        rounded=rounded,
    )


def _root_mean_square(moments: UnitMoments) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        root: NDArray[np.float64] = np.sqrt(
            np.square(moments.mean) + moments.m2 / np.maximum(moments.count, 1)
        )
    return root


def _count_nonfinite(moments: UnitMoments) -> NDArray[np.int64]:
    return moments.nan + moments.below + moments.above


def _align(histogram: Histogram, bins: NDArray[Any]) -> NDArray[np.int64]:
    counts = np.zeros((histogram.units, len(bins)), np.int64)
    counts[:, np.searchsorted(bins, histogram.bins)] = histogram.counts
    return counts


def _join(parts: list[UnitDifferences]) -> UnitDifferences:
    def join(kind: type, records: list[Any]) -> Any:
        columns = {
            field.name: [getattr(record, field.name) for record in records]
            for field in dataclasses.fields(kind)
        }
        return kind(
            **{
                name: join(NumberDifferences, values)
                if isinstance(values[0], NumberDifferences)
                else values[0]
                if isinstance(values[0], bool)
                else np.concatenate(values)
                for name, values in columns.items()
            }
        )

    joined: UnitDifferences = join(UnitDifferences, parts)
    return joined
