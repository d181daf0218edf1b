from __future__ import annotations

from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cnatool.errors import MetricError
from cnatool.metrics import correlation
from cnatool.metrics.correlation import (
    is_constant,
    kendall,
    minibatch_pearson,
    pearson,
    smoothed_pearson,
    spearman,
)


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
        assert got.reason == "β is the same for all 10,000 samples"
    assert pearson(noise, varying).reason == "α is the same for all 10,000 samples"
    assert pearson(noise, varying, ("x", "y")).reason == "x is the same for all 10,000 samples"


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


COEFFICIENTS: Any = [pearson, spearman, kendall]
SCIPY = {
    pearson: scipy.stats.pearsonr,
    spearman: scipy.stats.spearmanr,
    kendall: scipy.stats.kendalltau,
}
# Deviation of artanh: 1 / sqrt(n − 3), Bonett & Wright, Fieller, Hartley & Pearson.
DEVIATION = {
    pearson: lambda n, r: (1 / (n - 3)) ** 0.5,
    spearman: lambda n, r: ((1 + r * r / 2) / (n - 3)) ** 0.5,
    kendall: lambda n, r: (0.437 / (n - 4)) ** 0.5,
}


def tied(seed: int, n: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.round(a, decimals), np.round(rng.normal(size=n) - 0.7 * a, decimals)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("n", [5, 6, 33, 1000, 4097])
def test_coefficients_are_scipys(coefficient: Any, n: int, decimals: int) -> None:
    a, b = tied(n, n, decimals)
    expected = SCIPY[coefficient](a, b).statistic
    got = coefficient(a, b, level=0.9)
    assert got.value == pytest.approx(expected, rel=1e-12, abs=1e-14)
    half = NormalDist().inv_cdf(0.95) * DEVIATION[coefficient](n, expected)
    edges = np.tanh(np.arctanh(expected) + half), np.tanh(np.arctanh(expected) - half)
    assert got.interval == pytest.approx(sorted(edges), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_coefficients_of_what_has_none(coefficient: Any) -> None:
    ramp = np.arange(6.0)
    assert coefficient(ramp, np.ones(6)).reason == "β is the same for all 6 samples"
    assert coefficient(ramp[:1], ramp[:1]).value is None
    assert coefficient(ramp, ramp).value == pytest.approx(1, abs=1e-12)
    assert coefficient(ramp, -ramp).value == pytest.approx(-1, abs=1e-12)
    assert coefficient(ramp[:3], [2.0, 0.0, 1.0]).interval is None


@given(
    st.sampled_from(COEFFICIENTS),
    st.integers(0, 1000),
    st.floats(0.01, 100),
    st.floats(-100, 100),
    st.floats(0.01, 100),
    st.floats(-100, 100),
)
def test_positive_slopes_and_shifts_change_nothing(
    coefficient: Any, seed: int, slope: float, shift: float, other: float, by: float
) -> None:
    # Powers of two and eighths, so that ties stay ties.
    slope, other = 2.0 ** round(np.log2(slope)), 2.0 ** round(np.log2(other))
    a, b = (np.round(values * 8) / 8 for values in tied(seed, 30, 3))
    expected = coefficient(a, b).value
    shift, by = round(shift * 8) / 8, round(by * 8) / 8
    assert coefficient(slope * a + shift, other * b + by).value == pytest.approx(expected, abs=1e-9)
    assert coefficient(a, -b).value == pytest.approx(-expected, abs=1e-9)
    assert coefficient(b, a).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("window", [1, 4, 25])
def test_smoothed_is_the_correlation_of_running_means(window: int) -> None:
    a, b = tied(3, 80, 1)
    rows = sorted(range(80), key=lambda row: a[row])
    of_ties = np.array([np.mean(b[a == one]) for one in a])
    means = [
        [np.mean(values[rows[i : i + window]]) for i in range(80 - window + 1)]
        for values in (a, of_ties)
    ]
    got = smoothed_pearson(a, b, window=window)
    assert got.value == pytest.approx(scipy.stats.pearsonr(*means).statistic, rel=1e-10)
    assert got.interval is None


def test_smoothed_that_there_is_not() -> None:
    a, b = tied(3, 25, 2)
    few = "25 samples are too few for a curve by windows of 25: it needs 34"
    assert smoothed_pearson(a, b, window=25).reason == few
    a, b = tied(3, 34, 2)
    assert smoothed_pearson(a, b, window=25).value is not None
    assert smoothed_pearson(a[:33], b[:33], window=25).value is None
    a, b = a[:25], b[:25]
    zigzag = np.arange(26) % 2 * 1.0
    got = smoothed_pearson(np.arange(26.0), zigzag, window=2)
    assert got.reason == "β is the same all along the smoothed curve"
    assert smoothed_pearson(a, np.ones(25), window=2).reason == "β is the same for all 25 samples"


@pytest.mark.parametrize(("n", "rows"), [(128, 128), (1000, 128), (1000, 10), (9, 2)])
def test_minibatches_are_taken_in_row_order(n: int, rows: int) -> None:
    a, b = tied(n, n, 3)
    expected = [
        scipy.stats.pearsonr(a[i : i + rows], b[i : i + rows]).statistic
        for i in range(0, n - rows + 1, rows)
    ]
    got = minibatch_pearson(a, b, rows=rows)
    assert got.mean == pytest.approx(np.mean(expected), rel=1e-10)
    if n // rows == 1:
        assert got.std is None
    else:
        assert got.std == pytest.approx(np.std(expected), rel=1e-9, abs=1e-12)
    assert (got.batches, got.undefined) == (n // rows, 0)


def test_minibatches_without_a_correlation_are_left_out_and_counted() -> None:
    a, b = tied(1, 40, 3)
    a[10:20] = 5
    b[30:] = 1e-200
    got = minibatch_pearson(a, b, rows=10)
    values = [scipy.stats.pearsonr(a[i : i + 10], b[i : i + 10]).statistic for i in (0, 20)]
    assert got.mean == pytest.approx(np.mean(values))
    assert (got.batches, got.undefined) == (2, 2)
    none = minibatch_pearson(np.repeat([0.0, 1.0], 10), np.arange(20.0), rows=10)
    assert (none.mean, none.std, none.batches, none.undefined) == (None, None, 0, 2)
    assert none.reason == "α or β is the same all through each minibatch"
    one = minibatch_pearson(a[:30], b[:30], rows=30)
    assert (one.batches, one.std, one.reason) == (1, None, "one minibatch has no deviation")
    assert one.mean == pytest.approx(scipy.stats.pearsonr(a[:30], b[:30])[0])
    assert minibatch_pearson(a, b, rows=41).reason == "40 samples do not fill a minibatch of 41"
    assert minibatch_pearson(a, a * np.nan, rows=4).reason == "β is not finite for 40 of 40 samples"


def test_random_minibatches_do_not_know_the_row_order() -> None:
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(10), 60)
    a = rng.normal(size=600)
    b = a + 20 * labels  # within a class a and b are one, over all of them they hardly correlate
    assert minibatch_pearson(a, b, rows=60).mean == pytest.approx(1)
    mixed = minibatch_pearson(a, b, rows=60, order="random", seed=3)
    order = np.random.default_rng([3, 600]).permutation(600)
    expected = [scipy.stats.pearsonr(a[rows], b[rows])[0] for rows in order.reshape(10, 60)]
    assert mixed.mean == pytest.approx(np.mean(expected))
    assert mixed.std == pytest.approx(np.std(expected))
    assert mixed.mean < 0.3


@pytest.mark.parametrize("order", ["rows", "random"])
def test_minibatches_over_several_blocks(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha, beta = np.random.default_rng(0).normal(size=(2, 1037))
    alpha[100:130] = 2.0  # a minibatch in row order has no correlation
    whole = minibatch_pearson(alpha, beta, rows=10, order=order)
    monkeypatch.setattr(correlation, "_BLOCK", 30)
    assert minibatch_pearson(alpha, beta, rows=10, order=order) == whole
    if order == "rows":
        slow = [
            np.corrcoef(alpha[i : i + 10], beta[i : i + 10])[0, 1]
            for i in range(0, 1030, 10)
            if i not in (100, 110, 120)
        ]
        assert (whole.undefined, whole.mean) == (3, pytest.approx(np.mean(slow), abs=1e-14))


_ROWS = 64


def exact_pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation in exact arithmetic up to the last root."""
    x, y = (
        [Fraction(float(one)) / Fraction(float(np.ptp(values))) for one in values]
        for values in (a, b)
    )
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    product = sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True))
    squares = sum((p - mean_x) ** 2 for p in x) * sum((q - mean_y) ** 2 for q in y)
    return float(product) / float(squares) ** 0.5


@pytest.mark.parametrize("size", [1.0, -3.7, 1e12, 1e-200, 4e300])
@pytest.mark.parametrize("share", [1e-13, 3e-14, 1e-12, 1e-9])
def test_small_differences_count(size: float, share: float) -> None:
    rng = np.random.default_rng(0)
    a = size * (1 + share * rng.random(_ROWS))
    b = rng.random(_ROWS) + np.arange(_ROWS) / _ROWS
    expected = exact_pearson(a, b)
    # the values themselves are rounded, their correlation is not
    assert pearson(a, b).value == pytest.approx(expected, abs=1e-9)
    assert pearson(b, a).value == pytest.approx(expected, abs=1e-9)
    assert spearman(a, b).value is not None
    assert kendall(a, b).value is not None


@pytest.mark.parametrize("size", [1.0, 1e12, 1e-200, -7.3])
def test_sums_in_another_order_are_the_same(size: float) -> None:
    rng = np.random.default_rng(1)
    parts = size * rng.random(256)
    sums = np.array([sum(rng.permutation(parts).tolist()) for _ in range(_ROWS)])
    assert np.ptp(sums) > 0
    assert is_constant(sums)
    assert pearson(sums, rng.random(_ROWS)).value is None


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, 5.0], [-0.0, 0.0], [1e308, 1e308]])
def test_equal_values_are_constant(values: list[float]) -> None:
    assert is_constant(np.array(values))
