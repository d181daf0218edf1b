"""Values that differ by little, and values that differ by rounding alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cnatool.metrics.correlation import is_constant, kendall, pearson, spearman
from cnatool.metrics.layer_sums import LayerSums

ROWS = 64


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
    a = size * (1 + share * rng.random(ROWS))
    b = rng.random(ROWS) + np.arange(ROWS) / ROWS
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
    sums = np.array([sum(rng.permutation(parts).tolist()) for _ in range(ROWS)])
    assert np.ptp(sums) > 0
    assert is_constant(sums)
    assert pearson(sums, rng.random(ROWS)).value is None


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, 5.0], [-0.0, 0.0], [1e308, 1e308]])
def test_equal_values_are_constant(values: list[float]) -> None:
    assert is_constant(np.array(values))


def test_layer_sums_judge_alike() -> None:
    rng = np.random.default_rng(2)
    alpha = rng.random(ROWS)
    z = np.column_stack([1e6 * (1 + 1e-12 * rng.random(ROWS)), np.full(ROWS, 0.1)])
    sums = LayerSums(alpha, np.zeros(ROWS, np.int64), 1, 2)
    sums.add(0, z)
    found = sums.correlations(np.zeros(2))
    assert found[0] == pytest.approx(exact_pearson(alpha, z[:, 0]), abs=1e-6)
    assert np.isnan(found[1])
