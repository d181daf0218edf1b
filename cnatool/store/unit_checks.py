"""Checks of statistics of units: their bytes, and whether they agree with one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool.errors import StoreDamagedError
from cnatool.records.layout import ragged_axis
from cnatool.store.unit_state import read_unit_array, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.store.store import Split


def find_unit_faults(split: Split) -> Iterator[tuple[str, str | StoreDamagedError]]:
    """Find faults of the statistics of units of a split that has them itself.

    Yields the key of an array in the split, and what is wrong.
    """
    record, state = split.store.record.units, split.record.units
    if not record or not state:
        return
    arrays = {}
    for name, array in state.arrays.items():
        try:
            arrays[name] = read_unit_array(split, name, array)
        except StoreDamagedError as error:
            yield f"units/{state.rows}/{name}", error
    if arrays.keys() != state.arrays.keys():
        return
    folder = f"units/{state.rows}"
    for number, units in unpack(record, state, arrays).tensors.items():
        tensor = split.store.record.tensors[number]
        moments = units.moments
        counted = moments.count + moments.nan + moments.below + moments.above
        elements = np.prod(tensor.shape, dtype=np.int64) // moments.units * state.rows
        fixed = not tensor.varies and ragged_axis(tensor) is None and not tensor.positions
        if (fixed and (counted != elements).any()) or (counted != counted[0]).any():
            wrong = int(np.flatnonzero(counted != (elements if fixed else counted[0]))[0])
            yield (
                f"{folder}/counts",
                f"unit {wrong} of tensor {tensor.name!r} has {counted[wrong]} values, and should "
                f"have {elements if fixed else counted[0]}",
            )
        total = moments.count if units.histogram is None else units.histogram.total
        if (total != moments.count).any():
            wrong = int(np.flatnonzero(total != moments.count)[0])
            yield (
                f"{folder}/histogram_counts",
                f"of unit {wrong} of tensor {tensor.name!r} add up to "
                f"{total[wrong]}, but it has {moments.count[wrong]} finite values",
            )
        rows = units.extremes.rows
        if (rows >= state.rows).any() or (rows < -1).any():
            yield f"{folder}/top_rows", f"of tensor {tensor.name!r} are beyond {state.rows} rows"
