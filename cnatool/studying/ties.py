"""Values that are equal but for rounding, made equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["tie_rounded"]

# Some thousand units in the last place: far above what a difference or a mean of float64 values
# is off by, far below what one sample of a billion changes in an accuracy.
_RELATIVE = 1e-12


def tie_rounded(values: NDArray[np.float64], scale: float = 0.0) -> NDArray[np.float64]:
    """Give values that differ by no more than rounding the same value.

    Ranks see every difference: 0.9 − 0.8 and 0.8 − 0.7 are not equal as float64 numbers, and two
    networks of equal gap would be ordered by chance.

    Parameters
    ----------
    values : (n,) float64 array
        NaN where there is none.
    scale : float
        Magnitude of the numbers that the values are differences of, such as 1 for accuracies; 0
        where they are none.

    Returns
    -------
    (n,) float64 array
        The least of the values that count as equal, in place of each of them.
    """
    distinct, places = np.unique(values, return_inverse=True)
    magnitude = np.maximum(np.maximum(np.abs(distinct[:-1]), np.abs(distinct[1:])), scale)
    # Not `>=`: a NaN differs from every number.
    with np.errstate(invalid="ignore"):
        apart = ~(np.diff(distinct) < _RELATIVE * magnitude)
    first = np.concatenate([[True], apart]) if distinct.size else np.empty(0, bool)
    starts = np.flatnonzero(first)
    result: NDArray[np.float64] = distinct[starts[np.cumsum(first) - 1]][places.ravel()]
    return result
