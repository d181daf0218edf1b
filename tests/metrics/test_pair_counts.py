from __future__ import annotations

import numpy as np
import pytest

from cnatool.metrics.pair_counts import count_inversions, count_pairs
from cnatool.metrics.ranks import rank_pair


@pytest.mark.parametrize("n", [2, 3, 31, 64, 65, 700])
@pytest.mark.parametrize("distinct", [1, 3, 40, 10**9])
def test_pairs_are_those_of_the_definition(n: int, distinct: int) -> None:
    a, b = np.random.default_rng(n).integers(0, distinct, (2, n)).astype(float)
    signs = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    counts = count_pairs(rank_pair(a, b))
    np.testing.assert_array_equal(counts.balance, (signs[0] * signs[1]).sum(axis=1))
    np.testing.assert_array_equal(counts.untied_first, np.abs(signs[0]).sum(axis=1))
    np.testing.assert_array_equal(counts.untied_second, np.abs(signs[1]).sum(axis=1))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 300])
def test_inversions_are_counted_from_both_sides(n: int) -> None:
    order = np.random.default_rng(n).permutation(n)
    places = np.arange(n)
    inverted = (places[:, None] < places) != (order[:, None] < order)
    np.fill_diagonal(inverted, val=False)
    np.testing.assert_array_equal(count_inversions(order), inverted.sum(axis=1))
