from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cnatool.metrics.groups import quantile_groups
from cnatool.metrics.ranks import dense_ranks, midranks, rank_pair

VALUES = st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0, 1e300]), max_size=20).map(np.array)


@given(VALUES)
def test_ranks_are_scipys(values: np.ndarray) -> None:
    assert midranks(values).tolist() == scipy.stats.rankdata(values).tolist()
    dense = scipy.stats.rankdata(values, "dense") - 1
    assert dense_ranks(values).tolist() == dense.tolist()


@given(VALUES, st.integers(1, 7))
def test_groups_keep_equal_values_together(values: np.ndarray, count: int) -> None:
    groups = quantile_groups(values, count)
    assert groups.shape == values.shape
    assert ((groups >= 0) & (groups < count)).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(groups[order]) >= 0).all()
    for value in set(values.tolist()):
        assert len(set(groups[values == value].tolist())) == 1


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_groups_of_distinct_values_are_numpys_split(count: int) -> None:
    values = np.random.default_rng(0).permutation(1000).astype(float)
    groups = quantile_groups(values, count)
    for group, part in enumerate(np.split(np.arange(1000), count)):
        assert sorted(values[groups == group]) == part.tolist()


@pytest.mark.parametrize("distinct", [1, 5, 10**9])
def test_a_pair_is_ordered_by_the_first_then_the_second(distinct: int) -> None:
    first, second = np.random.default_rng(distinct).integers(0, distinct, (2, 300)).astype(float)
    pair = rank_pair(first, second)
    order = np.lexsort((second, first))
    np.testing.assert_array_equal(first[pair.order], first[order])
    np.testing.assert_array_equal(second[pair.order], second[order])
    assert sorted(pair.order) == list(range(300))
