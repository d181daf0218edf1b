"""How often each number occurs in each row: the histograms of a block of samples at once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

NUMBERS = 1 << 16  # counts of one block: what a uint16 can number
_PER_WORD = 4  # uint16 numbers in a 64-bit word, uint8 ones in a 32-bit word
_SPARSE = 0.75  # share of words below which leaving out the background pays
_ROWS_LOOKED_AT = 8  # one row in so many tells how much is background
_MOST_INT16 = np.iinfo(np.int16).max


def count_rows(index: NDArray[Any], size: int) -> NDArray[np.intp]:
    """Count how often each number 0 … size − 1 occurs in each row of `index` (m, width).

    One `bincount` does, the numbers of row i counted from i · size on.
    """
    rows, width = index.shape
    if rows * size > NUMBERS:
        shifted = index + np.arange(0, rows * size, size)[:, None]
        return np.bincount(shifted.ravel(), minlength=rows * size).reshape(rows, size)
    numbers = np.empty((rows, width + -width % _PER_WORD), np.uint16)
    np.copyto(numbers[:, :width], index, casting="unsafe")
    background = numbers[:, 0].astype(np.intp)
    numbers[:, width:] = numbers[:, :1]
    numbers += np.arange(0, rows * size, size, dtype=np.uint16)[:, None]
    # Most images have a background, and counting one value over and over is slow. Words that hold
    # the row's first value alone are left out; its count is what is missing to the width.
    words = numbers.view(np.uint64)
    foreground = words != np.repeat(numbers[:, :1], _PER_WORD, axis=1).view(np.uint64)
    if np.count_nonzero(foreground) < _SPARSE * foreground.size:
        numbers = words[foreground].view(np.uint16)
    counts = np.bincount(numbers.ravel(), minlength=rows * size).reshape(rows, size)
    counts[np.arange(rows), background] += width - counts.sum(axis=1)
    return counts


def count_many_rows(index: NDArray[Any], size: int) -> NDArray[np.int32]:
    """Return `count_rows` in half the time, for which a part of SciPy is imported: 0.1 s.

    The rows are those of a sparse matrix with a one in the column of each number, and SciPy adds
    the ones of a column as it writes the matrix out.
    """
    from scipy.sparse import csr_array

    rows, width = index.shape
    ends = np.arange(0, index.size + 1, width, dtype=np.int32)
    numbers, sparse = index.ravel(), False
    if index.dtype == np.uint8 and width % _PER_WORD == 0:
        words = numbers.view(np.uint32).reshape(rows, -1)
        background = np.repeat(index[:, :1], _PER_WORD, axis=1).view(np.uint32)
        foreground = words[::_ROWS_LOOKED_AT] != background[::_ROWS_LOOKED_AT]
        sparse = np.count_nonzero(foreground) < _SPARSE * foreground.size
        if sparse:
            foreground = words != background
            np.cumsum(np.count_nonzero(foreground, axis=1) * _PER_WORD, out=ends[1:])
            numbers = words[foreground].view(np.uint8)
    ones = _ones(index.size, np.int16 if width <= _MOST_INT16 else np.int32)
    matrix = csr_array((ones[: numbers.size], numbers.astype(np.int32), ends), (rows, size))
    counts: NDArray[np.int32] = matrix.toarray().astype(np.int32, copy=False)
    if sparse:
        counts[np.arange(rows), index[:, 0]] += width - np.diff(ends)
    return counts


def sum_table_rows(table: NDArray[np.int64], index: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Sum table[i] over the numbers i of each row of `index`, as in `count_many_rows`.

    The sums are the product of a sparse matrix, with a one in the column of each number, and the
    table: that takes no array of what is looked up.
    """
    from scipy.sparse import csr_array

    rows, width = index.shape
    ends = np.arange(0, index.size + 1, width, dtype=np.int32)
    matrix = csr_array((_ones(index.size, np.int64), index.ravel(), ends), (rows, table.size))
    sums: NDArray[np.int64] = matrix @ table
    return sums


@lru_cache(maxsize=3)
def _ones(count: int, dtype: DTypeLike) -> NDArray[Any]:
    return np.ones(count, dtype)
