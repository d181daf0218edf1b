from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cnatool.metrics import kendall_resampling
from cnatool.metrics.cna import cna
from cnatool.metrics.convention import ConventionFields
from cnatool.metrics.correlation import kendall
from cnatool.metrics.kendall_resampling import WeightedInversions, kendall_tau


def literal(order: np.ndarray, weights: np.ndarray) -> float:
    return sum(
        float(weights[i] * weights[i + 1 :][order[i + 1 :] < order[i]].sum())
        for i in range(order.size)
    )


@given(st.integers(1, 900), st.integers(0, 1000))
def test_weighted_inversions_are_those_of_the_definition(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order, weights = rng.permutation(n), rng.integers(0, 6, (3, n))
    found = WeightedInversions(order)(weights.astype(np.float32))
    assert found.tolist() == [literal(order, row) for row in weights]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40))
def test_kendall_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    difference = first = second = 0
    for i, (x0, y0) in enumerate(pairs):
        for x1, y1 in pairs[:i]:
            difference += int(np.sign(x0 - x1) * np.sign(y0 - y1))
            first += x0 != x1
            second += y0 != y1
    a, b = np.array(pairs, float).T
    expected = math.nan
    if first and second:
        expected = max(-1.0, min(1.0, difference / math.sqrt(first) / math.sqrt(second)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        for most in (0, 100):
            monkeypatch.setattr(kendall_resampling, "_MOST", most)
            assert kendall_tau(a, b) == pytest.approx(expected, abs=0, nan_ok=True)


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_kendall_of_many_samples_has_the_same_bits(
    decimals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    a = np.round(rng.normal(size=700), decimals)
    b = np.round(0.5 * a + rng.normal(size=700), decimals)

    def score() -> object:
        fields = ConventionFields(
            cna="kendall", level=0.9, resamples=50, permutations=0, resample_seed=2
        )
        return cna(a, b, fields, stream=3)

    on_a_grid = score()
    monkeypatch.setattr(kendall_resampling, "_MOST", 10)
    assert score() == on_a_grid


@pytest.mark.parametrize("n", [2, 3, 8, 9, 31, 32, 33, 100, 1000])
@pytest.mark.parametrize("distinct", [3, 50, 10**6])
def test_kendall_over_several_blocks(
    n: int, distinct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kendall_resampling, "_BLOCK", 8)
    a, b = np.random.default_rng(n).integers(0, distinct, (2, n)).astype(float)
    expected = scipy.stats.kendalltau(a, b).statistic
    found = kendall(a, b).value
    if found is None:
        assert np.isnan(expected)
    else:
        assert found == expected
