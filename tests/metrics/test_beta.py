from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool.errors import MetricError
from cnatool.metrics.beta import aggregate, slope_coefficients, slope_line, slopes, sum_activations


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(17,), (17, 1), (17, 3, 5, 7), (2, 40_001)])
def test_sums_are_exact_to_float64(dtype: Any, shape: tuple[int, ...]) -> None:
    x = (np.random.default_rng(1).normal(size=shape) * 60).clip(-100, 100)
    x = np.abs(x).astype(dtype) if dtype is np.uint8 else x.astype(dtype)
    expected = [math.fsum(map(float, row)) for row in x.reshape(shape[0], -1)]
    got = sum_activations(x)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-9)


def test_half_precision_does_not_overflow_or_stall() -> None:
    assert sum_activations(np.full((1, 5000), 100, np.float16)) == [500_000.0]


def test_sums_of_a_transposed_block() -> None:
    x = np.random.default_rng(2).normal(size=(4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(
        sum_activations(x.transpose(2, 0, 1)), x.astype(float).sum((0, 1)), rtol=1e-12
    )


def test_sums_of_no_rows() -> None:
    assert sum_activations(np.zeros((0, 3, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("how", "shape", "divisor"),
    [
        ("sum", (8, 5, 5), 1),
        ("mean", (8, 5, 5), 200),
        ("mean", (10,), 10),
        ("mean", (), 1),
        ("channel-mean", (8, 5, 5), 8),
        ("channel-mean", (10,), 10),
        ("channel-mean", (), 1),
        ("channel-mean-spatial", (8, 5, 5), 8),
        ("channel-mean-spatial", (8, 5), 8),
        ("channel-mean-spatial", (10,), 1),
        ("channel-mean-spatial", (), 1),
    ],
)
def test_aggregates(how: Any, shape: tuple[int, ...], divisor: int) -> None:
    sums = np.array([400.0, -8.0])
    np.testing.assert_allclose(aggregate(sums, shape, how), sums / divisor, rtol=1e-15)


def test_channel_mean_is_the_mean_over_axis_1_then_the_sum() -> None:
    x = np.random.default_rng(3).normal(size=(6, 4, 3, 2))
    expected = x.mean(axis=1).reshape(6, -1).sum(axis=1)
    got = aggregate(sum_activations(x), x.shape[1:], "channel-mean")
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("depths", [[1, 2, 3], [1, 2, 3, 4, 5, 6, 7], [1, 2, 2, 5], [3.5, -1.0]])
def test_slopes_are_those_of_least_squares(depths: list[float]) -> None:
    z = np.random.default_rng(4).normal(1e5, 1e4, (50, len(depths)))
    by_polyfit = np.polyfit(depths, z.T, 1)[0]
    design = np.stack([np.ones(len(depths)), np.array(depths)], axis=1)
    by_lstsq = np.linalg.lstsq(design, z.T, rcond=None)[0][1]
    np.testing.assert_allclose(slopes(z, depths), by_polyfit, rtol=1e-9)
    np.testing.assert_allclose(slopes(z, depths), by_lstsq, rtol=1e-9)


@given(st.lists(st.integers(1, 200), min_size=2, max_size=60).filter(lambda d: len(set(d)) > 1))
def test_coefficients_find_the_slope_of_a_line(depths: list[int]) -> None:
    c = slope_coefficients(depths)
    assert c.shape == (len(depths),)
    assert math.isclose(math.fsum(c * np.array(depths)), 1, rel_tol=1e-9)
    assert abs(math.fsum(c)) < 1e-9


def test_rows_that_are_not_finite_stay_among_themselves() -> None:
    z = np.array([[1.0, 2.0, 3.0], [np.inf, np.inf, 0.0], [np.nan, 0.0, 0.0], [1e308, 0, -1e308]])
    got = slopes(z, [1, 2, 3])
    assert got[0] == pytest.approx(1)
    assert not np.isfinite(got[1:3]).any()


@pytest.mark.parametrize("depths", [[], [4]])
def test_too_few_layers(depths: list[int]) -> None:
    with pytest.raises(MetricError) as caught:
        slope_coefficients(depths)
    assert str(caught.value).startswith(
        f"β needs at least two layers, and the convention selects {len(depths)}: "
    )


def test_layers_at_one_depth() -> None:
    with pytest.raises(MetricError) as caught:
        slopes(np.zeros((5, 3)), [0.1, 0.1, 0.1])
    assert str(caught.value) == (
        "β needs layers at different depths, and all 3 are at depth 0.1: use `depth='index'`."
    )


def test_depths_that_do_not_fit() -> None:
    with pytest.raises(MetricError, match=r"2 depths for activations of shape \(5, 3\)"):
        slopes(np.zeros((5, 3)), [1, 2])


@given(st.integers(0, 10_000), st.floats(-5, 5), st.floats(-5, 5))
def test_beta_is_linear_in_the_activations(seed: int, one: float, other: float) -> None:
    rng = np.random.default_rng(seed)
    depths = rng.permutation(8)[:5]
    first, second = rng.normal(size=(2, 4, 5, 6))  # samples, layers, elements
    together = sum_activations((one * first + other * second).reshape(20, 6)).reshape(4, 5)
    apart = [sum_activations(z.reshape(20, 6)).reshape(4, 5) for z in (first, second)]
    expected = one * slopes(apart[0], depths) + other * slopes(apart[1], depths)
    np.testing.assert_allclose(slopes(together, depths), expected, rtol=1e-9, atol=1e-9)


def test_slope_line_is_the_least_squares_line() -> None:
    rng = np.random.default_rng(0)
    depths, z = np.array([1, 2, 2, 5]), rng.normal(size=4)
    beta = float(slopes(z[None], depths)[0])
    wanted = np.polyval(np.polyfit(depths, z, 1), depths)
    assert slope_line(z, depths, beta) == pytest.approx(wanted)
