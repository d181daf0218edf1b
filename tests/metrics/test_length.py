"""Correlations with length, and CNA with length held fixed, against least squares of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from cnatool.metrics.length import correlate_with_length


def residuals(columns: list[Any], *values: Any) -> list[Any]:
    design = np.column_stack([np.ones(len(values[0])), *columns])
    return [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in values]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(40, 200), seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_any_samples(n: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 400, n)
    common = rng.normal(size=n)
    alpha = np.log2(lengths) + rng.normal(size=n) + share * common
    beta = 1e3 * lengths + 1e4 * (rng.normal(size=n) + share * common)
    found = correlate_with_length(alpha, beta, lengths, "pearson")
    assert found.alpha.value == pytest.approx(pearsonr(alpha, lengths)[0])
    assert found.beta.value == pytest.approx(pearsonr(beta, lengths)[0])
    expected = pearsonr(*residuals([lengths, np.log2(lengths)], alpha, beta))[0]
    assert found.fixed.value == pytest.approx(expected, abs=1e-7)
    found = correlate_with_length(alpha, beta, lengths, "spearman")
    assert found.alpha.value == pytest.approx(spearmanr(alpha, lengths)[0])
    ranks = residuals([rankdata(lengths)], rankdata(alpha), rankdata(beta))
    assert found.fixed.value == pytest.approx(pearsonr(*ranks)[0], abs=1e-7)


def test_kendall_is_that_of_the_residuals() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 400, 300)
    alpha, beta = lengths + 50 * rng.normal(size=300), lengths**2 + 9e3 * rng.normal(size=300)
    found = correlate_with_length(alpha, beta, lengths, "kendall")
    assert found.beta.value == pytest.approx(kendalltau(beta, lengths)[0])
    ranks = residuals([rankdata(lengths)], rankdata(alpha), rankdata(beta))
    # Residuals of equal ranks tie but for rounding.
    assert found.fixed.value == pytest.approx(kendalltau(*ranks)[0], abs=0.01)
    assert kendalltau(alpha, beta)[0] > 0.7
    assert abs(found.fixed.value) < 0.1


@pytest.mark.parametrize("form", ["pearson", "spearman", "kendall", "smoothed"])
def test_what_has_only_length_in_common_has_nothing_left(form: Any) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 500, 3000)
    alpha = np.log2(lengths) + 0.1 * rng.normal(size=3000)
    beta = 3.0 * lengths + 20 * rng.normal(size=3000)
    found = correlate_with_length(alpha, beta, lengths, form)
    assert found.alpha.value > 0.8
    assert found.beta.value > 0.8
    assert abs(found.fixed.value) < 0.06


@pytest.mark.parametrize(
    ("alpha", "beta", "lengths", "reason"),
    [
        ([1, 2, 3, 4, 5], [2, 1, 3, 5, 4], [1, 2, 3, 4, 4], "at least 6 samples"),
        (range(1, 9), [2, 1, 3, 5, 4, 9, 2, 3], range(1, 9), "α depends on the length"),
        ([3, 1, 3, 5, 4, 9, 2, 3], np.log2(range(1, 9)), range(1, 9), "β depends on the length"),
        ([1] * 8, range(8), range(1, 9), "α is the same for all"),
        (range(8), [np.inf, *range(7)], range(1, 9), "β is not finite for 1 of 8"),
    ],
)
def test_undefined_ones_say_why(alpha: Any, beta: Any, lengths: Any, reason: str) -> None:
    columns = [np.array(values, np.float64) for values in (alpha, beta)]
    found = correlate_with_length(*columns, np.array(lengths), "pearson")
    assert found.fixed.value is None
    assert reason in str(found.fixed.reason)
