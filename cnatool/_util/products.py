"""Matrix products in pieces that the linear algebra library computes in the calling thread.

Its own threads cost more than they save beside a runtime that keeps all processors busy: between
two products they spin. The last digits of a product would also depend on their number, and so on
the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Multiplications in one product; OpenBLAS starts threads for more.
PIECE = 1 << 18
# Products in one sum; OpenBLAS divides more than 10,000 among threads.
_LONGEST = 1 << 13
# Length of the sums in a piece, and its least number of rows and columns, for larger matrices.
DEPTH = 256
_SIDE = 32


def multiply(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Multiply stacks of matrices, (…, m, k) and (…, k, n), or vectors, of one floating type."""
    vectors = tuple(axis for axis, each in ((-2, left), (-1, right)) if each.ndim == 1)
    if vectors:
        matrix = multiply(np.atleast_2d(left), right if right.ndim > 1 else right[:, None])
        return matrix.squeeze(vectors)
    height, depth, width = left.shape[-2], left.shape[-1], right.shape[-1]
    if height * depth * width <= PIECE and depth <= _LONGEST:
        product: NDArray[Any] = left @ right
        return product
    # Of few rows and columns the sums are as long as they may be.
    deep = min(depth, max(DEPTH, min(_LONGEST, PIECE // (height * width))))
    wide = min(width, max(_SIDE, PIECE // (deep * min(height, _SIDE))))
    high = max(1, PIECE // (deep * wide))
    stack = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    total = np.zeros((*stack, height, width), left.dtype)
    for k in range(0, depth, deep):
        for column in range(0, width, wide):
            factor = right[..., k : k + deep, column : column + wide]
            for row in range(0, height, high):
                part = total[..., row : row + high, column : column + wide]
                part += left[..., row : row + high, k : k + deep] @ factor
    return total


def add_gram(total: NDArray[Any], part: NDArray[Any]) -> None:
    """Add PᵀP to the lower triangle of a matrix, from a part P with at most `DEPTH` rows."""
    turned = part.T
    whole = len(turned) - len(turned) % _SIDE
    tiles = turned[:whole].reshape(-1, _SIDE, len(part))
    cells = total[:whole, :whole].reshape(len(tiles), _SIDE, len(tiles), _SIDE).swapaxes(1, 2)
    for row, tile in enumerate(tiles):
        cells[row, : row + 1] += tile @ tiles[: row + 1].swapaxes(1, 2)
    if whole < len(turned):
        total[whole:] += multiply(turned[whole:], part)
