"""Equality of the values of two runs up to rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def same_values(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two arrays hold the same values up to rounding."""
    if first.shape != second.shape:
        return False
    if np.array_equal(first, second):
        return True  # the common case, and a cheap one
    if first.dtype.kind == "b" or (first.dtype.itemsize > 1 and first.dtype.kind in "iu"):
        return False
    if first.dtype.kind in "iu":
        # Codes of a quantiser may differ by one.
        return bool((np.abs(first.astype(np.int16) - second.astype(np.int16)) <= 1).all())
    rtol, atol = (1e-2, 1e-3) if first.dtype.itemsize < 4 else (1e-3, 1e-5)
    with np.errstate(all="ignore"):
        far = ~(np.abs(first - second) <= rtol * np.abs(second))
    if not far.any():
        return True
    sizes = np.abs(first[np.isfinite(first) & (first != 0)]).astype(np.float64)
    # Not the largest value: a mask of -1e9 in a tensor would make all others equal.
    scale = min(sizes.max(), 100 * float(np.median(sizes))) if sizes.size else 0.0
    return bool(
        np.allclose(
            first[far].astype(np.float64),
            second[far].astype(np.float64),
            rtol=rtol,
            atol=atol * scale,
            equal_nan=True,
        )
    )
