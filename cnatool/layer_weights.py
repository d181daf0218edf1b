"""What a store keeps of one layer's weights, made from their matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.matrix_norms import matrix_norms
from cnatool.store.weight_records import LayerWeights

if TYPE_CHECKING:
    from cnatool.matrix_norms import BlockMatrix

__all__ = ["layer_weights"]


def layer_weights(
    number: int,
    name: str,
    matrix: BlockMatrix,
    initial: BlockMatrix | None = None,
    same_as: int | None = None,
) -> LayerWeights:
    """Measure the weights of a layer.

    Parameters
    ----------
    number : int
        The layer's, from 1.
    name : str
        That of its weights.
    matrix, initial : BlockMatrix
        The weights, and those before training, of the same shape and blocks.
    same_as : int, optional
        Number of an earlier layer with the same weights.
    """
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
