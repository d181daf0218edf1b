"""Sample axes, found by comparing the results of runs on different samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.probe.closeness import same_values
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.records.skipped import no_axis_reason, no_fixed_axis_reason, no_single_axis_reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.records.store import Merged

_ORDERS: tuple[Merged, ...] = ("NT", "TN")


def find_only_axis(shapes: Collection[tuple[int, ...]]) -> SampleAxis | str:
    """Find the sample axis in runs of one sample: the first axis of length 1, or none."""
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        return "its rank varies between samples"
    ones = (axis for axis in range(*ranks) if all(shape[axis] == 1 for shape in shapes))
    return SampleAxis(next(ones, None))


def find_scaled_axis(
    large: tuple[int, ...], small: tuple[int, ...], count: int
) -> SampleAxis | str:
    """Find the axis that is as long as there are samples in both runs, or a multiple of that."""
    if len(large) != len(small):
        return "its rank varies between batches"
    varying = [axis for axis in range(len(large)) if large[axis] != small[axis]]
    if not varying:
        return no_axis_reason(large)
    factors = {axis: _find_factor(large[axis], small[axis], count) for axis in varying}
    scaling = [axis for axis, factor in factors.items() if factor]
    if len(scaling) != 1:
        return no_single_axis_reason(large, small, count)
    (axis,) = scaling
    factor = factors[axis]
    if factor > 1 and len(varying) > 1:
        return f"its shape depends on the data, and its sample axis is merged: {large}"
    return SampleAxis(axis, factor)


def take_merged_order(axis: SampleAxis, before: Sequence[SampleAxis]) -> SampleAxis | str:
    """Take the order of a merged axis from the input tensor, where values cannot show it."""
    known = {reading.merged for reading in before if reading.factor == axis.factor}
    if len(known) == 1 and None not in known:
        return replace(axis, merged=known.pop())
    return "its order of samples cannot be determined"


def find_merged_axis(
    first: NDArray[Any], rolled: NDArray[Any], axis: SampleAxis, before: Sequence[SampleAxis]
) -> SampleAxis | str:
    """Determine how an axis is merged: in the right reading, results move as the samples do.

    Runs of different size cannot decide it where a sample's values depend on the others. Where
    both readings fit, as for a mask of equal values, the input tensor decides.
    """
    readings = [SampleAxis(axis.axis, axis.factor, merged) for merged in _ORDERS]
    fitting = [
        reading
        for reading in readings
        if same_values(
            np.roll(reading.samples_first(first), 1, axis=0), reading.samples_first(rolled)
        )
    ]
    if len(fitting) > 1:
        known = {reading.merged for reading in before if reading.factor == axis.factor}
        fitting = [reading for reading in fitting if {reading.merged} == known]
        if not fitting:
            return f"the order of samples along an axis cannot be determined: shape {first.shape}"
    if fitting:
        return fitting[0]
    return f"samples are mixed along axis {axis.axis}: shape {first.shape}"


def _find_factor(large: int, small: int, count: int) -> int:
    factor = large // count
    return factor if (factor * count, factor * (count - 1)) == (large, small) else 0


def find_rolled_axis(first: NDArray[Any], second: NDArray[Any], count: int) -> SampleAxis | str:
    """Find the axis along which results moved by one place as the samples did."""
    if first.shape != second.shape:
        return f"its shape depends on the data: {first.shape}, then {second.shape}"
    for readings in (_plain(first, count), _list_merged(first, count)):
        fitting = [
            reading
            for reading in readings
            if same_values(
                np.roll(reading.samples_first(first), 1, axis=0), reading.samples_first(second)
            )
        ]
        # Equal values fit any of them; where there is none, nothing has been seen.
        if len(fitting) > 1 and not (first.size and (first == first.flat[0]).all()):
            return f"several axes may be the samples': shape {first.shape}"
        if fitting:
            return fitting[0]
    return no_fixed_axis_reason(first.shape, count)


def find_changed_axis(
    first: NDArray[Any], changed: Mapping[int, NDArray[Any]], count: int
) -> SampleAxis | None:
    """Find the axis along which the results changed in the one place where the samples did.

    This works where a sample's values depend on its place too, so that they do not move with it.
    A recurrent operator that takes the samples for time changes behind that place, or before it.
    """
    if not changed or any(values.shape != first.shape for values in changed.values()):
        return None
    for reading in (*_plain(first, count), *_list_merged(first, count)):
        if all(
            _find_changed_rows(reading.samples_first(first), reading.samples_first(values))
            == [place]
            for place, values in changed.items()
        ):
            return reading
    return None


def _find_changed_rows(first: NDArray[Any], second: NDArray[Any]) -> list[int]:
    pairs = zip(first, second, strict=True)
    return [i for i, (before, after) in enumerate(pairs) if not same_values(before, after)]


def _plain(value: NDArray[Any], count: int) -> Iterator[SampleAxis]:
    return (SampleAxis(axis) for axis in range(value.ndim) if value.shape[axis] == count)


def _list_merged(value: NDArray[Any], count: int) -> Iterator[SampleAxis]:
    """Yield the ways in which an axis may be merged."""
    for axis in range(value.ndim):
        factor, rest = divmod(value.shape[axis], count)
        if factor > 1 and not rest:
            yield from (SampleAxis(axis, factor, merged) for merged in _ORDERS)
