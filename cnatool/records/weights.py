"""What a store keeps of a network's weights: their norms, which scoring cannot compute itself."""

from __future__ import annotations

import msgspec


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


class Flatness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How flatness is measured.

    Attributes
    ----------
    samples : int
        Training samples to run, from the first on, as far as there are so many.
    draws : int
        Draws of noise that accuracy is averaged over.
    target : float
        By how much accuracy may fall, above 0 and below 1.
    seed : int
        Of the noise.
    """

    samples: int = 2000
    draws: int = 10
    target: float = 0.1
    seed: int = 0


class NoiseRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest noise of one kind that a network's accuracy bears.

    Attributes
    ----------
    sigma : float or None
        σ, with which accuracy falls by no more than the target; null where there is none.
    above : float or None
        The next larger σ that was tried, with which it falls by more.
    accuracy : float or None
        Mean accuracy over the draws at ``sigma``.
    reason : str or None
        Why there is no σ; null where there is.
    """

    sigma: float | None = None
    above: float | None = None
    accuracy: float | None = None
    reason: str | None = None


class FlatnessRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How flat a network is around its weights, measured before the first row.

    The weights w are those of the linear operators, as the model file has them, shared ones once;
    w⁰ those before training.

    Attributes
    ----------
    settings : Flatness
        How it was measured.
    split : str or None
        The split that the samples are of.
    samples : int or None
        How many of them were run.
    output : str or None
        The model output that accuracy is of.
    accuracy : float or None
        Accuracy on these samples without noise.
    weights : int or None
        ω, the number of weights that get noise.
    square_sum : float or None
        ‖w‖².
    distance_square_sum : float or None
        ‖w − w⁰‖²; null where no initial weights were given.
    plain : NoiseRecord or None
        Noise N(0, σ²) on each weight.
    magnitude : NoiseRecord or None
        Noise N(0, σ′² w_i² + ε²) on weight i.
    epsilon : float or None
        ε.
    log_sum : float or None
        Σ_i ln(ε² + σ′² w_i²).
    distance_log_sum : float or None
        Σ_i ln(ε² + σ′² (w_i − w_i⁰)²); null where no initial weights were given.
    reason : str or None
        Why nothing was measured; null where something was.
    """

    settings: Flatness
    split: str | None = None
    samples: int | None = None
    output: str | None = None
    accuracy: float | None = None
    weights: int | None = None
    square_sum: float | None = None
    distance_square_sum: float | None = None
    plain: NoiseRecord | None = None
    magnitude: NoiseRecord | None = None
    epsilon: float | None = None
    log_sum: float | None = None
    distance_log_sum: float | None = None
    reason: str | None = None
