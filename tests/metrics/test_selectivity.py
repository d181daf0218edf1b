from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnatool.metrics.selectivity import ClassMeans, compute_ccmas, find_best_class

VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(1, 3), st.integers(1, 3)),
    elements=st.floats(0, 100, width=32),
)


@settings(max_examples=30, deadline=None)
@given(VALUES, st.data())
def test_any_partition_gives_the_means_of_classes(values: np.ndarray, data: st.DataObject) -> None:
    n, units, positions = values.shape
    classes = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)))
    cut = data.draw(st.integers(0, n))
    found, other = ClassMeans.empty(5, units), ClassMeans.empty(5, units)
    sums = values.sum(axis=2, dtype=np.float64)
    found.update(sums[:cut], positions, classes[:cut])
    other.update(sums[cut:, :1], np.full((n - cut, 1), positions), classes[cut:])
    other.update(sums[cut:, 1:], positions, classes[cut:], start=1)
    found.merge(other)
    for unit in range(units):
        means = {}
        for label in range(4):
            chosen = values[classes == label, unit]
            if chosen.size:
                means[label] = chosen.mean(dtype=np.float64)
                assert found.means[label, unit] == pytest.approx(means[label], rel=1e-12)
            else:
                assert np.isnan(found.means[label, unit])
        if not means:
            assert found.best[unit] == -1
            continue
        ranked = sorted(means, key=lambda label: -means[label])
        best = int(found.best[unit])
        if best == -1:
            assert means[ranked[0]] == pytest.approx(means[ranked[1]], rel=1e-12)
            best = ranked[0]
        assert means[best] == pytest.approx(max(means.values()), rel=1e-12)
        rest = [mean for label, mean in means.items() if label != best]
        if rest and means[best] > 0:
            expected = (means[best] - np.mean(rest)) / (means[best] + np.mean(rest))
            assert found.ccmas[unit] == pytest.approx(expected, abs=1e-9)
        else:
            assert np.isnan(found.ccmas[unit])


def test_no_class_is_best_where_several_are() -> None:
    nan = np.nan
    means = np.array([[1.0, 0.0, 2.0, nan, nan, 3.0], [4.0, 0.0, 2.0, 5.0, nan, 3.0]])
    means = np.vstack([means, [4.0, 0.0, 1.0, nan, nan, nan]])
    assert find_best_class(means).tolist() == [-1, -1, -1, 1, -1, -1]
    assert find_best_class(means[:2]).tolist() == [1, -1, -1, 1, -1, -1]
    assert find_best_class(means[:0]).tolist() == [-1] * 6


def test_selectivity_is_one_for_a_single_class_and_undefined_below_zero() -> None:
    means = np.array([[3.0, 2.0, -1.0, 0.0, np.nan], [0.0, 2.0, 5.0, 0.0, 1.0]])
    found = compute_ccmas(means)
    assert found[:2].tolist() == [1, 0]
    assert np.isnan(found[2:]).all()
    joined = ClassMeans.join([ClassMeans.empty(2, 1), ClassMeans.empty(2, 3)])
    assert joined.sums.shape == (2, 4)
    assert np.isnan(compute_ccmas(np.empty((0, 2)))).all()
    with pytest.raises(ValueError, match="shapes"):
        joined.merge(ClassMeans.empty(3, 4))


@pytest.mark.parametrize("positions", [1, 5])
def test_tiles_add_the_finite_values_of_each_class(positions: int) -> None:
    rng = np.random.default_rng(2)
    values = (rng.standard_normal((50, 4, positions)) + 1e4).astype(np.float32)
    values[3, 0], values[4, 1, 0] = np.inf, np.nan
    classes = rng.integers(-1, 3, 50)
    found = ClassMeans.empty(4, 5)
    found.add_tile(values[:20], None, classes[:20], start=1)
    sums = values[20:].sum(axis=2, dtype=np.float64)
    found.add_tile(values[20:], sums, classes[20:], start=1)
    for label in range(4):
        chosen = np.moveaxis(values[classes == label], 1, 0).reshape(4, -1).astype(np.float64)
        finite = np.isfinite(chosen)
        assert found.counts[label].tolist() == [0, *finite.sum(axis=1)]
        expected = np.where(finite, chosen, 0).sum(axis=1)
        assert found.sums[label, 1:] == pytest.approx(expected, rel=1e-12)
