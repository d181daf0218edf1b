"""Conversion of rows to the element type that a store holds, and what it costs."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util import bfloat16
from cnatool.records.narrowing import NarrowingRecord
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows

# Values whose errors are found together, in the processor's cache.
_BLOCK = 1 << 15


def to_stored(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert rows to the type of a stored array; too large ones become infinite."""
    if rows.dtype == dtype:
        return rows
    if dtype == bfloat16.BFLOAT16:
        return bfloat16.narrow(rows)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return rows.astype(dtype, copy=False)


def rows_to_stored(rows: Rows, dtype: np.dtype[Any]) -> Rows:
    """Convert rows as `to_stored` does, also those of samples that differ in length."""
    if isinstance(rows, Ragged):
        return Ragged(to_stored(rows.values, dtype), rows.offsets, rows.axis)
    return to_stored(rows, dtype)


def from_stored(rows: NDArray[Any], *, copy: bool = False) -> NDArray[Any]:
    """Return stored rows as they are read: bfloat16 as float32."""
    if rows.dtype == bfloat16.BFLOAT16:
        return bfloat16.widen(rows)
    return rows.copy() if copy else rows


def round_rows(rows: Rows, dtype: np.dtype[Any]) -> Rows:
    """Return rows as they are read once they are stored in another type."""
    narrow = rows_to_stored(rows, dtype)
    if isinstance(narrow, Ragged):
        return Ragged(from_stored(narrow.values), narrow.offsets, narrow.axis)
    return from_stored(narrow)


def narrow_rows(rows: Rows, dtype: np.dtype[Any]) -> tuple[Rows, NarrowingRecord]:
    """Convert rows to a narrower floating type, and find the errors.

    Parameters
    ----------
    rows : ndarray or Ragged
        Floating values, of any shape.
    dtype : numpy.dtype
        The type of the stored array.

    Returns
    -------
    rows : ndarray or Ragged
        The same in the other type.
    errors : NarrowingRecord
    """
    if isinstance(rows, Ragged):
        values, errors = narrow_values(rows.values, dtype)
        return Ragged(values, rows.offsets, rows.axis), errors
    return narrow_values(rows, dtype)


def narrow_values(
    values: NDArray[Any], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NarrowingRecord]:
    """Convert an array, as `narrow_rows` does."""
    flat = np.ascontiguousarray(values).reshape(-1)
    result = np.empty(flat.size, dtype)
    errors = NarrowingRecord()
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        result[part] = to_stored(flat[part], dtype)
        errors = errors.merge(_find_errors(flat[part], result[part]))
    return result.reshape(values.shape), errors


@cache
def _halves() -> NDArray[np.float32]:
    """Return all values of float16 by their bits."""
    with np.errstate(invalid="ignore"):
        return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _widen(stored: NDArray[Any]) -> NDArray[Any]:
    """Return float16 as float32: looked up, which is several times as fast as NumPy converts."""
    return _halves()[stored.view(np.uint16)] if stored.dtype == np.float16 else stored


def _find_errors(values: NDArray[Any], stored: NDArray[Any]) -> NarrowingRecord:
    """Compare values with those that are stored; (n,) each."""
    is_bfloat16 = stored.dtype == bfloat16.BFLOAT16
    wide = bfloat16.widen(stored) if is_bfloat16 else _widen(stored)
    overflows = underflows = subnormals = 0
    with np.errstate(all="ignore"):
        error = wide.astype(values.dtype)
        error -= values
        np.abs(error, out=error)
        if not np.isfinite(error.max()):
            overflows = int(np.count_nonzero(np.isinf(wide) & np.isfinite(values)))
            # Infinities and NaN stay what they are.
            error[~np.isfinite(error)] = 0
        absolute = float(error.max())
        scale = np.abs(values)
        largest = float(scale.max())
        if overflows or not np.isfinite(largest):
            largest = float(scale[np.isfinite(wide)].max(initial=0))
        scale += scale == 0  # which is stored exactly
        error /= scale
        rounding = (bfloat16.EPS if is_bfloat16 else float(np.finfo(stored.dtype).eps)) / 2
        if not error.max() <= rounding:
            lost = (wide == 0) & (values != 0)
            underflows = int(np.count_nonzero(lost))
            error[lost | ~np.isfinite(error)] = 0
            coarse = error > rounding
            subnormals = int(np.count_nonzero(coarse))
            error[coarse] = 0
        relative = float(error.max())
    return NarrowingRecord(
        values.size, overflows, underflows, absolute, relative, subnormals, largest
    )
