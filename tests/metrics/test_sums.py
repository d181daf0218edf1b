from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnatool.metrics import sums
from cnatool.metrics.sums import sum_in_blocks


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
