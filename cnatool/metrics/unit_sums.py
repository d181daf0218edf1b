"""Sums of powers of the values of units, and what else one pass over a tile counts.

Intermediate arrays are those of a few rows at a time, which fit a cache; what is computed once for
each unit is computed once for a tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnatool.metrics.unit_values import Scratch, fold, stretches, unit_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Numbers that 8-bit counts take, and unsigned types by their bytes.
_BYTE = 255
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
# Positions from which each row is summed first, rather than each position over rows, and from which
# NumPy sums in pairs sooner than a product with ones.
_POSITIONS, _PAIRWISE = 64, 256
# Rows that are summed in the type of the values.
_FEW = 8
# Distances from the mean whose cubes are float32.
_LEAST, _GREATEST = 2.0**-30, 2.0**30

Powers: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]"


@dataclass(slots=True)
class TileSums:
    """What a tile (n, units, positions) adds; arrays are (units,) but for those of rows.

    Attributes
    ----------
    powers : tuple of ndarray of float64
        Σ (x − shift)^p for p = 1, 2, 3.
    low, high : ndarray
        The extremes, in the type of the values.
    zeros, positives : ndarray of int64
        Values that are exactly 0, and above 0.
    row_sums : ndarray of float64, (n, units), or None
        Σ x of each row; None where positions are so few that they are not needed.
    row_maxima : ndarray, (n, units), or None
        The largest value of each row, likewise.
    """

    powers: Powers
    low: NDArray[np.floating[Any]]
    high: NDArray[np.floating[Any]]
    zeros: NDArray[np.int64]
    positives: NDArray[np.int64]
    row_sums: NDArray[np.float64] | None
    row_maxima: NDArray[np.floating[Any]] | None


def sum_tile(
    tile: NDArray[np.floating[Any]], shift: NDArray[np.float64], scratch: Scratch
) -> TileSums:
    """Sum up the values of a tile; without meaning where a value is not finite.

    Parameters
    ----------
    tile : ndarray of float32 or float64, (n, units, positions)
        Not empty.
    shift : ndarray of float64, (units,)
        About the mean of each unit; a float32 for a tile of these.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        sums = _sum(tile, shift.astype(tile.dtype), scratch)
        if tile.dtype == np.float32 and not _fits_float32(shift, sums.low, sums.high):
            sums = _sum(tile.astype(np.float64), shift, scratch)
    return sums


def find_shift(tile: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return what is about the mean of each unit, by the first rows of a tile.

    It is the value itself of a unit whose values are equal, so that its deviation is 0.
    """
    first = tile[next(stretches(tile.shape))]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = fold(np.add, first, np.dtype(np.float64)) / (first.shape[0] * first.shape[2])
    low, high = fold(np.minimum, first), fold(np.maximum, first)
    shift: NDArray[np.float64] = np.where(low == high, low, mean)
    return shift


def count_values(which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count what is true of each unit, of (n, units, positions)."""
    n, units, positions = which.shape
    counts = np.zeros(units, np.int64)
    if positions >= _POSITIONS:
        # Words are added up, the bytes of which do not run over.
        word = next(size for size in (8, 4, 2, 1) if positions % size == 0)
        words = np.ascontiguousarray(which).view(_WORDS[word])
        for start in range(0, words.shape[2], _BYTE):
            part = words[:, :, start : start + _BYTE]
            sums = np.add.reduce(part, axis=2, dtype=part.dtype).view(np.uint8)
            counts += sums.reshape(n, units, word).sum(axis=(0, 2), dtype=np.int64)
        return counts
    flat = which.view(np.uint8).reshape(n, units * positions)
    for row in range(0, n, _BYTE):
        sums = np.add.reduce(flat[row : row + _BYTE], axis=0, dtype=np.uint8)
        counts += sums.reshape(units, positions).sum(axis=1, dtype=np.int64)
    return counts


def _sum(
    tile: NDArray[np.floating[Any]], shift: NDArray[np.floating[Any]], scratch: Scratch
) -> TileSums:
    if tile.shape[2] >= _POSITIONS:
        return _sum_rows(tile, shift, scratch)
    parts = [_sum_columns(tile[:, few], shift[few], scratch) for few in unit_ranges(tile.shape)]
    return parts[0] if len(parts) == 1 else _join(parts)


def _join(parts: list[TileSums]) -> TileSums:
    """Put the units of several behind one another."""
    first, second, third = (
        np.concatenate(powers) for powers in zip(*(part.powers for part in parts), strict=True)
    )
    low, high, zeros, positives = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("low", "high", "zeros", "positives")
    )
    return TileSums((first, second, third), low, high, zeros, positives, None, None)


