"""Statistics of whole arrays against float64 and exact sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool.store.statistics import row_statistics


def sums(values: np.ndarray) -> np.ndarray:
    return row_statistics(values, ["sum"])["sum"]


@given(
    rows=st.integers(0, 4),
    elements=st.sampled_from([0, 1, 7, 511, 512, 513, 1024, 1500, 5003]),
    offset=st.sampled_from([0.0, 1.0, -1e4]),
    seed=st.integers(0, 99),
)
def test_sums_of_float32_are_close_to_exact_ones(
    rows: int, elements: int, offset: float, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(offset, 1, (rows, elements)).astype(np.float32)
    exact = np.array([math.fsum(row) for row in values.tolist()])
    absolute = np.array([math.fsum(map(abs, row)) for row in values.tolist()])
    assert (np.abs(sums(values) - exact) <= 1e-6 * absolute).all()
    # A row's sum depends on no other row, nor on the shape of a sample.
    alone = [float(sums(row[None])[0]) for row in values]
    assert sums(values).tolist() == sums(values.reshape(rows, elements, 1)).tolist() == alone


def test_parts_beyond_float32_are_summed_in_float64() -> None:
    values = np.full((3, 2000), 3e38, np.float32)
    values[1] = 1
    values[2, :1000] = -3e38
    expected = values.astype(np.float64).sum(axis=1)
    assert sums(values) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("added", "expected"), [((np.inf,), np.inf), ((np.nan,), np.nan), ((np.inf, -np.inf), np.nan)]
)
def test_sums_of_values_that_are_not_finite(added: tuple[float, ...], expected: float) -> None:
    values = np.ones((2, 1030), np.float32)
    values[1, -len(added) :] = added
    np.testing.assert_array_equal(sums(values), [1030, expected])


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "bool", ">f4"])
def test_sums_of_other_types_are_those_of_float64(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (5, 1234)).astype(dtype)
    assert sums(values).tolist() == values.astype(np.float64).sum(axis=1).tolist()
