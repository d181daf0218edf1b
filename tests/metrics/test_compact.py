from __future__ import annotations

import numpy as np
import pytest

from cnatool.metrics.compact import compact


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([[0, 127], [-128]], np.int8),
        ([[0, 128], [3]], np.int16),
        ([[-1], [40_000]], np.int32),
        ([[2**31]], np.int64),
        ([[], [5]], np.int8),
    ],
)
def test_compact_numbers(numbers: list[list[int]], kind: type[np.generic]) -> None:
    found = compact(np.array(block, np.int64) for block in numbers)
    assert found.dtype == kind
    assert found.tolist() == [number for block in numbers for number in block]
