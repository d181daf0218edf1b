"""Values of units as accumulators take them: rows × units × positions, in tiles that fit a cache.

A unit is a channel of a map, a feature of a token, or an element of a vector (docs/metrics.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

# Values of a tile: so many that what is computed once for a tile hardly counts.
TILE = 1 << 20
# Rows of a tile, and of a stretch of few positions, where there are as many: some arrays have an
# element for each column, or position of each unit.
_ROWS, _COLUMN_ROWS = 16, 256
# Values of a stretch, whose intermediate arrays fit a cache, but not so few that calls of NumPy
# count.
STRETCH = 1 << 17


def as_unit_values(values: ArrayLike) -> NDArray[np.floating[Any]]:
    """Return values (n, units) or (n, units, positions) as (n, units, positions), float32 or 64.

    Float32 where that is exact, else float64. Integers beyond ±2⁵³ are rounded.
    """
    array = np.asarray(values)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise ValueError(
            f"values have shape {array.shape}, not (n, units) or (n, units, positions)"
        )
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind not in "fiub":
        raise ValueError(f"values of type {array.dtype} are no real numbers")
    exact = array.dtype.itemsize < 4 or array.dtype.kind == "b"
    return array.astype(np.float32 if exact else np.float64)


def tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and units of tiles of values (n, units, positions); rows ascend for a unit."""
    n, units, positions = shape
    if not n or not units or not positions:
        return
    width = min(units, max(1, TILE // (positions * min(n, _ROWS))))
    height = max(1, TILE // (width * positions))
    for row in range(0, n, height):
        for unit in range(0, units, width):
            yield slice(row, row + height), slice(unit, min(unit + width, units))


def stretches(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of stretches of a tile (n, units, positions)."""
    height = max(1, STRETCH // max(1, math.prod(shape[1:])))
    for row in range(0, shape[0], height):
        yield slice(row, min(row + height, shape[0]))


def unit_ranges(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield units of a tile (n, units, positions), so few that a stretch has many rows."""
    n, units, positions = shape
    width = max(1, STRETCH // max(1, positions * min(n, _COLUMN_ROWS)))
    for start in range(0, units, width):
        yield slice(start, min(start + width, units))


def fold(ufunc: np.ufunc, values: NDArray[Any], dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Reduce (n, units, positions) to (units,) along the faster axis first."""
    n, units, positions = values.shape
    if positions >= 64 and n < positions:
        rows: NDArray[Any] = ufunc.reduce(values, axis=2, dtype=dtype)
        folded: NDArray[Any] = ufunc.reduce(rows, axis=0, dtype=dtype)
    else:
        folded = ufunc.reduce(values.reshape(n, units * positions), axis=0, dtype=dtype)
        if positions > 1:
            folded = ufunc.reduce(folded.reshape(units, positions), axis=1)
    return folded


class Scratch:
    """Memory for intermediate arrays of a tile, which is used again for the next one.

    Fresh memory costs more than the arithmetic.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return an array whose values are what the last one of that name left."""
        dtype = np.dtype(dtype)
        size = dtype.itemsize * math.prod(shape)
        array = self._arrays.get(name)
        if array is None or array.size < size:
            array = self._arrays[name] = np.empty(size, np.uint8)
        taken: NDArray[Any] = array[:size].view(dtype).reshape(shape)
        return taken
