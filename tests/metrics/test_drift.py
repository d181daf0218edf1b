"""Distances between distributions, against SciPy on whole arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from cnatool.metrics.drift import (
    LEAST_SAMPLES,
    adjust_p_values,
    ks_bounds,
    ks_distance,
    ks_p_value,
    standardised_difference,
)


def side(rng: np.random.Generator, n: int, units: int, ties: bool) -> np.ndarray[Any, Any]:
    values = rng.normal(rng.normal(size=units), 1, (n, units))
    if ties:
        values = np.maximum(values.round(1), 0)
    values[rng.random(values.shape) < 0.05] = np.nan
    return values


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_ks_distances_are_the_largest_between_the_distribution_functions(
    seed: int, n: int, m: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    first, second = side(rng, n, 5, ties), side(rng, m, 5, ties)
    distance = ks_distance(first, second)
    for unit in range(5):
        x, y = (each[~np.isnan(each[:, unit]), unit] for each in (first, second))
        if not (len(x) and len(y)):
            assert np.isnan(distance[unit])
            continue
        both = np.concatenate([x, y])
        shares = [np.searchsorted(np.sort(z), both, side="right") / len(z) for z in (x, y)]
        expected = np.abs(shares[0] - shares[1]).max()
        assert distance[unit] == pytest.approx(expected, abs=1e-12)


def test_many_units_are_sorted_in_parts_as_scipy_does_one() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(3000, 900)), rng.normal(size=(1000, 900)) + 0.1
    distance = ks_distance(first, second)
    for unit in (0, 523, 524, 525, 899):
        expected = stats.ks_2samp(first[:, unit], second[:, unit]).statistic
        assert distance[unit] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 80), st.integers(1, 80), st.integers(1, 12))
def test_bounds_of_histograms_include_the_distance(seed: int, n: int, m: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    first = np.maximum(rng.normal(size=(n, 4)), 0)
    second = np.maximum(rng.normal(0.5, 2, size=(m, 4)), 0)
    # A bin of exact zeros, then bins that values lie anywhere in.
    edges = np.concatenate([[0, 1e-300], np.sort(rng.uniform(0, 6, bins - 1)), [1e3]])
    counts, counts2 = (
        np.array([np.histogram(each[:, unit], edges)[0] for unit in range(4)])
        for each in (first, second)
    )
    single = np.arange(len(edges) - 1) == 0
    low, high = ks_bounds(counts, counts2, single)
    exact = ks_distance(first, second)
    assert (low <= exact + 1e-12).all()
    assert (exact <= high + 1e-12).all()
    shares = np.maximum(counts / n, counts2 / m)[:, 1:].max(axis=1)
    assert (high <= low + shares + 1e-12).all()


def test_bins_of_one_value_leave_no_doubt() -> None:
    counts, counts2 = np.array([[3, 5, 2]]), np.array([[6, 2, 2]])
    low, high = ks_bounds(counts, counts2, np.ones(3, bool))
    assert low[0] == high[0] == pytest.approx(0.3)
    empty = ks_bounds(np.zeros((1, 3), int), counts2, np.zeros(3, bool))
    assert np.isnan(empty[0]).all()


@pytest.mark.parametrize(("n", "m"), [(10, 10), (12, 40), (60, 60), (500, 80)])
def test_p_values_are_nearly_exact(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    first = rng.normal(size=(n, 30))
    second = rng.normal(np.linspace(0, 1.2, 30), 1, (m, 30))
    distance = ks_distance(first, second)
    p = ks_p_value(distance, np.full(30, n), np.full(30, m))
    exact = np.array(
        [stats.ks_2samp(first[:, u], second[:, u], method="exact").pvalue for u in range(30)]
    )
    asymptotic = stats.kstwobign.sf(np.sqrt(n * m / (n + m)) * distance)
    np.testing.assert_allclose(p, asymptotic, rtol=1e-9)
    small = exact < 0.2
    assert small.any()
    assert (p[small] >= 0.97 * exact[small]).all()


def test_few_samples_have_no_p_value() -> None:
    few = np.array([LEAST_SAMPLES - 1, LEAST_SAMPLES])
    p = ks_p_value(np.array([0.5, 0.5]), few, few + 90)
    assert np.isnan(p).tolist() == [True, False]


def test_two_halves_of_one_sample_give_uniform_p_values() -> None:
    rng = np.random.default_rng(7)
    values = rng.gamma(2, size=(1200, 600))
    n = np.full(600, 600)
    p = ks_p_value(ks_distance(values[:600], values[600:]), n, n)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < (p < 0.05).mean() < 0.09
    assert (adjust_p_values(p, "benjamini-hochberg") > 0.05).all()
    shifted = ks_p_value(ks_distance(values[:600], values[600:] + 0.8), n, n)
    assert (adjust_p_values(shifted, "bonferroni") < 1e-3).all()


def test_standardised_differences_are_cohens_d() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(40, 3)), rng.normal(1, 2, size=(30, 3))
    moments = [
        (np.full(3, len(each)), each.mean(axis=0), ((each - each.mean(axis=0)) ** 2).sum(axis=0))
        for each in (first, second)
    ]
    pooled = np.sqrt((39 * first.var(axis=0, ddof=1) + 29 * second.var(axis=0, ddof=1)) / 68)
    expected = (second.mean(axis=0) - first.mean(axis=0)) / pooled
    np.testing.assert_allclose(standardised_difference(*moments), expected, rtol=1e-12)
    # Student's t of equal variances is d · √(nm/(n + m)).
    t = stats.ttest_ind(second, first).statistic
    np.testing.assert_allclose(expected * np.sqrt(40 * 30 / 70), t, rtol=1e-12)
    constant = ([5, 1], [1.0, 1.0], [0.0, 0.0]), ([5, 5], [2.0, 2.0], [0.0, 4.0])
    assert np.isnan(standardised_difference(*constant)).all()


def test_adjusted_p_values() -> None:
    p = np.array([0.01, np.nan, 0.02, 0.03, 0.5])
    bh = adjust_p_values(p, "benjamini-hochberg")
    np.testing.assert_allclose(bh, [0.04, np.nan, 0.04, 0.04, 0.5])
    by = adjust_p_values(p, "benjamini-yekutieli")
    np.testing.assert_allclose(by[:4], bh[:4] * (1 + 1 / 2 + 1 / 3 + 1 / 4))
    bonferroni = adjust_p_values(p, "bonferroni")
    np.testing.assert_allclose(bonferroni, [0.04, np.nan, 0.08, 0.12, 1.0])
    assert np.isnan(adjust_p_values(np.full(2, np.nan), "bonferroni")).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(3, 40), st.integers(3, 40), st.booleans())
def test_bounds_hold_without_zeros_and_atoms(seed: int, n: int, m: int, positive: bool) -> None:
    """A bin of zeros and atoms that some units have no values in."""
    rng = np.random.default_rng(seed)
    often = np.array([-1, 0.25, 1.5])
    sides = []
    for rows in (n, m):
        values = rng.normal(rng.choice([0, 1]), 1, size=(rows, 5))
        if positive:
            values[:, :3] = values[:, :3].clip(0)
        at_atoms = rng.random(values.shape) < 0.7 * rng.random()
        sides.append(np.where(at_atoms, rng.choice(often, values.shape), values))
    below, above = (np.sort(rng.uniform(0.01, 5, rng.integers(0, 4))) for _ in range(2))
    edges = np.concatenate([[-100], -below[::-1], [0, 1e-300], above, [1e3]])
    counts = [np.array([np.histogram(unit, edges)[0] for unit in each.T]) for each in sides]
    around = [
        np.stack(
            [np.stack([(each < atom).sum(0), (each <= atom).sum(0)], -1) for atom in often]
            + [np.zeros((5, 2), int)],
            axis=1,
        )
        for each in sides
    ]
    exact = ks_distance(*sides)
    for atoms in (None, (around[0], around[1])):
        low, high = ks_bounds(*counts, edges[:-1] == 0, atoms)
        assert (low <= exact + 1e-12).all()
        assert (exact <= high + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(5, 80), st.integers(5, 80), st.integers(1, 8))
@example(205, 7, 7, 1)
def test_atoms_divide_their_bins(seed: int, n: int, m: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    often = np.array([0.25, 1.5, 1.75])
    sides = []
    for rows, share in ((n, 0.6), (m, 0.4)):
        values = rng.normal(1, 1, size=(rows, 4)).clip(0)
        sides.append(
            np.where(rng.random(values.shape) < share, rng.choice(often, values.shape), values)
        )
    edges = np.concatenate([[0, 1e-300], np.sort(rng.uniform(0, 6, bins - 1)), [1e3]])
    counts = [
        np.array([np.histogram(each[:, unit], edges)[0] for unit in range(4)]) for each in sides
    ]
    around = [
        np.stack(
            [
                np.stack([(each < value).sum(axis=0), (each <= value).sum(axis=0)], axis=-1)
                for value in often
            ]
            + [np.zeros((4, 2), int)],  # a unit with fewer
            axis=1,
        )
        for each in sides
    ]
    single = np.arange(len(edges) - 1) == 0
    low, high = ks_bounds(*counts, single, (around[0], around[1]))
    wide_low, wide_high = ks_bounds(*counts, single)
    exact = ks_distance(*sides)
    assert (wide_low <= low).all()
    assert (low <= exact + 1e-12).all()
    assert (exact <= high + 1e-12).all()
    assert (high <= wide_high + 1e-12).all()
    # Nothing but atoms and zeros is known to the last value.
    bare = [np.where(np.isin(each, [0, *often]), each, 0) for each in sides]
    counts = [
        np.array([np.histogram(each[:, unit], edges)[0] for unit in range(4)]) for each in bare
    ]
    around = [
        np.stack(
            [(each[:, :, None] < often).sum(axis=0), (each[:, :, None] <= often).sum(axis=0)], -1
        )
        for each in bare
    ]
    low, high = ks_bounds(*counts, single, (around[0], around[1]))
    np.testing.assert_allclose(low, ks_distance(*bare), atol=1e-12)
    np.testing.assert_allclose(high, low, atol=1e-12)
