"""Sums over a block of float32 values of units, in few passes over memory.

Values are centred first, in float32, which is exact for those close to the centre. Sums are float32
over up to 2,048 values, then float64: their relative error is mostly 1e-7, at most 1e-5, of
Σ |x − centre|^p. Where that does not hold, units are not ``sound``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.metrics.unit_moments import UnitMoments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Values of a tile, all intermediate arrays of which stay in the cache of a processor.
_TILE = 1 << 17
# Rows of a tile: an 8-bit count takes so many.
_ROWS = 128
# Positions of a tile: most numbers in one float32 sum.
_POSITIONS = 2048
# Positions from which each row is summed first, rather than each position over rows.
_LONG = 48
# Cubes of smaller and larger differences leave the range of float32.
_LEAST, _MOST = 2.0**-30, 2.0**30
# Farthest that the centre may lie from the mean, in squared deviations, so that no digits go to it.
_FAR = 16.0


@dataclass(frozen=True, slots=True)
class UnitSums:
    """Sums over the values of each unit; all arrays are (units,) but for those of rows.

    Attributes
    ----------
    count : int
        Values of each unit.
    centre : ndarray of float32
        What powers are centred by.
    low, high : ndarray of float64
        The least and the greatest value.
    powers : ndarray of float64, (3, units)
        Σ (x − centre)^p for p = 1, 2, 3.
    zeros, positives : ndarray of int64
        Values that are exactly 0, and above 0.
    maxima : ndarray of float32, (n, units)
        The greatest value of each row.
    rows : ndarray of float64, (n, units)
        The sum of each row.
    sound : ndarray of bool
        Whether all values are finite, and their sums as exact as float32 makes them.
    """

    count: int
    centre: NDArray[np.float32]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    powers: NDArray[np.float64]
    zeros: NDArray[np.int64]
    positives: NDArray[np.int64]
    maxima: NDArray[np.float32]
    rows: NDArray[np.float64]
    sound: NDArray[np.bool_]

    def moments(self) -> UnitMoments:
        """Return the moments of the sound units; of others those of no values."""
        n = self.count
        with np.errstate(over="ignore", invalid="ignore"):
            first, second, third = self.powers
            delta = first / n
            m2 = np.maximum(second - first * delta, 0)
            m3 = third - 3 * delta * second + 2 * n * delta**3
        moments = UnitMoments.empty(len(delta))
        sound = self.sound
        moments.count[sound] = n
        for found, values in (
            (moments.mean, self.centre + delta),
            (moments.m2, m2),
            (moments.m3, m3),
            (moments.minimum, self.low),
            (moments.maximum, self.high),
            (moments.zeros, self.zeros),
            (moments.positives, self.positives),
        ):
            found[sound] = values[sound]
        return moments


def sum_units(values: NDArray[np.float32], centre: NDArray[np.float32]) -> UnitSums:
    """Sum values, (n, units, positions), none of them 0, centred by a number for each unit."""
    n, units, positions = values.shape
    low = np.full(units, np.inf, np.float32)
    maxima = np.full((n, units), -np.inf, np.float32)
    powers, row_sums = np.zeros((3, units)), np.zeros((n, units))
    zeros, positives = np.zeros((2, units), np.int64)
    scratch = _Scratch(values.shape)
    # Values that are not finite make a unit unsound.
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for rows, columns, places in _tiles(n, units, positions):
            tile = values[rows, columns, places]
            largest = maxima[rows, columns]
            np.maximum(largest, _find_row_maxima(tile), out=largest)
            np.minimum(low[columns], _fold(np.minimum, tile), out=low[columns])
            first, second, third = scratch.sum_powers(tile, centre[columns])
            row_sums[rows, columns] += first
            powers[0, columns] += first.sum(axis=0, dtype=np.float64)
            powers[1, columns] += second
            powers[2, columns] += third
            zeros[columns] += _count(scratch.compare(np.equal, tile))
            positives[columns] += _count(scratch.compare(np.greater, tile))
        row_sums += positions * centre.astype(np.float64)
        ends = low.astype(np.float64), maxima.max(axis=0).astype(np.float64)
        reach = np.maximum(ends[1] - centre, centre - ends[0])
        mean, square = powers[:2] / (n * positions)
        near = mean * mean <= _FAR * (square - mean * mean)
        sound = ((reach >= _LEAST) & (reach <= _MOST) & near) | (reach == 0)
        sound &= np.isfinite(powers[2])
    return UnitSums(n * positions, centre, *ends, powers, zeros, positives, maxima, row_sums, sound)


class _Scratch:
    """Memory for the intermediate arrays of a tile."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        n, units, positions = shape
        size = max(_TILE, min(n, _ROWS) * min(positions, _POSITIONS))
        size = min(size, n * units * positions)
        self._centred, self._squares = np.empty((2, size), np.float32)
        self._which = np.empty(size, bool)

    def sum_powers(
        self, tile: NDArray[np.float32], centre: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Return sums of differences by row, (n, units), and of their squares and cubes."""
        n, units, positions = tile.shape
        centred = self._centred[: tile.size].reshape(tile.shape)
        squares = self._squares[: tile.size].reshape(tile.shape)
        np.subtract(tile, centre[:, None], out=centred)
        np.multiply(centred, centred, out=squares)
        if positions >= _LONG:
            first: NDArray[np.float32] = np.add.reduce(centred, axis=2)
            second = np.vecdot(centred, centred)
            third = np.vecdot(centred, squares)
            return first, second.sum(axis=0, dtype=np.float64), third.sum(axis=0, dtype=np.float64)
        if positions == 1:
            first = centred[:, :, 0]
        else:
            ones = np.ones(positions, np.float32)
            first = np.matmul(centred.reshape(-1, positions), ones).reshape(n, units)
        second = _fold(np.add, squares)
        np.multiply(squares, centred, out=squares)
        return first, second, _fold(np.add, squares)

    def compare(self, ufunc: np.ufunc, tile: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Compare a tile with 0."""
        which: NDArray[np.bool_] = self._which[: tile.size].reshape(tile.shape)
        return ufunc(tile, np.float32(0), out=which)


def _tiles(n: int, units: int, positions: int) -> Iterator[tuple[slice, slice, slice]]:
    height, length = min(n, _ROWS), min(positions, _POSITIONS)
    width = max(1, _TILE // (height * length))
    for row in range(0, n, height):
        for unit in range(0, units, width):
            for place in range(0, positions, length):
                yield (
                    slice(row, row + height),
                    slice(unit, min(unit + width, units)),
                    slice(place, place + length),
                )


def _find_row_maxima(tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find the greatest value of each row, (n, units); short rows by halves."""
    while 1 < tile.shape[2] < _LONG:
        half, odd = divmod(tile.shape[2], 2)
        halved = np.maximum(tile[:, :, :half], tile[:, :, half : 2 * half])
        if odd:
            np.maximum(halved[:, :, 0], tile[:, :, -1], out=halved[:, :, 0])
        tile = halved
    largest: NDArray[np.float32]
    largest = tile[:, :, 0] if tile.shape[2] == 1 else np.maximum.reduce(tile, axis=2)
    return largest


def _fold(ufunc: np.ufunc, tile: NDArray[Any]) -> NDArray[Any]:
    """Reduce (n, units, positions) to (units,) along the faster axis first, sums in float64."""
    wide = np.float64 if ufunc is np.add else None
    if tile.shape[2] >= _LONG:
        folded: NDArray[Any] = ufunc.reduce(ufunc.reduce(tile, axis=2), axis=0, dtype=wide)
        return folded
    columns = ufunc.reduce(tile, axis=0)
    return columns[:, 0] if tile.shape[2] == 1 else ufunc.reduce(columns, axis=1, dtype=wide)


def _count(which: NDArray[np.bool_]) -> NDArray[Any]:
    """Count what is true of each unit, in up to 128 rows."""
    columns = np.add.reduce(which.view(np.uint8), axis=0, dtype=np.uint8)
    if columns.shape[1] == 1:
        return columns[:, 0]
    counts: NDArray[Any] = np.add.reduce(columns, axis=1, dtype=np.int64)
    return counts
