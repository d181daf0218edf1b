from __future__ import annotations

import numpy as np
import pytest

from cnatool.metrics.beta import slope_coefficients
from cnatool.metrics.rounding import Rounding, rounding_share


def test_the_bound_is_the_formula_written_out() -> None:
    rng = np.random.default_rng(0)
    depths, magnitudes = [1, 2, 4], rng.exponential(size=(7, 3)) * 1000
    dtypes = ["float32", "float16", "float64"]
    shares = np.array([rounding_share(one) for one in dtypes])
    bound = Rounding(slope_coefficients(depths), shares)
    bound.add(magnitudes[:4])
    bound.add(magnitudes[4:])
    eps = [8 * np.finfo(np.float32).eps, np.finfo(np.float16).eps / 8, 8 * np.finfo(float).eps]
    c = (np.array(depths) - np.mean(depths)) / np.sum((np.array(depths) - np.mean(depths)) ** 2)
    errors = [sum(abs(c[d]) * eps[d] * row[d] for d in range(3)) for row in magnitudes]
    assert bound.of_beta() == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    for d in range(3):
        assert bound.of_layers()[d] == pytest.approx(
            np.sqrt(np.mean(np.square(eps[d] * magnitudes[:, d])))
        )


def test_without_magnitudes_nothing_is_rounding() -> None:
    bound = Rounding(slope_coefficients([1, 2]), np.ones(2))
    assert bound.of_beta() == 0
    assert bound.of_layers().tolist() == [0, 0]


@pytest.mark.parametrize(("dtype", "share"), [("float32", 2.0**-20), ("float16", 2.0**-13)])
@pytest.mark.parametrize("n", [100, 1000])
def test_rounding_of_normalised_rows_lies_below_the_bound(dtype: str, share: float, n: int) -> None:
    x = np.random.default_rng(n).normal(3, 1, (200, n)).astype(np.float32)
    centred = x - x.mean(axis=1, keepdims=True)
    y = (centred / centred.std(axis=1, keepdims=True)).astype(dtype)
    assert rounding_share(dtype) == share
    assert y.sum(axis=1, dtype=float).std() < share * np.abs(y.astype(float)).sum(axis=1).mean()
