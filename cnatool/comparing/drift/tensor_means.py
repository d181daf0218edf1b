"""The mean of each sample over all elements of a tensor, from stored sums or whole values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnatool.comparing.drift.numbers import (
    MOST_NUMBERS,
    HeldNumbers,
    NumberDifferences,
    compare_numbers,
    hold_numbers,
)
from cnatool.metrics.rounding import rounding_share
from cnatool.records.ragged import Ragged
from cnatool.store.statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.comparing.drift.sides import Sides
    from cnatool.records.ragged import Rows
    from cnatool.records.store import TensorRecord
    from cnatool.store.store import Split


def compare_means(sides: Sides) -> NumberDifferences:
    """Compare the means of all tensors, one after another in the result."""
    first, second = sides.first, sides.second
    held = hold_numbers(len(first), len(second), len(sides.pairs))
    for split, numbers, tensors in (
        (first, held[0], [pair.first for pair in sides.pairs]),
        (second, held[1], [pair.second for pair in sides.pairs]),
    ):
        if split.has_statistic("sum"):
            _add_stored_means(split, tensors, numbers)
        else:
            _add_computed_means(split, tensors, numbers)
    tensors = [pair.first for pair in sides.pairs]
    return compare_numbers(*held).without_rounding(_rounding(first, tensors))


def _rounding(split: Split, tensors: Sequence[TensorRecord]) -> NDArray[np.float64]:
    """Bound the error of means by rounding, (tensors,); 0 where magnitudes are unknown."""
    magnitudes = dict(enumerate(split.store.record.magnitudes))
    return np.array(
        [
            share_of_rounding(tensor)
            * (magnitudes.get(tensor.number) or 0.0)
            / max(1, math.prod(tensor.shape))
            for tensor in tensors
        ]
    )


def share_of_rounding(tensor: TensorRecord, *, stored: bool = False) -> float:
    """Return the share of values that rounding can change their mean by; 0 for integers.

    Of computed values or, where they may be narrowed, ``stored`` ones.
    """
    if "float" not in tensor.dtype:
        return 0.0
    known = "bfloat16" if tensor.onnx_type == "bfloat16" else tensor.dtype
    return max(map(rounding_share, {known, (stored and tensor.stored) or known}))


def _add_stored_means(split: Split, tensors: Sequence[TensorRecord], numbers: HeldNumbers) -> None:
    columns = [tensor.number for tensor in tensors]
    sizes = np.array([math.prod(tensor.shape) for tensor in tensors], np.float64)
    counted = split.statistics("count") if split.has_statistic("count") else None
    for start, sums in split.statistics("sum").blocks():
        counts = sizes
        if counted is not None:
            counts = counted[start : start + len(sums)][:, columns]
        numbers.add(start, _divide(sums[:, columns], counts))


def _add_computed_means(
    split: Split, tensors: Sequence[TensorRecord], numbers: HeldNumbers
) -> None:
    """Compute sums of whole values, some rows of all tensors at a time."""
    arrays = [split.activations(tensor.name) for tensor in tensors]
    step = max(1, min(len(split), MOST_NUMBERS // 8 // max(1, len(arrays))))
    chunk = max(array.chunk_rows for array in arrays)
    step = max(chunk, step // chunk * chunk)
    for start in range(0, len(split), step):
        means = np.empty((min(step, len(split) - start), len(arrays)))
        for column, array in enumerate(arrays):
            for row, block in array.blocks(start, start + len(means)):
                sums = row_statistics(block, ["sum"])["sum"]
                place = slice(row - start, row - start + len(sums))
                means[place, column] = _divide(sums, _count_elements(block))
        numbers.add(start, means)


def _count_elements(block: Rows) -> NDArray[np.float64]:
    if isinstance(block, Ragged):
        return (block.lengths * math.prod(block.values.shape[1:])).astype(np.float64)
    return np.full(len(block), float(math.prod(block.shape[1:])))


def _divide(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means; NaN of samples without elements."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means: NDArray[np.float64] = sums / counts
    return np.where(counts > 0, means, np.nan)
