from __future__ import annotations

import numpy as np
import pytest

from cnatool.studying.statistics.curves import (
    bin_size,
    evaluate_fit,
    quadratic_fit,
    split_into_bins,
)


def test_parabola_is_that_of_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(5, 9, 30)
    y = 1 - 2 * x + 0.3 * x**2 + rng.normal(size=30)
    powers = np.stack([np.ones(30), x, x**2], axis=1)
    expected, rest, *_ = np.linalg.lstsq(powers, y)
    fit = quadratic_fit(x, y)
    assert fit.coefficients == pytest.approx(expected, rel=1e-8)
    assert fit.r_squared == pytest.approx(1 - rest[0] / ((y - y.mean()) ** 2).sum())


def test_no_parabola() -> None:
    x = np.array([1.0, 1, 2, 2])
    fit = quadratic_fit(x, np.arange(4.0))
    assert fit.coefficients is None
    assert fit.reason == (
        "a parabola needs more than 3 networks and 3 different values, and there are 4 and 2"
    )
    assert quadratic_fit(np.arange(5.0), np.ones(5)).r_squared is None


def test_bins() -> None:
    accuracy = np.random.default_rng(0).permutation(60) / 60
    bins = split_into_bins(accuracy)
    assert [len(one) for one in bins] == [25, 25, 10]
    np.testing.assert_array_equal(accuracy[np.concatenate(bins)], np.arange(60) / 60)
    assert split_into_bins(np.zeros(3), 2)[0].tolist() == [0, 1]


def test_parabola_is_the_fits() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=30)
    y = 1 + 2 * x - 3 * x**2 + rng.normal(size=30)
    at, fitted = evaluate_fit(quadratic_fit(x, y), -1.5, 2, points=7)
    assert at.tolist() == pytest.approx([-1.5 + 3.5 / 6 * k for k in range(7)])
    assert fitted == pytest.approx(np.polyval(np.polyfit(x, y, 2), at))
    none = evaluate_fit(quadratic_fit(x[:2], y[:2]), 0, 1)
    assert [len(part) for part in none] == [0, 0]


@pytest.mark.parametrize(
    ("networks", "size"), [(1, 1), (4, 1), (12, 3), (36, 8), (49, 10), (50, 25), (1000, 25)]
)
def test_few_networks_have_smaller_bins(networks: int, size: int) -> None:
    assert bin_size(networks) == size
