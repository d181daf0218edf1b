"""The PAC-Bayes measures against their formulas, weight by weight."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool.metrics.pac_bayes import inverse_square, magnitude_bound, plain_bound

scales = st.floats(1e-3, 10)


@given(sigma=scales)
def test_flatness_is_the_inverse_square(sigma: float) -> None:
    found = inverse_square(sigma)
    assert found.value == pytest.approx(1 / sigma**2)
    assert found.log == pytest.approx(-2 * math.log(sigma), abs=1e-9)
    assert found.reason is None


@given(sigma=scales, samples=st.integers(1, 10**7), seed=st.integers(0, 99))
def test_bounds_are_sums_over_weights(sigma: float, samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, before = rng.normal(0, 0.3, (2, 57))
    epsilon = 1e-3
    for v, u in ((w - before, w - before), (w, w - before), (w, w)):
        norm = sum(x * x for x in v)
        truth = norm / 4 / sigma**2 + math.log(samples / sigma) + 10
        assert plain_bound(norm, sigma, samples).value == pytest.approx(truth)
        truth = math.log(samples / sigma) + 10
        for x in u:
            above = epsilon**2 + (sigma**2 + 1) * norm / len(w)
            truth += math.log(above / (epsilon**2 + sigma**2 * x**2)) / 4
        logs = sum(math.log(epsilon**2 + sigma**2 * x**2) for x in u)
        found = magnitude_bound(norm, logs, len(w), sigma, epsilon, samples)
        assert found.value == pytest.approx(truth)


def test_the_magnitude_bound_is_a_divergence_of_gaussians() -> None:
    # At w⁰ = 0: half of KL(N(w, σ′²w² + ε²) ‖ N(0, s² I)) with the best s², each coordinate by the
    # closed form of two Gaussians.
    w, sigma, epsilon, samples = np.random.default_rng(3).normal(size=40), 0.7, 1e-3, 500
    variances = sigma**2 * w**2 + epsilon**2
    s2 = (variances + w**2).mean()
    divergence = sum(
        0.5 * (v / s2 + x**2 / s2 - 1 + math.log(s2 / v)) for v, x in zip(variances, w, strict=True)
    )
    logs = float(np.log(variances).sum())
    found = magnitude_bound(float((w**2).sum()), logs, 40, sigma, epsilon, samples)
    assert found.value == pytest.approx(divergence / 2 + math.log(samples / sigma) + 10)


def test_a_negative_measure_has_no_logarithm() -> None:
    found = plain_bound(0.0, 1e6, 1)
    assert found.value == pytest.approx(10 - math.log(1e6))
    assert found.log is None
    assert found.reason == "it is -3.81551, which has no logarithm"


def test_what_no_number_can_be() -> None:
    assert inverse_square(1e-200).value is None
    assert plain_bound(1e300, 1e-10, 5).reason == "it is too large for float64"
