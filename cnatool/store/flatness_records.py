"""What a store keeps of a network's flatness: how much noise on the weights its accuracy bears."""

from __future__ import annotations

import msgspec

__all__ = ["Flatness", "FlatnessRecord", "NoiseRecord"]


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
