from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnatool.metrics.row_counts import count_many_rows, count_rows, sum_table_rows


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.intp])
@pytest.mark.parametrize("width", [1, 3, 4, 784, 785])
@pytest.mark.parametrize("background", [0.0, 0.5, 0.99, 1.0])
def test_each_row_is_counted_by_itself(dtype: Any, width: int, background: float) -> None:
    rng = np.random.default_rng([width, int(100 * background)])
    index = rng.integers(0, 256, (40, width)).astype(dtype)
    index[rng.random(index.shape) < background] = 7
    # One row is all background, among others that have less.
    index[3] = 9
    expected = [np.bincount(row, minlength=256) for row in index]
    for count in (count_rows, count_many_rows):
        np.testing.assert_array_equal(count(index, 256), expected)


def test_a_count_may_exceed_16_bits() -> None:
    index = np.zeros((2, 70_000), np.uint8)
    index[1, 0] = 1
    assert count_many_rows(index, 2).tolist() == [[70_000, 0], [69_999, 1]]


def test_a_table_is_summed_over_the_numbers_of_each_row() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(-(2**59), 2**59, 785)
    index = rng.integers(0, 785, (30, 7), np.int32)
    index[0], index[1] = 784, 0
    expected = [sum(int(table[i]) for i in row) for row in index]
    assert sum_table_rows(table, index).tolist() == expected
