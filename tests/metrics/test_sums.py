from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cnatool.metrics import sums
from cnatool.metrics.sums import find_row_extremes, sum_in_blocks


@pytest.mark.parametrize("n", [0, 1, 7, 128, 129, 1000, 4099, 70_001, 131_072, 200_003])
@pytest.mark.parametrize("block", [1 << 8, 1 << 15])
def test_sum_in_blocks_has_every_bit_of_the_whole_sum(
    n: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "BLOCK", block)
    values = np.random.default_rng(n).normal(size=n) * 10.0 ** np.arange(n).__mod__(9)
    asked = []

    def part(start: int, stop: int) -> Any:
        asked.append((start, stop))
        return values[start:stop] * 3

    assert sum_in_blocks(part, 0, n) == float((values * 3).sum())
    assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])]
    assert all(stop - start <= block for start, stop in asked)


def test_inner_product_is_that_of_numpy_within_rounding() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 8191, 8192, 8193, 50_000):
        a, b = rng.normal(size=n), rng.normal(size=n)
        assert sums.inner_product(a, b) == pytest.approx(math.fsum(a * b), abs=1e-9)


def test_correlations_have_the_same_bits_for_any_number_of_threads() -> None:
    program = (
        "import numpy as np\n"
        "from cnatool.metrics.correlation import pearson, spearman\n"
        "a, b = np.random.default_rng(0).normal(size=(2, 200_000))\n"
        "print(repr(pearson(a, a + b).value), repr(spearman(a, a + b).value))\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for threads in ("1", "2", "4")
    }
    assert len(printed) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_extremes_of_rows_are_numpys(dtype: Any) -> None:
    values = np.random.default_rng(0).normal(size=(50, 10)).astype(dtype)
    values[3, 4], values[5, 6], values[7] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(find_row_extremes(np.maximum, values), values.max(axis=1))
    np.testing.assert_array_equal(find_row_extremes(np.minimum, values), values.min(axis=1))
    assert find_row_extremes(np.maximum, values[:0]).shape == (0,)
