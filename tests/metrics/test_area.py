from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnatool.metrics import sums
from cnatool.metrics.area import curve_area, total_area
from cnatool.metrics.smoothing import smooth_curve

Curve = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

FORMS = ["total", "largest", "reference"]


def area(first: Any, second: Any, form: Any, window: int = 1, points: int = 100) -> float:
    got = curve_area(first, second, form=form, window=window, points=points)
    assert got.reason is None
    assert got.value is not None
    return got.value


def line(function: Any, n: int = 201) -> Curve:
    x = np.linspace(0, 1, n)
    return x, function(x)


RISING, FALLING = line(lambda x: x), line(lambda x: 1 - x)


def smooth_by_loop(alpha: Any, beta: Any, window: int) -> Curve:
    rows = sorted(range(len(alpha)), key=lambda i: alpha[i])
    beta = np.array([np.mean(beta[alpha == one]) for one in alpha])
    means = [
        [np.mean(values[rows[i : i + window]]) for i in range(len(rows) - window + 1)]
        for values in (alpha, beta)
    ]
    return np.array(means[0]), np.array(means[1])


def dense(first: Curve, second: Curve, window: int) -> tuple[float, float]:
    """Total and largest area, by adding up a very fine grid."""
    curves = [smooth_by_loop(*first, window), smooth_by_loop(*second, window)]
    every = np.concatenate(curves, axis=1)
    low, span = every.min(axis=1), np.ptp(every, axis=1)
    functions = []
    for a, b in curves:
        alpha, beta = (a - low[0]) / span[0], (b - low[1]) / span[1]
        merged: dict[float, list[float]] = {}
        for x, y in zip(alpha, beta, strict=True):
            merged.setdefault(round(x, 10), []).append(y)
        xs = sorted(merged)
        functions.append((xs, [np.mean(merged[x]) for x in xs]))
    start = max(f[0][0] for f in functions)
    end = min(f[0][-1] for f in functions)
    grid = np.linspace(start, end, 400_001)
    middle = (grid[1:] + grid[:-1]) / 2
    gap = np.interp(middle, *functions[0]) - np.interp(middle, *functions[1])
    step = (end - start) / 400_000
    lobes = np.split(gap, np.flatnonzero(np.diff(np.sign(gap))) + 1)
    return float(np.abs(gap).sum() * step), max(float(abs(lobe.sum())) for lobe in lobes) * step


def shoelace(first: Curve, second: Curve, window: int, points: int) -> float:
    """Follow docs/metrics.md, `reference`, in plain Python."""
    curves = [smooth_by_loop(*first, window), smooth_by_loop(*second, window)]
    every = np.concatenate(curves, axis=1)
    low, span = every.min(axis=1), np.ptp(every, axis=1)
    ring: list[tuple[float, float]] = []
    for number, (a, b) in enumerate(curves):
        pairs = sorted(zip((b - low[1]) / span[1], (a - low[0]) / span[0], strict=True))
        xs, ys = zip(*pairs, strict=True)
        at = np.linspace(min(xs), max(xs), points)
        resampled = [(float(x), float(np.interp(x, xs, ys))) for x in at]
        ring += resampled[::-1] if number else resampled
    total = 0.0
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        total += x0 * y1 - x1 * y0
    return abs(total) / 2


def noisy(seed: int, n: int, slope: float, decimals: int = 2) -> Curve:
    rng = np.random.default_rng(seed)
    alpha = np.round(rng.random(n), decimals)  # with ties
    return alpha, slope * alpha + np.sin(9 * alpha + seed) + rng.normal(0, 0.3, n)


