"""Typed records of a network's weights: norms, and flatness."""

from __future__ import annotations

import msgspec


class LayerWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The weights of one layer, as a matrix of (units, inputs of a unit).

    Attributes
    ----------
    number : int
        Number of the layer in ``layers``.
    name : str
        Name of the constant with the weights.
    shape : tuple of int or None
        Rows and columns of the matrix: the kernels of a convolution are rows of in·kh·kw, and a
        grouped convolution is block-diagonal with a block per group. Null if the weights cannot be
        read.
    blocks : int
        Number of blocks on the diagonal; elements outside them are zero.
    frobenius, spectral, absolute_sum : float or None
        Square root of the sum of squares, largest singular value, sum of absolute values.
    distance : float or None
        Frobenius norm of the difference to the initial weights; null without initial weights.
    same_as : int or None
        Number of an earlier layer with the same weights.
    reason : str or None
        Why there are no norms; null if there are.
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
        One record per layer, in the order of the store's ``layers``.
    parameters : int or None
        Number of parameters; null if unknown.
    depth : int
        Number of layers on the longest path from the input.
    log_path_norm : float or None
        Natural logarithm of sqrt(Σ_k f_{w²}(1)_k), the network with squared parameters run on ones;
        null if it is undefined.
    path_norm_reason : str or None
        Why there is no path norm; null if there is.
    unseen : str or None
        Weights that belong to no layer, so that products over layers would omit them; null if there
        are none.
    unfolded : str or None
        A scale or normalisation of the data that is part of no layer's weights, so that products of
        their norms would omit it; null if there is none.
    """

    layers: tuple[LayerWeights, ...]
    parameters: int | None
    depth: int
    log_path_norm: float | None = None
    path_norm_reason: str | None = None
    unseen: str | None = None
    unfolded: str | None = None


class Flatness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the measurement of flatness.

    Attributes
    ----------
    samples : int
        Maximum number of training samples to run, from the first on.
    draws : int
        Number of draws of noise over which accuracy is averaged.
    target : float
        Tolerated loss of accuracy, between 0 and 1.
    seed : int
        Seed of the noise.
    """

    samples: int = 2000
    draws: int = 10
    target: float = 0.1
    seed: int = 0


class NoiseRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest noise of one kind that a network tolerates.

    Attributes
    ----------
    sigma : float or None
        Largest tested σ with which accuracy falls by at most the target; null if there is none.
    above : float or None
        The next larger σ that was tested, with which it falls by more.
    accuracy : float or None
        Mean accuracy over the draws at ``sigma``.
    reason : str or None
        Why there is no σ; null if there is.
    """

    sigma: float | None = None
    above: float | None = None
    accuracy: float | None = None
    reason: str | None = None


class FlatnessRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Flatness of a network around its weights.

    The weights w are those of the linear operators in the model file, shared ones once; w⁰ are
    those before training.

    Attributes
    ----------
    settings : Flatness
        Settings of the measurement.
    split : str or None
        Split of the samples.
    samples : int or None
        Number of samples that were run.
    output : str or None
        Model output from which accuracy is computed.
    accuracy : float or None
        Accuracy on these samples without noise.
    weights : int or None
        ω, the number of weights with noise.
    square_sum : float or None
        ‖w‖².
    distance_square_sum : float or None
        ‖w − w⁰‖²; null without initial weights.
    plain : NoiseRecord or None
        Noise N(0, σ²) on each weight.
    magnitude : NoiseRecord or None
        Noise N(0, σ′² w_i² + ε²) on weight i.
    epsilon : float or None
        ε.
    log_sum : float or None
        Σ_i ln(ε² + σ′² w_i²).
    distance_log_sum : float or None
        Σ_i ln(ε² + σ′² (w_i − w_i⁰)²); null without initial weights.
    reason : str or None
        Why nothing was measured; null if something was.
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
