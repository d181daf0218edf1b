"""Which of too many points are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["drawn_rows", "thinned"]

_SEED = 0


def drawn_rows(count: int, most: int) -> NDArray[np.intp]:
    """Draw `most` of `count` rows by lot, the same ones each time; all where there are no more.

    Returns
    -------
    (min(count, most),) array of int
        Ascending.
    """
    if count <= most:
        return np.arange(count)
    drawn = np.random.default_rng(_SEED).choice(count, most, replace=False, shuffle=False)
    return np.sort(drawn)


def thinned(count: int, most: int) -> NDArray[np.intp]:
    """Give places of a curve's points, evenly spread from its first to its last.

    Returns
    -------
    (min(count, most),) array of int
    """
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.intp)
