"""Coefficients against SciPy; weights against repeated networks; coverage of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cnatool.studying.statistics import weighted
from cnatool.studying.statistics.weighted import (
    COEFFICIENTS,
    draw_cluster_weights,
    expanded_interval,
    weighted_coefficients,
)


def tau_a(a: np.ndarray, b: np.ndarray) -> float:
    """Sum the signs over all pairs of different networks, as it is written."""
    n = len(a)
    signs = [
        np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i in range(n) for j in range(n) if i != j
    ]
    return sum(signs) / (n * (n - 1))


PEERS = {
    "pearson": lambda a, b: scipy.stats.pearsonr(a, b).statistic,
    "spearman": lambda a, b: scipy.stats.spearmanr(a, b).statistic,
    "kendall_a": tau_a,
    "kendall_b": lambda a, b: scipy.stats.kendalltau(a, b).statistic,
}


def weighted_coefficient(
    name: str, a: np.ndarray, b: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    return getattr(weighted_coefficients(a, b, weights), name)


def whole(name: str, a: np.ndarray, b: np.ndarray) -> float:
    return float(weighted_coefficient(name, a, b, np.ones((1, len(a))))[0])


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("n", [3, 10, 250])
@pytest.mark.parametrize("ties", [False, True])
def test_coefficients_are_those_of_scipy(name: str, n: int, ties: bool) -> None:
    rng = np.random.default_rng(n)
    a = rng.normal(size=n)
    b = a + rng.normal(size=n)
    if ties:
        a, b = np.round(a), np.round(2 * b)
    assert whole(name, a, b) == pytest.approx(PEERS[name](a, b), abs=1e-12)


values = st.lists(st.integers(0, 4), min_size=3, max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(set(COEFFICIENTS) - {"kendall_a"})), values, st.randoms())
def test_weights_are_repetitions(name: str, a: list[int], random: object) -> None:
    first = np.array(a, float)
    second = np.array([random.randint(0, 4) for _ in a], float)  # type: ignore[attr-defined]
    weights = np.array([random.randint(0, 3) for _ in a])  # type: ignore[attr-defined]
    for column in (first, second):
        if len(set(column)) < 2 or not weights.any():
            return
    repeated = np.repeat(first, weights), np.repeat(second, weights)
    found = weighted_coefficient(name, first, second, weights[None].astype(float))[0]
    if any(len(set(column)) < 2 for column in repeated):
        assert np.isnan(found)
    else:
        assert found == pytest.approx(PEERS[name](*repeated), abs=1e-12)


def test_tau_a_makes_no_pair_of_a_network_and_its_repetition() -> None:
    a, b = np.arange(5.0), np.array([0.0, 2, 1, 4, 3])
    weights = np.array([[2.0, 0, 1, 3, 1]])
    places = np.repeat(np.arange(5), weights[0].astype(int))
    pairs = [np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i in places for j in places if i != j]
    # Copies of one network against copies of another count; of one against itself they do not.
    expected = sum(pairs) / (len(places) ** 2 - (weights[0] ** 2).sum())
    assert weighted_coefficient("kendall_a", a, b, weights)[0] == pytest.approx(expected)
    same = weighted_coefficient("kendall_a", a, a, weights)[0]
    assert same == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e300])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_size_of_the_numbers_does_not_matter(name: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20))
    assert whole(name, a * scale, b) == pytest.approx(whole(name, a, b), rel=1e-9)
    assert whole(name, a, -b) == pytest.approx(-whole(name, a, b), rel=1e-12)


def test_blocks_of_signs_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    weights = rng.integers(0, 3, (6, 40)).astype(float)
    at_once = weighted_coefficient("kendall_b", a, b, weights)
    monkeypatch.setattr(weighted, "_ELEMENTS", 90)
    np.testing.assert_array_equal(weighted_coefficient("kendall_b", a, b, weights), at_once)


def test_whole_clusters_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    of = np.array([0, 0, 1, 2, 2, 2, 3])
    (weights,) = draw_cluster_weights(of, resamples=500, seed=3)
    assert weights.shape == (500, 7)
    firsts = weights[:, [0, 2, 3, 6]]
    np.testing.assert_array_equal(weights, firsts[:, of])
    assert (firsts.sum(axis=1) == 4).all()
    # Each cluster is drawn once on average, with the variance of a multinomial.
    assert firsts.mean(axis=0) == pytest.approx(1, abs=0.15)
    assert firsts.var(axis=0) == pytest.approx(0.75, abs=0.15)
    monkeypatch.setattr(weighted, "_ELEMENTS", 20)
    blocks = np.concatenate(list(draw_cluster_weights(of, resamples=500, seed=3)))
    np.testing.assert_array_equal(blocks, weights)
    others = np.concatenate(list(draw_cluster_weights(of, resamples=500, seed=4)))
    assert not np.array_equal(others, weights)


def test_percentiles_are_expanded() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    interval, reason = expanded_interval(values, clusters=10, level=0.95)
    edge = scipy.stats.t.ppf(0.975, 9) * np.sqrt(10 / 9)
    tail = scipy.stats.norm.cdf(-edge)
    assert reason is None
    assert interval == pytest.approx(tuple(np.quantile(values, [tail, 1 - tail])), rel=1e-9)


def test_too_few_clusters_or_too_many_undefined_have_none() -> None:
    values = np.linspace(0, 1, 100)
    assert expanded_interval(values, clusters=4, level=0.95) == (
        None,
        "an interval needs at least 5 clusters, and there are 4",
    )
    values[:5] = np.nan
    assert expanded_interval(values, clusters=9, level=0.95)[0] is not None
    values[:6] = np.nan
    assert expanded_interval(values, clusters=9, level=0.95) == (
        None,
        "it is undefined in 6 of 100 resamples",
    )


TRUTHS = {
    "pearson": lambda rho: rho,
    "spearman": lambda rho: 6 / np.pi * np.arcsin(rho / 2),
    "kendall_a": lambda rho: 2 / np.pi * np.arcsin(rho),
}


@pytest.mark.parametrize(("groups", "size", "rho"), [(6, 6, 0.5), (12, 6, 0.8), (30, 3, 0.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(groups: int, size: int, rho: float) -> None:
    """400 simulations each: half of the variance is that of the cluster.

    At 95 % one expects 380 ± 4.4 hits; resampling networks one by one would have far fewer.
    """
    rng = np.random.default_rng(groups)
    of = np.repeat(np.arange(groups), size)
    mix = np.linalg.cholesky([[1, rho], [rho, 1]])
    hits = dict.fromkeys(TRUTHS, 0)
    alone = dict.fromkeys(TRUTHS, 0)
    for number in range(400):
        shared = rng.normal(size=(groups, 2))[of]
        a, b = mix @ (np.sqrt(0.5) * (shared + rng.normal(size=(len(of), 2)))).T
        for ids, count, found in ((of, groups, hits), (np.arange(len(of)), len(of), alone)):
            (weights,) = draw_cluster_weights(ids, resamples=300, seed=number)
            coefficients = weighted_coefficients(a, b, weights)
            for name, truth in TRUTHS.items():
                resampled = getattr(coefficients, name)
                low, high = expanded_interval(resampled, clusters=count, level=0.95)[0]
                found[name] += low <= truth(rho) <= high
    for name in TRUTHS:
        assert 0.92 <= hits[name] / 400 <= 0.995, (name, hits)
        assert alone[name] < hits[name], (name, alone)


@pytest.mark.parametrize(
    ("first", "second", "least_claims"), [(0.9, -0.3, 0.8), (0.5, -0.5, 0.0), (0.7, 0.0, 0.3)]
)
def test_intervals_of_differences_of_magnitudes(
    first: float, second: float, least_claims: float
) -> None:
    """150 simulations of 8 clusters each: the weaker measure is hardly ever taken for stronger."""
    rng = np.random.default_rng(8)
    of = np.repeat(np.arange(8), 5)
    hits = claims = wrong = 0
    truth = abs(first) - abs(second)
    for number in range(150):
        target, *noise = np.sqrt(0.5) * (
            rng.normal(size=(3, 8))[:, of] + rng.normal(size=(3, len(of)))
        )
        (weights,) = draw_cluster_weights(of, resamples=200, seed=number)
        resampled = [
            weighted_coefficients(
                rho * target + np.sqrt(1 - rho**2) * each, target, weights
            ).pearson
            for rho, each in zip((first, second), noise, strict=True)
        ]
        difference = abs(resampled[0]) - abs(resampled[1])
        low, high = expanded_interval(difference, clusters=8, level=0.95)[0]
        hits += low <= truth <= high
        claims += low > 0
        wrong += high < 0
    # The magnitude of a correlation of 0 is overestimated: the interval lies too low.
    assert hits / 150 >= (0.9 if second else 0.7)
    assert claims / 150 >= least_claims
    assert wrong / 150 <= 0.05
