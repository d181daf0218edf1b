"""Norms of a layer's weight matrix, without a float64 copy of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.records.weights import LayerWeights
from cnatool.store.block_matrix import BlockMatrix
from cnatool.store.spectral_norm import spectral_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Numbers between these are squared as they are.
_SMALL, _LARGE = 2.0**-300, 2.0**300


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
        largest, squares, total = _sum_up(matrix)
        if not math.isfinite(largest):
            return None
        # Scaled by a power of two, which is exact, squares stay in range.
        unit = 2.0 ** math.frexp(largest)[1] if largest else 1.0
        scaled = BlockMatrix(matrix.blocks, matrix.scale / unit)
        if _SMALL < largest < _LARGE:
            squares, total = squares / unit**2, total / unit
        else:
            _, squares, total = _sum_up(scaled)
        distance = None if initial is None else _distance(matrix, initial)
        norms = (math.sqrt(squares) * unit, spectral_norm(scaled) * unit, total * unit)
    if not all(map(math.isfinite, (*norms, distance or 0.0))):
        return None
    return MatrixNorms(*norms, distance)


def _sum_up(matrix: BlockMatrix) -> tuple[float, float, float]:
    """Compute the largest absolute value, the sum of squares and that of absolute values."""
    largest, squares, total = [0.0], 0.0, 0.0
    for part in matrix.parts():
        squares += _square_sum(part)
        np.abs(part, out=part)
        total += float(part.sum())
        largest.append(float(part.max(initial=0.0)))
    # max() of Python would pass over NaN
    return float(np.max(largest)), squares, total


def _square_sum(values: NDArray[np.float64]) -> float:
    flat = values.reshape(-1)
    # Where BLAS computes it, it starts threads.
    return float(np.einsum("i,i", flat, flat))


def _distance(matrix: BlockMatrix, initial: BlockMatrix) -> float:
    squares = 0.0
    for part, initial_part in zip(matrix.parts(), initial.parts(), strict=True):
        difference = part - initial_part
        squares += _square_sum(difference)
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
