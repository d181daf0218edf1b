from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool.metrics.estimate import Estimate
from cnatool.metrics.norms import (
    divide_by_margin,
    from_log,
    norm_product,
    plain,
    root_sum_of_squares,
    spectral_bound,
)

sizes = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8)


def test_bound_of_two_layers_worked_out_by_hand() -> None:
    # σ = 2, 3; distances 4, 6; h = 5, 7; m = 100; d = 2
    # 2 · 6 · sqrt(5 · 16/4 + 7 · 36/9) / 10 = 1.2 · sqrt(48)
    log = spectral_bound([2, 3], [4, 6], [5, 7], 100)
    assert divide_by_margin(log, Estimate(0.5)).value == pytest.approx(2.4 * math.sqrt(48))


@given(norms=sizes, margin=st.floats(1e-3, 1e3))
def test_product_is_that_of_the_numbers(norms: list[float], margin: float) -> None:
    found = divide_by_margin(norm_product(norms), Estimate(margin))
    assert found.value == pytest.approx(math.prod(norms) / margin, rel=1e-9)
    assert found.log == pytest.approx(math.log(math.prod(norms) / margin), abs=1e-9)
    assert found.reason is None


@given(st.lists(st.tuples(*[st.floats(1e-2, 1e2)] * 2, st.integers(1, 9)), min_size=1, max_size=6))
def test_bound_is_the_formula(layers: list[tuple[float, float, int]]) -> None:
    sigma, distance, units = map(np.array, zip(*layers, strict=True))
    truth = len(sigma) * sigma.prod() * np.sqrt((units * distance**2 / sigma**2).sum() / 37)
    assert math.exp(spectral_bound(sigma, distance, units, 37)) == pytest.approx(truth, rel=1e-9)


def test_what_overflows_keeps_its_logarithm() -> None:
    found = divide_by_margin(norm_product([1e9] * 100), Estimate(0.1))
    assert found.value is None
    assert found.log == pytest.approx(901 * math.log(10))
    assert found.reason == "it is too large for float64; its logarithm is given"
    assert divide_by_margin(norm_product([1e-9] * 100), Estimate(0.1)).value == 0.0
    huge = spectral_bound([1e-200, 1e200], [1e200, 1.0], [1, 1], 1)
    assert huge == pytest.approx(math.log(2) + 400 * math.log(10))


def test_zero_is_a_value_without_a_logarithm() -> None:
    for found in (divide_by_margin(norm_product([0.0, 2.0]), Estimate(1.0)), plain(0.0)):
        assert found.value == 0.0
        assert found.log is None
        assert found.reason == "it is 0, which has no logarithm"
    assert spectral_bound([2, 3], [0, 0], [5, 7], 100) == -math.inf


@pytest.mark.parametrize(
    ("margin", "reason"),
    [
        (Estimate(0.0), "the margin is 0, and a divisor must be above 0"),
        (Estimate(-0.25), "the margin is -0.25, and a divisor must be above 0"),
        (Estimate.undefined("no labels"), "the margin is undefined: no labels"),
    ],
)
def test_a_margin_that_cannot_be_divided_by(margin: Estimate, reason: str) -> None:
    found = divide_by_margin(1.0, margin)
    assert (found.value, found.log, found.reason) == (None, None, reason)


def test_what_is_not_finite_is_undefined() -> None:
    assert from_log(math.nan).reason == "the norms are not finite"
    assert plain(math.inf).value is None


@given(sizes)
def test_norm_of_all_is_that_of_the_concatenation(norms: list[float]) -> None:
    assert root_sum_of_squares(norms) == pytest.approx(float(np.linalg.norm(norms)))
    assert plain(sum(norms)).log == pytest.approx(math.log(sum(norms)))
