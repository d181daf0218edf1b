"""What a store keeps of a network's weights: their norms, which scoring cannot compute itself."""

from __future__ import annotations

import msgspec

__all__ = ["LayerWeights", "WeightsRecord"]


class LayerWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The weights of one layer, as a matrix of (units, inputs of a unit).

    Attributes
    ----------
    number : int
        Number of the layer in ``layers``.
    name : str
        The constant that holds the weights.
    shape : tuple of int or None
        Rows and columns of the matrix: a convolution's kernels are rows of in·kh·kw. Of a grouped
        convolution it is block-diagonal, a block a group. Null where the weights cannot be read.
    blocks : int
        Blocks on the diagonal; outside them all is zero.
    frobenius, spectral, absolute_sum : float or None
        Square root of the sum of squares, largest singular value, sum of absolute values.
    distance : float or None
        Frobenius norm of the difference to the initial weights; null where none were given.
    same_as : int or None
        Number of an earlier layer that uses the same weights.
    reason : str or None
        Why there are no norms; null where there are.
    """

    number: int
    name: str
    shape: tuple[int, int] | None
    blocks: int = 1
    frobenius: float | None = None
    spectral: float | None = None
    absolute_sum: float | None = None
    distance: float | None = None
    same_as: int | None = None
    reason: str | None = None


class WeightsRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Norms of a network's weights.

    Attributes
    ----------
    layers : tuple of LayerWeights
        A record a layer, in the order of ``layers`` of the store.
    parameters : int or None
        Number of parameters; null where it is not known.
    depth : int
        Layers on the longest path from the input.
    log_path_norm : float or None
        Natural logarithm of sqrt(Σ_k f_{w²}(1)_k), the network run on ones with every parameter
        squared; null where it is not defined.
    path_norm_reason : str or None
        Why there is no path norm; null where there is.
    unseen : str or None
        Weights that belong to no layer, so that products over layers would leave them out; null
        where there are none.
    unfolded : str or None
        A scale or normalisation of the data that is part of no layer's weights, so that products
        of their norms would leave it out; null where there is none.
    """

    layers: tuple[LayerWeights, ...]
    parameters: int | None
    depth: int
    log_path_norm: float | None = None
    path_norm_reason: str | None = None
    unseen: str | None = None
    unfolded: str | None = None
