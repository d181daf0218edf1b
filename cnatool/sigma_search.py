"""The largest noise that something bears, by bisection on the logarithm of its scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EVALUATIONS", "Interval", "largest_scale"]

# In units of the scale: from far below where noise shows to far above where nothing is left.
_LEAST, _MOST = 2.0**-20, 2.0**8
# After so many halvings the ends are within half a percent of each other.
_STEPS = 12
EVALUATIONS = _STEPS + 2


class Interval(NamedTuple):
    """Where the largest scale lies.

    Attributes
    ----------
    low : float or None
        The largest scale that was borne; None where even the least was not.
    high : float or None
        The next larger scale that was tried and was not; None where all were.
    """

    low: float | None
    high: float | None


def largest_scale(borne: Callable[[float], bool], unit: float) -> Interval:
    """Search for the largest scale of noise that is borne.

    Parameters
    ----------
    borne : callable
        Says whether noise of a scale is. Where it is not monotone, one of the scales is found at
        which it changes.
    unit : float
        A scale of the same order as what gets the noise, above 0.
    """
    low, high = _LEAST * unit, _MOST * unit
    if borne(high):
        return Interval(high, None)
    if not borne(low):
        return Interval(None, low)
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        if borne(middle):
            low = middle
        else:
            high = middle
    return Interval(low, high)
