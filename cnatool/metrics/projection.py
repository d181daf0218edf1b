"""Random projections that keep distances, and seeded positions.

A projection of D numbers to K multiplies them by a random matrix, (D, K), of which the expected
square of a projected vector's length is that of the vector (Johnson & Lindenstrauss 1984). A dense
matrix of normal numbers has D·K of them. Beyond a bound, each of the D rows has a few ±1 instead,
one in each group of columns, at about equally many rows for each column (a sparse
Johnson–Lindenstrauss transform, Kane & Nelson 2014, with balanced columns). Short blocks of rows
are permuted as a whole, since single numbers are slow to look up. The rows of a block are in
different columns, and those of two blocks meet in one as often as if each were permuted alone: the
length of a block and the number of columns of a group have no common divisor.

All random numbers are those of NumPy's legacy generator, whose streams never change, so that a seed
makes the same matrix in every version.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from cnatool._util.products import multiply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

# Numbers of the largest dense matrix: 16 MB in float32.
LARGEST_DENSE: Final = 1 << 22
# Elements of the largest sparse one: 100 MB of signs and places.
LARGEST_SPARSE: Final = 1 << 22
# Numbers of a block of columns, and the least share of the squares of lengths by which rows differ.
_BLOCK_NUMBERS = 1 << 22
_TOLD_APART = 1e-12
# Groups of columns, in each of which a row of a sparse matrix has one ±1.
_GROUPS = 2
# Elements of a block of a sparse matrix at most, and blocks of each column at least.
_LONGEST_BLOCK = 64
_COLUMN_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class DenseProjection:
    """A projection by a matrix of independent normal numbers of variance 1/K."""

    matrix: NDArray[np.float32]  # (D, K)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return self.matrix.nbytes

    @property
    def sha256(self) -> str:
        """SHA-256 of its numbers, little-endian."""
        return _digest(self.matrix)

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Project rows, (n, D), to (n, K)."""
        return np.asarray(values @ self.matrix.astype(values.dtype))


