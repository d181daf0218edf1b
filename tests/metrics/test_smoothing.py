from __future__ import annotations

import numpy as np
import pytest

from cnatool.metrics import smoothing
from cnatool.metrics.smoothing import average_ties, curve_order, merge_curves, running_mean


@pytest.mark.parametrize("window", [1, 2, 7, 64, 500, 999, 1000])
def test_running_mean_over_several_blocks(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(window).normal(size=1000)
    whole = running_mean(values, window)
    monkeypatch.setattr(smoothing, "_BLOCK", 16)
    assert running_mean(values, window).tobytes() == whole.tobytes()
    slow = [values[i : i + window].mean() for i in range(1000 - window + 1)]
    np.testing.assert_allclose(whole, slow, rtol=0, atol=1e-13)


@pytest.mark.parametrize("distinct", [1, 2, 40, 400])
def test_tied_means_over_several_blocks(distinct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(distinct)
    alpha = np.sort(rng.integers(0, distinct, 1000)).astype(float)
    beta = rng.normal(size=1000)
    whole = average_ties(alpha, beta)
    monkeypatch.setattr(smoothing, "_BLOCK", 16)
    assert average_ties(alpha, beta).tobytes() == whole.tobytes()
    slow = [beta[alpha == one].mean() for one in alpha]
    np.testing.assert_allclose(whole, slow, rtol=0, atol=1e-13)


@pytest.mark.parametrize("distinct", [1, 4, 200, 10**9])
def test_curve_order_sorts_by_alpha_then_beta_then_row(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    alpha = rng.integers(0, distinct, 500).astype(float)
    beta = rng.integers(0, 3, 500).astype(float)
    np.testing.assert_array_equal(curve_order(alpha, beta), np.lexsort((beta, alpha)))


@pytest.mark.parametrize("distinct", [1, 7, 10**9])
def test_merged_curves_are_the_sorted_whole(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    parts = [rng.integers(0, distinct, (2, n)).astype(float) for n in (400, 90)]
    curves = []
    for alpha, beta in parts:
        order = np.lexsort((beta, alpha))
        curves.append((alpha[order], beta[order]))
    alpha, beta = np.concatenate(parts, axis=1)
    order = np.lexsort((beta, alpha))
    np.testing.assert_array_equal(merge_curves(*curves), (alpha[order], beta[order]))