@pytest.mark.parametrize("window", [1, 2, 7, 25, 60])
@pytest.mark.parametrize("n", [60, 61, 75])
def test_smoothed_curve_is_the_running_mean_of_the_sorted(window: int, n: int) -> None:
    alpha, beta = noisy(1, n, 1.0, decimals=1)
    expected = smooth_by_loop(alpha, beta, window)
    got = smooth_curve(alpha, beta, window)
    assert got[0].shape == got[1].shape == (n - window + 1,)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_a_curve_with_ties_is_the_mean_over_all_their_orders(window: int) -> None:
    alpha = np.array([2.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    beta = np.array([3.0, -1.0, 7.0, 2.0, 4.0, 0.5])
    curves = []
    for rows in itertools.permutations(range(6)):
        order = np.array(rows)[np.argsort(alpha[list(rows)], kind="stable")]
        windows = np.lib.stride_tricks.sliding_window_view(beta[order], window)
        curves.append(windows.mean(axis=1))
    got = smooth_curve(alpha, beta, window)[1]
    np.testing.assert_allclose(got, np.mean(curves, axis=0), rtol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_rows_changes_no_bit(form: Any) -> None:
    rng = np.random.default_rng(3)
    first, second = noisy(1, 300, 1.0, decimals=1), noisy(2, 400, 2.0, decimals=1)
    expected = area(first, second, form, window=25)
    for _ in range(5):
        mixed = [
            tuple(values[order] for values in curve)
            for curve in (first, second)
            for order in [rng.permutation(len(curve[0]))]
        ]
        assert area(*mixed, form, window=25) == expected


def test_smoothing_loses_no_digits_to_the_length() -> None:
    alpha = np.arange(300_000.0)
    beta = np.full(300_000, 0.1)
    beta[:1000] = 1e9
    _, smoothed = smooth_curve(alpha, beta, 25)
    np.testing.assert_allclose(smoothed[1000:], 0.1, rtol=1e-14)


def test_crossing_lines() -> None:
    assert area(RISING, FALLING, "total") == pytest.approx(0.5, abs=1e-12)
    assert area(RISING, FALLING, "largest") == pytest.approx(0.25, abs=1e-12)
    assert area(RISING, FALLING, "reference") == pytest.approx(0, abs=1e-12)


def test_two_points_each_cross_between_the_knots() -> None:
    first = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    second = (np.array([0.0, 1.0]), np.array([0.5, 0.0]))
    # They cross at 1/3: a triangle of 1/2 · 1/3 / 2, and one of 1 · 2/3 / 2.
    assert area(first, second, "total") == pytest.approx(1 / 12 + 1 / 3, abs=1e-14)
    assert area(first, second, "largest") == pytest.approx(1 / 3, abs=1e-14)


def test_curves_that_do_not_cross_have_one_lobe() -> None:
    first = line(lambda x: x**2)
    second = line(lambda x: x)
    expected = np.trapezoid(first[0] - first[1], first[0])
    for form in FORMS:
        assert area(first, second, form) == pytest.approx(expected, abs=2e-3)
    assert area(first, second, "total") == pytest.approx(expected, abs=1e-12)


def test_a_touch_is_no_crossing() -> None:
    x = np.linspace(0, 1, 5)
    flat = (x, np.zeros(5))
    touching = (x, np.array([1.0, 0.5, 0.0, 0.5, 1.0]))
    crossing = (x, np.array([1.0, 0.5, 0.0, -0.5, -1.0]))
    assert area(flat, touching, "largest") == pytest.approx(0.5)
    assert area(flat, crossing, "largest") == pytest.approx(0.125)  # of a range of 2
    assert area(flat, crossing, "total") == pytest.approx(0.25)


def test_only_the_common_interval_counts() -> None:
    first = (np.array([0.0, 2.0]), np.array([0.0, 0.0]))
    second = (np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    # One third of the joint range, at a distance of 1.
    assert area(first, second, "total") == pytest.approx(1 / 3)


def test_equal_alpha_are_merged_by_their_mean() -> None:
    first = (np.array([0.0, 0.5, 0.5, 0.5, 1.0]), np.array([0.0, 0.0, 0.0, 0.9, 0.0]))
    second = (np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    # The merged point is (0.5, 0.3): a triangle of 0.15 is missing from the square.
    assert area(first, second, "total") == pytest.approx(0.85, abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), slope=st.floats(-3, 3))
def test_total_and_largest_are_those_of_a_fine_grid(seed: int, slope: float) -> None:
    first, second = noisy(seed, 70, 1.0), noisy(seed + 1, 90, slope)
    total, largest = dense(first, second, 5)
    assert area(first, second, "total", window=5) == pytest.approx(total, abs=2e-5)
    assert area(first, second, "largest", window=5) == pytest.approx(largest, abs=2e-5)


@pytest.mark.parametrize("points", [2, 17, 100])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_reference_is_the_shoelace_of_the_resampled_ring(seed: int, points: int) -> None:
    first, second = noisy(seed, 70, 1.0), noisy(seed + 7, 90, 2.0)
    expected = shoelace(first, second, 5, points)
    got = area(first, second, "reference", window=5, points=points)
    assert got == pytest.approx(expected, rel=1e-9)
    assert got > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_symmetry_scale_and_identity(form: str) -> None:
    first, second = noisy(3, 80, 1.0), noisy(4, 120, -1.0)
    value = area(first, second, form, window=10)
    assert value > 0.005
    assert area(second, first, form, window=10) == pytest.approx(value, rel=1e-9)
    scaled = [(5 + 3 * a, 2 + 1000 * b) for a, b in (first, second)]
    assert area(*scaled, form, window=10) == pytest.approx(value, rel=1e-9)
    assert area(first, first, form, window=10) == pytest.approx(0, abs=1e-12)


def test_curves_that_run_together_do_not_cross() -> None:
    # Two lobes of one sign, each a triangle of 0.1 · 0.1 / 2, and the same line between them with
    # different knots, where rounding would otherwise make crossings.
    x = np.linspace(0, 1, 1001)
    line = 0.1 * x + 0.3
    bumps = np.maximum(0, 0.1 - 2 * np.abs(x - 0.2)) + np.maximum(0, 0.1 - 2 * np.abs(x - 0.8))
    scale = np.ptp(np.concatenate([line, line + bumps]))
    first, second = (x[::8], line[::8]), (x, line + bumps)
    expected = 2 * 0.1 * 0.1 / 2 / scale
    assert area(first, second, "total") == pytest.approx(expected, rel=1e-9)
    assert area(first, second, "largest") == pytest.approx(expected, rel=1e-9)


def reason(first: Any, second: Any, form: Any = "total", window: int = 25) -> str | None:
    got = curve_area(first, second, form=form, window=window, points=100)
    assert got.value is None
    return got.reason


@pytest.mark.parametrize("form", FORMS)
def test_reasons(form: str) -> None:
    ones, ramp = np.ones(30), np.arange(30.0)
    full, short = (ramp, ramp), (ramp[:24], ramp[:24])
    few = "a split has 24 samples, fewer than the window of 25"
    assert reason(full, short, form) == reason(short, full, form) == few
    one = "a split has 1 sample, fewer than the window of 25"
    assert reason((ramp[:1], ramp[:1]), full, form) == one
    assert reason((ones, ramp), (ones, ramp), form) == "α is the same along both curves"
    assert reason((ramp, ones), (ramp, ones), form) == "β is the same along both curves"
    just_enough = curve_area((ramp[:25], ramp[:25]), full, form="reference", window=25, points=9)
    assert just_enough.value is not None
    broken = ramp.copy()
    broken[[3, 4]] = np.nan, np.inf
    text = "is not finite for 2 of 30 samples of a split"
    assert reason((broken, ramp), full, form) == f"α {text}"
    assert reason(full, (ramp, broken), form) == f"β {text}"


@pytest.mark.parametrize("form", ["total", "largest"])
@pytest.mark.parametrize("shift", [29.0, 40.0])
def test_no_common_interval(form: str, shift: float) -> None:
    ramp = np.arange(30.0)
    expected = "the two curves have no interval of α in common"
    assert reason((ramp, ramp), (ramp + shift, ramp), form, window=1) == expected


@settings(max_examples=25, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    sizes=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    window=st.integers(1, 8),
    seed=st.integers(0, 10_000),
)
def test_any_two_splits_in_either_order(
    form: str, sizes: tuple[int, int], window: int, seed: int
) -> None:
    first, second = noisy(seed, sizes[0], 1.0, 1), noisy(seed + 1, sizes[1], -1.0, 1)
    there = curve_area(first, second, form=form, window=window, points=20)  # type: ignore[arg-type]
    back = curve_area(second, first, form=form, window=window, points=20)  # type: ignore[arg-type]
    assert there.reason == back.reason
    if there.value is not None:
        assert back.value == pytest.approx(there.value, rel=1e-9, abs=1e-12)
        assert 0 <= there.value <= 1
    same = curve_area(first, first, form=form, window=window, points=20)  # type: ignore[arg-type]
    assert same.value is None or same.value == pytest.approx(0, abs=1e-12)


def test_area_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    splits = [(np.round(rng.random(n), 3), rng.normal(size=n)) for n in (2000, 900)]
    whole = curve_area(*splits, form="total", window=20, points=50)
    assert whole.value is not None
    monkeypatch.setattr(sums, "BLOCK", 64)
    assert curve_area(*splits, form="total", window=20, points=50) == whole


def test_area_overwrites_no_curve_of_its_caller() -> None:
    rng = np.random.default_rng(2)
    curves = [(np.sort(rng.random(50)), rng.random(50)) for _ in range(2)]
    before = [values.copy() for curve in curves for values in curve]
    total_area(*curves)
    curve_area(*curves, form="total", window=1, points=10)
    for one, other in zip(before, (v for curve in curves for v in curve), strict=True):
        np.testing.assert_array_equal(one, other)
