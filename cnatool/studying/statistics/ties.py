"""Values that differ by rounding alone are made equal before they are ranked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Shares of samples, their differences, and percentages that differ by less are equal.
_SHARE = 1e-12
# Rounding of differences between numbers up to 100: a few units in the last place.
_DIFFERENCE = 5e-14
# Ratio of rounding to the smallest magnitude, and to the range, of a column's values.
_CLEAR = 1e-10
# Units in the last place between results of a few operations in another order.
_UNITS = 8


def merge_rounding(values: NDArray[np.float64], *, is_share: bool = False) -> NDArray[np.float64]:
    """Return a column in which values that differ by rounding alone are equal.

    0.92 − 0.9 and 0.12 − 0.1 are both 0.02, but differ by 4e-18 in float64, and any rank statistic
    would order them. Sorted values within a resolution of the least of their group take its value.
    The resolution is 1e-12 for shares of samples. For other columns it is the smallest of 5e-14,
    1e-10 of the column's range, and 1e-10 of its least magnitude above 5e-14; it is 0 where a
    magnitude lies between that and 5e-14, since such values are not rounding. In every column,
    values within 8 units in the last place are equal.
    """
    levels, positions = np.unique(values, return_inverse=True)
    finite = levels[np.isfinite(levels)]
    if finite.size < 2:
        return values
    resolution = _SHARE if is_share else _resolution(finite)
    # Infinities and NaN stay as they are: each is a level of its own, after the finite ones.
    merged = levels.copy()
    first = 0
    for place in range(1, levels.size):
        if np.isfinite(levels[first]) and np.isfinite(levels[place]):
            units = _UNITS * np.spacing(max(abs(levels[first]), abs(levels[place])))
            if levels[place] - levels[first] <= max(resolution, units):
                merged[place] = levels[first]
                continue
        first = place
    result: NDArray[np.float64] = merged[positions.reshape(values.shape)]
    return result


def _resolution(levels: NDArray[np.float64]) -> float:
    """Return the largest difference that counts as rounding in a column of any quantity."""
    magnitudes = np.abs(levels)
    clear = magnitudes[magnitudes > _DIFFERENCE]
    if not clear.size:
        return 0.0
    extent = float(levels[-1]) - float(levels[0])
    resolution = min(_DIFFERENCE, _CLEAR * float(clear.min()), _CLEAR * extent)
    between = (magnitudes > resolution) & (magnitudes <= _DIFFERENCE)
    return 0.0 if between.any() else resolution
