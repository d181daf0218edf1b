"""The largest singular value of a weight matrix."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.products import DEPTH, PIECE, add_gram, multiply
from cnatool.store.block_matrix import PART

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cnatool.store.block_matrix import BlockMatrix

# Bound of the relative error of the largest eigenvalue of WᵀW; that of the spectral norm is half.
SPECTRAL_TOLERANCE = 1e-9
# Up to this many rows or columns, all eigenvalues are computed; for more, LAPACK starts threads.
_DIRECT = 64
# Up to this many, WᵀW is computed, which costs less than many passes over the matrix; for half as
# many and less, powers of it.
_GRAM = 1024
# Vectors that are multiplied at once; one alone could miss the larger of two close eigenvalues.
_BLOCK = 4
# Most vectors of a Krylov space; the best half of them continues it. LAPACK starts threads for a
# few more than the first, and the last digits depend on their number for many more than the second.
_MOST_ROUGH, _MOST = 24, 96
# Elements up to this size, and factors of rows, are multiplied in float32 in any order.
_NEAR_ONE = 1e6
# Passes in float32 between two checks of convergence, and most of them.
_PASSES = 3
_ROUGH_PASSES = 100


def spectral_norm(matrix: BlockMatrix) -> float:
    """Compute the largest singular value of a matrix: the largest of all blocks.

    Its relative error is at most half of `SPECTRAL_TOLERANCE`. Squares of the elements must be in
    range.
    """
    count, rows, columns = matrix.blocks.shape
    if not count * rows * columns:
        return 0.0
    if rows * columns * min(rows, columns) > PIECE or rows * columns > PART:
        return max(_block_norm(matrix.block(number)) for number in range(count))
    # These are small, and there may be many.
    return max(_norm_of_small(part) for part in matrix.parts())


def _norm_of_small(blocks: NDArray[np.float64]) -> float:
    turned = blocks.swapaxes(1, 2)
    gram = blocks @ turned if blocks.shape[1] < blocks.shape[2] else turned @ blocks
    return _root(np.linalg.eigvalsh(gram)[:, -1].max())


def _block_norm(matrix: BlockMatrix) -> float:
    size = min(matrix.shape)
    if size <= _DIRECT:
        product = _Product(matrix, np.float64, near_one=False)
        return _root(np.linalg.eigvalsh(product.gram())[-1])
    # float32 finds the vectors, at half the cost; float64 completes them, mostly in one pass.
    near_one = _is_near_one(matrix)
    near = _approximate(_Product(matrix, np.float32, near_one=near_one)).astype(np.float64)
    value, _ = _iterate(_Product(matrix, np.float64, near_one=near_one).times, near)
    return _root(value)


def _approximate(product: _Product) -> NDArray[np.float32]:
    """Compute the last eigenvectors of WᵀW within the precision of float32."""
    size = product.size
    times: Callable[[NDArray[Any]], NDArray[Any]] = product.times
    if size <= _GRAM:
        power = product.gram()
        # A power has the same vectors, and its eigenvalues are further apart. Half the size makes
        # squaring eight times cheaper, so it is squared three times more.
        for _ in range(3 * int(math.log2(_GRAM / 2 / size))):
            power = multiply(power, power)
            power /= max(float(power.max()), float(np.finfo(np.float32).tiny))
        times = partial(multiply, power)
    start = np.random.default_rng(0).standard_normal((size, _BLOCK), np.float32)
    _, vectors = _iterate(times, start, room=_MOST_ROUGH, every=_PASSES, most=_ROUGH_PASSES)
    return vectors


def _root(eigenvalue: float) -> float:
    return math.sqrt(max(0.0, float(eigenvalue)))


class _Product:
    """WᵀW of a matrix of one block, or W Wᵀ if that is smaller; the matrix is never copied.

    Whether it is ``near_one``, `_is_near_one` tells.
    """

    def __init__(
        self, matrix: BlockMatrix, dtype: type[np.floating[Any]], *, near_one: bool
    ) -> None:
        block, scale = matrix.blocks[0], matrix.scale[0]
        most = np.finfo(dtype).max
        self._wide = block.shape[0] < block.shape[1]
        self._dtype = dtype
        self._tall = block.T if self._wide else block
        self._factors = np.clip(scale, -most, most).astype(dtype)[:, None]
        self._near_one = near_one
        self.size: int = self._tall.shape[1]

    def _parts(self, height: int) -> Iterator[NDArray[Any]]:
        """Yield rows of the tall matrix, scaled."""
        # What float32 cannot hold before it is scaled is scaled first.
        first = np.float64 if self._tall.dtype == np.float64 else self._dtype
        scale = np.broadcast_to(self._factors.T if self._wide else self._factors, self._tall.shape)
        for start in range(0, len(self._tall), height):
            rows = slice(start, start + height)
            part = self._tall[rows].astype(first, copy=False) * scale[rows]
            yield part.astype(self._dtype, copy=False)

    def gram(self) -> NDArray[Any]:
        """Compute the product itself."""
        total = np.zeros((self.size, self.size), self._dtype)
        for part in self._parts(DEPTH):
            add_gram(total, part)
        return np.tril(total) + np.tril(total, -1).T

    def times(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Multiply the product by vectors, (size, k), in one pass over the matrix."""
        # In rows, long vectors are added up without strides.
        rows = np.ascontiguousarray(vectors.T)
        total = np.zeros_like(rows)
        if not self._near_one:
            for part in self._parts(max(1, PIECE // vectors.size)):
                total += multiply(multiply(rows, part.T), part)
            return total.T
        # Vectors are scaled instead of the matrix, which is many times as large.
        scale = self._factors.T
        if not self._wide:
            for here, part in self._rows(len(rows)):
                image = multiply(rows, part.T)
                image *= scale[:, here] ** 2
                total += multiply(image, part)
            return total.T
        # Rows are contiguous, columns are not: reading the rows twice takes less time.
        rows = rows * scale
        images = np.zeros((len(rows), len(self._tall)), self._dtype)
        for here, part in self._rows(len(rows)):
            images += multiply(rows[:, here], part)
        for here, part in self._rows(len(rows)):
            total[:, here] = multiply(images, part.T)
        total *= scale
        return total.T

    def _rows(self, vectors: int) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield slices of the rows as they are stored, and their values, not scaled."""
        block = self._tall.T if self._wide else self._tall
        height = max(1, PIECE // (vectors * block.shape[1]))
        for start in range(0, len(block), height):
            here = slice(start, start + height)
            yield here, block[here].astype(self._dtype, copy=False)


def _is_near_one(matrix: BlockMatrix) -> bool:
    """Whether no row of one block, no factor and no product of them leaves float32."""
    block, scale = matrix.blocks[0], matrix.scale[0]
    largest = np.maximum(block.max(axis=1), -block.min(axis=1).astype(np.float64))
    scaled = float(np.max(largest * np.abs(scale)))
    sizes = largest.max(), np.abs(scale).max(), scaled, 1 / max(scaled, 1e-300)
    return bool(max(sizes) <= _NEAR_ONE)


def _iterate(
    times: Callable[[NDArray[Any]], NDArray[Any]],
    start: NDArray[Any],
    *,
    room: int = _MOST,
    every: int = 1,
    most: int | None = None,
) -> tuple[float, NDArray[Any]]:
    """Compute the largest eigenvalue of WᵀW and the last eigenvectors, in a block Krylov space.

    By the Rayleigh–Ritz method: the value never exceeds the true one and only grows. Convergence is
    checked every so many passes, of which at most ``most`` are made. The best half of a space of
    ``room`` vectors continues it.
    """
    rounding = 16 * float(np.finfo(start.dtype).eps)
    current = np.linalg.qr(start)[0]
    basis = images = np.empty((len(start), 0), start.dtype)
    for step in itertools.count(1):
        image = times(current)
        basis, images = np.hstack([basis, current]), np.hstack([images, image])
        current = _orthogonal_part(basis, image)
        # If nothing lies outside, the space contains the largest.
        last = current.shape[1] == 0 or step == most
        if not last and step % every:
            continue
        projected = multiply(basis.T, images)
        values, vectors = np.linalg.eigh((projected + projected.T) / 2)
        value, vector = float(values[-1]), vectors[:, -1:]
        residuals = multiply(images, vector) - value * multiply(basis, vector)
        residual = float(np.linalg.norm(residuals, axis=0)[0])
        bound = _bound_error(residual, values)
        if last or bound <= SPECTRAL_TOLERANCE * value or residual <= rounding * value:
            break
        if basis.shape[1] >= room:
            kept = vectors[:, -(room // 2) :]
            basis, images = multiply(basis, kept), multiply(images, kept)
    return value, multiply(basis, vectors[:, -_BLOCK:])


def _bound_error(residual: float, values: NDArray[np.float64]) -> float:
    """Bound the error of the last of some Ritz values, in ascending order, by its residual.

    It is at most the residual, and, where the next eigenvalue is further away, at most the square
    of the residual over that distance (Kato and Temple).
    """
    gap = float(values[-1] - values[-2]) if values.size > 1 else 0.0
    return residual * min(1.0, residual / gap) if gap > 0 else residual


def _orthogonal_part(basis: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
    """Compute an orthonormal basis of the part of some vectors that is orthogonal to a space."""
    eps = float(np.finfo(image.dtype).eps)
    rest = image[:, : basis.shape[0] - basis.shape[1]]
    lengths = np.linalg.norm(rest, axis=0)
    # Once, and again for the rounding error.
    for _ in range(2):
        rest = rest - multiply(basis, multiply(basis.T, rest))
    # What is left of a vector, and of several of them, is dropped if it is rounding error alone.
    left = np.linalg.norm(rest, axis=0)
    kept = left > 1e3 * eps * lengths.max(initial=0.0)
    directions, heights = np.linalg.qr(rest[:, kept] / left[kept])
    return directions[:, np.abs(np.diag(heights)) > math.sqrt(eps)]
