"""The bootstrap over clusters: what is drawn, and how often its intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from cnatool.studying.statistics import weighted as clusters
from cnatool.studying.statistics.weighted import (
    draw_cluster_weights,
    expanded_interval,
    weighted_coefficients,
)


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
    monkeypatch.setattr(clusters, "_ELEMENTS", 20)
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
