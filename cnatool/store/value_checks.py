"""Comparison of stored statistics with those of the values that are stored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool._util import bfloat16
from cnatool.records.layout import TOKEN_NUMBERS
from cnatool.records.narrowed import is_narrowed
from cnatool.records.ragged import Ragged
from cnatool.store.statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.records.choices import Statistic
    from cnatool.records.ragged import Rows
    from cnatool.records.store import TensorRecord

# Accuracy of a stored sum, relative to the absolute sum.
_TOLERANCE = 1e-5


def find_mismatches(
    tensor: TensorRecord,
    values: Rows,
    stored: Mapping[Statistic, NDArray[np.float64]],
    first: int,
) -> Iterator[tuple[Statistic, tuple[int, int], str]]:
    """Compare statistics of a tensor with its values, which begin with row ``first``.

    Yields the statistic, the range of rows that are wrong, and what is.
    """
    narrowed = _find_rounding(tensor)
    expected = row_statistics(values, [*stored, "abs_sum", "max", "min"])
    elements = values.counts if isinstance(values, Ragged) else math.prod(values.shape[1:])
    for name, rows in stored.items():
        if narrowed is not None and name == "nonzero_count":
            continue
        stored_values, truth = rows[:, tensor.number], expected[name]
        allowed = _allowed_differences(name, expected, elements, narrowed)
        with np.errstate(invalid="ignore"):
            right = np.isfinite(truth) & (np.abs(stored_values - truth) <= allowed)
        right |= (stored_values == truth) | (np.isnan(stored_values) & np.isnan(truth))
        if name in ("min", "max"):
            # A runtime may or may not ignore NaN.
            right |= np.isnan(truth)
        if narrowed is not None:
            # Values that became infinite say nothing of the statistic.
            right |= np.isinf(expected["abs_sum"])
        wrong = np.flatnonzero(~right)
        if len(wrong):
            row = int(wrong[0])
            others = f", and of {len(wrong) - 1} more rows" if len(wrong) > 1 else ""
            yield (
                name,
                (first + row, first + int(wrong[-1]) + 1),
                f"of tensor {tensor.name!r} in row {first + row} is "
                f"{stored_values[row]:.9g}, but its values give {truth[row]:.9g}{others}",
            )


def find_token_faults(
    numbers: Mapping[str, NDArray[Any]], first: int
) -> Iterator[tuple[str, tuple[int, int], str]]:
    """Find rows of the numbers of tokens, which begin with row ``first``, that cannot be.

    Yields the name of a number, the row, and what is wrong with it.
    """
    loss, correct, count = (numbers[name] for name in TOKEN_NUMBERS)
    for name, wrong, problem in (
        ("count", count < 0, "is below 0"),
        ("correct", (correct < 0) | (correct > count), "is not between 0 and `count`"),
        # Probabilities may exceed 1 by rounding.
        (
            "loss",
            (loss < -0.01 * count) | ((count == 0) & (loss != 0)),
            "is below 0, or that of no token",
        ),
    ):
        if wrong.any():
            row = first + int(wrong.argmax())
            value = numbers[name][row - first]
            yield name, (row, row + 1), f"in row {row} is {value:.9g}: it {problem}"


class _Rounding(NamedTuple):
    """What rounding to a floating type changes."""

    share: float  # of a normal number: the distance from 1 to the next number
    least: float  # of a smaller one, however small it is


def _find_rounding(tensor: TensorRecord) -> _Rounding | None:
    """Return the rounding of stored values after statistics were taken; None without."""
    if not is_narrowed(tensor):
        return None
    if tensor.stored == bfloat16.NAME:
        return _Rounding(bfloat16.EPS, bfloat16.SMALLEST)
    kind = np.finfo(tensor.stored or tensor.dtype)
    return _Rounding(float(kind.eps), float(kind.smallest_subnormal))


def _allowed_differences(
    name: Statistic,
    expected: Mapping[Statistic, NDArray[np.float64]],
    elements: int | NDArray[np.int64],
    narrowed: _Rounding | None,
) -> NDArray[np.float64]:
    """Compute the tolerated difference of a statistic from that of the stored values; (n,)."""
    share = _TOLERANCE + (0.0 if narrowed is None else narrowed.share)
    least = 0.0 if narrowed is None else narrowed.least
    with np.errstate(invalid="ignore"):
        if name in ("min", "max"):
            scale = np.maximum(np.abs(expected["min"]), np.abs(expected["max"]))
            rounding: Any = least
        elif name == "square_sum":
            scale = 2 * expected[name]
            rounding = least * (elements + 2 * expected["abs_sum"])
        else:
            scale, rounding = expected["abs_sum"], least * elements
        # An infinity elsewhere among the values must not widen the tolerance.
        scale = np.where(np.isfinite(scale), scale, np.abs(expected[name]))
        allowed: NDArray[np.float64] = share * scale + rounding
    return allowed
