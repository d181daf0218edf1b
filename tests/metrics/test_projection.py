"""Random projections keep distances, and their numbers never change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from cnatool.metrics import projection
from cnatool.metrics.projection import (
    DenseProjection,
    SparseProjection,
    make_projection,
    measure_distortion,
    spread_positions,
)

RNG = np.random.default_rng(0)


def sparse_matrix(made: SparseProjection, elements: int) -> np.ndarray:
    """Write a sparse projection out as a matrix."""
    matrix = np.zeros((elements, sum(made.widths)))
    first = 0
    for places, signs, width in zip(made.places, made.signs, made.widths, strict=True):
        elements_of = (places[:, None] * made.length + np.arange(made.length)).reshape(-1)
        for cell, (place, sign) in enumerate(zip(elements_of, signs, strict=True)):
            matrix[place % elements, first + cell % width] += sign
        first += width
    return matrix / np.sqrt(len(made.widths))


def test_elements_meet_in_a_sum_as_often_near_as_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never within a block; else once in so many seeds as a group has sums."""
    monkeypatch.setattr(projection, "LARGEST_DENSE", 0)
    together = np.zeros((200, 40))
    for seed in range(200):
        made = make_projection.__wrapped__(320, 10, seed)
        assert made.length == 4
        columns = sparse_matrix(made, 320)[:, :5].nonzero()[1]
        together[seed] = columns[100] == columns[101:141]
    assert not together[:, :3].any()
    assert together[:, 3:].mean() == pytest.approx(0.2, abs=0.02)
    assert np.abs(together[:, 3:].mean(axis=0) - 0.2).max() < 0.13


@pytest.mark.parametrize("largest", [1 << 22, 100])
def test_distances_are_kept(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root mean square of the relative errors is that of the theory, 1/√(2K)."""
    monkeypatch.setattr(projection, "LARGEST_DENSE", largest)
    elements, size, values = 900, 66, RNG.normal(size=(40, 900)).astype(np.float32)
    errors = []
    for seed in range(5):
        made = make_projection.__wrapped__(elements, size, seed)
        assert isinstance(made, DenseProjection if largest > 1000 else SparseProjection)
        projected = made.apply(values)
        assert projected.shape == (40, size)
        assert projected.dtype == np.float32
        ratios = pdist(projected) / pdist(values) - 1
        errors.append(ratios)
        found = measure_distortion(values, projected)
        assert found.samples == 40
        assert found.pairs == 780
        assert found.mean == pytest.approx(np.abs(ratios).mean(), rel=1e-4)
        assert found.largest == pytest.approx(np.abs(ratios).max(), rel=1e-4)
    root = np.sqrt(np.mean(np.square(errors)))
    assert root == pytest.approx(1 / np.sqrt(2 * size), rel=0.25)
    assert abs(np.mean(errors)) < 0.03


@pytest.mark.parametrize(("elements", "size"), [(50, 7), (64, 3), (33, 8), (903, 10)])
def test_sparse_projection(elements: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "LARGEST_DENSE", 0)
    made = make_projection.__wrapped__(elements, size, 5)
    assert (made.length, made.filling) == ((4, 1) if elements == 903 else (1, 0))
    matrix = sparse_matrix(made, elements)
    groups = min(2, size)
    assert (np.count_nonzero(matrix, axis=1) == groups).all()
    per_column = np.count_nonzero(matrix, axis=0)
    assert (per_column >= elements // max(made.widths) - (made.length > 1)).all()
    values = RNG.normal(size=(9, elements))
    np.testing.assert_allclose(made.apply(values), values @ matrix, atol=1e-12)


def test_a_seed_makes_the_same_numbers_everywhere() -> None:
    """Those of the legacy generator, as NumPy promises for ever."""
    made = make_projection(6, 2, 3)
    assert isinstance(made, DenseProjection)
    expected = np.random.RandomState([3, 0, 6, 0, 2, 0]).standard_normal((6, 2)) / np.sqrt(2)
    np.testing.assert_array_equal(made.matrix, expected.astype(np.float32))
    assert len(made.sha256) == 64
    assert make_projection(6, 2, 4).sha256 != made.sha256


@given(st.integers(0, 400), st.integers(1, 60), st.integers(0, 2**40))
def test_positions_are_spread(length: int, count: int, seed: int) -> None:
    chosen = spread_positions(length, count, seed)
    kept = min(length, count)
    assert len(chosen) == kept
    assert (np.diff(chosen) > 0).all()
    for number, place in enumerate(chosen):
        assert number * length // kept <= place < (number + 1) * length // kept


def test_distances_of_equal_and_nonfinite_samples_do_not_count() -> None:
    values = np.array([[0.0, 1.0], [0.0, 1.0], [np.nan, 0.0], [2.0, 2.0]])
    found = measure_distortion(values, 2 * values)
    assert found == (3, 2, 1.0, 1.0)
    assert measure_distortion(values[:1], values[:1]) == (1, 0, 0.0, 0.0)
