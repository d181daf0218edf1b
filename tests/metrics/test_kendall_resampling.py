from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool.metrics import cna as cna_module
from cnatool.metrics.cna import cna
from cnatool.metrics.kendall_resampling import WeightedInversions


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


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_kendall_of_many_samples_is_sorted_to_the_same_numbers(
    decimals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    a = np.round(rng.normal(size=700), decimals)
    b = np.round(0.5 * a + rng.normal(size=700), decimals)

    def found() -> object:
        return cna(
            a, b, form="kendall", window=5, interval="bootstrap", level=0.9, resamples=50,
            permutations=0, seed=2, stream=3,
        )  # fmt: skip

    on_a_grid = found()
    monkeypatch.setattr(cna_module, "MOST", 10)
    assert found() == on_a_grid
