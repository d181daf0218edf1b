"""Statistics on the device, against NumPy's in float64."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from support.mnist import torch

from cnatool.recorders.torch.statistics import device_statistics
from cnatool.records.choices import Statistic
from cnatool.store.statistics import row_statistics


@pytest.mark.parametrize("shape", [(5,), (3, 0), (4, 1), (2, 256), (3, 7, 911), (2, 3, 333, 335)])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_they_are_numpys(kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    values = (rng.normal(0.3, 2, shape) * (rng.random(shape) < 0.7) * 5).astype(kind)
    names = get_args(Statistic)
    found = device_statistics(torch.from_numpy(values), names).numpy()
    assert found.dtype == np.float64
    expected = row_statistics(values.reshape(len(values), -1), names)
    for name, row in zip(names, found, strict=True):
        finite = np.isfinite(expected[name])
        np.testing.assert_array_equal(row[~finite], expected[name][~finite])
        allowed = 1e-6 * np.maximum(expected["abs_sum"], np.abs(expected[name]))
        off = np.abs(row[finite] - expected[name][finite])
        assert (off <= allowed[finite]).all(), name


def test_what_is_not_finite_stays() -> None:
    values = torch.ones(3, 600)
    values[0, 5], values[1, 7], values[1, 400] = torch.nan, torch.inf, -torch.inf
    sums, sizes = device_statistics(values, ["sum", "abs_sum"]).numpy()
    np.testing.assert_array_equal(sums, [np.nan, np.nan, 600])
    np.testing.assert_array_equal(sizes, [np.nan, np.inf, 600])
