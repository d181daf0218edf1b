"""The flatness measures of a store: from the noise on its weights that its network bears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.metrics.flatness import inverse_square, magnitude_bound, plain_bound
from cnatool.metrics.norms import Baseline

if TYPE_CHECKING:
    from cnatool.store.flatness_records import FlatnessRecord, NoiseRecord

__all__ = ["scored_flatness"]

_NO_INITIAL = "the initial weights are not known: dump with --initial-model FILE"
_MEASURES = (
    "pac_bayes_flatness",
    "pac_bayes_init",
    "pac_bayes_orig",
    "pac_bayes_mag_flatness",
    "pac_bayes_mag_init",
    "pac_bayes_mag_orig",
    "pac_bayes_mag_from_zero",
)


def scored_flatness(
    record: FlatnessRecord | None, samples: int | None, no_samples: str
) -> dict[str, Baseline]:
    """Give the flatness measures by the names of their fields.

    Parameters
    ----------
    record : FlatnessRecord or None
        What the store holds.
    samples : int or None
        m, training samples.
    no_samples : str
        Why there is no m, where it is None or 0.
    """
    if record is None:
        reason = "the store holds no flatness: dump with --flatness"
        return dict.fromkeys(_MEASURES, Baseline.undefined(reason))
    reason = record.reason or "the dump did not measure flatness"
    plain, magnitude = record.plain, record.magnitude
    square_sum, moved = record.square_sum, record.distance_square_sum

    def sharpness(noise: NoiseRecord | None) -> Baseline:
        if noise is None or noise.sigma is None:
            return Baseline.undefined((noise and noise.reason) or reason)
        return inverse_square(noise.sigma)

    def bound(of: float | None) -> Baseline:
        if plain is None or plain.sigma is None:
            return sharpness(plain)
        if of is None:
            return Baseline.undefined(_NO_INITIAL)
        if not samples:
            return Baseline.undefined(no_samples)
        return plain_bound(of, plain.sigma, samples)

    def aware(of: float | None, log_sum: float | None) -> Baseline:
        if magnitude is None or magnitude.sigma is None:
            return sharpness(magnitude)
        if of is None or log_sum is None:
            return Baseline.undefined(_NO_INITIAL)
        if not samples:
            return Baseline.undefined(no_samples)
        assert record.weights is not None
        assert record.epsilon is not None
        return magnitude_bound(
            of, log_sum, record.weights, magnitude.sigma, record.epsilon, samples
        )

    return {
        "pac_bayes_flatness": sharpness(plain),
        "pac_bayes_init": bound(moved),
        "pac_bayes_orig": bound(square_sum),
        "pac_bayes_mag_flatness": sharpness(magnitude),
        "pac_bayes_mag_init": aware(moved, record.distance_log_sum),
        "pac_bayes_mag_orig": aware(square_sum, record.distance_log_sum),
        "pac_bayes_mag_from_zero": aware(square_sum, record.log_sum),
    }