def _sum_rows(
    tile: NDArray[np.floating[Any]], shift: NDArray[np.floating[Any]], scratch: Scratch
) -> TileSums:
    """Sum over positions first."""
    n, units, positions = tile.shape
    low, high = np.empty((2, n, units), tile.dtype)
    row_sums, second, third = np.empty((3, n, units))
    first = row_sums if tile.dtype == np.float32 else np.empty((n, units))
    zeros, above = np.zeros((2, units), np.int64)
    for rows in stretches(tile.shape):
        values = tile[rows]
        np.maximum.reduce(values, axis=2, out=high[rows])
        np.minimum.reduce(values, axis=2, out=low[rows])
        np.add.reduce(values, axis=2, dtype=np.float64, out=row_sums[rows])
        centred = scratch.take("centred", values.shape, tile.dtype)
        squares = scratch.take("squares", values.shape, tile.dtype)
        np.subtract(values, shift[:, None], out=centred)
        if first is not row_sums:
            np.add.reduce(centred, axis=2, out=first[rows])
        np.multiply(centred, centred, out=squares)
        second[rows] = _sum_positions(squares)
        np.multiply(squares, centred, out=squares)
        third[rows] = _sum_positions(squares)
        _count_signs(values, low[rows].min(axis=0), high[rows].max(axis=0), zeros, above, scratch)
    powers = first.sum(axis=0), second.sum(axis=0), third.sum(axis=0)
    if first is row_sums:
        # Means keep the digits of float64, as differences of float32 do not.
        powers = powers[0] - float(n * positions) * shift.astype(np.float64), *powers[1:]
    return TileSums(powers, low.min(axis=0), high.max(axis=0), zeros, above, row_sums, high)


def _sum_columns(
    tile: NDArray[np.floating[Any]], shift: NDArray[np.floating[Any]], scratch: Scratch
) -> TileSums:
    """Sum over rows first, each position apart."""
    n, units, positions = tile.shape
    flat = tile.reshape(n, units * positions)
    shifts = np.repeat(shift, positions)
    low, high = np.full(flat.shape[1], np.inf, tile.dtype), flat[0].copy()
    first, second, third = np.zeros((3, flat.shape[1]))
    zeros, above = np.zeros((2, units), np.int64)
    for rows in stretches(tile.shape):
        values = flat[rows]
        lowest, highest = np.minimum.reduce(values, axis=0), np.maximum.reduce(values, axis=0)
        np.minimum(low, lowest, out=low)
        np.maximum(high, highest, out=high)
        centred = scratch.take("centred", values.shape, tile.dtype)
        squares = scratch.take("squares", values.shape, tile.dtype)
        np.subtract(values, shifts, out=centred)
        first += np.add.reduce(
            values if tile.dtype == np.float32 else centred, axis=0, dtype=np.float64
        )
        np.multiply(centred, centred, out=squares)
        for part in _few(len(values)):
            few = (-1, min(_FEW, part.stop - part.start), flat.shape[1])
            second += squares[part].reshape(few).sum(axis=1).sum(axis=0, dtype=np.float64)
            cubes = np.einsum("ijk,ijk->ik", squares[part].reshape(few), centred[part].reshape(few))
            third += cubes.sum(axis=0, dtype=np.float64)
        _count_signs(tile[rows], lowest, highest, zeros, above, scratch)
    if tile.dtype == np.float32:
        first -= float(n) * shifts.astype(np.float64)
    columns = [each.reshape(units, positions) for each in (first, second, third, low, high)]
    powers = columns[0].sum(axis=1), columns[1].sum(axis=1), columns[2].sum(axis=1)
    return TileSums(
        powers, columns[3].min(axis=1), columns[4].max(axis=1), zeros, above, None, None
    )


def _sum_positions(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Sum over positions in the type of the values: (n, units)."""
    n, units, positions = values.shape
    rows = values.reshape(n * units, positions)
    sums: NDArray[np.floating[Any]]
    if positions < _PAIRWISE:
        sums = rows @ np.ones(positions, values.dtype)
    else:
        sums = np.add.reduce(rows, axis=1)
    return sums.reshape(n, units)


def _few(rows: int) -> list[slice]:
    """Divide rows into a multiple of a few, and the rest, so that float32 loses no digits."""
    whole = rows - rows % _FEW
    return [part for part in (slice(0, whole), slice(whole, rows)) if part.stop > part.start]


def _count_signs(
    values: NDArray[np.floating[Any]],
    low: NDArray[np.floating[Any]],
    high: NDArray[np.floating[Any]],
    zeros: NDArray[np.int64],
    positives: NDArray[np.int64],
    scratch: Scratch,
) -> None:
    """Add the numbers of zeros and of values above 0, as far as the extremes do not tell."""
    n, _, positions = values.shape
    which = scratch.take("which", values.shape, bool)
    lowest, highest = low.min(), high.max()
    if lowest > 0 or highest < 0:
        found: NDArray[np.int64] | int = 0
    else:
        found = count_values(np.equal(values, 0, out=which))
    zeros += found
    if lowest >= 0:
        positives += n * positions - found
    elif highest > 0:
        positives += count_values(np.greater(values, 0, out=which))


def _fits_float32(
    shift: NDArray[np.float64],
    low: NDArray[np.floating[Any]],
    high: NDArray[np.floating[Any]],
) -> bool:
    """Whether cubes of x − shift are far from the least and the greatest float32."""
    reach = np.maximum(high - shift, shift - low)
    return bool(((reach == 0) | ((reach > _LEAST) & (reach < _GREATEST))).all())
