"""Counting the units of a stored tensor, a block of rows at a time.

Memory depends on the number of units and classes, not on that of samples. If there are too many
units for one pass, they are counted in several, each of which reads the tensor once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.threads import prefetch
from cnatool.metrics.unit_statistics import UnitCounter, UnitStatistics
from cnatool.records.ragged import Ragged
from cnatool.records.unit_axis import count_units
from cnatool.store.ragged import RaggedArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cnatool.records.store import TensorRecord
    from cnatool.records.unit_axis import UnitAxis
    from cnatool.store.stored_array import StoredArray

# Memory for the counts of one pass, and what a unit takes of it: counts by bins with their copy,
# and the rest.
_MEMORY = 1 << 29
_BINS_BYTES = 32 << 10
_UNIT_BYTES = 256


def gather_units(
    array: StoredArray | RaggedArray,
    tensor: TensorRecord,
    axis: UnitAxis,
    *,
    k: int,
    classes: NDArray[np.integer[Any]] | None = None,
    histogram: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Iterator[UnitStatistics]:
    """Count the units of a tensor, and yield their statistics, some units at a time.

    Parameters
    ----------
    array : StoredArray or RaggedArray
        Its values, (n, …).
    tensor : TensorRecord
        Its record.
    axis : int, "element" or None
        The axis of ``tensor.shape`` that has the units.
    k : int
        Samples that are kept of each unit.
    classes : ndarray of int, (n,), optional
        Class of each sample, from 0; negative for none.
    histogram : bool
        Whether to count values by bins, for quantiles.
    progress : callable, optional
        Called with the number of values that were read since the last call.

    Yields
    ------
    UnitStatistics
        Those of the next units, in order.
    """
    units = count_units(tensor, axis)
    known = 0 if classes is None else int(classes.max(initial=-1)) + 1
    for start, stop in pass_ranges(units, known, k, histogram=histogram):
        counter = UnitCounter(stop - start, k, classes=known, histogram=histogram)
        for first, block in _read_blocks(array):
            values, rows, positions = arrange_block(block, tensor, axis)
            rows += first
            labels = None if classes is None else classes[rows]
            counter.update(values[:, start:stop], rows, positions, labels)
            if progress is not None:
                progress(values.size)
        yield counter.statistics()


def _read_blocks(
    array: StoredArray | RaggedArray,
) -> Iterator[tuple[int, NDArray[Any]]] | Iterator[tuple[int, Ragged]]:
    """Yield the blocks of an array, the next of which are read meanwhile."""
    return prefetch(array.blocks()) if isinstance(array, RaggedArray) else array.blocks()


def pass_ranges(units: int, classes: int, k: int, *, histogram: bool) -> Iterator[tuple[int, int]]:
    """Yield the first unit of each pass over a tensor, and that behind its last one."""
    each = _UNIT_BYTES + 16 * classes + 24 * k + (_BINS_BYTES if histogram else 0)
    passes = -(-units * each // _MEMORY) or 1
    size = -(-units // passes)
    for start in range(0, units, size):
        yield start, min(start + size, units)


def arrange_block(
    block: NDArray[Any] | Ragged, tensor: TensorRecord, axis: UnitAxis
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Arrange rows of a tensor, (n, …), by units: (rows, units, positions).

    Returns
    -------
    values : ndarray, (r, units, p)
        The values.
    rows, positions : ndarray of int64, (r,)
        The sample of each row, from 0, and the position of its first value: the index into the
        axes that are no units, the ragged one first, flattened.
    """
    if isinstance(block, Ragged):
        rows = np.repeat(np.arange(len(block)), block.lengths)
        tokens = np.arange(len(rows)) - np.repeat(block.offsets[:-1], block.lengths)
        values, place = block.values, axis
        if isinstance(axis, int):
            # The ragged axis is first in the values, and none of what follows it.
            place = axis if axis < block.axis else axis - 1
    else:
        values, place = block, axis
        rows, tokens = np.arange(len(block)), np.zeros(len(block), np.int64)
    before, units, after = split_shape(values.shape[1:], place)
    count = len(values)
    arranged = np.ascontiguousarray(values).reshape(count * before, units, after)
    positions = tokens[:, None] * (before * after) + np.arange(before) * after
    return arranged, np.repeat(rows, before), positions.reshape(-1)


def split_shape(shape: tuple[int, ...], axis: UnitAxis) -> tuple[int, int, int]:
    """Return the elements of a shape before its axis of units, along it, and after it."""
    if axis == "element":
        return 1, math.prod(shape), 1
    if axis is None:
        return 1, 1, math.prod(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def locate_positions(
    positions: NDArray[np.int64], tensor: TensorRecord, axis: UnitAxis
) -> NDArray[np.int64]:
    """Turn flattened positions into indices along the axes that are no units, in their order.

    Parameters
    ----------
    positions : ndarray of int64, (…)
        Positions, as in `arrange_block`; −1 for none.

    Returns
    -------
    ndarray of int64, (…, axes)
        −1 for none.
    """
    rest = [] if axis == "element" else [a for a in range(len(tensor.shape)) if a != axis]
    ragged = tensor.ragged_axis if isinstance(tensor.ragged_axis, int) else None
    order = ([ragged] if ragged is not None else []) + [a for a in rest if a != ragged]
    indices = np.full((*positions.shape, len(order)), -1, np.int64)
    left = np.maximum(positions, 0)
    for place in reversed(range(len(order))):
        size = tensor.shape[order[place]]
        if order[place] == ragged:
            index = left
        else:
            left, index = np.divmod(left, max(1, size))
        indices[..., rest.index(order[place])] = index
    indices[positions < 0] = -1
    return indices
