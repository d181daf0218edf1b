"""bfloat16, the upper half of a float32, which NumPy lacks.

In memory its values are float32. Where they take 16 bits, in a store or in a file of samples, their
arrays are of `BFLOAT16`, a type of its own, so that bits are never taken for whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME: Final = "bfloat16"
# The type of stored bits.
BFLOAT16: Final[np.dtype[Any]] = np.dtype([(NAME, "<u2")])
# The distance from 1 to the next number, and the smallest number above 0.
EPS: Final = 2.0**-7
SMALLEST: Final = 2.0**-133

# Values that are rounded together, in the processor's cache.
_BLOCK = 1 << 15
_HALF = np.uint32(16)
_QUIET = np.uint16(0x40)


def storage_dtype(name: str) -> np.dtype[Any]:
    """Return the type of stored arrays of an element type, by its name."""
    return BFLOAT16 if name == NAME else np.dtype(name)


def memory_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that stored arrays have once they are read."""
    return np.dtype(np.float32) if is_bfloat16(dtype) else dtype


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name of the element type of stored arrays."""
    return NAME if dtype == BFLOAT16 else dtype.name


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether arrays are of `BFLOAT16`, or of the type of that name in ``ml_dtypes``."""
    return dtype == BFLOAT16 or dtype.name == NAME


def widen(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return the values of bfloat16 as float32, which has all of them, every NaN included.

    Examples
    --------
    >>> widen(np.array([0x3F80, 0xC049, 0x7F80], "<u2"))
    array([ 1.    , -3.140625,       inf], dtype=float32)
    """
    wide = np.ascontiguousarray(bits).view("<u2").astype(np.uint32)
    wide <<= _HALF
    return wide.view(np.float32).reshape(bits.shape)


def narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Round floating values to the nearest bfloat16, ties to even; return arrays of `BFLOAT16`.

    Values that are too large become infinite. Each NaN stays one, with as many bits as there are.

    Examples
    --------
    >>> widen(narrow(np.array([1.0, 1.01, 3.4e38, -1e-45])))
    array([ 1.       ,  1.0078125,        inf, -0.       ], dtype=float32)
    """
    result = np.empty(values.size, "<u2")
    flat = np.ascontiguousarray(values).reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        _round(_as_float32(flat[part]), result[part])
    return result.view(BFLOAT16).reshape(values.shape)


def _round(values: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    """Round float32 values, (n,), to the bits of bfloat16."""
    bits = values.view(np.uint32)
    rounded = bits >> _HALF
    rounded &= np.uint32(1)
    # To the nearest: half a unit in the last place is added, or just less if that is even.
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= _HALF
    out[:] = rounded
    lost = np.isnan(values)
    if lost.any():
        # Rounding might make them infinite, or 0.
        cut = (bits[lost] >> _HALF).astype(np.uint16)
        out[lost] = np.where(cut & 0x7F, cut, cut | _QUIET)


def _as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert values to float32 so that rounding them once more rounds them as if only once.

    A value between two float32 becomes the odd one of them, which lies on the same side of each
    value in the middle of two bfloat16.
    """
    if values.dtype != np.float64:
        return values.astype(np.float32, copy=False)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        back = single.astype(np.float64)
        between = (back != values) & ~np.isnan(values)
    bits = single.view(np.uint32)
    beyond = between & (np.abs(back) > np.abs(values))
    bits -= beyond  # towards 0
    bits |= between
    return single