@dataclass(frozen=True, slots=True)
class SparseProjection:
    """A projection by sums of elements with signs, each element in one sum of each group.

    Blocks of elements are laid out in a table for each group, one column for each of its sums. The
    last block is filled up with the first elements, and a table with block 0, of sign 0 each.
    """

    elements: int
    length: int  # elements of a block
    places: tuple[NDArray[np.int64], ...]  # of each group: the blocks of its table, row by row
    signs: tuple[NDArray[np.float32], ...]  # of each group: those of the elements of the blocks
    widths: tuple[int, ...]  # sums of each group

    @property
    def filling(self) -> int:
        """How many elements, from the first on, fill up the last block."""
        return -self.elements % self.length

    @property
    def nbytes(self) -> int:
        """Bytes of places and signs."""
        return sum(each.nbytes for each in self.places) + sum(each.nbytes for each in self.signs)

    @property
    def sha256(self) -> str:
        """SHA-256 of places and signs, little-endian."""
        return _digest(*self.places, *self.signs)

    @property
    def scale(self) -> float:
        """Factor of all sums."""
        return 1 / math.sqrt(len(self.widths))

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Project rows, (n, D), to (n, K)."""
        count = len(values)
        blocks = np.concatenate([values, values[:, : self.filling]], axis=1)
        blocks = blocks.reshape(count, -1, self.length)
        sums = [
            (blocks[:, places].reshape(count, -1) * signs.astype(values.dtype))
            .reshape(count, -1, width)
            .sum(axis=1)
            for places, signs, width in zip(self.places, self.signs, self.widths, strict=True)
        ]
        return np.asarray(np.concatenate(sums, axis=1) * values.dtype.type(self.scale))


@lru_cache(maxsize=8)
def make_projection(elements: int, size: int, seed: int) -> DenseProjection | SparseProjection:
    """Make the projection of so many elements to ``size`` numbers; it depends on nothing else.

    Examples
    --------
    >>> make_projection(1000, 16, seed=0).matrix.shape
    (1000, 16)
    """
    rng = _generator(seed, elements, size)
    if elements * size <= LARGEST_DENSE:
        numbers = rng.standard_normal((elements, size))
        return DenseProjection((numbers / np.sqrt(size)).astype(np.float32))
    groups = min(_GROUPS, size)
    widths = [len(part) for part in np.array_split(np.arange(size), groups)]
    length = _choose_length(elements, widths)
    blocks = -(-elements // length)
    places, signs = [], []
    for width in widths:
        filled = np.zeros(-(-blocks // width) * width, np.int64)
        filled[:blocks] = rng.permutation(blocks)
        sign = np.zeros((len(filled), length), np.float32)
        sign[:blocks] = rng.randint(0, 2, (blocks, length)) * 2 - 1
        sign[:blocks].reshape(-1)[_find_filling(filled[:blocks], length, elements)] = 0
        places.append(filled)
        signs.append(sign.reshape(-1))
    return SparseProjection(elements, length, tuple(places), tuple(signs), tuple(widths))


def _choose_length(elements: int, widths: Sequence[int]) -> int:
    """Choose how many elements blocks have: the most that have no divisor in common with widths."""
    most = min(_LONGEST_BLOCK, *widths, max(1, elements // (_COLUMN_BLOCKS * max(widths))))
    fitting = (n for n in range(most, 1, -1) if all(math.gcd(n, width) == 1 for width in widths))
    return next(fitting, 1)


def _find_filling(blocks: NDArray[np.int64], length: int, elements: int) -> NDArray[np.bool_]:
    """Find the elements of blocks, one behind the other, that lie behind the last element."""
    return (blocks[:, None] * length + np.arange(length) >= elements).reshape(-1)


def spread_positions(length: int, count: int, seed: int) -> NDArray[np.int64]:
    """Choose up to ``count`` of so many positions: one at random in each of as many stretches.

    Stretches are equally long up to one position; all positions are chosen where there are no more.

    Examples
    --------
    >>> spread_positions(3, 5, seed=0).tolist()
    [0, 1, 2]
    """
    count = min(count, length)
    edges = np.arange(count + 1) * length // max(1, count)
    offsets = draw_offsets(count, seed) * np.diff(edges)
    chosen: NDArray[np.int64] = edges[:-1] + offsets.astype(np.int64)
    return chosen


def draw_offsets(count: int, seed: int) -> NDArray[np.float64]:
    """Draw where in its stretch each position is, from 0 up to 1; the first are always the same."""
    return np.asarray(_generator(seed).random_sample(count))


class MeasuredDistortion(NamedTuple):
    """What a projection does to distances; as `cnatool.records.reductions.Distortion`."""

    samples: int
    pairs: int
    mean: float
    largest: float


def measure_distortion(values: ArrayLike, projected: ArrayLike) -> MeasuredDistortion:
    """Compare the Euclidean distances of all pairs of samples before and after a projection.

    Parameters
    ----------
    values : array, (n, D)
    projected : array, (n, K)

    Returns
    -------
    MeasuredDistortion
        Mean and maximum of |d′ / d − 1| over the pairs that differ, 0 without such. Samples with
        values that are not finite do not count.
    """
    rows, reduced = (
        np.asarray(each).reshape(len(np.asarray(each)), -1) for each in (values, projected)
    )
    finite = np.isfinite(rows).all(axis=1) & np.isfinite(reduced).all(axis=1)
    before, after = _square_distances(rows[finite]), _square_distances(reduced[finite])
    apart = before > 0
    errors = np.abs(np.sqrt(after[apart] / before[apart]) - 1)
    mean, largest = (float(errors.mean()), float(errors.max())) if errors.size else (0.0, 0.0)
    return MeasuredDistortion(int(finite.sum()), int(apart.sum()), mean, largest)


def _square_distances(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the squares of the distances of all pairs from inner products, some columns at once.

    They are 0 where the digits of float64 tell no difference.
    """
    products = np.zeros((len(rows), len(rows)))
    step = max(1, _BLOCK_NUMBERS // max(1, len(rows)))
    for start in range(0, rows.shape[1] if len(rows) else 0, step):
        part = rows[:, start : start + step].astype(np.float64)
        part -= part.mean(axis=0)
        products += multiply(part, part.T)
    lengths = np.diagonal(products)
    sums = lengths[:, None] + lengths
    squares = sums - 2 * products
    squares[squares < _TOLD_APART * sums] = 0
    return np.asarray(squares[np.triu_indices(len(rows), 1)])


def _generator(*seeds: int) -> np.random.RandomState:
    # Numbers of any size as the 32-bit words that it takes.
    words = [word for seed in seeds for word in (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)]
    return np.random.RandomState(words)


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
