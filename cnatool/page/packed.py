"""Arrays as compact text, which the page turns back into typed arrays."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_STEPS = 65534  # of a quantised column; one more code means that there is no number


class Packed(msgspec.Struct, frozen=True):
    """One array, little-endian and in base64.

    Attributes
    ----------
    type : str
        Its element type: ``u1``, ``u2``, ``u4``, ``i4``, ``f4`` or ``f8``.
    data : str
        Its elements.
    """

    type: str
    data: str


class Quantised(msgspec.Struct, frozen=True):
    """A matrix of which each column is divided into 65,534 equal steps.

    Attributes
    ----------
    low, high : tuple of float
        Least and greatest number of each column.
    codes : Packed
        Steps above ``low``, row by row; 65,535 where there is no finite number.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    codes: Packed


def pack(values: NDArray[Any], kind: DTypeLike) -> Packed:
    """Pack an array as elements of a type, such as ``"f4"``."""
    array = np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<"))
    return Packed(array.dtype.str[1:], base64.b64encode(array.tobytes()).decode("ascii"))


def quantise(values: NDArray[np.float64]) -> Quantised:
    """Quantise the columns of an (n, L) matrix."""
    finite = np.isfinite(values)
    low = np.where(finite, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf)
    known = low <= high
    low, high = np.where(known, low, 0.0), np.where(known, high, 0.0)
    # Halves, since the width of a column can exceed the largest float.
    width = high / 2 - low / 2
    steps = np.where(finite, values, low) / 2 - low / 2
    steps /= np.where(width > 0, width, 1.0)
    codes = np.where(finite, (steps * _STEPS).round(), _STEPS + 1)
    return Quantised(tuple(low.tolist()), tuple(high.tolist()), pack(codes, "u2"))
