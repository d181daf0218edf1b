"""How often each number occurs in each row: the histograms of a block of samples at once."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

NUMBERS = 1 << 16  # counts of one block: what a uint16 can number
_WORD_BYTES = 8
_PER_WORD = 4  # uint16 numbers in a word
_SPARSE = 0.75  # share of words below which leaving out the background pays
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


def count_many_rows(index: NDArray[Any], size: int) -> NDArray[np.intp]:
    """Return `count_rows` in half the time, for which a part of SciPy is imported: 0.1 s.

    The numbers are the columns of a sparse matrix of one row and of ones, which SciPy adds up as it
    writes the matrix out. A count that was just written is slow to read again, so that rows take
    turns, a word each.
    """
    from scipy.sparse import csr_array

    rows, width = index.shape
    word = math.gcd(width * index.itemsize, _WORD_BYTES)
    turns = np.ascontiguousarray(index.view(f"u{word}").T)
    columns = turns.view(index.dtype).reshape(turns.shape[0], -1).astype(np.int32)
    columns += _first_columns(rows, size, word // index.itemsize)
    ones = _ones(index.size, np.int16 if width <= _MOST_INT16 else np.int32)
    ends = np.array([0, index.size], np.int32)
    matrix = csr_array((ones, columns.ravel(), ends), (1, rows * size))
    counts: NDArray[np.intp] = matrix.toarray().astype(np.intp)
    return counts.reshape(rows, size)


@lru_cache(maxsize=2)
def _first_columns(rows: int, size: int, repeats: int) -> NDArray[np.int32]:
    return np.repeat(np.arange(0, rows * size, size, dtype=np.int32), repeats)


@lru_cache(maxsize=2)
def _ones(count: int, dtype: DTypeLike) -> NDArray[Any]:
    return np.ones(count, dtype)
