from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnatool.metrics import unit_values
from cnatool.metrics.unit_extremes import UnitExtremes


@pytest.fixture(autouse=True, scope="module")
def small_tiles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_values, "TILE", 1 << 12)
        patch.setattr(unit_values, "STRETCH", 1 << 10)
        yield


# Few values, so that many are equal.
VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3)),
    elements=st.sampled_from([-1.0, 0.0, -0.0, 1.0, 2.0, np.nan, np.inf, -np.inf]),
)


def _slow(values: np.ndarray, rows: np.ndarray, unit: int, k: int) -> list[tuple[float, int, int]]:
    """Sort all samples by value, row and position; a position counts over a sample's rows."""
    best: dict[int, tuple[float, int, int]] = {}
    seen: dict[int, int] = {}
    for row, block in zip(rows.tolist(), values[:, unit].tolist(), strict=True):
        for value in block:
            position = seen.get(row, 0)
            seen[row] = position + 1
            if np.isfinite(value) and (row not in best or value > -best[row][0]):
                best[row] = (-value, row, position)
    return [(-v, row, position) for v, row, position in sorted(best.values())[:k]]


def _listed(found: UnitExtremes, unit: int) -> list[tuple[float, int, int]]:
    columns = found.values[unit], found.rows[unit], found.positions[unit]
    return [
        tuple(entry) for entry in zip(*(c.tolist() for c in columns), strict=True) if entry[1] >= 0
    ]


@settings(max_examples=50, deadline=None)
@given(VALUES, st.integers(1, 4), st.data())
def test_any_partition_gives_the_sorted_samples(
    values: np.ndarray, k: int, data: st.DataObject
) -> None:
    n, units, positions = values.shape
    tokens = data.draw(st.integers(1, 3))
    rows = np.arange(n) // tokens
    places = np.arange(n) % tokens * positions
    cut = data.draw(st.integers(0, n))
    batches, parts = UnitExtremes.empty(units, k), [UnitExtremes.empty(units, k) for _ in "ab"]
    pieces = [slice(0, cut), slice(cut, n)]
    for part, piece in zip(parts, pieces, strict=True):
        part.update(values[piece], rows[piece], places[piece])
    order = data.draw(st.permutations(pieces))
    for piece in order:
        for start, stop in ((0, 1), (1, units)):
            batches.update(values[piece, start:stop], rows[piece], places[piece], start=start)
    parts[1].merge(parts[0])
    for unit in range(units):
        expected = _slow(values, rows, unit, k)
        assert _listed(batches, unit) == expected
        assert _listed(parts[1], unit) == expected


@pytest.mark.parametrize("shape", [(300, 9, 120), (5000, 70, 1)])
def test_tiles_are_all_samples(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape).astype(np.float32)
    found = UnitExtremes.empty(shape[1], 5)
    for start in range(0, shape[0], 100):
        found.update(values[start : start + 100], np.arange(start, start + 100))
    largest = values.max(axis=2)
    order = np.argsort(-largest, axis=0, kind="stable")[:5]
    assert (found.rows == order.T).all()
    assert (found.values == np.take_along_axis(largest, order, axis=0).T).all()
    assert (found.positions == np.take_along_axis(values.argmax(axis=2), order, axis=0).T).all()
    halves = UnitExtremes.join([found.take(slice(0, 3)), found.take(slice(3, shape[1]))])
    assert (halves.rows == found.rows).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        UnitExtremes.empty(3, 0)
    with pytest.raises(ValueError, match="3 and 3 units, 1 and 2 each"):
        UnitExtremes.empty(3, 1).merge(UnitExtremes.empty(3, 2))
