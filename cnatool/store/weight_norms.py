"""Norms of a layer's weight matrix, without a float64 copy of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.records.weights import LayerWeights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Residual of the largest eigenvalue of WᵀW, relative to it. The spectral norm is then within half
# of this of a singular value, and usually within its square.
SPECTRAL_TOLERANCE = 1e-6
# Up to this many rows or columns, all eigenvalues are computed.
_DIRECT = 512
# Vectors that are multiplied at once; a pass over a large matrix costs the same for all of them.
_BLOCK = 8
# Passes between two checks of convergence.
_PASSES = 4
# Elements converted to float64 at a time: of a matrix that is read once, and of one that is read in
# every pass, whose parts should stay in the cache. And rows that are worth a call.
_PART = 1 << 21
_CACHED = 1 << 17
_FEWEST = 64


@dataclass(frozen=True, slots=True)
class BlockMatrix:
    """A block-diagonal matrix with scaled rows: a grouped convolution has a block per group."""

    blocks: NDArray[Any]  # blocks on the diagonal, of any real type
    scale: NDArray[np.float64]  # factor of each row

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole matrix."""
        count, rows, columns = self.blocks.shape
        return count * rows, count * columns

    def parts(self) -> Iterator[NDArray[np.float64]]:
        """Yield the scaled blocks in parts, (blocks, rows, in) each, in no particular order."""
        count, rows, columns = self.blocks.shape
        scale = np.broadcast_to(self.scale, (count, rows))
        blocks_at_once = max(1, _PART // max(1, rows * columns))
        height = max(1, _PART // max(1, columns))
        for start in range(0, count, blocks_at_once):
            for top in range(0, rows, height):
                part = slice(start, start + blocks_at_once), slice(top, top + height)
                yield self.blocks[part].astype(np.float64) * scale[part][:, :, None]

    def block(self, number: int) -> BlockMatrix:
        """Return one block as a matrix."""
        scale = self.scale[min(number, len(self.scale) - 1)]
        return BlockMatrix(self.blocks[number : number + 1], scale[None])


@dataclass(frozen=True, slots=True)
class MatrixNorms:
    """Norms of a matrix."""

    frobenius: float
    spectral: float  # largest singular value
    absolute_sum: float
    distance: float | None  # Frobenius norm of the difference to an initial matrix


def matrix_norms(matrix: BlockMatrix, initial: BlockMatrix | None = None) -> MatrixNorms | None:
    """Compute the norms of a matrix; None if they are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        largest = _largest(matrix)
        if not math.isfinite(largest):
            return None
        # Scaled by a power of two, which is exact, squares stay in range.
        unit = 2.0 ** math.frexp(largest)[1] if largest else 1.0
        scaled = BlockMatrix(matrix.blocks, matrix.scale / unit)
        squares, total = 0.0, 0.0
        for part in scaled.parts():
            squares += float(np.vdot(part, part))
            total += float(np.abs(part).sum())
        distance = None if initial is None else _distance(matrix, initial)
        norms = (math.sqrt(squares) * unit, spectral_norm(scaled) * unit, total * unit)
    if not all(map(math.isfinite, (*norms, distance or 0.0))):
        return None
    return MatrixNorms(*norms, distance)


def spectral_norm(matrix: BlockMatrix) -> float:
    """Compute the largest singular value of a matrix: the largest of all blocks.

    Up to 512 rows or columns it is exact to rounding, from all eigenvalues of WᵀW; beyond, the
    largest eigenvalue is iterated to `SPECTRAL_TOLERANCE`.
    """
    count, rows, columns = matrix.blocks.shape
    if not count * rows * columns:
        return 0.0
    if count * rows * columns > _PART or min(rows, columns) > _DIRECT:
        return max(_block_norm(matrix.block(number)) for number in range(count))
    (whole,) = matrix.parts()
    turned = whole.swapaxes(1, 2)
    gram = whole @ turned if rows < columns else turned @ whole
    return math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram)[:, -1].max())))


def _block_norm(matrix: BlockMatrix) -> float:
    product = _Product(matrix)
    if product.size > _DIRECT:
        return _iterate(product)
    return math.sqrt(max(0.0, float(np.linalg.eigvalsh(product.gram())[-1])))


class _Product:
    """WᵀW of a matrix of one block, or W Wᵀ if that is smaller; the matrix is never copied."""

    def __init__(self, matrix: BlockMatrix) -> None:
        block, scale = matrix.blocks[0], matrix.scale[0]
        wide = block.shape[0] < block.shape[1]
        self._tall = block.T if wide else block
        self.size: int = self._tall.shape[1]
        self._rows = np.ones(len(self._tall)) if wide else np.square(scale)
        self._columns = scale if wide else np.ones(self.size)

    def _parts(self, elements: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        step = max(_FEWEST, elements // self.size)
        for start in range(0, len(self._tall), step):
            part = slice(start, start + step)
            yield self._tall[part].astype(np.float64), self._rows[part, None]

    def gram(self) -> NDArray[np.float64]:
        """Compute the product itself."""
        total = np.zeros((self.size, self.size))
        for part, rows in self._parts(_PART):
            total += part.T @ (part * rows)
        return total * self._columns * self._columns[:, None]

    def times(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Multiply the product by vectors, (size, k), in one pass over the matrix."""
        scaled = vectors * self._columns[:, None]
        total = np.zeros_like(vectors)
        for part, rows in self._parts(_CACHED):
            total += part.T @ ((part @ scaled) * rows)
        return total * self._columns[:, None]


def _iterate(product: _Product) -> float:
    """Compute the root of the largest eigenvalue of WᵀW in a growing block Krylov space.

    By the Rayleigh–Ritz method: the value never exceeds the true one and only grows.
    """
    size = product.size
    current = np.linalg.qr(np.random.default_rng(0).standard_normal((size, _BLOCK)))[0]
    basis = images = np.empty((size, 0))
    value = 0.0
    for step in itertools.count(1):
        image = product.times(current)
        basis, images = np.hstack([basis, current]), np.hstack([images, image])
        current = _orthogonal_part(basis, image)
        # If nothing lies outside, the space contains the largest.
        last = current.shape[1] == 0
        if last or step % _PASSES == 0:
            projected = basis.T @ images
            values, vectors = np.linalg.eigh((projected + projected.T) / 2)
            value, vector = float(values[-1]), vectors[:, -1]
            residual = float(np.linalg.norm(images @ vector - value * (basis @ vector)))
            if last or residual <= SPECTRAL_TOLERANCE * value:
                break
    return math.sqrt(max(0.0, value))


def _orthogonal_part(basis: NDArray[np.float64], image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute an orthonormal basis of the part of some vectors that is orthogonal to a space."""
    rest = image[:, : basis.shape[0] - basis.shape[1]]
    # Once, and again for the rounding error; directions of rounding error alone are dropped.
    for _ in range(2):
        lengths = np.linalg.norm(rest, axis=0)
        rest = rest - basis @ (basis.T @ rest)
        rest, heights = np.linalg.qr(rest)
        rest = rest[:, np.abs(np.diag(heights)) > 1e-10 * lengths.max(initial=0.0)]
    return rest


def _largest(matrix: BlockMatrix) -> float:
    parts = [float(np.abs(part).max(initial=0.0)) for part in matrix.parts()]
    # max() of Python would pass over NaN
    return float(np.max(parts, initial=0.0))


def _distance(matrix: BlockMatrix, initial: BlockMatrix) -> float:
    squares = 0.0
    for part, initial_part in zip(matrix.parts(), initial.parts(), strict=True):
        difference = part - initial_part
        squares += float(np.vdot(difference, difference))
    return math.sqrt(squares)


def measure_layer(
    number: int,
    name: str,
    matrix: BlockMatrix,
    initial: BlockMatrix | None = None,
    same_as: int | None = None,
) -> LayerWeights:
    """Measure the weights of a layer."""
    norms = matrix_norms(matrix, initial)
    shape, blocks = matrix.shape, len(matrix.blocks)
    if norms is None:
        reason = f"the weights of layer {number} ({name!r}) are not finite"
        return LayerWeights(number, name, shape, blocks, same_as=same_as, reason=reason)
    return LayerWeights(
        number=number,
        name=name,
        shape=shape,
        blocks=blocks,
        frobenius=norms.frobenius,
        spectral=norms.spectral,
        absolute_sum=norms.absolute_sum,
        distance=norms.distance,
        same_as=same_as,
    )
