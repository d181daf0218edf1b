from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cnatool.errors import MetricError
from cnatool.metrics.correlation import pearson


@pytest.mark.parametrize("n", [4, 5, 50, 10_000])
@pytest.mark.parametrize("slope", [-3.0, 0.0, 0.2])
def test_value_and_interval_are_scipys(n: int, slope: float) -> None:
    rng = np.random.default_rng(n)
    a = rng.normal(5, 2, n)
    b = slope * a + rng.normal(size=n)
    expected = scipy.stats.pearsonr(a, b)
    low, high = expected.confidence_interval(0.95)
    got = pearson(a, b)
    assert got.value == pytest.approx(expected.statistic, rel=1e-12, abs=1e-14)
    assert got.interval == pytest.approx((low, high), rel=1e-10, abs=1e-12)
    assert got.reason is None


@given(
    st.floats(-1e6, 1e6),
    st.sampled_from([1e-200, 1e-3, 1.0, 1e9, 1e200]),
    st.sampled_from([-1.0, 1.0]),
)
def test_shift_and_scale_change_nothing_but_the_sign(
    shift: float, scale: float, sign: float
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(size=40)
    expected = sign * float(np.corrcoef(a, b)[0, 1])
    assert pearson((a + shift) * scale, sign * b).value == pytest.approx(expected, abs=1e-8)


def test_a_large_mean_costs_no_digits() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    b = np.array([2.0, 1.0, 4.0, 3.0, 5.0])
    assert pearson(a + 2**40, b).value == pytest.approx(0.8, abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_line(sign: int) -> None:
    a = np.arange(8.0)
    got = pearson(a, sign * 2 * a)
    assert got.value == pytest.approx(sign, abs=1e-15)
    assert got.interval is not None
    assert got.interval == pytest.approx((sign, sign), abs=1e-6)


def test_a_perfect_correlation_is_its_own_interval() -> None:
    got = pearson([-1.0, -1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, 1.0])
    assert (got.value, got.interval) == (1.0, (1.0, 1.0))


def test_three_samples_have_no_interval() -> None:
    got = pearson([1.0, 2.0, 4.0], [1.0, 0.0, 2.0])
    assert got.value == pytest.approx(scipy.stats.pearsonr([1, 2, 4], [1, 0, 2]).statistic)
    assert got.interval is None
    assert got.reason is None


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_samples(n: int) -> None:
    got = pearson(np.zeros(n), np.zeros(n))
    assert got.value is None
    assert got.reason == f"a correlation needs at least two samples, and there are {n}"


def test_a_constant_has_no_correlation() -> None:
    n = 10_000
    varying = np.random.default_rng(1).normal(size=n)
    noise = 3.3 * (1 + 1e-15 * varying)
    for constant in (np.zeros(n), np.full(n, 7.7), noise):
        got = pearson(varying, constant)
        assert got.value is got.interval is None
        assert got.reason == "β is the same for all 10000 samples"
    assert pearson(noise, varying).reason == "α is the same for all 10000 samples"
    assert pearson(noise, varying, ("x", "y")).reason == "x is the same for all 10000 samples"


def test_what_is_not_finite_is_counted() -> None:
    a = np.arange(6.0)
    b = np.array([np.nan, 1, np.inf, 2, -np.inf, 0])
    got = pearson(a, b)
    assert got.value is None
    assert got.reason == "β is not finite for 3 of 6 samples"


@pytest.mark.parametrize("other", [np.zeros(4), np.zeros((3, 1))])
def test_shapes_that_do_not_fit(other: np.ndarray) -> None:
    with pytest.raises(MetricError, match=r"α has shape \(3,\), β \("):
        pearson(np.zeros(3), other)
