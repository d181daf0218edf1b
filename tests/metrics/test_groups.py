from __future__ import annotations

import numpy as np
import pytest

from cnatool.metrics.groups import lie_in_blocks

SORTED = np.repeat(np.arange(5), 40)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (SORTED, True),
        (SORTED[::-1], True),
        (np.tile(np.repeat(np.arange(5), 8), 5), True),
        (np.random.default_rng(0).permutation(SORTED), False),
        (np.tile(np.arange(5), 40), False),
        (np.zeros(200, int), False),
        (np.r_[np.zeros(199, int), 1], False),
        (np.empty(0, int), False),
    ],
)
def test_rows_that_come_class_by_class(labels: np.ndarray, found: bool) -> None:
    assert lie_in_blocks(labels) is found
