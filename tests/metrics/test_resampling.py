from __future__ import annotations

import math
from itertools import permutations as orders

import numpy as np
import pytest
import scipy.stats

from cnatool.metrics import resampling
from cnatool.metrics.resampling import (
    independence_test,
    percentile_interval,
    recentred_interval,
    resample,
    resample_counts,
)


@pytest.mark.parametrize("cell", [7, 20])
def test_counts_are_draws_with_replacement(cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_CELL", cell)
    n = 20
    counts = np.array([resample_counts(n, 3, 0, number) for number in range(4000)])
    assert (counts.sum(axis=1) == n).all()
    # Each count is binomial (n, 1/n), and two of them correlate by −1 / (n − 1).
    assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=0.08)
    assert counts.var(axis=0) == pytest.approx(np.full(n, 1 - 1 / n), abs=0.12)
    correlations = np.corrcoef(counts.T)
    others = correlations[~np.eye(n, dtype=bool)]
    assert np.abs(others + 1 / (n - 1)).max() < 0.08


def test_a_resample_depends_on_seed_stream_and_number_alone() -> None:
    first = resample_counts(50, 1, 2, 3)
    assert first.tolist() == resample_counts(50, 1, 2, 3).tolist()
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert first.tolist() != resample_counts(50, *other).tolist()


@pytest.mark.parametrize(("threads", "samples"), [(1, 10_000), (3, 10_000), (8, 10_000), (8, 10)])
def test_threads_change_nothing(
    threads: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "_THREADS", threads)
    told: list[tuple[int, int]] = []
    found = resample(
        lambda numbers: [(number, -number) for number in numbers],
        5,
        samples=samples,
        part=2,
        progress=lambda *so_far: told.append(so_far),
    )
    assert found.tolist() == [[i, -i] for i in range(5)]
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_intervals() -> None:
    values = np.random.default_rng(0).normal(5, 2, 999)
    percentiles, none = percentile_interval(values, 0.9)
    assert percentiles == pytest.approx(np.percentile(values, [5, 95]))
    assert none is None
    edges, bias, reason = recentred_interval(1.0, values, 0.95)
    half = scipy.stats.norm.ppf(0.975) * np.std(values, ddof=1)
    assert edges == pytest.approx((1 - half, 1 + half))
    assert bias == pytest.approx(values.mean() - 1)
    assert reason is None


def test_resamples_without_a_value_leave_no_interval() -> None:
    values = np.array([1.0, np.nan, 2.0] + 20 * [3.0])
    text = "the measure is undefined for 1 of 23 resamples"
    assert percentile_interval(values, 0.9) == (None, text)
    assert recentred_interval(1.0, values, 0.9) == (None, None, text)


@pytest.mark.parametrize(("level", "least"), [(0.5, 4), (0.9, 20), (0.95, 40), (0.999, 2000)])
def test_too_few_resamples_leave_no_interval(level: float, least: int) -> None:
    values = np.random.default_rng(0).normal(size=least)
    assert percentile_interval(values, level)[0] is not None
    edges, reason = percentile_interval(values[1:], level)
    assert edges is None
    percent = f"{100 * level:g} %"
    assert reason == (
        f"an interval of {percent} needs at least {least} resamples, and there are {least - 1}"
    )
    twenty = np.random.default_rng(0).normal(size=20)
    assert recentred_interval(0.0, twenty, level)[0] is not None
    assert recentred_interval(0.0, twenty[1:], level) == (
        None,
        None,
        f"an interval of {percent} needs at least 20 resamples, and there are 19",
    )


def shifted(a: np.ndarray, b: np.ndarray) -> list[float]:
    return [abs(scipy.stats.pearsonr(a, np.roll(b, k)).statistic) for k in range(a.size)]


def test_p_value_is_the_share_of_cyclic_shifts() -> None:
    rng = np.random.default_rng(5)
    a = np.round(rng.normal(size=41), 1)
    b = np.round(0.3 * a + rng.normal(size=41), 1)
    p, done = independence_test(a, b, permutations=40, seed=9)
    order = np.random.default_rng([9, 41]).permutation(41)
    values = shifted(a[order], b[order])
    assert done == 40
    assert p == pytest.approx(np.mean(np.array(values) >= values[0] - 1e-9))


def test_p_value_of_few_samples_is_that_of_all_permutations() -> None:
    a = np.array([0.0, 1.0, 2.0, 4.0, 4.5, 7.0])
    b = np.array([1.0, 0.0, 2.5, 3.0, 6.0, 4.0])
    every = [abs(np.corrcoef(a, b[list(order)])[0, 1]) for order in orders(range(6))]
    exact = np.mean(np.array(every) >= every[0] - 1e-9)
    p, done = independence_test(a, b, permutations=20_000, seed=0)
    assert done == 20_000
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


@pytest.mark.parametrize("n", [30, 400])
def test_p_values_are_even_where_nothing_depends_on_anything(n: int) -> None:
    # Once by drawn permutations, once by shifts.
    rng = np.random.default_rng(n)
    found = [
        independence_test(
            rng.exponential(size=n), rng.standard_t(3, size=n), permutations=99, seed=seed
        )[0]
        for seed in range(600)
    ]
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(found) <= level)
        assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 600))


def test_a_dependence_has_the_least_p_value() -> None:
    a = np.arange(1000.0)
    assert independence_test(a, a**3, permutations=99, seed=0) == (1 / 1000, 999)
    assert independence_test(a[:50], -a[:50], permutations=99, seed=0) == (0.01, 99)
