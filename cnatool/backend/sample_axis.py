"""Where the samples are in an array, also where they are merged with another axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.store.records import Merged

__all__ = ["samples_first"]


def samples_first(
    value: NDArray[Any], axis: int, merged: Merged | None, factor: int
) -> NDArray[Any]:
    """Give an array with the sample axis in front, and apart from the axis it was merged with.

    Parameters
    ----------
    value : ndarray
        As the graph gives it.
    axis : int
        Where the sample axis is.
    merged : {"NT", "TN"} or None
        Whether it is merged with another, T long, and which of the two is the outer one.
    factor : int
        T, or 1.
    """
    if merged is None:
        return np.moveaxis(value, axis, 0)
    before, after = value.shape[:axis], value.shape[axis + 1 :]
    if merged == "NT":
        return np.moveaxis(value.reshape(*before, -1, factor, *after), axis, 0)
    return np.moveaxis(value.reshape(*before, factor, -1, *after), axis + 1, 0)
