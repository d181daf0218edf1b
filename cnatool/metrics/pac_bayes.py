"""Flatness and the PAC-Bayes measures that follow from it.

Jiang et al. 2019, *Fantastic Generalization Measures and Where to Find Them*, appendix C: how much
noise on its weights a network bears.
"""

from __future__ import annotations

import math

from cnatool.metrics.norms import Baseline


def inverse_square(sigma: float) -> Baseline:
    """Return the flatness 1/σ², of the largest noise σ > 0 that is tolerated."""
    return _signed_baseline(1 / sigma / sigma)


def plain_bound(square_sum: float, sigma: float, samples: int) -> Baseline:
    """Return ‖v‖² / (4σ²) + ln(m/σ) + 10.

    `square_sum` is ‖v‖², of v = w − w⁰ for the distance from the initial weights, or v = w from the
    origin; σ > 0 the deviation of the noise on each weight, m > 0 the training samples.
    """
    return _signed_baseline(square_sum / sigma / sigma / 4 + math.log(samples / sigma) + 10)


def magnitude_bound(
    square_sum: float, log_sum: float, weights: int, sigma: float, epsilon: float, samples: int
) -> Baseline:
    """Return ¼ Σ_i ln((ε² + (σ′² + 1) ‖v‖²/ω) / (ε² + σ′² u_i²)) + ln(m/σ′) + 10.

    `square_sum` is ‖v‖² as in `plain_bound`, `log_sum` Σ_i ln(ε² + σ′² u_i²) of u = w − w⁰ or u =
    w, and ω the number of `weights`. The noise on weight i has the variance σ′² w_i² + ε²; ε, σ′ >
    0.
    """
    # Without squares, which may be larger or smaller than a number can be.
    root = math.sqrt(square_sum / weights)
    above = 2 * weights * math.log(math.hypot(epsilon, sigma * root, root))
    return _signed_baseline(0.25 * (above - log_sum) + math.log(samples / sigma) + 10)


def _signed_baseline(value: float) -> Baseline:
    """Return a measure that may be negative."""
    if not math.isfinite(value):
        return Baseline.undefined("it is too large for float64")
    if value <= 0:
        return Baseline(value, None, f"it is {value:.6g}, which has no logarithm")
    return Baseline(value, math.log(value))
