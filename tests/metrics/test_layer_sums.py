from __future__ import annotations

import numpy as np
import pytest

from cnatool.metrics.correlation import pearson
from cnatool.metrics.layer_sums import LayerSums

ROWS = 64


def test_layer_sums_tell_small_differences_from_rounding() -> None:
    rng = np.random.default_rng(2)
    alpha = rng.random(ROWS)
    z = np.column_stack([1e6 * (1 + 1e-12 * rng.random(ROWS)), np.full(ROWS, 0.1)])
    sums = LayerSums(alpha, np.zeros(ROWS, np.int64), 1, 2)
    sums.add(0, z)
    found = sums.correlations(np.zeros(2))
    assert found[0] == pytest.approx(pearson(alpha, z[:, 0]).value, abs=1e-6)
    assert np.isnan(found[1])
