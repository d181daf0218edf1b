"""Equality of the values of two runs up to rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# By how much values may differ whose sums are to agree, as a share of the sum of absolute values:
# their sum, and the sum of all differences, of which rounding makes more. Half precision rounds
# each value by a thousandth.
_SUM, _DIFFERENCES = 1e-5, 1e-4
_HALF = 100.0


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


def agree_closely(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two arrays hold the same values, and their sums agree, up to rounding."""
    if first.shape != second.shape:
        return False
    if np.array_equal(first, second):
        return True
    if first.dtype.kind != "f":
        return same_values(first, second)
    wide, other = first.astype(np.float64), second.astype(np.float64)
    finite = np.isfinite(wide)
    if not np.array_equal(finite, np.isfinite(other)):
        return False
    if not np.array_equal(wide[~finite], other[~finite], equal_nan=True):
        return False
    wide, other = wide[finite], other[finite]
    # A number such as -1e9 at a causal mask would hide all others.
    clipped = [np.clip(value, -1e4, 1e4) if first.dtype.itemsize >= 4 else value
               for value in (wide, other)]  # fmt: skip
    share = _HALF if first.dtype.itemsize < 4 else 1.0
    ordinary = np.abs(clipped[0]) < 1e4
    scale = float(np.abs(clipped[0][ordinary]).sum())
    difference = clipped[0] - clipped[1]
    return bool(
        np.abs(difference).sum() <= share * _DIFFERENCES * scale
        and abs(difference.sum()) <= share * _SUM * scale
    )
